"""A log-linear histogram of integers that merges exactly: at most 0.2 % error in a percentile, no range to choose."""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec
import numpy as np
import numpy.typing as npt

SUB_BITS = 8
_LINEAR = 1 << SUB_BITS  # values below this have a bucket each
VALUE_MAX = (1 << 52) - 1
"""Largest value kept by bucket (52 days in ns); larger ones count as overflow and read as the maximum."""

BUCKETS = (VALUE_MAX.bit_length() - SUB_BITS + 1) << SUB_BITS
"""How many buckets there are."""

RELATIVE_ERROR = 1 / (2 * _LINEAR)
"""Largest relative distance between a value and the middle of its bucket (0.195 %)."""

FRACTION_ERROR = 1e-12
"""More than floats make of a percentile's fraction times a count, and less than a step of any count that there is."""


class HistogramData(msgspec.Struct, frozen=True, omit_defaults=True):
    """A histogram as data: `buckets` are (index, count) pairs in order of index."""

    count: int = 0
    total: int = 0
    minimum: int = 0
    maximum: int = 0
    overflow: int = 0
    buckets: tuple[tuple[int, int], ...] = ()


class PackedHistogram(msgspec.Struct, frozen=True):
    """A histogram as counters in C hand it out, in no time; whoever has the time reads it.

    `counts` are those of the buckets from the index `first` on, as little-endian uint32, empty ones included.
    """

    total: int
    minimum: int
    maximum: int
    overflow: int
    first: int
    counts: bytes

    def __post_init__(self) -> None:
        """See that they are counts of buckets; a decoder raises its own kind of error from this one."""
        if len(self.counts) % 4 or self.first < 0 or self.first + len(self.counts) // 4 > BUCKETS:
            raise ValueError("no counts of buckets")

    def to_data(self) -> HistogramData:
        """Return the histogram as plain data."""
        counts = np.frombuffer(self.counts, dtype="<u4")
        held = np.flatnonzero(counts)
        buckets = tuple(zip((held + self.first).tolist(), counts[held].tolist(), strict=True))
        count = int(counts.sum()) + self.overflow
        return HistogramData(count, self.total, self.minimum, self.maximum, self.overflow, buckets)


def bucket_index(value: int) -> int:
    """Return the index of the bucket that holds `value` (0 <= value <= VALUE_MAX)."""
    shift = value.bit_length() - SUB_BITS - 1
    return value if shift <= 0 else (shift << SUB_BITS) + (value >> shift)


def bucket_bounds(index: int) -> tuple[int, int]:
    """Return the lowest and the highest value of a bucket."""
    if index < 2 * _LINEAR:
        return index, index
    shift = (index >> SUB_BITS) - 1
    low = (index - (shift << SUB_BITS)) << shift
    return low, low + (1 << shift) - 1


def rank_of(fraction: float, count: int) -> int:
    """Return the nearest rank of a percentile among `count` values: the least one with that share at or below it.

    A product that is whole in decimal is taken as whole: 99.9 % of 1,000 values are 999, whatever a float says.
    """
    return min(max(math.ceil(fraction * count * (1 - FRACTION_ERROR)), 1), count)


