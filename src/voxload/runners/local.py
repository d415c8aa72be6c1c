"""The local runner: N shard processes on this machine, one plan, one collector."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from dataclasses import dataclass, field

from voxload.clock import NS_PER_MS, NS_PER_S, monotonic_ns
from voxload.engine import wire
from voxload.errors import RunAbortedError
from voxload.load.workload import Workload
from voxload.measure.collector import Collector
from voxload.measure.snapshot import Snapshot
from voxload.measure.understanding import Understanding
from voxload.model.outcome import Outcome
from voxload.model.plan import Plan, encode_plan

PREPARE_TIMEOUT_S = 60.0
LEAD_NS = 300 * NS_PER_MS
"""Between "all shards are ready" and the first instant of the run."""
SILENT_SHARD_S = 15.0
"""A shard that has not reported for this long is taken for hung."""
UNREACHABLE_CALLS = 20
"""After this many calls without one connection the run ends as unreachable."""


@dataclass(slots=True)
class _Child:
    shard: int
    process: Process
    last_seen_ns: int = 0
    final: bool = False
    reader: asyncio.Task[None] | None = None


@dataclass(slots=True)
class RunData:
    """What a runner brings back."""

    collector: Collector
    duration_s: float
    cut_short: str = ""
    unreachable: bool = False


@dataclass(slots=True)
class LocalRunner:
    """Runs a plan on `processes` shards of this machine.

    `on_snapshot(snapshot)` sees every snapshot as it comes (the results file), `on_tick(collector, elapsed_s)` is
    called twice a second (the live view). `stop()` ends the run in good order, `kill()` at once; both keep what was
    measured.
    """

    plan: Plan
    processes: int
    collector: Collector
    on_snapshot: Callable[[Snapshot], None] = lambda _: None
    on_recording: Callable[[wire.Recording], None] = lambda _: None
    on_tick: Callable[[float], None] = lambda _: None
    stop_when: Callable[[Collector], str] = lambda _: ""
    """Returns a reason to end the run early, or nothing."""
    _children: list[_Child] = field(default_factory=list)
    _cut_short: str = ""
    _killed: bool = False
    _start_ns: int = 0
    _unreachable: bool = False
    _understanding: Understanding = field(default_factory=lambda: Understanding(()))

    async def run(self) -> RunData:
        """Place the calls and collect the numbers.

        Raises:
            RunAbortedError: a shard could not be prepared.
        """
        workload = Workload(self.plan)
        self._understanding = Understanding(workload.labelled_texts(), workload.scenario.region)
        try:
            await self._prepare()
            self._start_ns = monotonic_ns() + LEAD_NS
            for child in self._children:
                child.last_seen_ns = self._start_ns
                self._say(child, wire.Go(self._start_ns))
                child.reader = asyncio.create_task(self._listen(child))
            await self._watch()
        finally:
            await self._reap()
        duration_s = max((state.last_ns for state in self.collector.shards.values()), default=0) / NS_PER_S
        return RunData(self.collector, duration_s, self._cut_short, self._unreachable)

    def stop(self, reason: str) -> None:
        """Place no more calls, end those that are up; the numbers up to now are kept."""
        if not self._cut_short:
            self._cut_short = reason
            for child in self._children:
                self._say(child, wire.Stop())

    def kill(self) -> None:
        """End the shards at once; what they have not reported is lost."""
        self._killed = True
        for child in self._children:
            with contextlib.suppress(ProcessLookupError):
                child.process.kill()

    @property
    def stopping(self) -> bool:
        """Whether the run is being cut short."""
        return bool(self._cut_short)

    async def _prepare(self) -> None:
        plan = encode_plan(self.plan)
        for shard in range(self.processes):
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "voxload.engine.shard",
                stdin=PIPE,
                stdout=PIPE,
                limit=wire.FRAME_BYTES_MAX,
                start_new_session=True,
            )
            child = _Child(shard, process)
            self._children.append(child)
            self._say(child, wire.Prepare(plan, shard, self.processes))
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

    def _say(self, child: _Child, message: wire.ToShard) -> None:
        assert child.process.stdin is not None
        with contextlib.suppress(ConnectionError, RuntimeError):
            child.process.stdin.write(wire.encode(message))

    async def _listen(self, child: _Child) -> None:
        """Take in one shard's reports to their end."""
        while True:
            try:
                message = await wire.read_from_shard(_output(child))
            except (ValueError, OSError) as error:
                self.collector.lose(child.shard, f"its reports could not be read: {error}")
                return
            match message:
                case None:
                    if not child.final:
                        code = await child.process.wait()
                        self.collector.lose(child.shard, f"ended with code {code} before its last report")
                    return
                case wire.Failed(detail=detail):
                    self.collector.lose(child.shard, detail)
                case wire.Recording():
                    child.last_seen_ns = monotonic_ns()
                    self.on_recording(message)
                case Snapshot():
                    child.last_seen_ns = monotonic_ns()
                    child.final = child.final or message.final
                    judged = self._understanding.complete(message)
                    self.collector.add(judged)
                    self.on_snapshot(judged)
                case _:
                    pass

    async def _watch(self) -> None:
        """Tick until every shard has made its last report, hangs, or is gone."""
        readers = {child.reader for child in self._children if child.reader is not None}
        while readers:
            _, readers = await asyncio.wait(readers, timeout=0.5)
            now_ns = monotonic_ns()
            self.on_tick(max(now_ns - self._start_ns, 0) / NS_PER_S)
            self._consider_ending()
            for child in self._children:
                silent_s = (now_ns - child.last_seen_ns) / NS_PER_S
                if not child.final and child.reader in readers and silent_s > SILENT_SHARD_S:
                    self.collector.lose(child.shard, f"hung: no report for {SILENT_SHARD_S:g} s")
                    with contextlib.suppress(ProcessLookupError):
                        child.process.kill()

    def _consider_ending(self) -> None:
        if self.stopping:
            return
        outcomes = self.collector.outcomes
        ended = sum(outcomes.values())
        if (
            ended >= UNREACHABLE_CALLS
            and outcomes[Outcome.CONNECT_FAILED] == ended
            and not any(self.collector.levels())
        ):
            self._unreachable = True
            self.stop("the target cannot be reached: no call found a connection")
            return
        reason = self.stop_when(self.collector)
        if reason:
            self.stop(reason)

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
                with contextlib.suppress(ProcessLookupError):
                    child.process.kill()
                await child.process.wait()
            if child.reader is not None:
                await asyncio.gather(child.reader, return_exceptions=True)


def _output(child: _Child) -> asyncio.StreamReader:
    assert child.process.stdout is not None
    return child.process.stdout
