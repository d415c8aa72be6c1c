"""The distributed runner: shards on other machines, reached over Locust's master; same plan, same collector."""

from __future__ import annotations

import asyncio
import contextlib
import os
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from voxload import __version__
from voxload.clock import NS_PER_S, monotonic_ns
from voxload.engine import wire
from voxload.errors import RunAbortedError
from voxload.measure.collector import Collector
from voxload.measure.snapshot import Snapshot
from voxload.model.plan import Plan, encode_plan
from voxload.runners.locust.words import (
    Assign,
    Begin,
    FromMaster,
    GoIn,
    Hello,
    Joined,
    Left,
    Listening,
    MasterFailed,
    Quit,
    Said,
    Tell,
    ToWorker,
    decode_from_master,
    decode_from_worker,
    encode,
    framed,
)
from voxload.runners.runner import PREPARE_TIMEOUT_S, Runner, ShardSeen
from voxload.start import start_command

LEAD_NS = NS_PER_S
"""Between "all shards are ready" and the first instant of the run; words between machines take their time."""
BEHIND_S_MAX = 3.0
"""A worker whose every report comes so much after its time has begun its calls later than the others."""
START_TIMEOUT_S = 30.0
"""For the master's process to listen."""
ANY_ADDRESS = {"*", "0.0.0.0"}  # noqa: S104  # what a user may ask for


class Settings(msgspec.Struct, frozen=True):
    """How a distributed run is spread."""

    workers: int
    """To wait for."""
    start_local: bool = True
    """Start them on this machine."""
    bind_host: str = "127.0.0.1"
    bind_port: int = 5557
    web_port: int | None = None
    wait_s: float = 120.0
    """For all workers to join."""
    processes: int = 1
    """Of each worker that is started here."""


@dataclass(slots=True)
class _Worker:
    """A worker as the runner knows it; `first` and `count` are its shards, once it has any."""

    name: str
    hello: Hello
    first: int = 0
    count: int = 0
    gone: bool = False

    @property
    def shards(self) -> range:
        """The numbers of its shards."""
        return range(self.first, self.first + self.count)

    @property
    def place(self) -> str:
        """What a person calls it; several workers of one machine differ by their shards."""
        region = f", region {self.hello.region}" if self.hello.region else ""
        held = f"process{'es' if self.count > 1 else ''} {'-'.join(map(str, sorted({self.first, self.shards[-1]})))}"
        return f"{self.hello.host} ({held}{region})" if self.count else self.hello.host


@dataclass(slots=True)
class _Peers:
    """The processes that belong to the run on this machine, and how to reach the master."""

    master: Process | None = None
    workers: list[Process] = field(default_factory=list)
    reader: asyncio.Task[None] | None = None


