"""The slots of the timing wheel: callbacks by deadline within its horizon; in C where that was compiled (`_ring.c`)."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol

Due = Callable[[int], int]
"""Called with its own deadline in ns; returns the next deadline in ns, or 0 when it is done."""
Far = Callable[[int, Due], None]
Failed = Callable[[Due, Exception], None]


class Slots(Protocol):
    """What the wheel needs of its slots."""

    @property
    def tick(self) -> int:
        """The last slot that has been run."""

    @property
    def pending(self) -> int:
        """How many callbacks wait."""

    def put(self, due_ns: int, callback: Due, /) -> bool:
        """Keep a callback in the slot at or after its deadline, or the next one; False: that is beyond the horizon."""

    def run(self, to_tick: int, far: Far, failed: Failed | None, /) -> None:
        """Run every slot up to a tick; a callback whose next deadline is beyond the horizon goes to `far`."""

    def next_tick(self) -> int:
        """Return the next slot that is not empty, or -1."""


class Ring:
    """The slots in Python."""

    __slots__ = ("_mask", "_slot_ns", "_slots", "pending", "tick")

    def __init__(self, slot_ns: int, slots: int, tick: int) -> None:
        self._slots: list[list[tuple[int, Due]]] = [[] for _ in range(slots)]
        self._mask = slots - 1
        self._slot_ns = slot_ns
        self.tick = tick
        self.pending = 0

    def put(self, due_ns: int, callback: Due, /) -> bool:
        """Keep a callback in the slot at or after its deadline, or the next one; False: that is beyond the horizon."""
        tick = max(-(-due_ns // self._slot_ns), self.tick + 1)
        if tick - self.tick > self._mask:
            return False
        self._slots[tick & self._mask].append((due_ns, callback))
        self.pending += 1
        return True

    def run(self, to_tick: int, far: Far, failed: Failed | None, /) -> None:
        """Run every slot up to a tick; a callback whose next deadline is beyond the horizon goes to `far`."""
        slots, mask = self._slots, self._mask
        while self.tick < to_tick:
            tick = self.tick = self.tick + 1
            slot = slots[tick & mask]
            if not slot:
                continue
            slots[tick & mask] = []
            self.pending -= len(slot)
            for due_ns, callback in slot:
                try:
                    next_ns = callback(due_ns)
                except Exception as error:
                    if failed is None:
                        raise
                    failed(callback, error)
                    continue
                if next_ns and not self.put(next_ns, callback):
                    far(next_ns, callback)

    def next_tick(self) -> int:
        """Return the next slot that is not empty, or -1."""
        if self.pending:
            for tick in range(self.tick + 1, self.tick + len(self._slots)):
                if self._slots[tick & self._mask]:
                    return tick
        return -1


def new_slots(slot_ns: int, slots: int, tick: int) -> Slots:
    """Return empty slots, a power of two of them, of which `tick` was the last that has been run."""
    return _slots_type(slot_ns, slots, tick)


_slots_type: Callable[[int, int, int], Slots] = Ring
if not os.environ.get("VOXLOAD_PURE_PYTHON"):
    try:
        from voxload._ring import Ring as NativeRing

        _slots_type = NativeRing
    except ImportError:  # no compiler where this was installed
        pass
