"""CPU and memory of processes of this machine, found by id, port or name, their children included."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import Callable, Iterable

import psutil

from voxload.clock import NS_PER_S, Clock
from voxload.runners.usage.source import Reading, UnreadableError, UsageSource

Find = Callable[[], list[psutil.Process]]


def by_pid(pid: int) -> Find:
    """Return what finds a process by its id."""

    def find() -> list[psutil.Process]:
        try:
            return [psutil.Process(pid)]
        except psutil.NoSuchProcess:
            raise UnreadableError(f"there is no process {pid}") from None

    return find


def by_port(port: int) -> Find:
    """Return what finds the processes that listen on a TCP port."""

    def find() -> list[psutil.Process]:
        listening = [
            item
            for item in psutil.net_connections("tcp")
            if item.status == psutil.CONN_LISTEN and item.laddr and item.laddr.port == port
        ]
        pids = sorted({item.pid for item in listening if item.pid})
        if listening and not pids:
            raise UnreadableError(
                f"the process that listens on port {port} is another user's; run as that user or root"
            )
        if not pids:
            raise UnreadableError(f"no process of this machine listens on port {port}")
        return _living(pids)

    return find


def our_service() -> Find:
    """Return what finds the service that this command has started itself: all its child processes."""

    def find() -> list[psutil.Process]:
        found = psutil.Process().children()
        if not found:
            raise UnreadableError("this command has started no service")
        return found

    return find


def by_name(expression: str, *, started_here: bool = False) -> Find:
    """Return what finds processes by name or command line; this command's own are left out.

    With `started_here` its children are not: they are the service.
    """
    pattern = re.compile(expression)

    def find() -> list[psutil.Process]:
        ourselves = psutil.Process()
        left_out = {os.getpid(), *(item.pid for item in ourselves.parents())}
        if not started_here:
            left_out |= {item.pid for item in ourselves.children(recursive=True)}
        found = []
        for process in psutil.process_iter():
            if process.pid in left_out:
                continue
            with contextlib.suppress(psutil.Error):
                if pattern.search(process.name()) or pattern.search(" ".join(process.cmdline())):
                    found.append(process)
        if not found:
            raise UnreadableError(f"no process of this machine matches {expression!r}")
        return found

    return find


def _living(pids: Iterable[int]) -> list[psutil.Process]:
    found = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            found.append(psutil.Process(pid))
    return found


class ProcessUsage(UsageSource):
    """Measures a set of processes and all their descendants.

    CPU is the CPU time that they used between two readings ÷ time ÷ `cores`; that of children that have ended counts,
    as their parents keep it. Memory is resident memory ÷ `memory_bytes`; what several processes share counts once
    (proportional set size), where the system lets us read it.
    """

    def __init__(self, name: str, find: Find, cores: float, memory_bytes: int, clock: Clock) -> None:
        super().__init__(name)
        self._find, self._cores, self._memory_bytes, self._clock = find, cores, memory_bytes, clock
        self._roots: list[psutil.Process] = []
        self._used: dict[tuple[int, float], float] = {}
        """CPU seconds by process (id, start) when last read, ended children of each included."""
        self._read_ns = 0
        self.cpu_s = 0.0
        """CPU seconds seen so far."""

    async def open(self) -> None:
        """Find the processes and take the CPU time used up to now as the beginning."""
        await asyncio.to_thread(self._open)

    def _open(self) -> None:
        self._roots = self._find()
        self._used = {key: used for key, (used, _) in self._look().items()}
        self._read_ns = self._clock()

    async def read(self) -> list[Reading]:
        """Return CPU since the last reading, and memory; memory alone where the target was started anew since."""
        return await asyncio.to_thread(self._read)

    def _read(self) -> list[Reading]:
        anew = not any(map(_is_alive, self._roots))
        if anew:
            self._roots = self._find()
        found, now_ns = self._look(), self._clock()
        if not found:
            raise UnreadableError("its processes are gone")
        before, since_ns = self._used, self._read_ns
        self._used, self._read_ns = {key: used for key, (used, _) in found.items()}, now_ns
        memory = Reading("target_memory", 100 * sum(size for _, size in found.values()) / self._memory_bytes)
        if anew:
            return [memory]
        roots = {process.pid for process in self._roots}
        # a child that ended is in its parent's account now, with what was counted of it before; a root is in nobody's
        counted = sum(used for key, used in before.items() if key in found or key[0] not in roots)
        cpu_s = max(sum(self._used.values()) - counted, 0.0)
        self.cpu_s += cpu_s
        elapsed_s = max(now_ns - since_ns, 1) / NS_PER_S
        return [Reading("target_cpu", 100 * cpu_s / elapsed_s / self._cores), memory]

    def _look(self) -> dict[tuple[int, float], tuple[float, int]]:
        """Return (CPU seconds, bytes of memory) by process."""
        tree: dict[tuple[int, float], psutil.Process] = {}
        for root in self._roots:
            with contextlib.suppress(psutil.Error):
                for process in (root, *root.children(recursive=True)):
                    tree[process.pid, process.create_time()] = process
        found = {}
        for key, process in tree.items():
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                used = times.user + times.system + times.children_user + times.children_system
                found[key] = (used, _memory_of(process, shared=len(tree) > 1))
        return found


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _memory_of(process: psutil.Process, *, shared: bool) -> int:
    """Return the memory of a process; none of one that has ended and waits for its parent."""
    with contextlib.suppress(psutil.Error):
        if shared:
            with contextlib.suppress(psutil.AccessDenied):
                return int(process.memory_full_info().pss)
        return int(process.memory_info().rss)
    return 0
