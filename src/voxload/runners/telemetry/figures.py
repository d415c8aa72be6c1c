"""Adds up the snapshots of a run into the figures that go out, histograms with exact counts."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from typing import Literal, NamedTuple

from voxload.measure.histogram import HistogramData, bucket_bounds, bucket_index
from voxload.measure.recorder import Labels
from voxload.measure.snapshot import Snapshot
from voxload.model.metric import METRICS, SCALE, is_latency
from voxload.runners.telemetry.origin import CALLS, Level, Origin

BOUNDS_MS = (
    0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 35, 50, 75, 100, 125, 150, 175, 200, 250, 300, 400, 500, 600, 800, 1000, 1250, 1500,
    2000, 2500, 3000, 3500, 4000, 5000, 7500, 10000, 15000, 30000, 60000,
)  # fmt: skip
BOUNDS_S = (1, 2, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 240, 300, 600, 900, 1800, 3600)
BOUNDS_MOS = (1.5, 2, 2.5, 3, 3.5, 4, 4.25, 4.5)

IN_SECONDS = frozenset({"call_duration"})
"""Latencies whose unit outside is s; that of all others is ms."""
RENAMED = {"voice_response": "voice.latency"}
"""Names outside that do not follow from ours by dots for underscores."""

Kind = Literal["counter", "level", "gauge", "histogram"]


class Point(NamedTuple):
    """One value, or the distribution of a series, with its attributes."""

    labels: Labels
    value: float
    size: int = 0
    """How many values a histogram's point holds."""
    counts: tuple[int, ...] = ()
    """By bucket of `Figure.bounds`, and one for what lies above."""
    minimum: float = 0.0
    maximum: float = 0.0


class Figure(NamedTuple):
    """One metric as it goes out; `value` of a histogram's point is its sum.

    A `counter` only grows, a `level` goes up and down and adds up over machines, a `gauge` does not add up.
    """

    name: str
    """Without the prefix, parts by dots."""
    unit: str
    """UCUM, as OpenTelemetry has it: ms, s, {call}, By, 1."""
    meaning: str
    kind: Kind
    points: list[Point]
    bounds: tuple[float, ...] = ()
    """Upper ends of the buckets, themselves in them, in `unit`."""


class Shape(NamedTuple):
    """How a metric's values are shown: unit, how much of our integers one is, the buckets' upper ends in integers."""

    unit: str
    scale: float
    edges: tuple[int, ...]

    @property
    def bounds(self) -> tuple[float, ...]:
        """The upper ends in the unit."""
        return tuple(edge / self.scale for edge in self.edges)


def _edges(bounds: tuple[float, ...], scale: float) -> tuple[int, ...]:
    """Return the upper ends of those of our own buckets that hold the bounds wished for.

    A bucket of ours then lies on one side of each bound, never across it: the counts are exact, the bounds are up to
    0.4 % above round numbers.
    """
    return tuple(bucket_bounds(bucket_index(round(bound * scale)))[1] for bound in bounds)


_MS = Shape("ms", SCALE / 1000, _edges(BOUNDS_MS, SCALE / 1000))
_S = Shape("s", float(SCALE), _edges(BOUNDS_S, SCALE))
_SHARE = Shape("1", float(SCALE), (0,))
_MOS = Shape("{MOS}", float(SCALE), _edges(BOUNDS_MOS, SCALE))


def shape_of(metric: str) -> Shape:
    """Return how a metric's values are shown. A ratio has two buckets: no and yes."""
    if is_latency(metric):
        return _S if metric in IN_SECONDS else _MS
    unit = METRICS[metric].unit
    if METRICS[metric].kind == "ratio":
        return _SHARE
    if unit == "MOS":
        return _MOS
    return Shape(f"{{{unit}}}" if unit else "1", float(SCALE), ())


def outside_name(metric: str) -> str:
    """Return a metric's name without the prefix: `turn_latency` is `turn.latency`."""
    return RENAMED.get(metric, metric.replace("_", "."))


class _Buckets:
    __slots__ = ("count", "counts", "maximum", "minimum", "total")

    def __init__(self, edges: tuple[int, ...]) -> None:
        self.counts = [0] * (len(edges) + 1)
        self.count = self.total = self.minimum = self.maximum = 0

    def add(self, data: HistogramData, edges: tuple[int, ...]) -> None:
        if not data.count:
            return
        for index, count in data.buckets:
            self.counts[bisect_left(edges, bucket_bounds(index)[1])] += count
        self.counts[-1] += data.overflow
        self.minimum = min(self.minimum, data.minimum) if self.count else data.minimum
        self.maximum = max(self.maximum, data.maximum) if self.count else data.maximum
        self.count += data.count
        self.total += data.total


