"""One timing wheel a process: thousands of absolute deadlines behind a single timer."""

from __future__ import annotations

import heapq
from collections.abc import Callable

from voxload.clock import NS_PER_MS
from voxload.ring import Due, Failed, new_slots

SLOT_NS = NS_PER_MS // 2
SLOTS = 4096


class Wheel:
    """Keeps callbacks by absolute deadline and runs those that are due.

    A callback sits in the 0.5 ms slot at or after its deadline, so it never runs early and, on an idle machine, at
    most one slot late. Deadlines beyond the horizon of 4,096 slots wait in a heap. The wheel owns no timer and reads no
    clock: a driver calls `advance(now_ns)`, from an event loop or from a simulation.

    A periodic callback returns its next deadline, computed from the one that it was called with and not from the time
    at which it ran; so the period never drifts. There is no cancel: a callback that is no longer wanted returns 0.
    """

    __slots__ = ("_far", "_sequence", "_slots", "armed_ns", "failed", "wake")

    def __init__(self, now_ns: int) -> None:
        self._slots = new_slots(SLOT_NS, SLOTS, now_ns // SLOT_NS)
        self._far: list[tuple[int, int, Due]] = []
        self._sequence = 0
        self.armed_ns = 0
        """When the driver will call `advance` next; an earlier deadline calls `wake`. 0: the driver needs no call."""
        self.wake: Callable[[], None] | None = None
        self.failed: Failed | None = None
        """Told of a callback that raised, which is dropped; without it the exception ends `advance`."""

    def __len__(self) -> int:
        """Return the number of deadlines that are waiting."""
        return self._slots.pending + len(self._far)

    def at(self, due_ns: int, callback: Due) -> None:
        """Run `callback(due_ns)` at the first `advance` whose time is at or past `due_ns` (overdue: the next one)."""
        if not self._slots.put(due_ns, callback):
            self._put_far(due_ns, callback)
        if due_ns < self.armed_ns and self.wake is not None:
            self.wake()

    def advance(self, now_ns: int) -> None:
        """Run every callback whose slot has passed at `now_ns`, slot by slot; those that they add in turn included."""
        now_tick = now_ns // SLOT_NS
        slots, far = self._slots, self._far
        while slots.tick < now_tick:
            until = min(now_tick, slots.tick + SLOTS - 1)  # what a callback puts beyond the horizon is due later still
            if far:
                admitted = -(-far[0][0] // SLOT_NS) - SLOTS + 1  # once it has been run, the first has a slot
                if admitted <= slots.tick:
                    self._admit()
                    continue
                until = min(until, admitted)
            slots.run(until, self._put_far, self.failed)

    def next_due_ns(self) -> int | None:
        """Return the instant at which `advance` has work again (the end of a slot), or None when nothing waits."""
        tick = self._slots.next_tick()
        if tick >= 0:
            return tick * SLOT_NS
        return -(-self._far[0][0] // SLOT_NS) * SLOT_NS if self._far else None

    def _put_far(self, due_ns: int, callback: Due) -> None:
        self._sequence += 1
        heapq.heappush(self._far, (due_ns, self._sequence, callback))

    def _admit(self) -> None:
        """Move what has come within the horizon from the heap into its slot; overdue items into the next."""
        far = self._far
        while far and self._slots.put(far[0][0], far[0][2]):
            heapq.heappop(far)
