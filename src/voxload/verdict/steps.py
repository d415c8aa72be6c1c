"""Which of several services gives way first as calls grow: a verdict for each service at each step of the load."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from voxload.measure.histogram import Histogram
from voxload.measure.summary import GateResult
from voxload.verdict.expression import Gate, parse_gate
from voxload.verdict.gate import SATURATED_CPU_PERCENT, evaluate_values

SLOWDOWN_FLOOR_MS = 50.0
"""A service that got slower by less has not given way, whatever the factor."""
SLOWDOWN_VALUES_MIN = 10
"""A p95 of fewer values is their maximum, and says nothing of a slowdown."""

Status = Literal["holds", "breaks", "unknown", "left alone"]
Values = Callable[[str, dict[str, str]], Histogram]
"""The values of a metric under labels, in one step."""


class StepResult(msgspec.Struct, frozen=True):
    """One service at one step."""

    calls: float
    """At once, that the step stands for."""
    rate_per_s: float
    """Units of work a second that they make."""
    status: Status
    attempted: int = 0
    completed: int = 0
    p50_ms: float | None = None
    p95_ms: float | None = None
    """Of the latency that the service is known by."""
    throttled: float | None = None
    """Share of requests answered 429; None where that is not counted."""
    reasons: list[str] = []
    """Why it breaks, or is not known; the most telling first."""


class ServiceResult(msgspec.Struct, frozen=True):
    """One service over all steps."""

    name: str
    component: str
    target: str
    latency: str
    """The latency metric that `StepResult` has percentiles of."""
    per_call: float
    """Units of work that one call makes."""
    steps: list[StepResult]
    problem: str = ""
    """Why it measured nothing, or not to the end."""

    @property
    def holds_calls(self) -> float | None:
        """The most calls that it is known to carry; a step before with too little work to judge says nothing else."""
        return max((step.calls for step in self.steps if step.status == "holds"), default=None)

    @property
    def breaks(self) -> StepResult | None:
        """The first step that it does not carry."""
        return next((step for step in self.steps if step.status == "breaks"), None)

    @property
    def unknown(self) -> StepResult | None:
        """The first step beyond those that it is known to carry of which nothing is known."""
        held = self.holds_calls or 0.0
        return next((step for step in self.steps if step.status == "unknown" and step.calls > held), None)


def default_gates(success_metric: str, gates: Sequence[Gate]) -> list[Gate]:
    """Return what a service must keep where no gate says otherwise: its work is done, next to nothing refused."""
    given = {gate.metric.name for gate in gates}
    wanted = {success_metric: f"{success_metric} >= 99%", "throttled": "throttled < 1%"}
    return [parse_gate(text) for name, text in wanted.items() if name not in given]


def judge_step(
    gates: Sequence[Gate], values: Values, distrust: str, first_p95_ms: float | None, slowdown: float, latency: str
) -> tuple[Status, list[str]]:
    """Return whether a service carries a step, and why not.

    `gates` are held against the step's `values`. With a `slowdown` over 0 the service breaks also where the p95 of
    `latency` is over so many times `first_p95_ms`, that of the first step, and `SLOWDOWN_FLOOR_MS` more. A reason to
    distrust the generator makes everything unknown.
    """
    if distrust:
        return "unknown", [distrust]
    results = [evaluate_values(gate, _values_of(gate, values)) for gate in gates]
    # what a service does not count (429 of a cache) is no reason to doubt it
    known = [result for result, gate in zip(results, gates, strict=True) if not _absent(result, gate)]
    failed = [_words(result) for result in known if result.status == "fail"]
    slow = values(latency, {})
    p95_ns = slow.quantile(0.95)
    if slowdown and p95_ns is not None and first_p95_ms and slow.count >= SLOWDOWN_VALUES_MIN:
        p95_ms = p95_ns / 1e6
        if p95_ms > slowdown * first_p95_ms and p95_ms > first_p95_ms + SLOWDOWN_FLOOR_MS:
            failed.append(f"p95({latency}): {p95_ms:.0f} ms, {p95_ms / first_p95_ms:.1f} times that of the first step")
    if failed:
        return "breaks", failed
    unknown = [_words(result) for result in known if result.status == "unknown"]
    return ("unknown", unknown) if unknown else ("holds", [])


def generator_doubt(lateness: Histogram, limit_ms: float, cpu_percent: float) -> str:
    """Return why a step says nothing of the service; empty when it does."""
    late_ns = lateness.quantile(0.99)
    if late_ns is not None and late_ns / 1e6 > limit_ms:
        return f"the generator fell behind: event loop lateness p99 {late_ns / 1e6:.0f} ms is over {limit_ms:g} ms"
    if cpu_percent > SATURATED_CPU_PERCENT:
        return f"the generator was saturated: {cpu_percent:.0f} % of a core"
    return ""


def first_to_break(services: Sequence[ServiceResult]) -> list[ServiceResult]:
    """Return the services that break at the fewest calls; several where they break at the same step."""
    broken = [(service.breaks.calls, service) for service in services if service.breaks is not None]
    least = min((calls for calls, _ in broken), default=None)
    return [service for calls, service in broken if calls == least]


def _values_of(gate: Gate, values: Values) -> Histogram:
    labels = {name: value for name, value in gate.labels if name != "probe"}
    return values(gate.metric.complement_of or gate.metric.name, labels)


def _absent(result: GateResult, gate: Gate) -> bool:
    return gate.metric.name == "throttled" and not result.sample_size


def _words(result: GateResult) -> str:
    if result.actual is None:
        return f"{result.expression}: {result.reason or 'no data'}"
    return f"{result.expression}: measured {result.actual:.4g} {result.unit}".rstrip()
