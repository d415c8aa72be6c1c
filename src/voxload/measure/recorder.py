"""What a shard records while it runs: histograms by metric and labels, counts, finished calls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from voxload.inlet import InboundNumbers
from voxload.measure.histogram import Histogram, PackedHistogram
from voxload.measure.ledger import FrameLedger, Ledger
from voxload.measure.series import PackedSeries, Series
from voxload.measure.snapshot import Counters, Snapshot
from voxload.measure.summary import CallRecord
from voxload.model.metric import SCALE

Labels = tuple[tuple[str, str], ...]
"""Labels of a value as sorted pairs, so that they can key a dict; shared by all values of a call."""

ERROR_KINDS_MAX = 50
UNKNOWN_KINDS_MAX = 50


def call_labels(call: CallRecord) -> Labels:
    """Return the labels of what is measured of a call after its end: those that it had while it was up."""
    labels: Labels = (("call", call.call), ("persona", call.persona), ("phase", call.phase))
    if call.region:
        labels = (*labels, ("region", call.region))
    return (*labels, ("target", call.target)) if call.target else labels


class Recorder(InboundNumbers):
    """Collects one stretch at a time; `take` hands it out and starts the next.

    The frames that are sent are counted in `ledger`, beside the rest; the plain counters are public.
    """

    __slots__ = (
        "_calls",
        "_costs",
        "_errors",
        "_http",
        "_outcomes",
        "_peer_errors",
        "_series",
        "_start_ns",
        "_unknown",
        "bytes_sent",
        "ended",
        "frames_lost",
        "lateness",
        "lateness_metric",
        "ledger",
        "shard",
        "started",
        "up",
    )

    def __init__(
        self, shard: int = 0, lateness_metric: str = "frame_lateness", ledger: FrameLedger | None = None
    ) -> None:
        self.shard = shard
        self.lateness_metric = lateness_metric
        self._start_ns = 0
        self.up = 0
        """Calls whose media channel is open now; unlike the rest it is not counted anew after a `take`."""
        self.ledger: FrameLedger = Ledger() if ledger is None else ledger
        self._clear()

    def _clear(self) -> None:
        self.lateness = Histogram()
        self.started = self.ended = 0
        self.frames_received = self.frames_lost = 0
        self.bytes_sent = self.bytes_received = 0
        self._series: dict[tuple[str, Labels], Histogram] = {}
        self._calls: list[CallRecord] = []
        self._outcomes: dict[str, int] = {}
        self._errors: dict[tuple[str, str], int] = {}
        self._unknown: dict[str, int] = {}
        self._peer_errors: dict[str, int] = {}
        self._http: dict[str, dict[str, int]] = {}
        self._costs: dict[str, float] = {}

    def latency(self, metric: str, labels: Labels, value_ns: int) -> None:
        """Record one value of a latency metric, in ns."""
        key = (metric, labels)
        histogram = self._series.get(key)
        if histogram is None:
            histogram = self._series[key] = Histogram()
        histogram.record(value_ns)

    def observe(self, metric: str, labels: Labels, value: float) -> None:
        """Record one value of a ratio (True or False) or a score, which must not be negative."""
        self.latency(metric, labels, round(value * SCALE))

    def observe_many(self, metric: str, labels: Labels, good: int, count: int) -> None:
        """Record `count` observations of a ratio at once, `good` of them yes.

        There may be more errors than words: each word then stands for its part of them, so that the mean is right.
        """
        if count <= 0:
            return
        key = (metric, labels)
        histogram = self._series.get(key)
        if histogram is None:
            histogram = self._series[key] = Histogram()
        if good > count:
            histogram.record_many(round(SCALE * good / count), count)
            return
        histogram.record_many(SCALE, good)
        histogram.record_many(0, count - good)

    def costs(self, items: Mapping[str, float], estimated: Iterable[str]) -> None:
        """Add the cost of a call by item; `estimated` names the items that were not reported but estimated."""
        names = frozenset(estimated)
        for item, amount in items.items():
            key = f"{item} (estimated)" if item in names else item
            self._costs[key] = self._costs.get(key, 0.0) + amount

    def unknown_message(self, kind: str) -> None:
        """Count a message that the dialect does not know."""
        _count(self._unknown, kind[:80], UNKNOWN_KINDS_MAX)

    def peer_error(self, code: str) -> None:
        """Count an error that the agent reported."""
        _count(self._peer_errors, code[:80], UNKNOWN_KINDS_MAX)

    def http_answer(self, name: str, status: str) -> None:
        """Count an answer to side traffic."""
        _count(self._http.setdefault(name, {}), status, UNKNOWN_KINDS_MAX)

    def call_ended(self, record: CallRecord) -> None:
        """Count a call that is over."""
        self.ended += 1
        self._outcomes[record.outcome] = self._outcomes.get(record.outcome, 0) + 1
        self._calls.append(record)
        if record.error:
            key = (record.outcome, record.error)
            if key in self._errors or len(self._errors) < ERROR_KINDS_MAX:
                self._errors[key] = self._errors.get(key, 0) + 1

    def take(self, end_ns: int, active: int, cpu_percent: float, memory_mib: float, final: bool = False) -> Snapshot:
        """Return all that was recorded since the last call and begin anew; instants count from the run's start."""
        return self.take_packed(end_ns, active, cpu_percent, memory_mib, final).unpack()

    def take_packed(self, end_ns: int, active: int, cpu_percent: float, memory_mib: float, final: bool) -> Snapshot:
        """As `take`, but leave what takes long to whoever reads the snapshot: some thousand buckets of lateness."""
        series = [
            Series(metric, dict(labels), histogram.to_data()) for (metric, labels), histogram in self._series.items()
        ]
        late, frames_sent, frames_dropped, frame_bytes = self.ledger.take()
        labels = {"shard": str(self.shard)}
        if self.lateness.count:
            series.append(Series(self.lateness_metric, labels, self.lateness.to_data()))
        packed = (
            [PackedSeries(self.lateness_metric, labels, PackedHistogram(*late))] if frames_sent + frames_dropped else []
        )
        counters = Counters(
            started=self.started,
            ended=self.ended,
            frames_sent=frames_sent,
            frames_received=self.frames_received,
            frames_dropped=frames_dropped,
            frames_lost=self.frames_lost,
            bytes_sent=self.bytes_sent + frame_bytes,
            bytes_received=self.bytes_received,
            outcomes=self._outcomes,
            unknown_messages=self._unknown,
            peer_errors=self._peer_errors,
            http_requests=self._http,
            costs=self._costs,
            errors=[(outcome, text, count) for (outcome, text), count in self._errors.items()],
        )
        snapshot = Snapshot(
            self.shard,
            self._start_ns,
            end_ns,
            active,
            cpu_percent,
            memory_mib,
            series,
            counters,
            self._calls,
            final,
            packed,
        )
        self._start_ns = end_ns
        self._clear()
        return snapshot


def _count(counts: dict[str, int], key: str, kinds_max: int) -> None:
    """Count `key`, in a table whose size a hostile peer cannot grow."""
    if key not in counts and len(counts) >= kinds_max:
        key = "other"
    counts[key] = counts.get(key, 0) + 1