_COUNTERS = {
    "started": ("", "begun"),
    "ended": ("", "that have ended, by outcome"),
    "frames.sent": ("{frame}", "audio frames sent"),
    "frames.received": ("{frame}", "audio frames received"),
    "frames.dropped": ("{frame}", "frames not sent because the target did not read"),
    "frames.lost": ("{frame}", "frames that the callers' impaired lines lost on purpose"),
    "network.sent": ("By", "bytes sent"),
    "network.received": ("By", "bytes received"),
    "cost": ("{USD}", "cost of the calls, by item"),
    "peer.errors": ("{error}", "errors that the agent reported, by code"),
    "http.requests": ("{request}", "side traffic, by request and status"),
}
"""Unit (none: the origin's) and meaning of counts."""
_PLAIN = {
    "frames_sent": "frames.sent",
    "frames_received": "frames.received",
    "frames_dropped": "frames.dropped",
    "frames_lost": "frames.lost",
    "bytes_sent": "network.sent",
    "bytes_received": "network.received",
}
_OF_WORK = {"{call}": "calls", "{operation}": "units of work"}
PEER_CODES_MAX = 50


class Figures:
    """Sums since the run began, or since `clear`."""

    def __init__(self) -> None:
        self._buckets: dict[tuple[str, str, Labels], _Buckets] = {}
        self._counters: dict[tuple[str, str, str, Labels], float] = defaultdict(float)
        """By name, its unit, its meaning, and labels."""
        self._codes: set[str] = set()

    def take(self, snapshot: Snapshot, origin: Origin = CALLS) -> None:
        """Add what one process has measured in one stretch."""
        for series in snapshot.series:
            edges = shape_of(series.metric).edges
            key = (origin.prefix, series.metric, origin.named(tuple(series.labels.items())))
            found = self._buckets.get(key)
            if found is None:
                found = self._buckets[key] = _Buckets(edges)
            found.add(series.histogram, edges)
        counters = snapshot.counters
        self._count(origin, "started", (), counters.started)
        for outcome, count in counters.outcomes.items():
            self._count(origin, "ended", (("outcome", str(outcome)),), count)
        for name, outside in _PLAIN.items():
            amount = getattr(counters, name)
            if amount or origin is CALLS:  # most services carry no audio
                self._count(origin, outside, (), amount)
        for item, cost in counters.costs.items():
            self._count(origin, "cost", (("item", item),), cost)
        for code, count in counters.peer_errors.items():
            if code in self._codes or len(self._codes) < PEER_CODES_MAX:
                self._codes.add(code)
            self._count(origin, "peer.errors", (("code", code if code in self._codes else "other"),), count)
        for request, statuses in counters.http_requests.items():
            for status, count in statuses.items():
                self._count(origin, "http.requests", (("request", request), ("status", status)), count)

    def _count(self, origin: Origin, name: str, labels: Labels, amount: float) -> None:
        unit, meaning = _COUNTERS[name]
        if not unit:
            name, unit, meaning = f"{origin.work}.{name}", origin.unit, f"{_OF_WORK[origin.unit]} {meaning}"
        self._counters[origin.prefix + name, unit, meaning, origin.named(labels)] += amount

    def clear(self) -> None:
        """Begin again at nothing, for a receiver that wants what is new each time."""
        self._buckets.clear()
        self._counters.clear()

    def all(self, levels: Sequence[Level]) -> list[Figure]:
        """Return every figure; `levels` says what is up now."""
        found: dict[str, Figure] = {}

        def add(figure: Figure) -> None:
            found.setdefault(figure.name, figure._replace(points=[])).points.extend(figure.points)

        for origin, active, cpu_percent in levels:
            meaning = f"{_OF_WORK[origin.unit]} up at once"
            up = [Point(origin.labels, float(active))]
            add(Figure(f"{origin.prefix}{origin.work}.concurrent", origin.unit, meaning, "level", up))
            meaning = "CPU of each of voxload's own processes, of one core"
            used = [Point(origin.named((("process", str(shard)),)), cpu) for shard, cpu in sorted(cpu_percent.items())]
            add(Figure(f"{origin.prefix}generator.cpu", "%", meaning, "gauge", used))
        for (name, unit, meaning, labels), value in self._counters.items():
            add(Figure(name, unit, meaning, "counter", [Point(labels, float(value))]))
        for (prefix, metric, labels), each in sorted(self._buckets.items(), key=lambda item: item[0][:2]):
            shape = shape_of(metric)
            ends = (each.minimum / shape.scale, each.maximum / shape.scale)
            point = Point(labels, each.total / shape.scale, each.count, tuple(each.counts), *ends)
            meaning = METRICS[metric].meaning if metric in METRICS else ""
            name = prefix + outside_name(metric)
            add(Figure(name, shape.unit, meaning, "histogram", [point], shape.bounds))
        return list(found.values())
