"""Where a series of runs moved: binary segmentation by a rank statistic with a permutation test.

For each split of a series the sum of the ranks before it is set against what chance would make of it (the standardised
Wilcoxon statistic; the maximum over all splits is Pettitt's test of 1979). How large that maximum becomes in a series
without a change is found by shuffling the series. A change that is significant splits the series, and each part is
looked at again (Vostrikova 1981). Ranks: one odd run moves nothing. How sure the place is: runs are drawn anew within
each part, and the split is looked for again.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

RUNS_MIN = 10
"""A shorter series cannot be significant."""
PART_MIN = 3
"""Runs on each side of a change at least."""
PERMUTATIONS = 2000
ALPHA = 0.01
PLACES = 400

Array = npt.NDArray[Any]


class ChangePoint(NamedTuple):
    """The series moved between run `at - 1` and run `at` (counted from 0)."""

    at: int
    earliest: int
    latest: int
    """The first run after the change is one of these with 95 % confidence."""
    before: float
    after: float
    """Medians of the parts beside the change."""
    p_value: float


def change_points(
    values: Sequence[float], alpha: float = ALPHA, least: float = 0.0, seed: int = 0
) -> list[ChangePoint]:
    """Return where a series moved, in its order; seeded.

    `alpha` is the chance of finding a change in a series that has none; changes of the median by less than `least` (a
    share of what was before) are left out.
    """
    series = np.asarray(values, float)
    if len(series) < RUNS_MIN:
        return []
    found: dict[int, float] = {}
    _split(series, 0, alpha, np.random.default_rng(seed), found)
    edges = [0, *sorted(found), len(series)]
    points = []
    for number, at in enumerate(sorted(found), 1):
        before, after = series[edges[number - 1] : at], series[at : edges[number + 1]]
        old, new = statistics.median(before.tolist()), statistics.median(after.tolist())
        if abs(new - old) < least * abs(old):
            continue
        earliest, latest = _place(before, after, np.random.default_rng([seed, at]))
        start = edges[number - 1]
        points.append(ChangePoint(at, start + earliest, start + latest, old, new, found[at]))
    return points


def _split(series: Array, start: int, alpha: float, rng: np.random.Generator, found: dict[int, float]) -> None:
    if len(series) < max(2 * PART_MIN, 2):
        return
    ranks = _ranks(series)
    at, largest = _largest(ranks[None, :])
    shuffled = rng.permuted(np.tile(ranks, (PERMUTATIONS, 1)), axis=1)
    by_chance = _largest(shuffled)[1]
    p_value = (1 + int((by_chance >= largest[0] - 1e-9).sum())) / (PERMUTATIONS + 1)
    if p_value > alpha:
        return
    place = int(at[0])
    found[start + place] = p_value
    _split(series[:place], start, alpha, rng, found)
    _split(series[place:], start + place, alpha, rng, found)


def _ranks(series: Array) -> Array:
    """Return ranks less their mean; equal values share the mean of their ranks."""
    _, place, counts = np.unique(series, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return ((last - (counts - 1) / 2)[place.reshape(-1)]) - (len(series) + 1) / 2


def _largest(ranks: Array) -> tuple[Array, Array]:
    """Return (where each row is split best: the first run after it; the standardised statistic there)."""
    length = ranks.shape[1]
    sizes = np.arange(PART_MIN, length - PART_MIN + 1)
    sums = np.cumsum(ranks, axis=1)[:, sizes - 1]
    variance = np.maximum(ranks[0].var(), 1e-12)
    scores = np.abs(sums) / np.sqrt(variance * sizes * (length - sizes) / (length - 1))
    best = scores.argmax(axis=1)
    return sizes[best], scores[np.arange(len(ranks)), best]


def _place(before: Array, after: Array, rng: np.random.Generator) -> tuple[int, int]:
    """Return the earliest and the latest place of the change, counted from the first run of `before`."""
    drawn = np.concatenate([rng.choice(before, (PLACES, len(before))), rng.choice(after, (PLACES, len(after)))], axis=1)
    ranks = np.array([_ranks(row) for row in drawn])
    places = [int(_largest(row[None, :])[0][0]) for row in ranks]
    low, high = np.quantile(places, [0.025, 0.975], method="nearest")
    at = len(before)
    # the split was chosen because it fits best, so that the draws agree with it too well: one run more on each side
    return max(min(int(low), at) - 1, 1), min(max(int(high), at) + 1, at + len(after) - 1)


def relative(before: float, after: float) -> float:
    """Return a change as a share of what was before."""
    return (after - before) / abs(before) if before else math.copysign(math.inf, after - before) if after else 0.0
