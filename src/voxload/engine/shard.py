"""A shard: one process that places its part of a run's calls and reports a snapshot a second.

Run by `voxload.start`, spoken to over its standard input and output (`voxload.engine.wire`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

import picows
import uvloop

from voxload.audio.recording_keeper import FinishedRecording, RecordingKeeper, RecordingPolicy
from voxload.clock import NS_PER_S, Clock, monotonic_ns, unix_ns
from voxload.dialects.registry import build_dialect
from voxload.engine import wire
from voxload.engine.call import Call
from voxload.engine.caller import Caller
from voxload.engine.context import CallContext
from voxload.engine.media import Media
from voxload.engine.network import open_network
from voxload.engine.placer import Placer
from voxload.engine.transport import SocketLine
from voxload.errors import RunAbortedError
from voxload.load.arrivals import count_calls
from voxload.load.workload import Workload
from voxload.measure.health import HealthMeter
from voxload.model.load import ConcurrencyLoad
from voxload.model.outcome import Outcome
from voxload.model.plan import Plan, decode_plan
from voxload.process import freeze_garbage, prefer_this_process, raise_file_limit, tidy_garbage
from voxload.ring import Due
from voxload.timer import WheelTimer
from voxload.wheel import Wheel

SNAPSHOT_NS = NS_PER_S


class Shard:
    """One process's part of a run on real sockets."""

    def __init__(self, plan: Plan, shard: int, shards: int, emit: Callable[[wire.FromShard], None]) -> None:
        self._shard, self._shards = shard, shards
        self._emit = emit
        self.workload = Workload(plan)
        settings = self.workload.scenario.dialect
        self.dialect = build_dialect(settings.name, plan.target, settings.options)
        self._dialects = tuple(build_dialect(settings.name, each.url, settings.options) for each in plan.targets)
        self.media = Media(self.dialect, self.workload)
        self.clock: Clock = monotonic_ns
        self._placer: Placer | None = None
        self._stop_requested = False
        self._callers = 0
        self._fatal: Exception | None = None

    async def run(self, start_ns: int, callers_come_and_go: bool = False) -> None:
        """Place the calls from `start_ns` on, to the end of the last one or until `stop`."""
        loop = asyncio.get_running_loop()
        wheel = Wheel(self.clock())
        wheel.failed = self._on_callback_failed
        loop.set_exception_handler(_on_loop_exception)
        context = CallContext.of(
            self.workload,
            self.dialect,
            self.media,
            wheel,
            self.clock,
            start_ns,
            unix_ns() - self.clock(),
            self._shard,
            self._keeper(),
            self._dialects,
        )
        recorder = context.recorder
        async with open_network(self.workload, self.dialect, self.clock, self._on_exchange_lost) as network:

            def connect(call: Call) -> SocketLine:
                return SocketLine(call, network)

            over = asyncio.Event()
            placer = self._placer = Placer(context, self._shard, self._shards, connect, over.set)
            health = HealthMeter(self.clock)

            def report(final: bool = False) -> None:
                cpu_percent, memory_mib = health.sample()
                now_ns = self.clock() - start_ns
                self._emit(recorder.take_packed(max(now_ns, 0), placer.active, cpu_percent, memory_mib, final))

            def on_second(due_ns: int) -> int:
                if placer.done:
                    return 0
                report()
                tidy_garbage()
                return due_ns + SNAPSHOT_NS

            wheel.at(start_ns + SNAPSHOT_NS, on_second)
            if callers_come_and_go:
                placer.set_callers(self._callers, self.clock())
            else:
                placer.begin(start_ns)
            freeze_garbage()
            timer = WheelTimer.on_loop(wheel, self.clock, loop)
            timer.start()
            if self._stop_requested:
                placer.stop(self.clock())
            await over.wait()
            timer.stop()
            network.hang_up()
            if self._fatal is not None:
                raise self._fatal
            report(final=True)

    def _on_exchange_lost(self, reason: str) -> None:
        self._fatal = self._fatal or RunAbortedError(reason)
        self.stop()

    def _keeper(self) -> RecordingKeeper | None:
        """Return what keeps this shard's recordings, if the scenario wants any."""
        scenario = self.workload.scenario
        if not scenario.record:
            return None
        planned = 0
        if not isinstance(scenario.load, ConcurrencyLoad):
            planned = sum(count_calls(scenario.load.phases(), scenario.load.process, scenario.seed))
        return RecordingKeeper(RecordingPolicy.parse(scenario.record), scenario.seed, planned, self._hand_in)

    def _hand_in(self, finished: FinishedRecording, replaces: str) -> None:
        """Send the recording of a call that is over as it is; the runner renders it."""
        audio = finished.recording.to_data()
        self._emit(wire.Recording(finished.call_id, finished.t0_ns, finished.end_ns, audio, replaces))

    def _on_callback_failed(self, callback: Due, error: Exception) -> None:
        """A defect of ours ends one call, not the shard; outside of a call it ends the shard, which says so."""
        owner, now_ns = getattr(callback, "__self__", None), self.clock()
        if isinstance(owner, Call):
            owner.on_failed(Outcome.INTERNAL_ERROR, repr(error), now_ns)
        elif isinstance(owner, Caller):
            owner.fail(repr(error), now_ns)
        else:
            self._fatal = self._fatal or error
            self.stop()

    def set_callers(self, count: int) -> None:
        """Have so many callers from now on, where callers come and go."""
        self._callers = count
        if self._placer is not None:
            self._placer.set_callers(count, self.clock())

    def stop(self) -> None:
        """Place no more calls and end those that are up."""
        self._stop_requested = True
        if self._placer is not None:
            self._placer.stop(self.clock())


