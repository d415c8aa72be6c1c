"""The local runner: N shard processes on this machine, one plan, one collector."""

from __future__ import annotations

import asyncio
import contextlib
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from dataclasses import dataclass

from voxload.clock import NS_PER_MS, monotonic_ns
from voxload.engine import wire
from voxload.errors import RunAbortedError
from voxload.measure.collector import Collector
from voxload.measure.snapshot import Snapshot
from voxload.model.plan import Plan, encode_plan
from voxload.runners.runner import PREPARE_TIMEOUT_S, Runner, ShardSeen
from voxload.start import start_command

LEAD_NS = 300 * NS_PER_MS
"""Between "all shards are ready" and the first instant of the run."""


@dataclass(slots=True)
class _Child:
    shard: int
    process: Process
    reader: asyncio.Task[None] | None = None


class LocalRunner(Runner):
    """Runs a plan on `processes` shards of this machine; see `Runner`."""

    def __init__(
        self,
        plan: Plan,
        processes: int,
        collector: Collector,
        on_snapshot: Callable[[Snapshot], None] = lambda _: None,
        on_recording: Callable[[wire.Recording], None] = lambda _: None,
        stop_when: Callable[[Collector], str] = lambda _: "",
    ) -> None:
        super().__init__(plan, collector, on_snapshot, on_recording, stop_when=stop_when)
        self._processes = processes
        self._children: list[_Child] = []

    def kill(self) -> None:
        """End the shards at once; what they have not reported is lost."""
        for child in self._children:
            _kill(child)

    async def _prepare(self) -> None:
        plan = encode_plan(self.plan)
        for shard in range(self._processes):
            process = await asyncio.create_subprocess_exec(
                *start_command("voxload.engine.shard"),
                stdin=PIPE,
                stdout=PIPE,
                limit=wire.FRAME_BYTES_MAX,
                start_new_session=True,
            )
            child = _Child(shard, process)
            self._children.append(child)
            self._say(child, wire.Prepare(plan, shard, self._processes))
        for child in self._children:
            try:
                async with asyncio.timeout(PREPARE_TIMEOUT_S):
                    answer = await wire.read_from_shard(_output(child))
            except TimeoutError:
                raise RunAbortedError(f"process {child.shard} was not ready within {PREPARE_TIMEOUT_S:g} s") from None
            if isinstance(answer, wire.Failed):
                raise RunAbortedError(f"process {child.shard} could not be prepared:\n{answer.detail}")
            if not isinstance(answer, wire.Prepared):
                code = await child.process.wait()
                raise RunAbortedError(f"process {child.shard} ended with code {code} before it was ready")
            self._shards[child.shard] = ShardSeen(monotonic_ns())

    def _go(self) -> int:
        start_ns = monotonic_ns() + LEAD_NS
        for child in self._children:
            self._say(child, wire.Go(start_ns))
            child.reader = asyncio.create_task(self._listen(child))
        return start_ns

    def _say_stop(self) -> None:
        for child in self._children:
            self._say(child, wire.Stop())

    def _say(self, child: _Child, message: wire.ToShard) -> None:
        assert child.process.stdin is not None
        with contextlib.suppress(ConnectionError, RuntimeError):
            child.process.stdin.write(wire.encode(message))

    async def _listen(self, child: _Child) -> None:
        """Take in one shard's reports to their end."""
        reason = ""
        while True:
            try:
                message = await wire.read_from_shard(_output(child))
            except (ValueError, OSError) as error:
                reason = f"its reports could not be read: {error}"
                break
            if message is None:
                break
            self._take(message)
        if not reason and not self._shards[child.shard].final:
            reason = f"ended with code {await child.process.wait()} before its last report"
        self._shard_over(child.shard, reason)

    def _give_up(self, shard: int) -> None:
        _kill(self._children[shard])

    async def _reap(self) -> None:
        """Leave no process behind."""
        for child in self._children:
            if child.process.stdin is not None:
                child.process.stdin.close()
        for child in self._children:
            try:
                async with asyncio.timeout(5):
                    await child.process.wait()
            except TimeoutError:
                _kill(child)
                await child.process.wait()
            if child.reader is not None:
                await asyncio.gather(child.reader, return_exceptions=True)


def _kill(child: _Child) -> None:
    with contextlib.suppress(ProcessLookupError):
        child.process.kill()


def _output(child: _Child) -> asyncio.StreamReader:
    assert child.process.stdout is not None
    return child.process.stdout
