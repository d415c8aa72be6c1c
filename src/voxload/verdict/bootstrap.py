"""Intervals of differences between two sets of calls: a cluster bootstrap over calls, simultaneous over all figures.

Turns within a call are correlated, so calls are resampled, never turns: each replicate gives every sampled call a
Poisson number of copies (Chamandy et al. 2012; Field and Welsh 2007 on clusters). A sample of m calls that stands for n
is resampled to n calls, as in the bag of little bootstraps (Kleiner et al. 2014), so that the interval is that of the
whole run. All figures of a replicate come from the same resampled calls; the largest studentised deviation over all of
them gives intervals that hold together (max-T; Romano and Wolf 2005).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from voxload.measure.evidence import Evidence, Spans, bucket_values
from voxload.measure.histogram import FRACTION_ERROR, RELATIVE_ERROR
from voxload.model.metric import METRICS, SCALE, is_latency

REPLICATES = 1000
CONFIDENCE = 0.95
LATENCY_FLOOR_NS = 1_000_000
"""Latencies below this count as this: the generator's own clock wheel ticks in ms."""
SCORE_FLOORS = {"underruns": 0.1}
"""Scores that may be 0, with the least that counts."""
REPLICATES_AT_ONCE = 250
"""Bounds the memory."""
DENSE_FROM = 20
"""Values a bucket from which a matrix product is faster than adding up value by value."""

Array = npt.NDArray[Any]


class Figure(NamedTuple):
    """One number of a run: a percentile or mean of a metric, or its one value (aggregate empty), under labels."""

    metric: str
    aggregate: str
    """`p50` …, `mean`, or empty for a ratio or a level."""
    labels: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        labels = ", ".join(f'{name}="{value}"' for name, value in self.labels)
        inner = f"{self.metric}{{{labels}}}" if labels else self.metric
        return f"{self.aggregate}({inner})" if self.aggregate else inner

    @property
    def fraction(self) -> float | None:
        """The percentile as a fraction, None for others."""
        return float(self.aggregate[1:]) / 100 if self.aggregate[:1] == "p" else None

    @property
    def logarithmic(self) -> bool:
        """Whether differences are ratios (latencies, scores, levels); those of shares are differences."""
        return self.metric not in METRICS or METRICS[self.metric].kind != "ratio"


class Interval(NamedTuple):
    """A difference with its interval, on the scale of its figure: ln of a ratio, or a difference of shares."""

    change: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half the interval's width."""
        return (self.high - self.low) / 2


def on_scale(figure: Figure, value: float) -> float:
    """Return a figure's value on the scale on which it is compared."""
    if not figure.logarithmic:
        return value
    return math.log(max(value, floor_of(figure.metric)))


def floor_of(metric: str) -> float:
    """Return the least value of a metric that counts, in ns or plain: ratios need a number above 0."""
    if metric in METRICS and METRICS[metric].kind != "latency":
        return SCORE_FLOORS.get(metric, 1e-12)
    return LATENCY_FLOOR_NS


def call_weights(evidence: Evidence, replicates: int, rng: np.random.Generator) -> Array:
    """Return how often each sampled call occurs in each replicate: an array of calls x replicates."""
    if not evidence.calls:
        return np.zeros((0, replicates), np.float32)
    copies = max(evidence.total, evidence.calls) / evidence.calls
    return rng.poisson(copies, (evidence.calls, replicates)).astype(np.float32)


def deviations(
    evidence: Evidence, figures: Sequence[Figure], weights: Array, model: str
) -> tuple[Array, dict[Figure, float]]:
    """Return (how far each figure is off in each replicate, smallest standard error of each figure).

    The array is replicates x figures; a figure without data is 0 in it and has no standard error. `model` is the
    load's, `open` or `closed`: in a closed load calls that take longer mean fewer of them.
    """
    result = np.zeros((weights.shape[1], len(figures)))
    floors: dict[Figure, float] = {}
    groups: dict[tuple[str, tuple[tuple[str, str], ...]], list[int]] = {}
    for number, figure in enumerate(figures):
        groups.setdefault((figure.metric, figure.labels), []).append(number)
    parts: dict[tuple[tuple[str, str], ...], Evidence] = {}
    for (metric, labels), numbers in groups.items():
        part = parts.setdefault(labels, evidence.where(dict(labels)) if labels else evidence)
        if metric == "throughput":
            found = _throughput(part, weights, model)
        elif metric in part.shares and part.shares[metric].count.any():
            found = _share(part, metric, weights)
        elif metric in part.spans and len(part.spans[metric].call):
            found = _spans(part.spans[metric], [figures[number] for number in numbers], weights, metric)
        else:
            continue
        result[:, numbers] = found.deviations
        floors.update(dict.fromkeys((figures[number] for number in numbers), found.floor))
    return result, floors


class _Found(NamedTuple):
    deviations: Array
    floor: float
    """Standard error that is left when all replicates agree."""


def _share(evidence: Evidence, metric: str, weights: Array) -> _Found:
    shares = evidence.shares[metric]
    good, count = shares.good.sum(), shares.count.sum()
    resampled = (shares.good @ weights) / np.maximum(shares.count @ weights, 1e-9)
    # a share of exactly 0 or 1 never varies in a resample, and yet is not certain (Agresti and Coull 1998)
    calls = np.count_nonzero(shares.count) * max(evidence.total / evidence.calls, 1.0)
    adjusted = (min(good / count, 1.0) * calls + 2) / (calls + 4)  # of words there may be more errors than words
    return _Found((resampled - good / count)[:, None], math.sqrt(adjusted * (1 - adjusted) / (calls + 4)))


