"""Callbacks: CloudEvents posted to the backend, for each call in order, retried when the backend fails."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import aiohttp

from voxload.clock import NS_PER_S, unix_ns, utc_text
from voxload.model.exchange import ExchangeSettings
from voxload.standins.acs.counters import Counters
from voxload.standins.acs.tokens import TokenIssuer

EVENT_VERSION = "2024-09-15"
FIRST_PAUSE_S = 0.25
ORDER_WAIT_S = 1.0
"""A callback that takes longer does not hold up the next one: a backend may wait in one for another."""
RETRIED = {408, 429, *range(500, 600)}


class Posting(NamedTuple):
    """One callback."""

    url: str
    kind: str
    body: bytes
    headers: Mapping[str, str]


def cloud_event(kind: str, connection_id: str, data: Mapping[str, Any]) -> bytes:
    """Return a callback's body: an array with one CloudEvent."""
    now_ns = unix_ns()
    source = f"calling/callConnections/{connection_id}"
    event = {
        "id": str(uuid.uuid4()),
        "source": source,
        "type": f"Microsoft.Communication.{kind}",
        "data": {"version": EVENT_VERSION, **data},
        "time": f"{utc_text(now_ns // NS_PER_S)}.{now_ns % NS_PER_S // 1000:06d}+00:00",
        "specversion": "1.0",
        "datacontenttype": "application/json",
        "subject": source,
    }
    return json.dumps([event]).encode()


class Postman:
    """Posts callbacks for all calls; what is under way at the end is delivered first."""

    def __init__(
        self, http: aiohttp.ClientSession, settings: ExchangeSettings, tokens: TokenIssuer, counters: Counters
    ) -> None:
        self._http = http
        self._settings = settings
        self._tokens = tokens
        self._counters = counters
        self._timeout = aiohttp.ClientTimeout(total=settings.callback_timeout_ns / NS_PER_S)
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    def spawn(self, work: Any) -> asyncio.Task[None]:
        """Run work in the background until `close`."""
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self, patience_s: float) -> None:
        """Deliver what is under way, for so long; nothing is tried again."""
        self._closing = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while self._tasks:
                    await asyncio.wait(set(self._tasks))
        for task in self._tasks:
            task.cancel()

    async def deliver(self, posting: Posting, complain: Callable[[str, str], None]) -> None:
        """Post one callback, again after a pause while the backend fails; the first failure is told."""
        pause_s = FIRST_PAUSE_S
        for attempt in range(self._settings.callback_retries + 1):
            if attempt:
                if self._closing:
                    break
                self._counters.callbacks["retried"] += 1
                await asyncio.sleep(pause_s)
                pause_s *= 2
            status, failure = await self._post(posting)
            if not failure:
                self._counters.events[posting.kind] += 1
                self._counters.callbacks["delivered"] += 1
                return
            if attempt == 0:
                complain(f"callback {status or 'unreachable'}", f"{posting.kind} to {posting.url}: {failure}")
            if status and status not in RETRIED:
                break
        self._counters.callbacks["lost"] += 1

    async def _post(self, posting: Posting) -> tuple[int, str]:
        """Return the status (0: none) and what is wrong, empty when nothing is."""
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "Authorization": f"Bearer {self._tokens.service_token()}",
            **posting.headers,
        }
        try:
            async with self._http.post(
                posting.url, data=posting.body, headers=headers, timeout=self._timeout, allow_redirects=False
            ) as answer:
                await answer.read()
                return answer.status, "" if answer.status < 300 else f"answered {answer.status}"
        except TimeoutError:
            return 0, f"no answer within {self._settings.callback_timeout_ns / NS_PER_S:g} s"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return 0, str(error) or type(error).__name__


class Outbox:
    """The callbacks of one call, posted one after the other."""

    def __init__(self, postman: Postman, delay_ns: int, complain: Callable[[str, str], None]) -> None:
        self._postman = postman
        self._delay_s = delay_ns / NS_PER_S
        self._complain = complain
        self._waiting: deque[Posting] = deque()
        self._busy = False

    def post(self, posting: Posting) -> None:
        """Post it after those that were handed over before."""
        self._waiting.append(posting)
        if not self._busy:
            self._busy = True
            self._postman.spawn(self._work())

    async def _work(self) -> None:
        try:
            while self._waiting:
                if self._delay_s:
                    await asyncio.sleep(self._delay_s)
                delivery = self._postman.spawn(self._postman.deliver(self._waiting.popleft(), self._complain))
                await asyncio.wait({delivery}, timeout=ORDER_WAIT_S)
        finally:
            self._busy = False
