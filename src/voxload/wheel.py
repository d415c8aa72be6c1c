"""One timing wheel a process: thousands of absolute deadlines behind a single timer."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Protocol

from voxload.clock import NS_PER_MS, NS_PER_S, Clock

SLOT_NS = NS_PER_MS
SLOTS = 2048
_MASK = SLOTS - 1

Due = Callable[[int], int]
"""Called with its own deadline in ns; returns the next deadline in ns, or 0 when it is done."""


class Wheel:
    """Keeps callbacks by absolute deadline and runs those that are due.

    A callback sits in the 1 ms slot at or after its deadline, so it never runs early and, on an idle machine, at most
    one slot late. Deadlines beyond the horizon of 2,048 slots wait in a heap. The wheel owns no timer and reads no
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
                    if next_ns:
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


class TimerHandle(Protocol):
    """What an event loop gives for a timer."""

    def cancel(self) -> None:
        """Forget the timer."""


class WheelTimer:
    """Drives a wheel from an event loop with one timer, armed for the next deadline and for nothing else.

    `call_later(delay_s, callback)` is the loop's own (`loop.call_later`); so this module needs no event loop.
    """

    __slots__ = ("_call_later", "_clock", "_handle", "_wheel")

    def __init__(
        self, wheel: Wheel, clock: Clock, call_later: Callable[[float, Callable[[], None]], TimerHandle]
    ) -> None:
        self._wheel = wheel
        self._clock = clock
        self._call_later = call_later
        self._handle: TimerHandle | None = None

    def start(self) -> None:
        """Begin to drive the wheel."""
        self._wheel.wake = self._arm
        self._arm()

    def stop(self) -> None:
        """Leave the wheel alone; its deadlines stay."""
        self._wheel.wake, self._wheel.armed_ns = None, 0
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _arm(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        due_ns = self._wheel.next_due_ns()
        if due_ns is None:  # asleep: the next deadline of any kind wakes us
            self._handle, self._wheel.armed_ns = None, 1 << 62
            return
        self._wheel.armed_ns = due_ns
        self._handle = self._call_later(max(due_ns - self._clock(), 0) / NS_PER_S, self._tick)

    def _tick(self) -> None:
        self._handle = None
        self._wheel.armed_ns = 0  # deadlines added while the slots run need no wake-up: the timer is armed afterwards
        try:
            self._wheel.advance(self._clock())
        finally:
            if self._wheel.wake is not None:
                self._arm()
