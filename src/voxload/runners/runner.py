"""What all runners share: they collect what shards report, notice those that hang, and end a run for a reason."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

from voxload.clock import NS_PER_S, monotonic_ns
from voxload.engine import wire
from voxload.load.workload import Workload
from voxload.measure.collector import Collector
from voxload.measure.snapshot import Snapshot
from voxload.measure.understanding import Understanding
from voxload.model.plan import Plan
from voxload.runners.contact import out_of_contact, unreachable_words

PREPARE_TIMEOUT_S = 60.0
SILENT_SHARD_S = 15.0
"""A shard that has not reported for this long is taken for hung."""
UNREACHABLE_CALLS = 20
"""After this many calls without one connection the run ends as unreachable."""
TICK_S = 0.5
STALLED_S = 2.0
"""A tick that comes so late was held up here (Ctrl-Z, a paused machine): what shards say meanwhile is not read yet."""


@dataclass(slots=True)
class RunData:
    """What a runner brings back."""

    collector: Collector
    duration_s: float
    cut_short: str = ""
    unreachable: bool = False
    doubts: list[str] = field(default_factory=list)
    """Why the run cannot be trusted, beyond what the shards' numbers say."""
    ended_ns: int = 0
    """When the last call was over, on the monotonic clock."""
    stopped_early: str = ""
    """Which condition ended the run before its plan."""


@dataclass(slots=True)
class ShardSeen:
    """What the runner knows of a shard: when it last reported, and whether that was its last report."""

    last_ns: int
    final: bool = False
    over: bool = False
    """Nothing more is expected of it."""


@dataclass(slots=True)
class Runner(ABC):
    """Runs a plan on shards, wherever they are.

    `on_snapshot(snapshot)` sees every snapshot as it comes (the results file), `on_tick(elapsed_s)` is called twice a
    second (the live view). `stop()` ends the run in good order, `kill()` at once; both keep what was measured.
    """

    plan: Plan
    collector: Collector
    on_snapshot: Callable[[Snapshot], None] = lambda _: None
    on_recording: Callable[[wire.Recording], None] = lambda _: None
    on_tick: Callable[[float], None] = lambda _: None
    stop_when: Callable[[Collector], str] = lambda _: ""
    """Returns a reason why the run cannot go on, or nothing: it is then cut short, and judged by nobody."""
    end_when: Callable[[Collector, float], str] = lambda _, __: ""
    """Returns a reason to end the run before its plan, or nothing: it is then judged, and has failed."""
    _shards: dict[int, ShardSeen] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _cut_short: str = ""
    _stopped_early: str = ""
    _start_ns: int = 0
    _unreachable: bool = False
    _doubts: list[str] = field(default_factory=list)
    _understanding: Understanding = field(default_factory=lambda: Understanding(()))

    async def run(self) -> RunData:
        """Place the calls and collect the numbers.

        Raises:
            RunAbortedError: a shard could not be prepared.
        """
        workload = Workload(self.plan)
        self._understanding = Understanding(workload.labelled_texts())
        try:
            await self._prepare()
            self._start_ns = self._go()
            for seen in self._shards.values():
                seen.last_ns = self._start_ns
            await self._watch()
        finally:
            await self._reap()
        duration_s = max((state.last_ns for state in self.collector.shards.values()), default=0) / NS_PER_S
        ended_ns = self._start_ns + round(duration_s * NS_PER_S)
        return RunData(
            self.collector, duration_s, self._cut_short, self._unreachable, self._doubts, ended_ns, self._stopped_early
        )

    def stop(self, reason: str) -> None:
        """Place no more calls, end those that are up; the numbers up to now are kept."""
        if not self._cut_short:
            self._cut_short = reason
            self._say_stop()

    def end_early(self, reason: str) -> None:
        """The same, for a run that has shown enough."""
        if not self.stopping:
            self._stopped_early = reason
            self._say_stop()

    @property
    def start_ns(self) -> int:
        """The first instant of the run on the monotonic clock; 0 before it is known."""
        return self._start_ns

    @property
    def stopping(self) -> bool:
        """Whether the run is being cut short."""
        return bool(self._cut_short or self._stopped_early)

    # --- what a kind of runner does ---

    @abstractmethod
    def kill(self) -> None:
        """End the shards at once; what they have not reported is lost."""

    @abstractmethod
    async def _prepare(self) -> None:
        """Start the shards and wait until each is ready; fills `_shards`.

        Raises:
            RunAbortedError: one is not.
        """

    @abstractmethod
    def _go(self) -> int:
        """Let the shards begin; returns the first instant of the run, in ns of the monotonic clock."""

    @abstractmethod
    def _say_stop(self) -> None:
        """Tell all shards to stop."""

    @abstractmethod
    def _give_up(self, shard: int) -> None:
        """Kill a shard that hangs."""

    @abstractmethod
    async def _reap(self) -> None:
        """Leave nothing behind."""

    # --- what shards say ---

    def _take(self, message: wire.FromShard) -> None:
        """Take in one message of a shard."""
        match message:
            case wire.Failed(shard=shard, detail=detail):
                self.collector.lose(shard, detail)
            case wire.Recording():
                self.on_recording(message)
            case Snapshot(shard=shard):
                seen = self._shards.get(shard)
                if seen is None or seen.over:
                    return  # given up already
                seen.last_ns = monotonic_ns()
                seen.final = seen.final or message.final
                judged = self._understanding.complete(message)
                self.collector.add(judged)
                self.on_snapshot(judged)
            case _:
                pass

    def _shard_over(self, shard: int, reason: str = "") -> None:
        """A shard says nothing more: in good order after its last report, else for a reason."""
        seen = self._shards[shard]
        if not seen.final and not seen.over:
            self.collector.lose(shard, reason)
        seen.over = True
        self._changed.set()

    async def _watch(self) -> None:
        """Tick until every shard has made its last report, hangs, or is gone."""
        looked_ns = monotonic_ns()
        while not all(seen.over for seen in self._shards.values()):
            self._changed.clear()
            try:
                async with asyncio.timeout(TICK_S):
                    await self._changed.wait()
            except TimeoutError:
                pass
            now_ns = monotonic_ns()
            self._excuse(now_ns - looked_ns)
            looked_ns = now_ns
            self.on_tick(max(now_ns - self._start_ns, 0) / NS_PER_S)
            self._consider_ending()
            for shard, seen in self._shards.items():
                if not seen.over and not seen.final and (now_ns - seen.last_ns) / NS_PER_S > SILENT_SHARD_S:
                    self._shard_over(shard, f"hung: no report for {SILENT_SHARD_S:g} s")
                    self._give_up(shard)
        self._consider_contact()

    def _excuse(self, gap_ns: int) -> None:
        """No shard is silent for the time in which nobody here listened."""
        if gap_ns > STALLED_S * NS_PER_S:
            for seen in self._shards.values():
                seen.last_ns += gap_ns

    def _consider_contact(self) -> None:
        """A short run in which no call at all found a connection says nothing of the agent either."""
        if not self.stopping and out_of_contact(self.collector):
            self._unreachable = True
            self._cut_short = unreachable_words(self.collector)

    def _consider_ending(self) -> None:
        if self.stopping:
            return
        if out_of_contact(self.collector, UNREACHABLE_CALLS):
            self._unreachable = True
            self.stop(unreachable_words(self.collector))
            return
        reason = self.stop_when(self.collector)
        if reason:
            self.stop(reason)
            return
        enough = self.end_when(self.collector, max(monotonic_ns() - self._start_ns, 0) / NS_PER_S)
        if enough:
            self.end_early(enough)
