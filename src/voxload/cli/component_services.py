"""The services of `voxload component all`: a scenario's probes, and those that the command line names."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from voxload.clock import monotonic_ns, unix_ns
from voxload.errors import BadInputError, Problem
from voxload.measure.recorder import Recorder
from voxload.model.explain import did_you_mean
from voxload.model.gates import GateRules
from voxload.model.source import Source
from voxload.planning.profile import CallProfile
from voxload.planning.work import units_per_call
from voxload.runners.prepare import Prepared
from voxload.runners.probe_settings import document_of
from voxload.runners.side_by_side import Service
from voxload.services.base import ComponentRun
from voxload.services.registry import COMPONENTS, component_type
from voxload.services.settings import component_source, read_settings
from voxload.verdict.expression import Gate, parse_gate
from voxload.verdict.rules import gates_of
from voxload.verdict.steps import default_gates

PROBE = "probe"
TIMEOUT_S = 30.0
"""Longest unit of work where nothing else is said: what takes longer has given way."""
FOR_ALL = {"operation_latency", "operation_success", "throttled"}
"""Metrics that every service has: a gate on one of them without a name is for all services."""


def services_of(
    prepared: Prepared | None,
    kinds: str,
    per_call: Sequence[str],
    gates: Sequence[str],
    profile: CallProfile,
    run_id: str,
) -> list[Service]:
    """Return the services to load.

    Raises:
        BadInputError: every mistake in the options and in the files that they name.
    """
    problems: list[Problem] = []
    found = _documents(prepared, kinds, problems)
    if not found and not problems:
        hint = "give --with redis,openai, or a scenario with probes:"
        problems.append(Problem("there is no service to load", suggestion=hint))
    shares = _shares(per_call, [name for name, *_ in found], problems)
    extra = list(_extra_gates(gates, [name for name, *_ in found], problems))
    if prepared is not None:
        extra += [gate for _, gate in gates_of(prepared.scenario, lambda *_: None) if _of_probe(gate)]
    services = []
    for name, kind, document, file in found:
        try:
            services.append(_service(name, kind, document, file, shares.get(name), extra, profile, run_id))
        except BadInputError as error:
            problems += error.problems
    if problems:
        raise BadInputError(problems)
    return services


def _documents(
    prepared: Prepared | None, kinds: str, problems: list[Problem]
) -> list[tuple[str, str, dict[str, Any], str]]:
    """Return (name, kind, document, file) of each service."""
    found = []
    if prepared is not None:
        for probe in prepared.scenario.probes:
            document = document_of(probe, prepared.plan.target)
            found.append((probe.label, probe.component, document, prepared.source.file))
    for item in filter(None, (part.strip() for part in kinds.split(","))):
        kind, _, file = item.partition("=")
        if kind not in COMPONENTS:
            message = f"--with: no component is called {kind!r}"
            problems.append(Problem(message, suggestion=did_you_mean(kind, COMPONENTS)))
            continue
        try:
            source = component_source(Path(file) if file else None, kind, {})
        except BadInputError as error:
            problems += error.problems
            continue
        document = source.data if isinstance(source.data, dict) else {"component": kind}
        names = [name for name, *_ in found]
        name = kind if kind not in names else f"{kind}{names.count(kind) + 1}"
        found.append((name, kind, {"timeout": TIMEOUT_S, **document}, file))
    return found


def _service(
    name: str,
    kind: str,
    document: dict[str, Any],
    file: str,
    share: float | None,
    extra: Sequence[Gate],
    profile: CallProfile,
    run_id: str,
) -> Service:
    settings = read_settings(Source(document, file), component_type(kind).settings_type, os.environ)
    component = component_type(kind)(settings, ComponentRun(run_id, Recorder(), monotonic_ns, unix_ns))
    per_call, words = units_per_call(kind, settings.options, profile)  # type: ignore[attr-defined]  # all have them
    if share is not None:
        per_call, words = share, "--per-call"
    gates = [gate for _, gate in gates_of(GateRules(gates=settings.gates), lambda *_: None)]
    gates += [gate for gate in extra if dict(gate.labels).get(PROBE, name) == name]
    gates += default_gates(component.success_metric, gates)
    return Service(name, component, document, file, per_call, words, tuple(gates))


def _of_probe(gate: Gate) -> bool:
    return PROBE in dict(gate.labels) or gate.per == PROBE


def _shares(items: Iterable[str], names: Sequence[str], problems: list[Problem]) -> dict[str, float]:
    found = {}
    for item in items:
        name, _, written = item.partition("=")
        try:
            value = float(written)
        except ValueError:
            value = 0.0
        if name not in names:
            problems.append(Problem(f"--per-call: no service is called {name!r}", suggestion=did_you_mean(name, names)))
        elif not 0 < value < 1e6:
            message = f"--per-call {item!r}: not a number over 0"
            problems.append(Problem(message, suggestion=f"write for example {name}=2.5"))
        else:
            found[name] = value
    return found


def _extra_gates(items: Iterable[str], names: Sequence[str], problems: list[Problem]) -> Iterator[Gate]:
    for item in items:
        try:
            gate = parse_gate(item)
        except ValueError as error:
            problems.append(Problem(f"--gate: {error}"))
            continue
        wrong = _wrong_with(gate, names)
        if wrong is not None:
            problems.append(wrong)
        else:
            yield gate


def _wrong_with(gate: Gate, names: Sequence[str]) -> Problem | None:
    named = dict(gate.labels).get(PROBE)
    if gate.metric.kind == "level":
        return Problem(f"--gate {gate.expression!r}: {gate.metric.name} is one number for a run, not of a step")
    if named is None and gate.metric.name not in FOR_ALL:
        hint = f'write {gate.metric.name}{{probe="{names[0] if names else "redis"}"}}'
        return Problem(f"--gate {gate.expression!r}: of which service?", suggestion=hint)
    if named is not None and named not in names:
        return Problem(
            f"--gate {gate.expression!r}: no service is called {named!r}", suggestion=did_you_mean(named, names)
        )
    return None
