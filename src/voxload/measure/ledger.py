"""What the frames that a process sends leave behind: how late each was, how many went out, in how many bytes."""

from __future__ import annotations

from array import array
from typing import Protocol

import msgspec
import numpy as np

from voxload.measure.histogram import Histogram

PackedNumbers = tuple[int, int, int, int, int, bytes]
"""The fields of a `PackedHistogram`, in its order."""
Taken = tuple[PackedNumbers, int, int, int]
"""(Lateness of the frames in ns, frames sent, frames dropped, bytes sent)."""


class FrameLedger(Protocol):
    """The counts of one process; the Python and the C class of the engine are alike."""

    def add(self, late_ns: int, size: int) -> None:
        """Count a frame of `size` bytes; -1: it was dropped."""

    def take(self) -> Taken:
        """Return what was counted and begin anew."""


class Ledger:
    """The counts in Python."""

    __slots__ = ("_bytes", "_dropped", "_late_ns", "_sent")

    def __init__(self) -> None:
        self._late_ns: array[int] = array("q")
        self._sent = self._dropped = self._bytes = 0

    def add(self, late_ns: int, size: int) -> None:
        """Count a frame of `size` bytes; -1: it was dropped."""
        if size < 0:
            self._dropped += 1
        else:
            self._sent += 1
            self._bytes += size
        self._late_ns.append(late_ns)

    def take(self) -> Taken:
        """Return what was counted and begin anew."""
        late = Histogram()
        late.record_all(np.array(self._late_ns, dtype=np.int64))
        taken = msgspec.structs.astuple(late.to_packed()), self._sent, self._dropped, self._bytes
        del self._late_ns[:]
        self._sent = self._dropped = self._bytes = 0
        return taken
