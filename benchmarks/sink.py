"""The target of the benchmark: takes any WebSocket and `POST /api/v1/calls/start`, drops what it hears, may speak.

A process of its own on a core of its own, as light as Python allows: picows on uvloop, nothing parsed, and all paced
sends from one timing wheel. `GET /stats` tells what it saw in samples of 250 ms, so that a step in which this process,
and not the client, was the limit can be told apart. It prints one JSON line with its URL when it is ready and ends when
its standard input does.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import sys
import tempfile
from array import array
from collections import deque
from pathlib import Path
from typing import Any

import picows
import uvloop
from aiohttp import web
from picows import WSFrame, WSMsgType, WSTransport, WSUpgradeRequest, WSUpgradeResponse

from benchmarks.harness import AGENT_RATE, percentile_ms, usage
from benchmarks.speech import agent_frame
from voxload.certificates import ensure_certificates, server_tls
from voxload.clock import NS_PER_MS, NS_PER_S, monotonic_ns
from voxload.dialects.rtmed import START_PATH
from voxload.front import Front
from voxload.process import freeze_garbage, prefer_this_process, raise_file_limit
from voxload.timer import WheelTimer
from voxload.wheel import Wheel

SAMPLE_NS = 250 * NS_PER_MS
SAMPLES_MAX = 2000
PERIOD_NS = NS_PER_S // AGENT_RATE
BACKLOG_BYTES_MAX = 1024 * 1024


class Sink:
    """All that the connections share."""

    def __init__(self, speak: bool) -> None:
        self.speak = speak
        self.wheel = Wheel(monotonic_ns())
        self.connections = self.frames_in = self.frames_out = self.frames_dropped = 0
        self.lateness: array[int] = array("q")
        self.samples: deque[dict[str, Any]] = deque(maxlen=SAMPLES_MAX)
        self.fronts: dict[web.RequestHandler, Front] = {}
        self._ids = itertools.count()
        self._before = (usage(), 0, 0)
        self.payload = agent_frame("rtmed")  # speech to the caller's ear: a duplex call costs what a real one does

    def sample(self, due_ns: int) -> int:
        """Note what has happened since the last sample."""
        now = usage()
        before, frames_in, frames_out = self._before
        self.samples.append(
            {
                "start_ns": before.at_ns,
                "end_ns": now.at_ns,
                "cpu_ns": now.cpu_ns - before.cpu_ns,
                "wait_ns": now.wait_ns - before.wait_ns,
                "connections": self.connections,
                "frames_in": self.frames_in - frames_in,
                "frames_out": self.frames_out - frames_out,
                "lateness_p99_ms": percentile_ms(self.lateness, 99),
            }
        )
        del self.lateness[:]
        self._before = (now, self.frames_in, self.frames_out)
        return max(due_ns + SAMPLE_NS, now.at_ns)

    def open_socket(self, request: WSUpgradeRequest) -> Any:
        """Accept a WebSocket on any path, with the first subprotocol that the client offers."""
        offered = request.headers.get("Sec-WebSocket-Protocol", "").split(",")[0].strip()
        extra = {"Sec-WebSocket-Protocol": offered} if offered else None
        return picows.WSUpgradeResponseWithListener(WSUpgradeResponse.create_101_response(extra), Ear(self))

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer the call flow's start, and `GET /stats` (all samples since the last such request)."""
        try:
            await request.read()
            if request.path == START_PATH:
                return web.json_response({"session_id": f"call{next(self._ids)}", "status": "started"})
            if request.path == "/stats":
                stats = {
                    "connections": self.connections,
                    "frames_in": self.frames_in,
                    "frames_out": self.frames_out,
                    "frames_dropped": self.frames_dropped,
                    "samples": list(self.samples),
                }
                self.samples.clear()
                return web.json_response(stats)
            return web.Response(status=404)
        finally:
            front = self.fronts.get(request.protocol)
            if front is not None:
                front.busy = False


class Ear(picows.WSListener):
    """One connection."""

    def __init__(self, sink: Sink) -> None:
        super().__init__()
        self._sink = sink
        self._transport: WSTransport | None = None
        self._paused = False

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Begin to speak, if told so."""
        sink = self._sink
        sink.connections += 1
        if sink.speak:
            self._transport = transport
            transport.underlying_transport.set_write_buffer_limits(high=BACKLOG_BYTES_MAX)
            sink.wheel.at(monotonic_ns() + PERIOD_NS, self._on_due)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Count a frame and drop it."""
        kind = frame.msg_type
        if kind == WSMsgType.TEXT:
            self._sink.frames_in += 1
        elif kind == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Forget the connection."""
        self._sink.connections -= 1
        self._transport = None

    def pause_writing(self) -> None:
        """The client does not read: frames are dropped, as real-time audio is."""
        self._paused = True

    def resume_writing(self) -> None:
        """The client reads again."""
        self._paused = False

    def _on_due(self, due_ns: int) -> int:
        transport, sink = self._transport, self._sink
        if transport is None:
            return 0
        sink.lateness.append(monotonic_ns() - due_ns)
        if self._paused:
            sink.frames_dropped += 1
        else:
            transport.send(WSMsgType.TEXT, sink.payload)
            sink.frames_out += 1
        return due_ns + PERIOD_NS


async def serve(speak: bool) -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    sink = Sink(speak)
    web_server = web.Server(sink.answer, access_log=None)

    def front() -> Front:
        return Front(web_server, sink.fronts, sink.open_socket)

    server = await loop.create_server(front, "127.0.0.1", 0, backlog=4096)
    with tempfile.TemporaryDirectory() as folder:
        made = ensure_certificates(Path(folder), "127.0.0.1")
        tls = await loop.create_server(front, "127.0.0.1", 0, backlog=4096, ssl=server_tls(made))
        authorities = made.authority.read_text()
    timer = WheelTimer.on_loop(sink.wheel, monotonic_ns, loop)
    sink.wheel.at(monotonic_ns() + SAMPLE_NS, sink.sample)
    timer.start()
    freeze_garbage()  # as in voxload's own processes: collections must not stall the paced sends
    ports = [opened.sockets[0].getsockname()[1] for opened in (server, tls)]
    told = {"url": f"http://127.0.0.1:{ports[0]}", "tls_url": f"https://127.0.0.1:{ports[1]}", "ca": authorities}
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()
    timer.stop()
    server.close()
    tls.close()


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sink")
    parser.add_argument("--speak", action="store_true", help=f"send {AGENT_RATE} agent frames a second on each socket")
    parser.add_argument("--cpu", type=int, default=None, help="core to run on")
    args = parser.parse_args()
    if args.cpu is not None:
        os.sched_setaffinity(0, {args.cpu})
    raise_file_limit()
    prefer_this_process()
    uvloop.run(serve(args.speak))
    return 0


if __name__ == "__main__":
    sys.exit(main())
