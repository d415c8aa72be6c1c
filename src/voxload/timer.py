"""Drives a wheel from an event loop, to some 50 µs where the kernel has timer descriptors."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Callable
from typing import Any, Protocol

from voxload.clock import NS_PER_S, Clock, monotonic_ns
from voxload.ring import Alarm, NewAlarm, native_alarm
from voxload.wheel import Wheel

_CLOCK_MONOTONIC = 1
ASLEEP_NS = 1 << 62
"""When a driver comes that waits for any deadline at all."""


class TimerHandle(Protocol):
    """What an event loop gives for a timer."""

    def cancel(self) -> None:
        """Forget the timer."""


CallLater = Callable[[float, Callable[[], None]], TimerHandle]
"""As `loop.call_later(delay_s, callback)`."""


class Loop(Protocol):
    """The part of an event loop that a timer needs."""

    def call_later(self, delay: float, callback: Callable[[], None], /) -> TimerHandle:
        """Call back after a delay in s."""

    def add_reader(self, fd: int, callback: Callable[[], None], /) -> Any:
        """Call back when a descriptor can be read."""

    def remove_reader(self, fd: int, /) -> Any:
        """Stop that."""


class DescriptorTimer:
    """One timer on a Linux timer descriptor (timerfd_create(2)); event loops round theirs to whole milliseconds.

    Called like `loop.call_later`; a new call replaces the one before.

    Raises:
        OSError: the system has no timer descriptors.
    """

    def __init__(self, loop: Loop) -> None:
        library = ctypes.CDLL(None, use_errno=True)
        try:
            self._set = library.timerfd_settime
            self._fd = library.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        except AttributeError:
            raise OSError("no timer descriptors on this system") from None
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._interval_and_value = (ctypes.c_long * 4)()  # struct itimerspec: interval s, ns; value s, ns
        self._callback: Callable[[], None] | None = None
        self._loop = loop
        loop.add_reader(self._fd, self._fire)

    def __call__(self, delay_s: float, callback: Callable[[], None]) -> DescriptorTimer:
        """Call back after a delay."""
        delay_ns = max(int(delay_s * NS_PER_S), 1)  # 0 would disarm it
        self._interval_and_value[2], self._interval_and_value[3] = divmod(delay_ns, NS_PER_S)
        self._callback = callback
        self._set(self._fd, 0, self._interval_and_value, None)
        return self

    def cancel(self) -> None:
        """Forget the callback; the descriptor stays."""
        self._callback = None

    def close(self) -> None:
        """Give the descriptor back."""
        self._callback = None
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _fire(self) -> None:
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()
        # where it was set anew meanwhile, that has taken back what could be read
        if self._callback is None and self._fd >= 0:
            with contextlib.suppress(BlockingIOError):
                os.read(self._fd, 8)


class WheelTimer:
    """Drives a wheel with one timer, armed for the next deadline and for nothing else.

    `call_later` is the loop's own or a `DescriptorTimer`; `on_loop` chooses the best that there is, which is an
    `AlarmTimer` where that was compiled.
    """

    __slots__ = ("_call_later", "_clock", "_handle", "_wheel")

    def __init__(self, wheel: Wheel, clock: Clock, call_later: CallLater) -> None:
        self._wheel = wheel
        self._clock = clock
        self._call_later = call_later
        self._handle: TimerHandle | None = None

    @classmethod
    def on_loop(cls, wheel: Wheel, clock: Clock, loop: Loop) -> WheelTimer:
        """Return a timer on the finest clock that the system offers."""
        try:
            if native_alarm is not None and clock is monotonic_ns:
                return AlarmTimer(wheel, loop, native_alarm)
            return cls(wheel, clock, DescriptorTimer(loop))
        except OSError:
            return cls(wheel, clock, loop.call_later)

    def start(self) -> None:
        """Begin to drive the wheel."""
        self._wheel.wake = self._arm
        self._arm()

    def stop(self) -> None:
        """Leave the wheel alone; its deadlines stay."""
        self._wheel.wake, self._wheel.slots.armed_ns = None, 0
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if isinstance(self._call_later, DescriptorTimer):
            self._call_later.close()

    def _arm(self) -> None:
        due_ns = self._wheel.next_due_ns()
        self._wheel.slots.armed_ns = ASLEEP_NS if due_ns is None else due_ns
        self._set(due_ns)

    def _set(self, due_ns: int | None) -> None:
        """Come at that instant; None: not until a deadline wakes us."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if due_ns is not None:
            self._handle = self._call_later(max(due_ns - self._clock(), 0) / NS_PER_S, self._tick)

    def _tick(self) -> None:
        self._handle = None
        self._wheel.slots.armed_ns = 0  # deadlines added meanwhile need no wake-up: the timer is armed afterwards
        try:
            self._wheel.advance(self._clock())
        finally:
            if self._wheel.wake is not None:
                self._arm()


class AlarmTimer(WheelTimer):
    """Drives a wheel, whose `failed` is set, by an alarm in C, which comes to Python for the wheel's heap alone.

    Raises:
        OSError: no more files can be opened.
    """

    __slots__ = ("_alarm", "_loop")

    def __init__(self, wheel: Wheel, loop: Loop, new_alarm: NewAlarm) -> None:
        super().__init__(wheel, monotonic_ns, loop.call_later)
        self._loop = loop
        self._alarm: Alarm | None = new_alarm(wheel.slots, wheel.put_far, wheel.failed, self._tick)

    def start(self) -> None:
        """Begin to drive the wheel."""
        if self._alarm is not None:
            self._loop.add_reader(self._alarm.fileno(), self._alarm)
        super().start()

    def stop(self) -> None:
        """Leave the wheel alone; its deadlines stay."""
        super().stop()
        alarm, self._alarm = self._alarm, None
        if alarm is not None:
            self._loop.remove_reader(alarm.fileno())
            alarm.close()

    def _set(self, due_ns: int | None) -> None:
        if self._alarm is not None:
            self._alarm.set(due_ns or 0)
