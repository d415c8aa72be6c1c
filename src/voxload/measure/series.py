"""Distributions as a summary holds them: series by metric and labels, percentiles at a glance, kinds of errors."""

from __future__ import annotations

import msgspec

from voxload.measure.histogram import Histogram, HistogramData, PackedHistogram


class Series(msgspec.Struct, frozen=True):
    """All values of a metric under one set of labels (`call`, `turn`, `phase`, …), over the whole run.

    The histogram holds values times `voxload.model.metric.SCALE`: ns for latencies, 0 or 1e9 for ratios.
    """

    metric: str
    labels: dict[str, str]
    histogram: HistogramData


class PackedSeries(msgspec.Struct, frozen=True):
    """A series whose histogram is not yet read."""

    metric: str
    labels: dict[str, str]
    histogram: PackedHistogram


class Quantiles(msgspec.Struct, frozen=True):
    """A distribution at a glance, in ms."""

    count: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


class ErrorSample(msgspec.Struct, frozen=True):
    """A kind of error text with how often it came; the number of kinds kept is bounded."""

    outcome: str
    text: str
    count: int


def quantiles(histogram: Histogram) -> Quantiles | None:
    """Return a histogram of ns at a glance, in ms; None when it is empty."""
    p50, p95, p99 = histogram.quantile(0.5), histogram.quantile(0.95), histogram.quantile(0.99)
    if p50 is None or p95 is None or p99 is None:
        return None
    return Quantiles(histogram.count, p50 / 1e6, p95 / 1e6, p99 / 1e6, histogram.maximum / 1e6)
