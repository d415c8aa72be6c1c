"""A way out for calls as spans that can never hold a run up: a bounded queue, and a thread that empties it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from voxload.clock import NS_PER_S, monotonic_ns
from voxload.measure.summary import CallRecord, TelemetryFacts
from voxload.runners.telemetry.origin import Origin
from voxload.runners.telemetry.sink import in_short
from voxload.runners.telemetry.spans import CallSpan, has_failed, spans_of, trace_of

ExportSpans = Callable[[Sequence[CallSpan]], tuple[int, str]]
"""Sends spans; returns how many of them were not taken, and why."""

QUEUE_CALLS_MAX = 8192
BATCH_SPANS = 256
"""So many or a few more go out at once: the longest that the thread builds without a pause."""
TRACE_ID_LOW_BITS = (1 << 64) - 1


class Sampler:
    """Chooses calls: all that failed, and of the others a share, by trace id.

    The rule is that of OpenTelemetry's `TraceIdRatioBased`, so that a target that samples so keeps the same calls.
    """

    def __init__(self, share: float) -> None:
        self._bound = round(share * (TRACE_ID_LOW_BITS + 1))

    def takes(self, record: CallRecord, trace_id: str) -> bool:
        """Return whether a call goes out."""
        return has_failed(record) or int(trace_id, 16) & TRACE_ID_LOW_BITS < self._bound


class Batch(NamedTuple):
    """Calls as they were reported, which wait for the thread to choose among them."""

    records: Sequence[CallRecord]
    origin: Origin
    run_id: str
    run_unix_ns: int
    """The first instant of the run."""

    def chosen(self, sampler: Sampler) -> Iterator[tuple[CallRecord, str]]:
        """Yield the calls that go out, each with its trace id."""
        scope = f"{self.run_id}\0{self.origin.labels}\0{self.run_unix_ns}"
        for record in self.records:
            trace_id = trace_of(record, scope)
            if sampler.takes(record, trace_id):
                yield record, trace_id

    def size(self, sampler: Sampler) -> int:
        """Return how many spans go out."""
        return sum(1 + len(record.turns) for record, _ in self.chosen(sampler))


class SpanSink:
    """Hands calls to an exporter of spans. What finds no place, or is not taken, is counted as dropped."""

    def __init__(self, kind: str, endpoint: str, export: ExportSpans, share: float) -> None:
        self._kind, self._endpoint, self._export = kind, endpoint, export
        self._sampler = Sampler(share)
        self._waiting: deque[Batch] = deque()
        self._room = QUEUE_CALLS_MAX
        self._changed = threading.Condition()
        self._in_hand: Batch | None = None
        self._gone_of_it = 0
        """Spans of the batch in hand that have been sent, or dropped."""
        self._closing = False
        self._exports = self._failed = self._taken = self._dropped = 0
        self._error = ""
        self._told = False
        self._thread = threading.Thread(target=self._work, name=f"spans-{kind}", daemon=True)
        self._thread.start()

    def offer(self, batch: Batch) -> None:
        """Let the thread choose among these calls and send them, as far as there is place for them."""
        if not batch.records:
            return
        with self._changed:
            kept = batch._replace(records=batch.records[: self._room])
            if kept.records:
                self._waiting.append(kept)
                self._room -= len(kept.records)
                self._changed.notify()
        lost = batch._replace(records=batch.records[len(kept.records) :]).size(self._sampler)
        if lost:
            with self._changed:
                self._dropped += lost
                self._error = self._error or "it is too slow: the queue was full"

    def trouble(self) -> str:
        """Return what to tell the user, the first time that spans are dropped."""
        if not self._error or self._told:
            return ""
        self._told = True
        return f"{self._kind}: {self._endpoint} does not take all spans: {self._error}; the run goes on without them"

    def finish(self) -> None:
        """Nothing more will be offered: let the thread end once its queue is empty."""
        with self._changed:
            self._closing = True
            self._changed.notify()

    def close(self, deadline_ns: int) -> TelemetryFacts:
        """Wait for the queue to be empty until `deadline_ns` (monotonic clock), and say how it went."""
        self.finish()
        self._thread.join(max((deadline_ns - monotonic_ns()) / NS_PER_S, 0.1))
        with self._changed:
            late = sum(batch.size(self._sampler) for batch in self._waiting)
            self._waiting.clear()
            if self._in_hand is not None:
                late += self._in_hand.size(self._sampler) - self._gone_of_it
            dropped = self._dropped + late
            return TelemetryFacts(
                self._kind,
                self._endpoint,
                self._exports,
                self._failed,
                skipped=0,
                complete=not dropped,
                error=self._error or ("no answer before the end" if late else ""),
                signal="traces",
                spans=self._taken,
                spans_dropped=dropped,
            )

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closing:
                    self._changed.wait()
                if not self._waiting:
                    return
                batch = self._in_hand = self._waiting.popleft()
                self._gone_of_it = 0
                self._room += len(batch.records)
            for spans in self._portions(batch):
                self._send(spans)
            with self._changed:
                self._in_hand = None

    def _portions(self, batch: Batch) -> Iterator[list[CallSpan]]:
        spans: list[CallSpan] = []
        for record, trace_id in batch.chosen(self._sampler):
            spans += spans_of(record, batch.origin, trace_id, batch.run_unix_ns)
            if len(spans) >= BATCH_SPANS:
                yield spans
                spans = []
        if spans:
            yield spans

    def _send(self, spans: list[CallSpan]) -> None:
        try:
            lost, problem = self._export(spans)
        except Exception as error:  # noqa: BLE001  # whatever an exporter raises, the run goes on
            lost, problem = len(spans), f"{type(error).__name__}: {error}"
        with self._changed:
            self._exports += 1
            self._gone_of_it += len(spans)
            self._dropped += lost
            self._taken += len(spans) - lost
            if lost:
                self._failed += 1
                self._error = in_short(problem)
