"""Probes as a scenario names them: what their component tests are told, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from voxload.clock import NS_PER_S
from voxload.errors import BadInputError, Problem
from voxload.model.explain import did_you_mean
from voxload.model.probe import ProbeSettings
from voxload.model.scenario import TWIN_TARGET, Scenario
from voxload.model.source import Location, Source
from voxload.services.base import AnyComponent
from voxload.services.registry import COMPONENTS, component_type
from voxload.services.settings import ComponentSettings, read_settings

RUN_TARGET = "target"
"""As the address of a component `http`: the run's own target."""
PLACEHOLDER = "http://127.0.0.1:1"
UNTIL_STOPPED_S = 365 * 24 * 3600


def document_of(probe: ProbeSettings, target: str) -> dict[str, Any]:
    """Return a probe as the file of its component test says it; `target` is the run's own."""
    options = dict(probe.options)
    if probe.component == "http" and options.get("url") == RUN_TARGET:
        options["url"] = target
    load = {"shape": "constant", "arrival_rate": probe.rate_per_s, "duration": UNTIL_STOPPED_S}
    timeout_s = probe.timeout_ns / NS_PER_S
    return {"component": probe.component, "load": load, "timeout": timeout_s, "options": options}


def check_probes(scenario: Scenario, source: Source, environ: Mapping[str, str]) -> tuple[list[Problem], list[Problem]]:
    """Return (what is wrong with the probes of a scenario, what a user should know of them)."""
    problems: list[Problem] = []
    warnings: list[Problem] = []
    for number, probe in enumerate(scenario.probes):
        place: Location = ("probes", number)
        if probe.component not in COMPONENTS:
            message = f"probes[{number}]: no component is called {probe.component!r}"
            line = source.line((*place, "component"))
            problems.append(Problem(message, source.file, line, did_you_mean(probe.component, COMPONENTS)))
            continue
        if probe.component == "http" and probe.options.get("url") == RUN_TARGET and scenario.targets:
            message = f"probes[{number}].options.url: target is one, and this run has several"
            problems.append(Problem(message, source.file, source.line((*place, "options", "url")), "write its URL"))
        try:
            settings = _settings_of(probe, PLACEHOLDER, environ, source, place)
        except BadInputError as error:
            problems += [replace(item, message=f"probes[{number}]: {item.message}") for item in error.problems]
            continue
        found = component_type(probe.component)
        if scenario.target != TWIN_TARGET and not names_a_service(found, settings):
            message = f"probes[{number}]: a stand-in of the probe's own is probed, which no call of the run uses"
            hint = f"options: {{{found.target_option}: …}} names the service"
            warnings.append(Problem(message, source.file, source.line(place), hint))
    return problems, warnings


def _settings_of(
    probe: ProbeSettings, target: str, environ: Mapping[str, str], source: Source, place: Location
) -> ComponentSettings:
    """Return a probe as the settings of its component.

    Raises:
        BadInputError: every mistake in its options, with their lines.
    """
    size = len(place)
    lines = {location[size:]: line for location, line in source.lines.items() if location[:size] == place}
    part = Source(document_of(probe, target), source.file, lines)
    return read_settings(part, component_type(probe.component).settings_type, environ)


def names_a_service(found: type[AnyComponent], settings: ComponentSettings) -> bool:
    """Return whether the options name a service: by the component's address, or by a connection string."""
    options: Any = settings.options  # type: ignore[attr-defined]  # every component has them
    connection = getattr(options, "connection_string", None)
    ways = (found.target_option, "host", "region")
    return any(getattr(options, name, "") for name in ways) or bool(connection is not None and connection.given)


def probe_words(scenario: Scenario) -> list[str]:
    """Return the probes in words, a line each."""
    return [
        f"{probe.label}: {probe.component}, {probe.rate_per_s:g} a second"
        if probe.name and probe.name != probe.component
        else f"{probe.component}: {probe.rate_per_s:g} a second"
        for probe in scenario.probes
    ]