class DistributedRunner(Runner):
    """Runs a plan on the shards of several workers; see `Runner`.

    A worker that is lost, hangs, or joins too late makes the run doubtful; the calls of the others go on.
    `told(text)` hears of what happens before the run.
    """

    def __init__(
        self,
        plan: Plan,
        settings: Settings,
        collector: Collector,
        on_snapshot: Callable[[Snapshot], None] = lambda _: None,
        on_recording: Callable[[wire.Recording], None] = lambda _: None,
        stop_when: Callable[[Collector], str] = lambda _: "",
        told: Callable[[str], None] = lambda _: None,
    ) -> None:
        super().__init__(plan, collector, on_snapshot, on_recording, stop_when=stop_when)
        self._settings = settings
        self._told = told
        self._peers = _Peers()
        self._workers: dict[str, _Worker] = {}
        self._ready: set[int] = set()
        self._strange: set[str] = set()
        self._behind_ns: dict[int, int] = {}
        """By shard, how much later than its own clock said its most punctual report came."""
        self._running = False
        self._failure = ""
        self._port = 0

    def kill(self) -> None:
        """End everything at once; what shards have not reported is lost."""
        for process in [self._peers.master, *self._peers.workers]:
            if process is not None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()

    # --- before the run ---

    async def _prepare(self) -> None:
        await self._start_master()
        if self._settings.start_local:
            for _ in range(self._settings.workers):
                await self._start_worker()
        else:
            host = "HOST" if self._settings.bind_host in ANY_ADDRESS else self._settings.bind_host
            command = f"voxload worker --master-host {host} --master-port {self._port}"
            wanted = "a worker" if self._settings.workers == 1 else f"{self._settings.workers} workers"
            self._told(f"waiting for {wanted}: {command}")
        await self._until(
            lambda: len(self._workers) >= self._settings.workers,
            self._settings.wait_s,
            lambda: (
                f"{len(self._workers)} of {self._settings.workers} workers have joined in {self._settings.wait_s:g} s"
            ),
        )
        self._assign()
        await self._until(
            lambda: len(self._ready) == len(self._shards),
            PREPARE_TIMEOUT_S,
            lambda: f"{len(self._ready)} of {len(self._shards)} shards were ready within {PREPARE_TIMEOUT_S:g} s",
        )

    async def _start_master(self) -> None:
        settings = self._settings
        arguments = [settings.bind_host, str(settings.bind_port)]
        if settings.web_port is not None:
            arguments.append(str(settings.web_port))
        self._peers.master = await asyncio.create_subprocess_exec(
            *start_command("voxload.runners.locust.master", *arguments),
            stdin=PIPE,
            stdout=PIPE,
            limit=wire.FRAME_BYTES_MAX,
            start_new_session=True,
        )
        self._peers.reader = asyncio.create_task(self._listen(self._peers.master))
        await self._until(
            lambda: self._port > 0, START_TIMEOUT_S, lambda: f"Locust's master was not up within {START_TIMEOUT_S:g} s"
        )

    async def _start_worker(self) -> None:
        host = "127.0.0.1" if self._settings.bind_host in ANY_ADDRESS else self._settings.bind_host
        self._peers.workers.append(
            await asyncio.create_subprocess_exec(
                *worker_command(host, self._port, self._settings.processes, "", ends_with_us=True),
                stdin=PIPE,
                start_new_session=True,
            )
        )

    def _assign(self) -> None:
        """Give each worker its shards, in order of their names so that the same workers do the same."""
        first = 0
        shards = sum(worker.hello.processes for worker in self._workers.values())
        for name in sorted(self._workers):
            worker = self._workers[name]
            worker.first, worker.count = first, worker.hello.processes
            first += worker.count
            plan = self.plan
            if worker.hello.region:
                plan = msgspec.structs.replace(plan, scenario={**plan.scenario, "region": worker.hello.region})
            if worker.hello.source_addresses:
                plan = msgspec.structs.replace(plan, source_addresses=worker.hello.source_addresses)
            for shard in worker.shards:
                self._shards[shard] = ShardSeen(monotonic_ns())
            self._tell(worker, Assign(encode_plan(plan), worker.first, worker.count, shards))

    async def _until(self, done: Callable[[], bool], timeout_s: float, reason: Callable[[], str]) -> None:
        """Wait for something that the master will say.

        Raises:
            RunAbortedError: it did not come in time, something failed, or the run was stopped meanwhile.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while not done():
                    if self._failure or self.stopping:
                        raise RunAbortedError(self._failure or self._cut_short)
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise RunAbortedError(reason()) from None

    # --- the run ---

    def _go(self) -> int:
        self._running = True
        start_ns = monotonic_ns() + LEAD_NS
        self._say_to_master(Begin(len(self._workers)))
        for worker in self._workers.values():
            self._tell(worker, GoIn(LEAD_NS))
        return start_ns

    def _say_stop(self) -> None:
        for worker in self._workers.values():
            self._tell(worker, wire.Stop())
        self._changed.set()

    def _give_up(self, shard: int) -> None:
        """A shard elsewhere cannot be killed from here: its worker is told to stop, should it ever wake."""
        for worker in self._workers.values():
            if shard in worker.shards:
                self._tell(worker, wire.Stop())

    # --- what the master says ---

    async def _listen(self, master: Process) -> None:
        assert master.stdout is not None
        while True:
            try:
                body = await wire.read_frame(master.stdout)
            except (ValueError, OSError):
                body = None
            if body is None:
                break
            self._on_word(decode_from_master(body))
            self._changed.set()
        self._failure = self._failure or "Locust's master has ended"
        for shard, seen in self._shards.items():
            if not seen.over:
                self._shard_over(shard, "Locust's master has ended")
        self._changed.set()

    def _on_word(self, word: FromMaster) -> None:
        match word:
            case Listening(port=port, web_url=web_url):
                self._port = port
                if web_url:
                    self._told(f"Locust's own view: {web_url}")
            case MasterFailed(detail=detail):
                self._failure = detail
            case Joined():
                pass  # its hello follows
            case Left(worker=name, reason=reason):
                self._on_left(name, reason)
            case Said(worker=name, word=said):
                self._on_said(name, said)

    def _on_said(self, name: str, said: bytes) -> None:
        """Take in a worker's word; a peer that is none of ours is told of, and has no say."""
        try:
            message = decode_from_worker(said)
        except msgspec.MsgspecError:
            if name not in self._strange:
                self._strange.add(name)
                self._told(f"{name} says what voxload {__version__} does not know, and is ignored: another version?")
            return
        if isinstance(message, Hello):
            self._on_hello(name, message)
            return
        worker = self._workers.get(name)
        if worker is not None and (isinstance(message, wire.Recording) or message.shard in worker.shards):
            self._on_report(message)

    def _on_hello(self, name: str, hello: Hello) -> None:
        if name in self._workers:
            return
        if hello.version != __version__:
            self._failure = f"the worker on {hello.host} is voxload {hello.version}, this is {__version__}"
        elif self._shards or len(self._workers) >= self._settings.workers:
            self._doubt(f"a worker on {hello.host} joined after the run had been shared out; it placed no call")
        else:
            self._workers[name] = _Worker(name, hello)
            processes = "1 process" if hello.processes == 1 else f"{hello.processes} processes"
            self._told(f"worker {len(self._workers)} of {self._settings.workers}: {hello.host}, {processes}")

    def _on_left(self, name: str, reason: str) -> None:
        worker = self._workers.get(name)
        if worker is None or worker.gone:
            return
        if not self._running:
            self._failure = f"the worker on {worker.hello.host} is gone: {reason}"
            return
        if all(self._shards[shard].final for shard in worker.shards):
            return  # it has done its part
        worker.gone = True
        self._doubt(f"the worker on {worker.place} was lost: {reason}")

    def _on_report(self, message: wire.FromShard) -> None:
        if isinstance(message, wire.Prepared):
            self._ready.add(message.shard)
        elif isinstance(message, wire.Failed) and not self._running:
            self._failure = f"shard {message.shard} could not be prepared:\n{message.detail}"
        else:
            if isinstance(message, Snapshot):
                behind_ns = monotonic_ns() - self._start_ns - message.end_ns
                self._behind_ns[message.shard] = min(self._behind_ns.get(message.shard, behind_ns), behind_ns)
            self._take(message)
            if isinstance(message, wire.Failed):
                self._shard_over(message.shard, message.detail)
            elif isinstance(message, Snapshot) and message.final:
                self._shard_over(message.shard)

    def _doubt_late_starts(self) -> None:
        """Each machine begins when the word reaches it, on its own clock: say so where the word took long."""
        for worker in self._workers.values():
            behind_s = max((self._behind_ns.get(shard, 0) for shard in worker.shards), default=0) / NS_PER_S
            if behind_s > BEHIND_S_MAX:
                self._doubt(f"the calls of the worker on {worker.place} began {behind_s:.1f} s after the plan's")

    def _doubt(self, text: str) -> None:
        if text not in self._doubts:
            self._doubts.append(text)

    # --- words out ---

    def _tell(self, worker: _Worker, word: ToWorker) -> None:
        self._say_to_master(Tell(worker.name, encode(word)))

    def _say_to_master(self, word: Tell | Begin | Quit) -> None:
        master = self._peers.master
        if master is not None and master.stdin is not None:
            with contextlib.suppress(ConnectionError, RuntimeError):
                master.stdin.write(framed(word))

    async def _reap(self) -> None:
        """End the master, and with it the workers; those of this machine that do not leave are killed."""
        self._doubt_late_starts()
        self._say_to_master(Quit())
        for process in [*self._peers.workers, self._peers.master]:
            if process is None:
                continue
            try:
                async with asyncio.timeout(8):
                    await process.wait()
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if self._peers.reader is not None:
            await asyncio.gather(self._peers.reader, return_exceptions=True)


def worker_command(
    host: str,
    port: int,
    processes: int,
    region: str,
    source_addresses: Sequence[str] = (),
    ends_with_us: bool = False,
) -> list[str]:
    """Return the command of a worker's process; with `ends_with_us` it leaves when its standard input ends."""
    count = processes or len(os.sched_getaffinity(0))
    words = [*(["--until-input-ends"] if ends_with_us else []), host, str(port), str(count), region, *source_addresses]
    return start_command("voxload.runners.locust.worker", *words)
