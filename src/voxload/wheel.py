"""One timing wheel a process: thousands of absolute deadlines behind a single timer."""

from __future__ import annotations

import heapq
from collections.abc import Callable

from voxload.clock import NS_PER_MS
from voxload.ring import NO_LIMIT, Due, Failed, new_slots

SLOT_NS = NS_PER_MS // 2
SLOTS = 4096
LOOK_SLOTS = 64
"""How much later than it could be a deadline is taken from the heap: with those of the 32 ms after it, in one go."""


class Wheel:
    """Keeps callbacks by absolute deadline and runs those that are due.

    A callback sits in the 0.5 ms slot at or after its deadline, so it never runs early and, on an idle machine, at
    most one slot late. Deadlines beyond the horizon of 4,096 slots wait in a heap. The wheel owns no timer and reads no
    clock: a driver calls `advance(now_ns)`, from an event loop or from a simulation.

    A periodic callback returns its next deadline, computed from the one that it was called with and not from the time
    at which it ran; so the period never drifts. There is no cancel: a callback that is no longer wanted returns 0.
    """

    __slots__ = ("_far", "_sequence", "failed", "slots", "wake")

    def __init__(self, now_ns: int) -> None:
        self.slots = new_slots(SLOT_NS, SLOTS, now_ns // SLOT_NS)
        """For the driver: it says there when it comes next (`armed_ns`); an earlier deadline calls `wake`."""
        self._far: list[tuple[int, int, Due]] = []
        self._sequence = 0
        self.wake: Callable[[], None] | None = None
        self.failed: Failed | None = None
        """Told of a callback that raised, which is dropped; without it the exception ends `advance`."""

    def __len__(self) -> int:
        """Return the number of deadlines that are waiting."""
        return self.slots.pending + len(self._far)

    def at(self, due_ns: int, callback: Due) -> None:
        """Run `callback(due_ns)` at the first `advance` whose time is at or past `due_ns` (overdue: the next one)."""
        if not self.slots.put(due_ns, callback):
            self.put_far(due_ns, callback)
        if due_ns < self.slots.armed_ns and self.wake is not None:
            self.wake()

    def advance(self, now_ns: int) -> None:
        """Run every callback whose slot has passed at `now_ns`, slot by slot; those that they add in turn included."""
        now_tick = now_ns // SLOT_NS
        slots = self.slots
        while slots.tick < now_tick:
            if slots.limit <= slots.tick:
                self._admit()
                continue
            # what a callback puts beyond the horizon is due later still
            slots.run(min(now_tick, slots.tick + SLOTS - 1, slots.limit), self.put_far, self.failed)

    def next_due_ns(self) -> int | None:
        """Return the instant at which `advance` has work again (the end of a slot), or None when nothing waits."""
        ticks = [] if (tick := self.slots.next_tick()) < 0 else [tick]
        if self._far:
            ticks.append(-(-self._far[0][0] // SLOT_NS))
        return min(ticks) * SLOT_NS if ticks else None

    def put_far(self, due_ns: int, callback: Due) -> None:
        """Keep a callback that is due beyond the horizon."""
        self._sequence += 1
        heapq.heappush(self._far, (due_ns, self._sequence, callback))
        self._limit()

    def _admit(self) -> None:
        """Move all that has come within the horizon from the heap into its slot; overdue items into the next."""
        far = self._far
        while far and self.slots.put(far[0][0], far[0][2]):
            heapq.heappop(far)
        self._limit()

    def _limit(self) -> None:
        """Have the heap looked at in time: once that slot has been run, its first callbacks have one."""
        self.slots.limit = -(-self._far[0][0] // SLOT_NS) - SLOTS + LOOK_SLOTS if self._far else NO_LIMIT
