"""Follows events from publisher to webhook: when each arrived, which twice, which out of order, which never."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from voxload.clock import Clock
from voxload.services.base import Operation


@dataclass(slots=True, eq=False)
class Batch:
    """The events of one publish request; `arrived` counts the deliveries of each."""

    operation: Operation
    number: int
    """Of the request, in the order in which requests were made."""
    arrived: list[int]
    published_ns: int = 0
    missing: int = 0
    complete: asyncio.Event = field(default_factory=asyncio.Event)
    given_up: bool = False


class Tracker:
    """Knows every event of a run by its id, `RUN/REQUEST/POSITION`; records its latency when it arrives."""

    def __init__(self, run_id: str, clock: Clock) -> None:
        self._run_id, self._clock = run_id, clock
        self._batches: dict[int, Batch] = {}
        self._last: tuple[int, int] = (-1, -1)
        self.counts: Counter[str] = Counter()
        """published, delivered, duplicate, out of order, lost, late, foreign."""

    def open(self, operation: Operation, size: int) -> Batch:
        """Return the batch of a publish request that is about to be made."""
        batch = self._batches[len(self._batches)] = Batch(operation, len(self._batches), [0] * size)
        batch.missing = size
        return batch

    def event_id(self, batch: Batch, position: int) -> str:
        """Return the id of an event."""
        return f"{self._run_id}/{batch.number}/{position}"

    def arrive(self, event_id: str) -> None:
        """Note that an event has been delivered."""
        now_ns = self._clock()
        found = self._find(event_id)
        if found is None:
            self.counts["foreign"] += 1
            return
        batch, position = found
        batch.arrived[position] += 1
        twice = batch.arrived[position] > 1
        batch.operation.observe("event_duplicate", twice)
        if twice:
            self.counts["duplicate"] += 1
            return
        disordered = (batch.number, position) < self._last
        self._last = max(self._last, (batch.number, position))
        batch.operation.observe("event_out_of_order", disordered)
        self.counts["out of order"] += disordered
        batch.operation.latency("event_delivery", batch.published_ns, now_ns)
        if batch.given_up:  # counted as lost already
            self.counts["late"] += 1
            return
        self.counts["delivered"] += 1
        batch.operation.observe("event_loss", False)
        batch.missing -= 1
        if not batch.missing:
            batch.complete.set()

    def _find(self, event_id: str) -> tuple[Batch, int] | None:
        run_id, _, rest = event_id.partition("/")
        request, _, position = rest.partition("/")
        if run_id != self._run_id or not request.isdecimal() or not position.isdecimal():
            return None
        batch = self._batches.get(int(request))
        if batch is None or int(position) >= len(batch.arrived):
            return None
        return batch, int(position)

    def give_up(self, batch: Batch) -> int:
        """Count what has not arrived as lost; returns how many."""
        batch.given_up = True
        for _ in range(batch.missing):
            batch.operation.observe("event_loss", True)
        self.counts["lost"] += batch.missing
        return batch.missing

    def forget(self, batch: Batch) -> None:
        """Expect nothing of a batch that could not be published."""
        batch.given_up = True


def shares(counts: Counter[str]) -> Sequence[tuple[str, str]]:
    """Return the counts in words, for a report."""
    names = ("published", "delivered", "lost", "duplicate", "out of order", "late", "foreign")
    return [(f"events {name}", f"{counts[name]:,}") for name in names if counts[name] or name in names[:4]]
