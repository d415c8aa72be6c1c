"""The life of one session in Redis, as a voice agent keeps it: created, written at every turn, read, deleted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from redis.exceptions import RedisError

from voxload.clock import NS_PER_S
from voxload.model.outcome import Outcome
from voxload.services.base import Operation, OperationFailedError
from voxload.services.redis.client import AnyRedis, failure
from voxload.services.redis.options import RedisOptions

CLEAN_UP_S = 3.0

_Call = tuple[str, tuple[str, ...], dict[str, Any]]
"""A command to come: method of the client, positional and named arguments."""


class Session:
    """One session on its way through `client`; `slots` bounds the commands in flight, where they are bounded."""

    def __init__(
        self,
        operation: Operation,
        client: AnyRedis,
        options: RedisOptions,
        prefix: str,
        slots: asyncio.Semaphore | None,
    ) -> None:
        self._operation, self._client, self._options, self._slots = operation, client, options, slots
        # the braces keep both keys on one node of a cluster
        self._key = f"{prefix}session:{{{operation.operation_id}}}"
        self._conversation_key = f"{self._key}:conversation"
        self._session = {
            "call_id": operation.operation_id,
            "participant_count": "2",
            "conversation_history": "[]",
            "metadata": json.dumps({"created_at": operation.due_ns / NS_PER_S}),
        }
        self._updates = [
            {
                f"message_{number}": f"User message {number}".ljust(options.message_bytes, "."),
                f"response_{number}": f"Agent response {number}".ljust(options.message_bytes, "."),
            }
            for number in range(options.messages)
        ]

    async def run(self) -> None:
        """Create, update, read and check, delete; deletes its keys whatever happens.

        Raises:
            OperationFailedError: a step fails, or what is read is not what was written.
        """
        deleted = False
        try:
            await self._create()
            await self._update()
            self._check(*await self._read())
            await self._delete()
            deleted = True
        finally:
            if not deleted:
                await self._clean_up()

    async def _create(self) -> None:
        await self._do("create", "hset", partial(self._client.hset, self._key, mapping=self._session))

    async def _update(self) -> None:
        options = self._options
        if options.pipeline and self._updates:
            await self._pause()
            calls: list[_Call] = [("hset", (self._conversation_key,), {"mapping": update}) for update in self._updates]
            await self._do("update", "pipeline", partial(self._pipelined, calls))
            return
        for update in self._updates:
            await self._pause()
            await self._do("update", "hset", partial(self._client.hset, self._conversation_key, mapping=update))

    async def _read(self) -> tuple[dict[str, str], dict[str, str]]:
        keys = (self._key, self._conversation_key)
        if self._options.pipeline:
            calls: list[_Call] = [("hgetall", (key,), {}) for key in keys]
            both = await self._do("read", "pipeline", partial(self._pipelined, calls))
            return both[0], both[1]
        first, second = [await self._do("read", "hgetall", partial(self._client.hgetall, key)) for key in keys]
        return first, second

    async def _delete(self) -> None:
        keys = (self._key, self._conversation_key)
        if self._options.pipeline:
            calls: list[_Call] = [("delete", (key,), {}) for key in keys]
            await self._do("delete", "pipeline", partial(self._pipelined, calls))
            return
        for key in keys:
            await self._do("delete", "del", partial(self._client.delete, key))

    def _check(self, session: dict[str, str], conversation: dict[str, str]) -> None:
        wanted = {name: text for update in self._updates for name, text in update.items()}
        for what, found, written in (("session", session, self._session), ("conversation", conversation, wanted)):
            if found != written:
                there = sum(found.get(name) == text for name, text in written.items())
                reason = f"read: of the {len(written)} fields of the {what} {there} are as they were written"
                raise OperationFailedError(Outcome.STEP_FAILED, f"{reason} (evicted or lost?)")

    # --- how a step is done ---

    async def _pause(self) -> None:
        if self._options.pause_ns:
            await asyncio.sleep(self._options.pause_ns / NS_PER_S)

    async def _pipelined(self, calls: list[_Call]) -> Any:
        async with self._client.pipeline(transaction=False) as pipeline:
            for name, arguments, named in calls:
                getattr(pipeline, name)(*arguments, **named)
            return await pipeline.execute()

    async def _do(self, step: str, command: str, call: Callable[[], Awaitable[Any]]) -> Any:
        """Send a command and record how long it took, the wait for a connection included."""
        operation = self._operation
        since_ns = operation.clock()
        try:
            if self._slots is None:
                answer = await call()
            else:
                async with self._slots:
                    answer = await call()
        except (RedisError, OSError, TimeoutError) as error:
            raise failure(error, step) from None
        operation.latency("redis_command", since_ns, operation.clock(), command=command, step=step)
        return answer

    async def _clean_up(self) -> None:
        """Remove the keys of a session that did not come to its end; what cannot be removed now is later."""
        try:
            async with asyncio.timeout(CLEAN_UP_S):
                await self._client.delete(self._key)
                await self._client.delete(self._conversation_key)
        except (RedisError, OSError, TimeoutError):
            pass
