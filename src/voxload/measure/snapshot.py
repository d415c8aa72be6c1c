"""What one shard measured in one stretch of the run: small, plain, and merged exactly by whoever collects it."""

from __future__ import annotations

from typing import Self

import msgspec

from voxload.clock import NS_PER_S
from voxload.measure.series import PackedSeries, Series
from voxload.measure.summary import CallRecord


class Counters(msgspec.Struct):
    """Counts of one stretch."""

    started: int = 0
    ended: int = 0
    frames_sent: int = 0
    frames_received: int = 0
    frames_dropped: int = 0
    frames_lost: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    outcomes: dict[str, int] = {}
    unknown_messages: dict[str, int] = {}
    peer_errors: dict[str, int] = {}
    http_requests: dict[str, dict[str, int]] = {}
    costs: dict[str, float] = {}
    """USD by item."""
    errors: list[tuple[str, str, int]] = []
    """(outcome, text, count)."""


class Snapshot(msgspec.Struct, tag="snapshot"):
    """One shard's stretch from `start_ns` to `end_ns` (ns since the start of the run)."""

    shard: int
    start_ns: int
    end_ns: int
    active: int
    """Calls up at the end of the stretch."""
    cpu_percent: float
    memory_mib: float
    series: list[Series]
    counters: Counters
    calls: list[CallRecord]
    final: bool = False
    """The shard has ended all its calls; nothing follows."""
    packed: list[PackedSeries] = []
    """Series that were not yet read, so as not to hold up the shard."""

    def unpack(self) -> Self:
        """Read what is packed into `series`, if that was not yet done; returns itself."""
        for each in self.packed:
            self.series.append(Series(each.metric, each.labels, each.histogram.to_data()))
        self.packed = []
        return self


def shifted(snapshot: Snapshot, seconds: int) -> Snapshot:
    """Return a snapshot of a shard that began so many seconds after the run, on the run's clock."""
    later_ns = seconds * NS_PER_S
    return msgspec.structs.replace(
        snapshot,
        start_ns=snapshot.start_ns + later_ns,
        end_ns=snapshot.end_ns + later_ns,
        calls=[msgspec.structs.replace(call, due_s=call.due_s + seconds) for call in snapshot.calls],
    )
