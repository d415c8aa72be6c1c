"""Requests that the agent makes by itself once it has answered one, such as taking the call that it was told of."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

import aiohttp

from voxload.dialects.base import HttpRequest

TIMEOUT_S = 10.0
_log = logging.getLogger("voxload.twin")


class FollowUps:
    """Sends requests in the background; one that fails is logged, its call will be missed by the caller."""

    def __init__(self) -> None:
        self._http: aiohttp.ClientSession | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def send(self, requests: Iterable[HttpRequest]) -> None:
        """Send them, one after the other."""
        ordered = list(requests)
        if ordered:
            task = asyncio.get_running_loop().create_task(self._send(ordered))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Give up what is still on its way."""
        for task in self._tasks:
            task.cancel()
        if self._http is not None:
            await self._http.close()

    async def _send(self, requests: list[HttpRequest]) -> None:
        if self._http is None:
            timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
            self._http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout)
        for request in requests:
            try:
                async with self._http.request(
                    request.method, request.url, headers=request.headers, data=request.body or None
                ) as answer:
                    body = await answer.read()
            except (TimeoutError, aiohttp.ClientError, OSError) as error:
                _log.warning("%s %s: %s", request.method, request.url, str(error) or type(error).__name__)
                return
            if answer.status >= 400:
                _log.warning("%s %s answered %d: %r", request.method, request.url, answer.status, body[:200])
                return
