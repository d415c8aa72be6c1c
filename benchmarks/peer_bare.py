"""Reference, not a peer: one timing wheel and picows on uvloop with nothing around them.

What voxload's hot path would cost if it kept no script, no ear and no histograms: the distance to it is the price of
measuring. Received frames are counted and dropped.
"""

from __future__ import annotations

import asyncio
import sys

import picows
import uvloop
from picows import WSFrame, WSMsgType, WSTransport

from benchmarks.harness import (
    CONNECTS_AT_ONCE,
    SETTLE_S,
    SETUP_S_MAX,
    Frames,
    Job,
    Result,
    Tally,
    leave,
    read_job,
)
from voxload.clock import NS_PER_MS, monotonic_ns
from voxload.process import freeze_garbage
from voxload.timer import WheelTimer
from voxload.wheel import Wheel


class Line(picows.WSListener):
    """One call."""

    def __init__(self, job: Job, tally: Tally, frames: Frames) -> None:
        super().__init__()
        self._tally = tally
        self._period_ns = job.period_ns
        self._prepared, self._session = frames.prepared, frames.session
        self._transport: WSTransport | None = None
        self._sequence = 0

    def on_ws_connected(self, transport: WSTransport) -> None:
        """The call is up."""
        self._transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Count a frame of the agent."""
        if frame.msg_type == WSMsgType.TEXT:
            self._tally.frames_in += 1

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """The target has gone: an error, for it never hangs up."""
        self._transport = None
        self._tally.failed("connection lost")

    def on_due(self, due_ns: int) -> int:
        """Send a frame."""
        transport = self._transport
        if transport is None:
            return 0
        now_ns = monotonic_ns()
        transport.send(WSMsgType.TEXT, self._session.stamp(self._prepared, self._sequence, now_ns))
        self._sequence += 1
        self._tally.lateness.append(now_ns - due_ns)
        return due_ns + self._period_ns


async def run(job: Job) -> Result:
    """Open all calls, let them settle, measure."""
    tally, frames = Tally(job, "bare"), Frames(job)
    lines = [Line(job, tally, frames) for _ in range(job.calls)]
    gate = asyncio.Semaphore(CONNECTS_AT_ONCE)

    async def open_line(number: int) -> None:
        async with gate:
            await picows.ws_connect(
                lambda: lines[number],
                job.socket_url(number),
                read_buffer_init_size=4096,
                use_aiofastnet=False,
            )

    try:
        await asyncio.wait_for(asyncio.gather(*(open_line(number) for number in range(job.calls))), SETUP_S_MAX)
    except (TimeoutError, OSError, picows.WSError) as error:
        tally.failed(error)
        return tally.gave_up()
    wheel = Wheel(monotonic_ns())
    start_ns = monotonic_ns() + 100 * NS_PER_MS
    for number, line in enumerate(lines):
        wheel.at(job.first_due_ns(number, start_ns), line.on_due)
    freeze_garbage()
    timer = WheelTimer.on_loop(wheel, monotonic_ns, asyncio.get_running_loop())
    timer.start()
    await asyncio.sleep(0.1 + SETTLE_S)
    tally.open()
    await asyncio.sleep(job.seconds)
    result = tally.close()
    timer.stop()
    return result


async def _print_and_leave(job: Job) -> None:
    (await run(job)).print()
    leave()


def main() -> int:
    """Entry point."""
    uvloop.run(_print_and_leave(read_job("bare")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
