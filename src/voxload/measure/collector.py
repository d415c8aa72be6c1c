"""Collects the snapshots of all shards: exact merges for the whole run, a time line, health, the worst calls."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterator

import msgspec

from voxload.clock import NS_PER_S
from voxload.measure.histogram import Histogram, merged
from voxload.measure.levels import Levels
from voxload.measure.recorder import Labels
from voxload.measure.series import ErrorSample, Series, quantiles
from voxload.measure.snapshot import Snapshot
from voxload.measure.stretch import Stretch
from voxload.measure.summary import LATENESS_METRICS, CallRecord, ShardHealth, TimelinePoint, Totals
from voxload.model.metric import SCALE
from voxload.model.outcome import NOT_ATTEMPTED, Outcome

WORST_CALLS = 25
ERROR_SAMPLES = 50
SUSTAINED_S = 5
"""A level of concurrency counts when it is held for this many consecutive seconds."""
OPEN_S = 20
"""So long a stretch waits for late snapshots (of a process that hangs, for 15 s) before its figures are packed."""
TIMELINE_POINTS_MAX = 900
RECENT_S = 61
"""So far back `Collector.recent` reaches."""

KINDS_MAX = 50
"""Kinds of messages and codes of errors that a peer may choose; further ones are `other`."""

FRAME_COUNTS = ("frames_sent", "frames_received", "frames_dropped", "frames_lost", "bytes_sent", "bytes_received")


class _ShardState:
    def __init__(self) -> None:
        self.calls = 0
        self.cpu_ns = self.cpu_max = self.cpu_last = self.memory_mib = 0.0
        self.span_ns = self.last_ns = 0
        self.lateness = Histogram()
        self.final = False
        self.lost = ""


class Collector:
    """Merges snapshots as they come; memory is bounded by the length of the time line, not by the number of calls."""

    def __init__(self, stretch_s: int = 1) -> None:
        self.stretch_s = stretch_s
        self.shards: dict[int, _ShardState] = defaultdict(_ShardState)
        self._series: dict[tuple[str, Labels], Histogram] = defaultdict(Histogram)
        self._stretches: dict[int, Stretch] = defaultdict(Stretch)
        self._open_from = self._recent_from = 0
        """The oldest stretch that may be open, and that may have values for `recent`."""
        self._watched: set[str] = set()
        self._levels = Levels()
        self._worst: list[tuple[float, int, CallRecord]] = []
        self._errors: Counter[tuple[str, str]] = Counter()
        self._unknown: Counter[str] = Counter()
        self._peer_errors: Counter[str] = Counter()
        self._http: dict[str, Counter[str]] = defaultdict(Counter)
        self.outcomes: Counter[str] = Counter()
        self.started = 0
        self.recordings: dict[str, str] = {}
        """Files of recorded calls within the run's folder, by call id."""
        self.costs: dict[str, float] = defaultdict(float)
        """USD by item, over all calls."""
        self._frames = Counter[str]()

    @classmethod
    def of_duration(cls, duration_s: float) -> Collector:
        """Return one for a run of so many seconds (0: not known): its time line has stretches wide enough for it."""
        return cls(max(1, -(-round(duration_s) // TIMELINE_POINTS_MAX)))

    # --- input ---

    def add(self, snapshot: Snapshot) -> None:
        """Merge one snapshot."""
        state = self.shards[snapshot.shard]
        state.final = state.final or snapshot.final
        state.calls += snapshot.counters.started
        span_ns = max(snapshot.end_ns - snapshot.start_ns, 0)
        state.cpu_ns += snapshot.cpu_percent * span_ns
        state.span_ns += span_ns
        state.cpu_last = snapshot.cpu_percent
        if span_ns > NS_PER_S // 2:
            state.cpu_max = max(state.cpu_max, snapshot.cpu_percent)
        state.memory_mib = max(state.memory_mib, snapshot.memory_mib)
        state.last_ns = snapshot.end_ns
        second = max(round(snapshot.end_ns / NS_PER_S) - 1, 0)
        if snapshot.final:  # in the middle of a second: the level at the end of the one before stands
            second = max(second, round(snapshot.start_ns / NS_PER_S))
        self._levels.add(second, snapshot.shard, snapshot.active)
        # a report comes a little after its second is over: its middle tells which one that was
        middle_ns = max(snapshot.start_ns + snapshot.end_ns, 0) // 2
        stretch = self._stretches[middle_ns // (self.stretch_s * NS_PER_S)]
        self._add_series(snapshot, state, stretch)
        self._add_counters(snapshot, stretch)
        for record in snapshot.calls:
            self._consider_worst(record)
        self._freeze_old()

    def _add_series(self, snapshot: Snapshot, state: _ShardState, stretch: Stretch) -> None:
        for series in snapshot.unpack().series:
            histogram = Histogram.from_data(series.histogram)
            self._series[series.metric, tuple(series.labels.items())].merge(histogram)
            if not stretch.frozen:
                stretch.histogram(series.metric).merge(histogram)
            if series.metric in LATENESS_METRICS:
                state.lateness.merge(histogram)

    def _add_counters(self, snapshot: Snapshot, stretch: Stretch) -> None:
        counters = snapshot.counters
        self.started += counters.started
        self.outcomes.update(counters.outcomes)
        for item, amount in counters.costs.items():
            self.costs[item] += amount
        _count(self._unknown, counters.unknown_messages)
        _count(self._peer_errors, counters.peer_errors)
        for name, statuses in counters.http_requests.items():
            self._http[name].update(statuses)
        for outcome, text, count in counters.errors:
            if (outcome, text) in self._errors or len(self._errors) < ERROR_SAMPLES:
                self._errors[outcome, text] += count
        for name in FRAME_COUNTS:
            self._frames[name] += getattr(counters, name)
        stretch.started += counters.started
        stretch.ended += counters.ended
        for outcome, count in counters.outcomes.items():
            stretch.outcomes[outcome] = stretch.outcomes.get(outcome, 0) + count
        stretch.frames_sent += counters.frames_sent
        stretch.frames_received += counters.frames_received
        stretch.bytes_sent += counters.bytes_sent
        stretch.bytes_received += counters.bytes_received
        stretch.cpu = max(stretch.cpu, snapshot.cpu_percent)

    def _consider_worst(self, record: CallRecord) -> None:
        """Keep the calls that failed, then those with the most problems, then those that waited longest."""
        if record.outcome in {Outcome.CANCELLED, Outcome.SHED}:
            return
        longest_ms = max((turn.latency_ms for turn in record.turns if turn.latency_ms is not None), default=0.0)
        failed = 0.0 if record.outcome == Outcome.COMPLETED else 1e9
        problems = sum(len(turn.problems) for turn in record.turns)
        item = (failed + problems * 1e6 + longest_ms, -record.index, record)
        if len(self._worst) < WORST_CALLS:
            heapq.heappush(self._worst, item)
        elif item[:2] > self._worst[0][:2]:
            heapq.heapreplace(self._worst, item)

    def _freeze_old(self) -> None:
        newest = max(self._stretches)
        while self._open_from <= newest - self._width(OPEN_S):
            if self._open_from in self._stretches:
                self._stretches[self._open_from].freeze(self._watched)
            self._open_from += 1
        while self._recent_from <= newest - self._width(RECENT_S):
            if self._recent_from in self._stretches:
                self._stretches[self._recent_from].histograms = {}
            self._recent_from += 1

    def _width(self, span_s: int) -> int:
        """Return how many stretches cover so many seconds wherever they begin."""
        return -(-span_s // self.stretch_s) + 1

    def lose(self, shard: int, reason: str) -> None:
        """Note that a shard's numbers are incomplete; the calls that it had up are not counted as up any more."""
        state = self.shards[shard]
        if not state.lost:
            self._levels.end(round(state.last_ns / NS_PER_S), shard)
        state.lost = state.lost or reason

    def observe(self, metric: str, labels: Labels, value: float) -> None:
        """Add one value that was found after the run, such as the score of a recording."""
        self._series[metric, labels].record(round(value * SCALE))

    def observe_at(self, metric: str, labels: Labels, value: float, at_ns: int) -> None:
        """Add one value of a score at an instant of the run, such as the target's CPU; ns since the run's start."""
        self._series[metric, labels].record(round(value * SCALE))
        stretch = self._stretches[at_ns // (self.stretch_s * NS_PER_S)]
        if stretch.frozen:
            stretch.late(metric, value)
        else:
            stretch.histogram(metric).record(round(value * SCALE))

    # --- output ---

    def histogram(self, metric: str) -> Histogram:
        """Return all values of a metric so far, over all labels."""
        result = Histogram()
        for (name, _), histogram in self._series.items():
            if name == metric:
                result.merge(histogram)
        return result

    def levels(self) -> list[int]:
        """Return the calls that were up at the end of each second, over all shards; a silent shard keeps its last."""
        return self._levels.all()

    def active(self) -> int:
        """Return the calls that were up at the end of the newest second."""
        return self._levels.latest()

    def sustained_level(self) -> int:
        """Return the highest concurrency that was held for `SUSTAINED_S` consecutive seconds (or the whole run)."""
        levels = self.levels()
        width = min(SUSTAINED_S, len(levels))
        return max((min(levels[i : i + width]) for i in range(len(levels) - width + 1)), default=0) if width else 0

    def attempted(self) -> int:
        """Return the number of ended calls that say something of the target."""
        return sum(count for outcome, count in self.outcomes.items() if outcome not in NOT_ATTEMPTED)

    def recent(self, metric: str, seconds: int) -> Histogram:
        """Return the values of a metric in the last seconds, over all labels; at most those of `RECENT_S`.

        The first call makes the metric one whose values are kept so long: before it, they are for `OPEN_S` only.
        """
        self._watched.add(metric)
        if not self._stretches:
            return Histogram()
        newest = max(self._stretches)
        first = newest - max(-(-seconds // self.stretch_s), 1) + 1
        return merged(
            stretch.histograms[metric]
            for number, stretch in self._stretches.items()
            if number >= first and metric in stretch.histograms
        )

    def series(self) -> list[Series]:
        """Return every series of the run."""
        items = sorted(self._series.items())
        return [Series(metric, dict(labels), histogram.to_data()) for (metric, labels), histogram in items]

    def timeline(self, planned: dict[int, float]) -> Iterator[TimelinePoint]:
        """Yield the time line; `planned` holds the planned concurrency at the end of each second."""
        levels = self.levels()
        for number in range(max(self._stretches, default=-1) + 1):
            stretch = self._stretches.get(number) or Stretch()
            latencies, means = stretch.values()
            last_second = min((number + 1) * self.stretch_s, len(levels)) - 1
            yield TimelinePoint(
                start_s=float(number * self.stretch_s),
                duration_s=float(self.stretch_s),
                active=levels[last_second] if 0 <= last_second < len(levels) else 0,
                planned=planned.get((number + 1) * self.stretch_s, 0.0),
                started=stretch.started,
                ended=stretch.ended,
                outcomes=dict(stretch.outcomes),
                frames_sent=stretch.frames_sent,
                frames_received=stretch.frames_received,
                bytes_sent=stretch.bytes_sent,
                bytes_received=stretch.bytes_received,
                latencies=latencies,
                means=means,
                cpu_percent=stretch.cpu,
            )

    def shard_health(self) -> list[ShardHealth]:
        """Return how each process fared."""
        result = []
        for number, state in sorted(self.shards.items()):
            late = quantiles(state.lateness)
            result.append(
                ShardHealth(
                    shard=number,
                    calls=state.calls,
                    cpu_percent_mean=state.cpu_ns / state.span_ns if state.span_ns else 0.0,
                    cpu_percent_max=state.cpu_max,
                    memory_mib=state.memory_mib,
                    lateness_p50_ms=late.p50_ms if late else None,
                    lateness_p99_ms=late.p99_ms if late else None,
                    lateness_max_ms=late.max_ms if late else None,
                    lost=state.lost,
                )
            )
        return result

    def totals(self) -> Totals:
        """Return the counts of the run."""
        return Totals(
            attempted=self.attempted(),
            outcomes=dict(self.outcomes),
            unknown_messages=dict(self._unknown),
            peer_errors=dict(self._peer_errors),
            http_requests={name: dict(statuses) for name, statuses in self._http.items()},
            **{name: self._frames[name] for name in FRAME_COUNTS},
        )

    def errors(self) -> list[ErrorSample]:
        """Return the error texts, the most frequent first."""
        return [ErrorSample(outcome, text, count) for (outcome, text), count in self._errors.most_common()]

    def worst_calls(self) -> list[CallRecord]:
        """Return the calls that failed or waited longest, worst first."""
        worst = [record for _, _, record in sorted(self._worst, key=lambda item: item[:2], reverse=True)]
        return [msgspec.structs.replace(record, recording=self.recordings.get(record.call_id, "")) for record in worst]


def _count(counts: Counter[str], more: dict[str, int]) -> None:
    """Add counts by names that a peer has chosen, to a table that it cannot grow without end."""
    for name, count in more.items():
        counts[name if name in counts or len(counts) < KINDS_MAX else "other"] += count
