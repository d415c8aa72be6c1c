"""The differences between two subjects, figure by figure, each with its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from voxload.model.metric import METRICS
from voxload.verdict.bootstrap import (
    REPLICATES,
    Array,
    Figure,
    Interval,
    call_weights,
    deviations,
    on_scale,
    simultaneous,
    spread_of_runs,
    student_factor,
)
from voxload.verdict.gate import PROBE
from voxload.verdict.subject import Subject

CALLS_MIN = 30
"""Fewer calls on a side say nothing of how calls differ."""
BEYOND_MIN = 10
"""Values that a percentile must leave above it: p99 needs 1,000, p95 needs 200."""
OBSERVATIONS_MIN = 20
NO_OPERATIONS = "a probe keeps no values of single operations, so there is no interval"
NO_CALLS = "no values of single calls under these labels"
RUNS_MIN = 5
"""Pooled runs from which the spread from run to run can be told."""


class Difference(NamedTuple):
    """A figure on both sides, in ns, shares of 1, or plain numbers."""

    figure: Figure
    before: float | None
    after: float | None
    count_before: int
    """Observations; 0 for a figure that is given as a point."""
    count_after: int
    interval: Interval | None
    """Of the change on the figure's scale; None where there is none."""
    reason: str = ""
    """Why there is no interval."""
    lacking: Literal["", "before", "after"] = ""
    """Which side is to blame for that."""


def differences(
    before: Subject, after: Subject, figures: Sequence[Figure], replicates: int = REPLICATES, seed: int = 0
) -> list[Difference]:
    """Return the difference of each figure; the intervals of all of them hold together with 95 % confidence."""
    values = [side.values(figures) for side in (before, after)]
    found = {}
    judged = []
    for figure in figures:
        (old, old_count), (new, new_count) = values[0][figure], values[1][figure]
        reason = _lacking(figure, before, old, old_count)
        lacking: Literal["", "before", "after"] = "before" if reason else ""
        if not reason:
            reason = _lacking(figure, after, new, new_count)
            lacking = "after" if reason else ""
        found[figure] = Difference(figure, old, new, old_count, new_count, None, reason, lacking)
        if not reason:
            judged.append(figure)
    for figure, interval in zip(judged, _intervals(before, after, judged, found, replicates, seed), strict=True):
        found[figure] = found[figure]._replace(interval=interval, reason="" if interval else _no_values(figure))
    return list(found.values())


def _lacking(figure: Figure, side: Subject, value: float | None, count: int) -> str:
    """Return why a figure of one side cannot be judged, empty when it can."""
    who = side.name
    if value is None:
        return f"no data in {who}"
    if figure in side.points:
        return ""
    probe = dict(figure.labels).get(PROBE)
    if probe is not None:
        return side.probe_doubts.get(probe, "")
    if side.evidence is None:
        return f"the calls of {who} are not at hand (calls.jsonl.zst)"
    if side.evidence.total < CALLS_MIN:
        return f"only {side.evidence.total} calls in {who}; an interval needs {CALLS_MIN}"
    if figure.metric in METRICS and METRICS[figure.metric].kind == "level":
        return ""
    if figure.metric not in side.evidence.spans and figure.metric not in side.evidence.shares:
        return f"{who} keeps no {figure.metric} of single calls"
    fraction = figure.fraction
    needed = OBSERVATIONS_MIN if fraction is None else math.ceil(BEYOND_MIN / (1 - fraction) - 1e-9)
    return f"only {count} values in {who}; {figure.aggregate or 'a share'} needs {needed}" if count < needed else ""


def _no_values(figure: Figure) -> str:
    return NO_OPERATIONS if PROBE in dict(figure.labels) else NO_CALLS


def _intervals(
    before: Subject,
    after: Subject,
    figures: Sequence[Figure],
    found: dict[Figure, Difference],
    replicates: int,
    seed: int,
) -> list[Interval | None]:
    offsets = np.zeros((replicates, len(figures)))
    besides = np.zeros(len(figures))
    known = np.ones(len(figures), bool)
    for number, side in enumerate((before, after)):
        off, variance, has_calls = _side(side, figures, replicates, np.random.default_rng([seed, number]))
        offsets += off if side is after else -off
        besides += variance
        known &= has_calls
    changes = []
    for figure in figures:
        old, new = found[figure].before, found[figure].after
        assert old is not None
        assert new is not None
        changes.append(on_scale(figure, new) - on_scale(figure, old))
    intervals = simultaneous(changes, offsets, np.sqrt(besides).tolist(), np.random.default_rng([seed, 2]))
    return [interval if sure else None for interval, sure in zip(intervals, known, strict=True)]


def _side(
    side: Subject, figures: Sequence[Figure], replicates: int, rng: np.random.Generator
) -> tuple[Array, Array, Array]:
    """Return (deviations, replicates x figures; each figure's variance besides; whether calls speak of it)."""
    offsets = np.zeros((replicates, len(figures)))
    besides = np.zeros(len(figures))
    has_calls = np.array([figure in side.points for figure in figures], bool)
    numbers = np.flatnonzero(~has_calls).tolist()
    if side.evidence is None or not numbers:
        return offsets, besides, has_calls
    own = [figures[number] for number in numbers]
    found, floors = deviations(side.evidence, own, call_weights(side.evidence, replicates, rng), side.model)
    offsets[:, numbers] = found
    variances = found.var(axis=0)
    for at, number in enumerate(numbers):
        figure = figures[number]
        has_calls[number] = figure in floors or figure.metric == "concurrent_calls"
        besides[number] = max(floors.get(figure, 0.0) ** 2 - variances[at], 0.0)
        if figure.metric == "concurrent_calls":
            # the calls up at once in an open load are Poisson distributed around their mean (M/G/∞)
            besides[number] += 1 / max(side.levels[figure.metric], 1.0) / side.runs
        besides[number] += _between_runs(side, figure, variances[at])
    return offsets, besides, has_calls


def _between_runs(side: Subject, figure: Figure, variance: float) -> float:
    """Return the variance that pooled runs show beyond the chance of calls, for their mean and for a new run."""
    of_runs = [run[str(figure)] for run in side.by_run if str(figure) in run]
    if len(of_runs) < RUNS_MIN:
        return 0.0
    spread = spread_of_runs([on_scale(figure, value) for value in of_runs], variance * len(of_runs))
    return (spread * student_factor(len(of_runs) - 1)) ** 2 * (1 + 1 / len(of_runs))
