"""A running test at a glance: what the live view shows, made anew about once a second."""

from __future__ import annotations

import msgspec

from voxload.measure.series import Quantiles
from voxload.measure.summary import LATENESS_LIMIT_MS


class Progress(msgspec.Struct, frozen=True):
    """How far a run has come. Counts are over the whole run so far, times in s since its first instant."""

    elapsed_s: float
    planned_s: float
    """Duration of the load as planned; calls that are up then may still finish afterwards."""
    phase: str
    planned_calls: int
    """0 for a closed load, whose number of calls follows from the target's pace."""
    active: int
    started: int
    completed: int
    failed: int
    """Calls that ended otherwise than completed, those that were shed left out."""
    shed: int
    failures_by_outcome: dict[str, int]
    turn: Quantiles | None
    """The latency that the run opens its reports with, turn latency in a voice run; None until one was measured."""
    setup: Quantiles | None
    """Call set-up; None as long as no call was ready."""
    lateness_p99_ms: float | None
    """The generator's own frame lateness."""
    cpu_percent: float
    """Busiest generator process, percent of one core."""
    active_history: list[int] = []
    """Calls up, oldest first, one value an update."""
    p95_history: list[float] = []
    """Turn latency p95 in ms, oldest first, one value an update."""
    metric: str = "turn_latency"
    """What `turn` is."""
    lateness_limit_ms: float = LATENESS_LIMIT_MS
    message: str = ""
    """What is going on apart from the load (`stopping: ending calls`); empty in normal running."""