class Histogram:
    """Counts integers (here: nanoseconds) in buckets that are 1/256 of their value wide.

    Values below 512 have a bucket each; above, each power of two is cut into 256 equal buckets. Count, sum, minimum and
    maximum are exact, and `merge` is exact: the percentiles of a merged histogram are those of all the values together.
    """

    __slots__ = ("counts", "maximum", "minimum", "overflow", "total")

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.total = 0
        self.minimum = 0
        self.maximum = 0
        self.overflow = 0

    def record(self, value: int) -> None:
        """Count one value; a negative one is counted as 0 (clocks of one machine do not run backwards)."""
        value = max(value, 0)
        counts = self.counts
        if not counts and not self.overflow:
            self.minimum = self.maximum = value
        elif value < self.minimum:
            self.minimum = value
        elif value > self.maximum:
            self.maximum = value
        self.total += value
        shift = value.bit_length() - 9  # SUB_BITS + 1
        if shift > 43:
            self.overflow += 1
            return
        index = value if shift <= 0 else (shift << 8) + (value >> shift)
        counts[index] = counts.get(index, 0) + 1

    def record_all(self, values: npt.NDArray[np.int64]) -> None:
        """Count many values at once, as `record` would count each: 40 times as fast for a second's worth of frames."""
        if not values.size:
            return
        values = np.maximum(values, 0)
        low, high = int(values.min()), int(values.max())
        empty = not self.counts and not self.overflow
        self.minimum = low if empty else min(self.minimum, low)
        self.maximum = high if empty else max(self.maximum, high)
        self.total += int(values.sum())
        if high > VALUE_MAX:
            self.overflow += int(np.count_nonzero(values > VALUE_MAX))
            values = values[values <= VALUE_MAX]
        shifts = np.maximum(np.frexp(values.astype(np.float64))[1] - (SUB_BITS + 1), 0)  # exact below 2**53
        times = np.bincount((shifts << SUB_BITS) + (values >> shifts))  # 12,000 buckets at most: no sorting
        counts = self.counts
        for index in np.flatnonzero(times).tolist():
            counts[index] = counts.get(index, 0) + int(times[index])

    def record_many(self, value: int, times: int) -> None:
        """Count one value several times."""
        if times > 0:
            self.record(value)
            self.total += value * (times - 1)
            if value > VALUE_MAX:
                self.overflow += times - 1
            else:
                self.counts[bucket_index(max(value, 0))] += times - 1

    @property
    def count(self) -> int:
        """How many values were recorded, those over the range included."""
        return sum(self.counts.values()) + self.overflow

    @property
    def mean(self) -> float | None:
        """The exact mean, or None when nothing was recorded."""
        count = self.count
        return self.total / count if count else None

    def merge(self, other: Histogram) -> None:
        """Add all that `other` has counted."""
        if not other.count:
            return
        if not self.count:
            self.minimum, self.maximum = other.minimum, other.maximum
        else:
            self.minimum, self.maximum = min(self.minimum, other.minimum), max(self.maximum, other.maximum)
        self.total += other.total
        self.overflow += other.overflow
        counts = self.counts
        for index, count in other.counts.items():
            counts[index] = counts.get(index, 0) + count

    def quantile(self, fraction: float) -> float | None:
        """Return the value at `fraction` (0 to 1) by nearest rank, or None when nothing was recorded.

        The answer is the middle of the bucket that holds the value of that rank, kept within minimum and maximum; its
        relative error is at most `RELATIVE_ERROR`. The ends (rank 1 and rank count) are exact.
        """
        count = self.count
        if not count:
            return None
        rank = rank_of(fraction, count)
        if rank == 1:
            return float(self.minimum)
        if rank == count:
            return float(self.maximum)
        seen = 0
        for index in sorted(self.counts):
            seen += self.counts[index]
            if seen >= rank:
                low, high = bucket_bounds(index)
                return float(min(max((low + high) / 2, self.minimum), self.maximum))
        return float(self.maximum)

    def share_at_most(self, limit: float) -> float | None:
        """Return the share of values that are at most `limit` (to the width of a bucket), or None without values."""
        count = self.count
        if not count:
            return None
        within = sum(number for index, number in self.counts.items() if sum(bucket_bounds(index)) / 2 <= limit)
        return within / count

    def to_data(self) -> HistogramData:
        """Return the histogram as plain data."""
        return HistogramData(
            self.count, self.total, self.minimum, self.maximum, self.overflow, tuple(sorted(self.counts.items()))
        )

    def to_packed(self) -> PackedHistogram:
        """Return the histogram packed; no bucket may hold more than a uint32 does."""
        first = min(self.counts, default=0)
        counts = np.zeros(max(self.counts, default=first - 1) + 1 - first, dtype="<u4")
        for index, count in self.counts.items():
            counts[index - first] = count
        return PackedHistogram(self.total, self.minimum, self.maximum, self.overflow, first, counts.tobytes())

    @classmethod
    def from_data(cls, data: HistogramData) -> Histogram:
        """Return the histogram that `data` was made from."""
        histogram = cls()
        histogram.counts = dict(data.buckets)
        histogram.total, histogram.overflow = data.total, data.overflow
        histogram.minimum, histogram.maximum = data.minimum, data.maximum
        return histogram


def merged(histograms: Iterable[Histogram]) -> Histogram:
    """Return one histogram of all the values of many."""
    result = Histogram()
    for histogram in histograms:
        result.merge(histogram)
    return result
