"""Probes of the services behind the agent, each in a process of its own, on the time axis of a run."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from voxload.clock import NS_PER_S, monotonic_ns, unix_ns
from voxload.errors import BadInputError, Problem
from voxload.measure.collector import Collector
from voxload.measure.probe import ProbePoint, ProbeResult
from voxload.measure.recorder import Recorder
from voxload.model.explain import did_you_mean
from voxload.model.outcome import NOT_ATTEMPTED, Outcome
from voxload.model.plan import Plan
from voxload.model.probe import ProbeSettings
from voxload.model.scenario import TWIN_TARGET, Scenario
from voxload.model.source import Location, Source
from voxload.services.base import AnyComponent, ComponentRun
from voxload.services.registry import COMPONENTS, component_type
from voxload.services.remote import ComponentProcess
from voxload.services.settings import ComponentSettings, read_settings
from voxload.services.words import Job

RUN_TARGET = "target"
"""As the address of a component `http`: the run's own target."""
PLACEHOLDER = "http://127.0.0.1:1"
UNTIL_STOPPED_S = 365 * 24 * 3600
_NOT_FAILED = NOT_ATTEMPTED | {Outcome.COMPLETED}
LEAVE_S = 20.0
"""Beyond the longest unit of work, for a probe to clean up and leave."""


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
        if scenario.target != TWIN_TARGET and not _names_a_service(found, settings):
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


def _names_a_service(found: type[AnyComponent], settings: ComponentSettings) -> bool:
    """Return whether the options name a service: by the component's address, or by a connection string."""
    options: Any = settings.options  # type: ignore[attr-defined]  # every component has them
    given = getattr(options, found.target_option, "")
    connection = getattr(options, "connection_string", None)
    return bool(given) or bool(connection is not None and connection.given)


def probe_words(scenario: Scenario) -> list[str]:
    """Return the probes in words, a line each."""
    return [
        f"{probe.label}: {probe.component}, {probe.rate_per_s:g} a second"
        if probe.name and probe.name != probe.component
        else f"{probe.component}: {probe.rate_per_s:g} a second"
        for probe in scenario.probes
    ]


@dataclass(slots=True)
class _Probe:
    """One probe of a run."""

    settings: ProbeSettings
    component: AnyComponent
    """Says what it is; the work is the process's."""
    target: str
    collector: Collector
    process: ComponentProcess
    started: bool = False


def _make(
    settings: ProbeSettings, plan: Plan, stretch_s: int, run_id: str, environ: Mapping[str, str], file: str
) -> _Probe:
    found, document, collector = (
        component_type(settings.component),
        document_of(settings, plan.target),
        Collector(stretch_s),
    )
    checked = read_settings(Source(document, file), found.settings_type, environ)
    component = found(checked, ComponentRun(run_id, Recorder(), monotonic_ns, unix_ns))
    process = ComponentProcess(Job(document, run_id, file, gives_up=False), collector.add)
    return _Probe(settings, component, plan.redact(component.target), collector, process)


class Probes:
    """The probes of a run; `start_ns()` returns its first instant, 0 before it is known; `file` is the scenario's."""

    def __init__(
        self,
        scenario: Scenario,
        plan: Plan,
        stretch_s: int,
        start_ns: Callable[[], int],
        environ: Mapping[str, str] = os.environ,
        file: str = "",
    ) -> None:
        self._start_ns = start_ns
        self._stopped = False
        self._probes = [
            _make(item, plan, stretch_s, f"{plan.run_id}-probe{number}", environ, file)
            for number, item in enumerate(scenario.probes)
        ]

    @asynccontextmanager
    async def probing(self) -> AsyncIterator[Sequence[str]]:
        """Probe while the block runs; gives what is wrong with probes whose service is not there: they are left out.

        Raises (on entering):
            BadInputError: a probe wants what only the user can give, such as a library.
        """
        going: asyncio.Task[None] | None = None
        try:
            await asyncio.gather(*(probe.process.start() for probe in self._probes))
            wrong = [probe for probe in self._probes if probe.process.bad_input]
            if wrong:
                raise BadInputError(
                    [Problem(f"probes: {probe.settings.label}: {probe.process.problem}") for probe in wrong]
                )
            going = asyncio.create_task(self._go())
            yield [
                f"probe {probe.settings.label}: {probe.process.problem}"
                for probe in self._probes
                if probe.process.problem
            ]
        finally:
            if going is not None:
                going.cancel()
            await asyncio.gather(*(self._end(probe) for probe in self._probes))

    async def _go(self) -> None:
        while True:
            await asyncio.sleep(0.02)
            if self._start_ns():
                break
        for probe in self._probes:
            probe.process.go(self._start_ns())
            probe.started = True

    async def _end(self, probe: _Probe) -> None:
        if probe.process.pid:
            if probe.started and not self._stopped:
                probe.process.finish()
            else:
                probe.process.stop()
        await probe.process.leave(probe.settings.timeout_ns / NS_PER_S + LEAVE_S)

    def stop(self) -> None:
        """End the probes without waiting for what they have under way."""
        self._stopped = True
        for probe in self._probes:
            if probe.process.pid:
                probe.process.stop()

    def kill(self) -> None:
        """End them at once."""
        for probe in self._probes:
            probe.process.kill()

    def results(self) -> list[ProbeResult]:
        """Return what they have measured up to now."""
        return [_result(probe) for probe in self._probes]


def _result(probe: _Probe) -> ProbeResult:
    collector, over = probe.collector, probe.process.result
    return ProbeResult(
        name=probe.settings.label,
        component=probe.settings.component,
        target=probe.target,
        rate_per_s=probe.settings.rate_per_s,
        headline=probe.component.headline,
        lateness_limit_ms=probe.component.lateness_limit_ms,
        outcomes=dict(collector.outcomes),
        series=collector.series(),
        timeline=[
            ProbePoint(
                start_s=point.start_s,
                completed=point.outcomes.get(Outcome.COMPLETED, 0),
                failed=sum(count for name, count in point.outcomes.items() if name not in _NOT_FAILED),
                latencies=point.latencies,
                means=point.means,
            )
            for point in collector.timeline({})
            if point.outcomes or point.latencies
        ],
        errors=collector.errors(),
        facts=over.facts if over is not None else {},
        problem=probe.process.problem,
    )
