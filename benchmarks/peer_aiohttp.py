"""Peer: aiohttp's WebSocket client on uvloop, a task a call that sleeps to its next deadline.

As its manual advises: one session for all sockets, no limit on connections, `compress=0`, no automatic ping. Received
frames are counted and dropped. The garbage collector is frozen after the set-up, in every peer.
"""

from __future__ import annotations

import asyncio
import sys

import aiohttp
import uvloop

from benchmarks.harness import CONNECTS_AT_ONCE, SETTLE_S, SETUP_S_MAX, Frames, Job, Result, Tally, leave, read_job
from voxload.clock import NS_PER_MS, NS_PER_S, monotonic_ns
from voxload.process import freeze_garbage

PEER = "aiohttp"


class Peer:
    """All calls of the process."""

    def __init__(self, job: Job, session: aiohttp.ClientSession) -> None:
        self.job = job
        self.tally = Tally(job, PEER)
        self.frames = Frames(job)
        self._session = session
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
                socket = await self._session.ws_connect(self.job.socket_url(number), compress=0, autoping=True)
            self._open += 1
            if self._open == self.job.calls:
                self._all_open.set()
            reader = asyncio.create_task(self._read(socket)) if self.job.duplex else None
            await self._speak(socket, self.job.first_due_ns(number, await asyncio.shield(self._start)))
            del reader
        except (OSError, TimeoutError, aiohttp.ClientError) as error:
            self.tally.failed(error)

    async def _speak(self, socket: aiohttp.ClientWebSocketResponse, due_ns: int) -> None:
        prepared, session, lateness = self.frames.prepared, self.frames.session, self.tally.lateness
        period_ns, sequence = self.job.period_ns, 0
        while True:
            await asyncio.sleep(max(due_ns - monotonic_ns(), 0) / NS_PER_S)
            now_ns = monotonic_ns()
            lateness.append(now_ns - due_ns)
            await socket.send_frame(session.stamp(prepared, sequence, now_ns), aiohttp.WSMsgType.TEXT)
            sequence += 1
            due_ns += period_ns

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for _ in socket:
            self.tally.frames_in += 1
        self.tally.failed("closed by the sink")


async def run(job: Job) -> None:
    """Run the peer and print its line."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        (await Peer(job, session).run()).print()
        leave()


def main() -> int:
    """Entry point."""
    uvloop.run(run(read_job(PEER)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