def _throughput(evidence: Evidence, weights: Array, model: str) -> _Found:
    """Completed calls for each attempted one (open load), or for each second of all callers' time (closed load)."""
    completed = evidence.shares["call_success"].good
    of = np.zeros(evidence.calls) if model == "closed" else np.ones(evidence.calls)
    if model == "closed":
        for metric in ("call_setup", "call_duration"):
            if metric in evidence.spans:
                spans = evidence.spans[metric]
                np.add.at(of, spans.call, bucket_values(spans.bucket) / 1e9)
    if not completed.sum() or not of.sum():
        return _Found(np.zeros((weights.shape[1], 1)), 1.0)
    resampled = np.maximum(completed @ weights, 0.5) / np.maximum(of @ weights, 1e-9)
    floor = _share(evidence, "call_success", weights[:, :1]).floor
    return _Found(np.log(resampled * of.sum() / completed.sum())[:, None], floor)


def _spans(spans: Spans, figures: Sequence[Figure], weights: Array, metric: str) -> _Found:
    order = np.argsort(spans.bucket, kind="stable")
    call = spans.call[order]
    buckets, first = np.unique(spans.bucket[order], return_index=True)
    values = bucket_values(buckets) / (1 if is_latency(metric) else SCALE)
    scaled = np.log(np.maximum(values, floor_of(metric)))
    once = np.diff(np.append(first, len(call))).astype(float)[:, None]
    all_at_once = _aggregates(once, figures, values, scaled)
    rows = []
    for start in range(0, weights.shape[1], REPLICATES_AT_ONCE):
        some = np.ascontiguousarray(weights[:, start : start + REPLICATES_AT_ONCE])
        rows.append(_aggregates(_by_bucket(call, first, some), figures, values, scaled))
    return _Found(np.concatenate(rows) - all_at_once, RELATIVE_ERROR)


def _by_bucket(call: Array, first: Array, weights: Array) -> Array:
    """Return how many values each bucket has in each replicate: an array of buckets x replicates.

    `call` holds the calls of the values in order of size, `first` where each bucket begins.
    """
    if len(call) <= DENSE_FROM * len(first):
        return np.add.reduceat(weights[call], first, axis=0)
    table = np.zeros((len(first), len(weights)), np.float32)
    bucket = np.repeat(np.arange(len(first)), np.diff(np.append(first, len(call))))
    np.add.at(table, (bucket, call), 1)
    return table @ weights


def _aggregates(counts: Array, figures: Sequence[Figure], values: Array, scaled: Array) -> Array:
    """Return the figures (ln) of each column of counts by bucket; percentiles by nearest rank, as histograms do."""
    cumulative = np.cumsum(counts, axis=0, dtype=np.float64)
    total = cumulative[-1]
    result = np.empty((counts.shape[1], len(figures)))
    for number, figure in enumerate(figures):
        fraction = figure.fraction
        if fraction is None:
            mean = values @ counts / np.maximum(total, 1e-9)
            result[:, number] = np.log(np.maximum(mean, floor_of(figure.metric)))
        else:
            rank = np.clip(np.ceil(fraction * total * (1 - FRACTION_ERROR)), 1, np.maximum(total, 1))
            at = np.minimum((cumulative < rank).sum(axis=0), len(scaled) - 1)
            result[:, number] = scaled[at]
    return result


def simultaneous(
    changes: Sequence[float],
    offsets: Array,
    errors_besides: Sequence[float],
    rng: np.random.Generator,
    confidence: float = CONFIDENCE,
) -> list[Interval]:
    """Return the changes with intervals of which all hold at once with the stated confidence.

    `offsets` (replicates x figures) is how far each change is off in each replicate; `errors_besides` the standard
    error that each has besides, from sources that resampling cannot show.
    """
    if not changes:
        return []
    drawn = offsets + rng.standard_normal(offsets.shape) * np.asarray(errors_besides)
    errors = np.maximum(drawn.std(axis=0), 1e-12)
    critical = float(np.quantile(np.abs(drawn / errors).max(axis=1), confidence))
    return [
        Interval(change, change - critical * error, change + critical * error)
        for change, error in zip(changes, errors.tolist(), strict=True)
    ]


def spread_of_runs(values: Sequence[float], errors_squared: float) -> float:
    """Return the standard deviation from run to run beyond the chance of calls (method of moments; DerSimonian, Laird).

    `values` are a figure of each run on its scale; `errors_squared` the mean squared standard error of one run.
    """
    if len(values) < 2:
        return 0.0
    mean = math.fsum(values) / len(values)
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return math.sqrt(max(variance - errors_squared, 0.0))


def student_factor(degrees: int) -> float:
    """Return how much wider a 95 % interval is when its error was estimated with so many degrees of freedom.

    That is Student's 97.5 % point by the normal one (Abramowitz and Stegun 26.7.5; within 3 % from 2 degrees on).
    """
    z = 1.959964
    terms = (
        (z**3 + z) / 4 / degrees,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96 / degrees**2,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384 / degrees**3,
    )
    return 1 + math.fsum(terms) / z
