"""One timing wheel a process: thousands of absolute deadlines behind a single timer."""

from __future__ import annotations

import heapq
from collections.abc import Callable

from voxload.clock import NS_PER_MS

SLOT_NS = NS_PER_MS // 2
SLOTS = 4096
_MASK = SLOTS - 1

Due = Callable[[int], int]
"""Called with its own deadline in ns; returns the next deadline in ns, or 0 when it is done."""


class Wheel:
    """Keeps callbacks by absolute deadline and runs those that are due.

    A callback sits in the 0.5 ms slot at or after its deadline, so it never runs early and, on an idle machine, at
    most one slot late. Deadlines beyond the horizon of 4,096 slots wait in a heap. The wheel owns no timer and reads no
    clock: a driver calls `advance(now_ns)`, from an event loop or from a simulation.

    A periodic callback returns its next deadline, computed from the one that it was called with and not from the time
    at which it ran; so the period never drifts. There is no cancel: a callback that is no longer wanted returns 0.
    """

    __slots__ = ("_far", "_pending", "_sequence", "_slots", "_tick", "armed_ns", "failed", "wake")

    def __init__(self, now_ns: int) -> None:
        self._slots: list[list[tuple[int, Due]]] = [[] for _ in range(SLOTS)]
        self._far: list[tuple[int, int, Due]] = []
        self._tick = now_ns // SLOT_NS  # the last slot that has been run
        self._sequence = 0
        self._pending = 0
        self.armed_ns = 0
        """When the driver will call `advance` next; an earlier deadline calls `wake`. 0: the driver needs no call."""
        self.wake: Callable[[], None] | None = None
        self.failed: Callable[[Due, Exception], None] | None = None
        """Told of a callback that raised, which is dropped; without it the exception ends `advance`."""

    def __len__(self) -> int:
        """Return the number of deadlines that are waiting."""
        return self._pending + len(self._far)

    def at(self, due_ns: int, callback: Due) -> None:
        """Run `callback(due_ns)` at the first `advance` whose time is at or past `due_ns` (overdue: the next one)."""
        tick = -(-due_ns // SLOT_NS)
        if tick <= self._tick:
            tick = self._tick + 1
        if tick - self._tick < SLOTS:
            self._slots[tick & _MASK].append((due_ns, callback))
            self._pending += 1
        else:
            self._sequence += 1
            heapq.heappush(self._far, (due_ns, self._sequence, callback))
        if due_ns < self.armed_ns and self.wake is not None:
            self.wake()

    def advance(self, now_ns: int) -> None:
        """Run every callback whose slot has passed at `now_ns`, slot by slot; those that they add in turn included."""
        now_tick = now_ns // SLOT_NS
        slots = self._slots
        while self._tick < now_tick:
            tick = self._tick = self._tick + 1
            far = self._far
            if far and far[0][0] <= (tick + SLOTS - 1) * SLOT_NS:
                self._admit(tick)
            slot = slots[tick & _MASK]
            if slot:
                slots[tick & _MASK] = []
                self._pending -= len(slot)
                for due_ns, callback in slot:
                    try:
                        next_ns = callback(due_ns)
                    except Exception as error:
                        if self.failed is None:
                            raise
                        self.failed(callback, error)
                        continue
                    if not next_ns:
                        continue
                    next_tick = -(-next_ns // SLOT_NS)
                    if tick < next_tick < tick + SLOTS:  # as `at`, without the call: nothing runs as often as this
                        slots[next_tick & _MASK].append((next_ns, callback))
                        self._pending += 1
                    else:
                        self.at(next_ns, callback)

    def next_due_ns(self) -> int | None:
        """Return the instant at which `advance` has work again (the end of a slot), or None when nothing waits."""
        if self._pending:
            for tick in range(self._tick + 1, self._tick + SLOTS):
                if self._slots[tick & _MASK]:
                    return tick * SLOT_NS
        return -(-self._far[0][0] // SLOT_NS) * SLOT_NS if self._far else None

    def _admit(self, tick: int) -> None:
        """Move what has come within the horizon from the heap into its slot; overdue items run with this slot."""
        far = self._far
        while far and -(-far[0][0] // SLOT_NS) - tick < SLOTS:
            due_ns, _, callback = heapq.heappop(far)
            due_tick = max(-(-due_ns // SLOT_NS), tick)
            self._slots[due_tick & _MASK].append((due_ns, callback))
            self._pending += 1
