"""Peer: the `websockets` library on asyncio, a task a call that sleeps to its next deadline.

As its manual advises for many connections: the new asyncio API, `compression=None` (permessage-deflate costs memory and
CPU, and base64 audio barely shrinks), the C speed-ups of the wheel, bytes sent as text (`text=True`) and read with
`decode=False`, so that nothing is encoded or decoded twice. Keep-alive stays at its default of 20 s. The garbage
collector is frozen after the set-up, in every peer. Received frames are counted and dropped, not decoded.
"""

from __future__ import annotations

import asyncio
import sys

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

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
from voxload.clock import NS_PER_MS, NS_PER_S, monotonic_ns
from voxload.process import freeze_garbage


class Peer:
    """All calls of the process."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.tally = Tally(job, "websockets")
        self.frames = Frames(job)
        self._gate = asyncio.Semaphore(CONNECTS_AT_ONCE)
        self._open = 0
        self._all_open = asyncio.Event()
        self._start: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def run(self) -> Result:
        """Open all calls, let them settle, measure."""
        tasks = [asyncio.create_task(self._call(number)) for number in range(self.job.calls)]
        try:
            await asyncio.wait_for(self._all_open.wait(), SETUP_S_MAX)
        except TimeoutError:
            return self.tally.gave_up()
        freeze_garbage()
        self._start.set_result(monotonic_ns() + 100 * NS_PER_MS)
        await asyncio.sleep(0.1 + SETTLE_S)
        self.tally.open()
        await asyncio.sleep(self.job.seconds)
        result = self.tally.close()
        for task in tasks:
            task.cancel()
        return result

    async def _call(self, number: int) -> None:
        try:
            async with self._gate:
                socket = await connect(self.job.socket_url(number), compression=None)
            self._open += 1
            if self._open == self.job.calls:
                self._all_open.set()
            reader = asyncio.create_task(self._read(socket)) if self.job.duplex else None
            await self._speak(socket, self.job.first_due_ns(number, await asyncio.shield(self._start)))
            del reader
        except (OSError, TimeoutError, ConnectionClosed) as error:
            self.tally.failed(error)

    async def _speak(self, socket: ClientConnection, due_ns: int) -> None:
        prepared, session, lateness = self.frames.prepared, self.frames.session, self.tally.lateness
        period_ns, sequence = self.job.period_ns, 0
        while True:
            await asyncio.sleep(max(due_ns - monotonic_ns(), 0) / NS_PER_S)
            now_ns = monotonic_ns()
            lateness.append(now_ns - due_ns)
            await socket.send(session.stamp(prepared, sequence, now_ns), text=True)
            sequence += 1
            due_ns += period_ns

    async def _read(self, socket: ClientConnection) -> None:
        tally = self.tally
        try:
            while True:
                await socket.recv(decode=False)
                tally.frames_in += 1
        except ConnectionClosed as error:
            tally.failed(error)


async def run(job: Job) -> Result:
    """Run the peer on the loop that is running."""
    return await Peer(job).run()


def main() -> int:
    """Entry point."""
    asyncio.run(_print_and_leave(read_job("websockets")))
    return 0


async def _print_and_leave(job: Job) -> None:
    (await run(job)).print()
    leave()


if __name__ == "__main__":
    sys.exit(main())
