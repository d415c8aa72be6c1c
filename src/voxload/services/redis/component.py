"""`voxload component redis`: the sessions of concurrent calls, kept in Redis by redis-py."""

from __future__ import annotations

import asyncio
import contextlib
from importlib.metadata import version
from typing import Any, ClassVar

from voxload.errors import BadInputError, Problem, RunAbortedError
from voxload.measure.extra import require
from voxload.model.outcome import Outcome
from voxload.services.base import Component, ComponentRun, Operation, OperationFailedError
from voxload.services.redis.options import Address, RedisOptions, RedisSettings, parse_address
from voxload.services.redis.server import RedisServer, find_program
from voxload.services.settings import ComponentSettings

LOOK_S = 1.0
SCAN_COUNT = 1000
FOREIGN_SHOWN = 3


class RedisComponent(Component[RedisSettings]):
    """Keeps sessions on a server or, where none is named, on a redis-server of its own."""

    name: ClassVar[str] = "redis"
    settings_type: ClassVar[type[ComponentSettings]] = RedisSettings
    target_option: ClassVar[str] = "url"
    headline: ClassVar[tuple[str, ...]] = ("operation_latency", "redis_command")
    lateness_limit_ms: ClassVar[float] = 20.0  # redis-py takes 0.1 ms of the loop for a command

    def __init__(self, settings: RedisSettings, run: ComponentRun) -> None:
        super().__init__(settings, run)
        self._options: RedisOptions = settings.options
        self._prefix = f"{self._options.prefix}{run.run_id}:"
        limit = self._options.connections
        self._slots = asyncio.Semaphore(limit) if limit else None
        self._server: RedisServer | None = None
        self._address: Address | None = parse_address(self._options.url) if self._options.url else None
        self._client: Any = None
        self._watcher: Any = None
        self._watch: Any = None
        self._watching: asyncio.Task[None] | None = None
        self._left_over = 0

    @property
    def target(self) -> str:
        """The address, without its login."""
        return "a redis-server of its own" if not self._options.url else str(parse_address(self._options.url))

    # --- before and after ---

    async def set_up(self) -> None:
        """Start the server if there is to be one, see that it answers, and that nobody else's keys are in the way."""
        require("redis.asyncio", "redis")
        from redis.exceptions import RedisError  # noqa: PLC0415  # the extra redis

        from voxload.services.redis.client import connect, failure  # noqa: PLC0415  # the extra redis
        from voxload.services.redis.watch import Watch  # noqa: PLC0415  # the extra redis

        if self._address is None:
            self._address = await self._start_server()
        self._client = connect(self._address, self._options)
        self._watcher = connect(self._address, self._options)
        self._watch = Watch(self._watcher, self.run.clock, cluster=self._address.kind == "cluster")
        try:
            await self._watch.look()
            foreign = await self._keys(self._options.prefix, FOREIGN_SHOWN)
        except (RedisError, OSError, TimeoutError) as error:
            told = failure(error, "INFO")
            raise RunAbortedError(f"{self._address} cannot be used: {told.reason}") from None
        if foreign:
            shown = ", ".join(sorted(foreign)[:FOREIGN_SHOWN])
            hint = "give another options.prefix, or remove them if an earlier run was killed"
            message = f"{self._address} holds keys under our prefix {self._options.prefix!r}: {shown}"
            raise BadInputError([Problem(message, suggestion=hint)])
        self._watching = asyncio.ensure_future(self._keep_watching())

    async def _start_server(self) -> Address:
        own = self._options.server
        arguments = ["--maxclients", str(own.maxclients), "--maxmemory-policy", own.maxmemory_policy]
        arguments += ["--maxmemory", own.maxmemory] if own.maxmemory else []
        self._server = RedisServer(find_program(own.program), arguments)
        return parse_address(f"redis://127.0.0.1:{await self._server.start()}/0")

    async def tear_down(self) -> None:
        """Remove what is left of our keys, look once more, close."""
        if self._watching is not None:
            self._watching.cancel()
        try:
            if self._watching is not None and not self.died():  # the set-up was complete
                self._left_over = await self._remove_keys()
                await self._watch.look()
        finally:
            for client in (self._client, self._watcher):
                if client is not None:
                    with contextlib.suppress(Exception):
                        await client.aclose()
            if self._server is not None:
                await self._server.stop()

    async def _keep_watching(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            with contextlib.suppress(Exception):  # what is wrong with the server shows in the sessions
                await self._watch.look()

    async def _keys(self, prefix: str, most: int) -> list[str]:
        found: list[str] = []
        async for key in self._watcher.scan_iter(match=f"{prefix}*", count=SCAN_COUNT):
            found.append(key)
            if len(found) >= most:
                break
        return found

    async def _remove_keys(self) -> int:
        count = 0
        async for key in self._watcher.scan_iter(match=f"{self._prefix}*", count=SCAN_COUNT):
            count += int(await self._watcher.delete(key))
        return count

    # --- the sessions ---

    async def operate(self, operation: Operation) -> None:
        """Keep one session, on the shared connections or on one of its own."""
        try:
            if self._options.connect == "session":
                await self._on_its_own_connection(operation)
            else:
                operation.ready_ns = operation.clock()
                await self._keep(operation, self._client)
        except OperationFailedError as failed:
            # a server at its limit may close the connection before its reason is read
            if failed.outcome is Outcome.CONNECT_FAILED and await self._watch.refusals():
                limit = self._watch.last["maxclients"]
                reason = f"{failed.reason}; the server refuses connections: maxclients {limit or ''} is reached"
                raise OperationFailedError(Outcome.REJECTED, reason) from None
            raise

    async def _keep(self, operation: Operation, client: Any) -> None:
        from voxload.services.redis.session import Session  # noqa: PLC0415  # the extra redis

        await Session(operation, client, self._options, self._prefix, self._slots).run()

    async def _on_its_own_connection(self, operation: Operation) -> None:
        client = await self._own_connection(operation)
        try:
            await self._keep(operation, client)
        finally:
            await client.connection.disconnect()
            await client.aclose()

    async def _own_connection(self, operation: Operation) -> Any:
        from redis.exceptions import RedisError  # noqa: PLC0415  # the extra redis

        from voxload.services.redis.client import failure  # noqa: PLC0415  # the extra redis

        client = self._client.client()
        since_ns = operation.clock()
        try:
            await client.initialize()
        except (RedisError, OSError, TimeoutError) as error:
            raise failure(error, "connect") from None
        operation.ready_ns = operation.clock()
        operation.latency("redis_command", since_ns, operation.ready_ns, command="connect", step="connect")
        return client

    def died(self) -> str:
        """Return whether the server of our own has died."""
        return "" if self._server is None or self._server.running else "the redis-server that we started died"

    def facts(self) -> dict[str, str]:
        """Tell what INFO said, and what we had to clean up."""
        facts = {"client": f"redis-py {version('redis')}"}
        if self._watch is not None:
            facts |= self._watch.facts()
        facts["keys left over and removed"] = str(self._left_over)
        return facts
