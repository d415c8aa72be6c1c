"""Gates that a scenario sets without writing them: a look after the load demands that the target recovers."""

from __future__ import annotations

from collections.abc import Sequence

from voxload.clock import NS_PER_S
from voxload.model.scenario import Scenario
from voxload.verdict.expression import Gate, parse_gate

NAME = "recovery"


def implied_gates(scenario: Scenario, gates: Sequence[tuple[str, Gate]]) -> list[tuple[str, Gate]]:
    """Return what a look after the load demands by itself, for each of its metrics that no gate of the user's names."""
    settings = scenario.recovery
    if settings is None:
        return []
    wanted = {}
    if settings.probes:
        wanted["recovery_time"] = f"recovery_time <= {settings.after_ns / NS_PER_S:g}s"
    if any(check.sessions for check in settings.health):
        wanted["leaked_sessions"] = "leaked_sessions <= 0"
    if settings.health:
        wanted["health_failures"] = "health_failures <= 0"
    given = {gate.metric.name for _, gate in gates}
    return [(NAME, parse_gate(text)) for name, text in wanted.items() if name not in given]
