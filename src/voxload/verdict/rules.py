"""From the rules that a user writes to gates: expressions, and the well-known names of a `quality-gates.yml`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

from voxload.errors import BadInputError, Problem
from voxload.model.gates import GateRules, GateSettings, Limit, StopCondition
from voxload.model.source import Location, Source, read_source, validate
from voxload.verdict.expression import Gate, parse_gate

NamedGate = tuple[str, Gate]
"""(name or "", gate)."""

PERFORMANCE_GATES = {
    "response_time_p95": "p95(voice_response) < {:g}ms",
    "success_rate": "call_success >= {:g}%",
    "concurrent_capacity": "concurrent_calls >= {:g}",
    "resource_cpu_max": "max(target_cpu) < {:g}%",
    "resource_memory_max": "max(target_memory) < {:g}%",
}
"""The expressions that the well-known names stand for."""


def read_rules(path: str) -> tuple[GateRules, Source]:
    """Read a file of gates.

    Raises:
        BadInputError: everything that is wrong with its form, or it holds nothing.
    """
    source = read_source(path)
    rules = validate(source, GateRules)
    if not rules.model_fields_set:
        hint = 'write "gates:" and below it a list of expressions such as - p95(turn_latency) < 800ms'
        raise BadInputError([Problem("no gates here", source.file, 1, hint)])
    return rules, source


Wrong = Callable[[Location, str], None]
"""Hears of everything that does not parse: its place in the file, and why."""


def placed_gates(rules: GateRules, wrong: Wrong) -> Iterator[tuple[Location, str, Gate]]:
    """Yield (place, name or "", gate) for each gate that the rules state."""
    for place, name, expression, severity, per in _expressions(rules):
        try:
            gate = parse_gate(expression)
        except ValueError as error:
            wrong(place, str(error))
            continue
        if per and gate.metric.kind == "level":
            wrong(place, f"{expression!r}: {gate.metric.name} is one number for the run, so it cannot be per {per}")
        yield place, name, gate._replace(severity=severity, per=per)


def gates_of(rules: GateRules, wrong: Wrong) -> list[NamedGate]:
    """Return the gates that the rules state."""
    return [(name, gate) for _, name, gate in placed_gates(rules, wrong)]


def stop_gates(rules: GateRules, wrong: Wrong) -> list[tuple[StopCondition, Gate]]:
    """Return the conditions to stop, parsed."""
    found = []
    for number, rule in enumerate(rules.stop_when):
        place: Location = ("stop_when", number, "condition")
        try:
            gate = parse_gate(rule.condition)
        except ValueError as error:
            wrong(place, str(error))
            continue
        if gate.labels:
            wrong(place, f"{rule.condition!r}: a condition to stop looks at all calls and has no labels")
        elif gate.metric.kind == "level":
            wrong(place, f"{rule.condition!r}: {gate.metric.name} is known only when the run is over")
        else:
            found.append((rule, gate))
    return found


def _expressions(rules: GateRules) -> Iterator[tuple[Location, str, str, Literal["fail", "warn"], str]]:
    """Yield (place, name, expression, severity, per)."""
    for number, item in enumerate(rules.gates):
        if isinstance(item, GateSettings):
            yield ("gates", number, "expression"), item.name, item.expression, item.severity, item.per
        else:
            yield ("gates", number), "", item, "fail", ""
    for name, form in PERFORMANCE_GATES.items():
        limit: Limit | None = getattr(rules.performance_gates, name, None)
        if limit is not None:
            yield ("performance_gates", name), name, form.format(limit.limit), limit.severity, ""
