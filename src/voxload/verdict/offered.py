"""How much a load offered: a target is not to blame for a level that nobody asked of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from voxload.errors import Problem
from voxload.verdict.expression import Gate

CONCURRENCY = frozenset({"concurrent_calls", "peak_calls"})
RESOURCES = frozenset({"target_cpu", "target_memory"})


def shortfall(metric: str, level: float, failed: float, wanted: float) -> str:
    """Return why `wanted` calls at once could not come of a run's load; empty where they could.

    `level` were up at once, and `failed` calls did not complete: at best each of them would have been up as well.
    """
    offered = level + failed
    if metric not in CONCURRENCY or offered >= wanted:
        return ""
    held = ", held for 5 s" if metric == "concurrent_calls" else ""
    return f"the load offered no more than {offered:,.0f} calls at once{held}"


def gate_warnings(gates: Sequence[tuple[str, Gate]], peak_calls: float, measures_resources: bool) -> Iterator[Problem]:
    """Yield which gates a run cannot judge as it is planned, `peak_calls` being the most calls at once expected."""
    for _, gate in gates:
        if gate.metric.name in CONCURRENCY and gate.compare in {">", ">="} and gate.threshold > peak_calls:
            message = (
                f"{gate.expression}: about {peak_calls:,.0f} calls are expected at once; below that it stays unknown"
            )
            yield Problem(message, suggestion="a larger load (--users, --rate), or gates of their own for this one")
        elif gate.metric.name in RESOURCES and not measures_resources:
            message = f"{gate.expression}: nothing measures the target's resources, so it stays unknown"
            yield Problem(message, suggestion="say where in resources: of the scenario")