def _on_loop_exception(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Keep quiet about sockets that broke the protocol: their calls have recorded it."""
    if not isinstance(context.get("exception"), picows.WSError):
        loop.default_exception_handler(context)


class _Closing(asyncio.Protocol):
    """Tells when a pipe is closed and all of it is written, or its reader is gone."""

    def __init__(self, closed: asyncio.Event) -> None:
        self._closed = closed

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's signature
        self._closed.set()


async def _serve(output: int) -> int:
    """Speak with the runner: prepare, go, snapshots, stop; the end of the input stops the run too."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=wire.FRAME_BYTES_MAX)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    closed = asyncio.Event()
    transport, _ = await loop.connect_write_pipe(lambda: _Closing(closed), os.fdopen(output, "wb"))

    def emit(message: wire.FromShard) -> None:
        if not transport.is_closing():  # else the runner is gone, and the end of our input stops us
            transport.write(wire.encode(message))

    first = await wire.read_to_shard(reader)
    if not isinstance(first, wire.Prepare):
        return 2
    try:
        shard = Shard(decode_plan(first.plan), first.shard, first.shards, emit)
        emit(wire.Prepared(first.shard))
        second = await wire.read_to_shard(reader)
        if not isinstance(second, wire.Go):
            return 0

        async def obey() -> None:
            while isinstance(word := await wire.read_to_shard(reader), wire.Callers):
                shard.set_callers(word.count)
            shard.stop()  # told so, or the end of the stream because the runner is gone

        listener = asyncio.create_task(obey())
        loop.add_signal_handler(signal.SIGTERM, shard.stop)
        await shard.run(second.start_ns, second.callers_come_and_go)
        listener.cancel()
    except Exception:  # noqa: BLE001  # the runner must learn of it, whatever it is
        emit(wire.Failed(first.shard, traceback.format_exc(limit=8)))
    transport.close()  # flushes first: the last snapshot reaches the runner
    await closed.wait()
    return 0


def main() -> int:
    """Entry point of the child process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the runner, which stops its shards in good order
    raise_file_limit()
    prefer_this_process()
    logging.getLogger("picows").setLevel(logging.CRITICAL)  # what goes wrong on a socket is an outcome, not a log line
    output = os.dup(1)
    os.dup2(2, 1)  # a stray print must not break the framing
    return uvloop.run(_serve(output))


if __name__ == "__main__":
    sys.exit(main())
