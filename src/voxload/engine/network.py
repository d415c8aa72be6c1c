"""What the connections of a shard's calls share: HTTP clients, time-outs, the exchange, who reads the sockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

from voxload.clock import Clock
from voxload.dialects.base import Dialect
from voxload.engine.reach import Web, open_web
from voxload.engine.receiver import Receiver, open_receiver
from voxload.engine.trunk import Trunk
from voxload.load.workload import Workload
from voxload.model.scenario import Timeouts


@dataclass(slots=True)
class Network:
    """What all lines of a shard share: the HTTP clients, the headers of every request, the time-outs."""

    web: Web
    clock: Clock
    timeouts: Timeouts
    headers: Mapping[str, str]
    trunk: Trunk | None = None
    receiver: Receiver | None = None
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def spawn(self, work: asyncio.Task[None]) -> None:
        """Keep a task alive until it is done."""
        self.tasks.add(work)
        work.add_done_callback(self.tasks.discard)

    def hang_up(self) -> None:
        """Let go of the exchange and give up requests that are still on their way."""
        if self.trunk is not None:
            self.trunk.close()
        for task in list(self.tasks):
            task.cancel()


@contextlib.asynccontextmanager
async def open_network(
    workload: Workload, dialect: Dialect, clock: Clock, broken: Callable[[str], None]
) -> AsyncIterator[Network]:
    """Open what the lines of a process share; `broken(reason)` is called once if the exchange is lost.

    Raises:
        RunAbortedError: the exchange cannot be reached.
    """
    async with open_web(workload) as web:
        trunk: Trunk | None = None
        dial = dialect.trunk()
        if dial is not None:
            trunk = Trunk(dialect, clock, broken, web.tls_for(dial.url))
            await trunk.open(dial)
        with open_receiver() as receiver:
            yield Network(web, clock, workload.scenario.timeouts, workload.headers(), trunk, receiver)
