"""Reads every source at its interval while a run goes on, and puts the values on the run's time axis."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import psutil

from voxload.clock import NS_PER_S, monotonic_ns, unix_ns
from voxload.errors import BadInputError, Problem, RunAbortedError
from voxload.measure.collector import Collector
from voxload.model.usage import ResourceSource
from voxload.runners.usage.azure_monitor import AzureMonitorSource
from voxload.runners.usage.processes import ProcessUsage, by_name, by_pid, by_port, our_service
from voxload.runners.usage.source import Reading, UnreadableError, UsageSource

COVERED_MIN = 0.8
"""A source that answered less often than this share says too little of the run to judge it."""
LOCAL_HOSTS = {"localhost", "127.0.0.1", "::1"}


class UsageSampler:
    """Samples `sources` into `collector`; `start_ns()` returns the run's first instant, 0 before it."""

    def __init__(self, sources: Sequence[UsageSource], collector: Collector, start_ns: Callable[[], int]) -> None:
        self._sources, self._collector, self._start_ns = sources, collector, start_ns
        self._due: Counter[str] = Counter()
        self._got: Counter[str] = Counter()
        self._trouble: dict[str, str] = {}
        self._over = False
        self.doubts: list[str] = []
        """Why the figures say too little; known when sampling is over."""

    @asynccontextmanager
    async def sampling(self, opened: bool = False) -> AsyncIterator[None]:
        """Sample while the block runs; `opened`: the block itself calls `open`, before the run's first instant.

        Raises (on entering):
            RunAbortedError: a source cannot be read at all; every one that cannot is named.
        """
        try:
            if not opened:
                await self.open()
            tasks = [asyncio.ensure_future(self._keep_reading(source)) for source in self._sources]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                await self._finish()
        finally:
            for source in self._sources:
                with contextlib.suppress(Exception):
                    await source.close()

    async def open(self) -> None:
        """See that every source can be read.

        Raises:
            RunAbortedError: one cannot; every one is named.
        """
        wrong = []
        for source in self._sources:
            try:
                await source.open()
            except UnreadableError as error:
                wrong.append(f"resources: {source.name}: {error}")
        if wrong:
            raise RunAbortedError("\n".join(wrong))

    def end(self) -> None:
        """Read nothing more: what is measured may go away from now on."""
        self._over = True

    async def _keep_reading(self, source: UsageSource) -> None:
        due_ns = 0
        while True:
            if not self._start_ns():
                await asyncio.sleep(0.05)
                continue
            due_ns = (due_ns or max(self._start_ns(), monotonic_ns())) + source.interval_ns
            await asyncio.sleep(max(due_ns - monotonic_ns(), 0) / NS_PER_S)
            if self._over:
                return
            due_ns = max(due_ns, monotonic_ns() - source.interval_ns)  # what was missed is not made up for in a burst
            await self._read(source)

    async def _read(self, source: UsageSource) -> None:
        self._due[source.name] += 1
        try:
            readings = await source.read()
        except UnreadableError as error:
            at_s = max(monotonic_ns() - self._start_ns(), 0) / NS_PER_S
            self._trouble.setdefault(source.name, f"{error} ({at_s:.0f} s into the run)")
            return
        self._got[source.name] += 1
        self._keep(source, readings)

    def _keep(self, source: UsageSource, readings: Sequence[Reading]) -> None:
        now_ns, now_unix_ns = monotonic_ns(), unix_ns()
        for reading in readings:
            at_ns = now_ns if reading.unix_ns is None else now_ns - (now_unix_ns - reading.unix_ns)
            labels = {"resource": source.name, **({"part": reading.part} if reading.part else {})}
            elapsed_ns = max(at_ns - self._start_ns(), 0)
            self._collector.observe_at(reading.metric, tuple(sorted(labels.items())), reading.percent, elapsed_ns)

    async def _finish(self) -> None:
        start_ns = self._start_ns()
        if not start_ns:
            return
        end_unix_ns = unix_ns()
        start_unix_ns = end_unix_ns - max(monotonic_ns() - start_ns, 0)
        for source in self._sources:
            try:
                self._keep(source, await source.last(start_unix_ns, end_unix_ns))
            except UnreadableError as error:
                self._trouble.setdefault(source.name, str(error))
        for name, due in self._due.items():
            got = self._got[name]
            if got < COVERED_MIN * due:
                self.doubts.append(f"resources: {name} was read {got} of {due} times: {self._trouble.get(name, '')}")


def build_sources(
    settings: Sequence[ResourceSource], target: str, environ: Mapping[str, str], *, started_here: bool = False
) -> list[UsageSource]:
    """Return the sources; `target` is the base URL that `port: target` means.

    With `started_here` the target is a child of this process, once it is started.

    Raises:
        BadInputError: a token is missing, or the target is on another machine; every problem is listed.
    """
    problems: list[Problem] = []
    found: list[UsageSource] = []
    names = Counter(item.label for item in settings)
    problems += [Problem(f"resources: two are named {name!r}") for name, count in names.items() if count > 1]
    for item in settings:
        if item.prometheus is not None:
            token = environ.get(item.prometheus.token_env, "") if item.prometheus.token_env else ""
            if item.prometheus.token_env and not token:
                message = f"resources: {item.label}: the environment variable {item.prometheus.token_env} is not set"
                problems.append(Problem(message))
            from voxload.runners.usage.prometheus import PrometheusSource  # noqa: PLC0415  # aiohttp, which few runs need

            found.append(PrometheusSource(item.label, item.prometheus, token))
        elif item.azure_monitor is not None:
            found.append(AzureMonitorSource(item.label, item.azure_monitor, unix_ns))
        else:
            source = _process_source(item, target, problems, started_here=started_here)
            if source is not None:
                found.append(source)
    if problems:
        raise BadInputError(problems)
    return found


def _process_source(
    item: ResourceSource, target: str, problems: list[Problem], *, started_here: bool
) -> UsageSource | None:
    if item.pid is not None:
        find = by_pid(item.pid)
    elif item.process is not None:
        find = by_name(item.process, started_here=started_here)
    elif item.port == "target" and started_here:
        find = our_service()
    else:
        port = item.port
        if port == "target":
            parts = urlsplit(target)
            if parts.hostname not in LOCAL_HOSTS:
                hint = "use prometheus or azure_monitor"
                where = f", not {parts.hostname}" if parts.hostname else " whose address is given"
                message = f"resources: {item.label}: port: target is for a target on this machine{where}"
                problems.append(Problem(message, suggestion=hint))
                return None
            port = parts.port or (443 if parts.scheme in {"https", "wss", "rediss"} else 80)
        assert isinstance(port, int)
        find = by_port(port)
    cores = item.cores or float(psutil.cpu_count() or 1)
    memory_bytes = item.memory or psutil.virtual_memory().total
    return ProcessUsage(item.label, find, cores, memory_bytes, monotonic_ns)
