"""The slots of the timing wheel: callbacks by deadline within its horizon; in C where that was compiled (`_ring.c`)."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol

Due = Callable[[int], int]
"""Called with its own deadline in ns; returns the next deadline in ns, or 0 when it is done."""
Far = Callable[[int, Due], None]
Failed = Callable[[Due, Exception], None]


NO_LIMIT = (1 << 63) - 1


class Slots(Protocol):
    """What the wheel needs of its slots."""

    armed_ns: int
    """When the driver will run them next; an earlier deadline wakes it. 0: the driver needs no call."""
    limit: int
    """The last slot that may be run before the wheel has looked at its heap."""

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

    __slots__ = ("_mask", "_slot_ns", "_slots", "armed_ns", "limit", "pending", "tick")

    def __init__(self, slot_ns: int, slots: int, tick: int) -> None:
        self._slots: list[list[tuple[int, Due]]] = [[] for _ in range(slots)]
        self._mask = slots - 1
        self._slot_ns = slot_ns
        self.tick = tick
        self.pending = self.armed_ns = 0
        self.limit = NO_LIMIT

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


class Alarm(Protocol):
    """A timer descriptor that runs slots when it can be read, as long as the wheel's heap need not be looked at."""

    def __call__(self) -> None:
        """Run the slots that are due, and set the next instant."""

    def fileno(self) -> int:
        """Return the descriptor."""

    def set(self, due_ns: int, /) -> None:
        """Ring at that instant of the monotonic clock; 0: never."""

    def close(self) -> None:
        """Give the descriptor back."""


_slots_type: Callable[[int, int, int], Slots] = Ring
NewAlarm = Callable[[Slots, Far, Failed | None, Callable[[], None]], Alarm]
"""Makes an alarm (slots, far, failed, slow): `slow` does what the alarm cannot. Raises OSError."""
native_alarm: NewAlarm | None = None
"""None: not compiled."""
if not os.environ.get("VOXLOAD_PURE_PYTHON"):
    try:
        from voxload._ring import Alarm as NativeAlarm
        from voxload._ring import Ring as NativeRing

        _slots_type, native_alarm = NativeRing, NativeAlarm
    except ImportError:  # no compiler where this was installed
        pass
