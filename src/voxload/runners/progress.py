"""The figures of the live view, from what the collector holds so far."""

from __future__ import annotations

from collections import deque

from voxload.measure.collector import Collector
from voxload.measure.histogram import merged
from voxload.measure.progress import Progress
from voxload.measure.series import quantiles
from voxload.measure.summary import LATENESS_METRICS, PlanFacts
from voxload.model.outcome import Outcome

HISTORY = 120
"""Updates that the sparklines reach back (a minute at two a second)."""


class ProgressTracker:
    """Remembers the short history that a collector does not keep."""

    def __init__(self, collector: Collector, plan: PlanFacts) -> None:
        self._collector = collector
        self._plan = plan
        self._active: deque[int] = deque(maxlen=HISTORY)
        self._p95: deque[float] = deque(maxlen=HISTORY)

    def update(self, elapsed_s: float, message: str = "") -> Progress:
        """Return the state of the run now."""
        collector, outcomes = self._collector, self._collector.outcomes
        headline = self._plan.headline[0]
        turn = quantiles(collector.histogram(headline))
        lateness = merged(collector.histogram(name) for name in LATENESS_METRICS)
        late = quantiles(lateness)
        active = collector.active()
        self._active.append(active)
        if turn is not None:
            self._p95.append(turn.p95_ms)
        kept = {Outcome.COMPLETED, Outcome.SHED, Outcome.CANCELLED}
        failures = {outcome: count for outcome, count in outcomes.items() if outcome not in kept}
        return Progress(
            elapsed_s=elapsed_s,
            planned_s=self._plan.load_duration_s,
            phase=self._phase(elapsed_s),
            planned_calls=self._plan.calls,
            active=active,
            started=collector.started,
            completed=outcomes[Outcome.COMPLETED],
            failed=sum(failures.values()),
            shed=outcomes[Outcome.SHED],
            failures_by_outcome=failures,
            turn=turn,
            setup=quantiles(collector.histogram("call_setup")),
            lateness_p99_ms=late.p99_ms if late else None,
            cpu_percent=max((state.cpu_last for state in collector.shards.values()), default=0.0),
            active_history=list(self._active),
            p95_history=list(self._p95),
            metric=headline,
            lateness_limit_ms=self._plan.lateness_limit_ms,
            message=message,
        )

    def _phase(self, elapsed_s: float) -> str:
        for phase in self._plan.phases:
            if elapsed_s < phase.start_s + phase.duration_s:
                return phase.name
        return "calls finishing"
