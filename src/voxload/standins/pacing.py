"""Waits of a stand-in to the half millisecond: event loops round their own timers to whole ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web

from voxload.clock import Clock, monotonic_ns
from voxload.timer import WheelTimer
from voxload.wheel import Wheel


class Pacer:
    """A timing wheel for handlers to wait on; it turns while the application runs."""

    def __init__(self, clock: Clock = monotonic_ns) -> None:
        self.clock = clock
        self.wheel = Wheel(clock())

    async def turning(self, _: web.Application) -> AsyncIterator[None]:
        """Turn; goes into an application's `cleanup_ctx`."""
        timer = WheelTimer.on_loop(self.wheel, self.clock, asyncio.get_running_loop())
        timer.start()
        yield
        timer.stop()

    async def until(self, due_ns: int) -> None:
        """Return at an instant, at once when it has passed."""
        if due_ns <= self.clock():
            return
        reached = asyncio.get_running_loop().create_future()

        def reach(_: int) -> int:
            if not reached.done():
                reached.set_result(None)
            return 0

        self.wheel.at(due_ns, reach)
        await reached
