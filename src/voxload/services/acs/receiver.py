"""Our side of the service's callbacks: a webhook for CloudEvents, and a socket for the audio of calls."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from typing import Any, NamedTuple

import msgspec
from aiohttp import WSMsgType, web

from voxload.clock import Clock
from voxload.errors import BadInputError, Problem

EVENT_PREFIX = "Microsoft.Communication."
BODY_BYTES_MAX = 1024 * 1024
FIRST_AUDIO = "FirstAudio"
"""Stands among the events of a call for the first packet on its media socket."""


class CallEvent(NamedTuple):
    """Something that the service has said of a call."""

    kind: str
    """Without its prefix: `CallConnected`."""
    data: dict[str, Any]
    at_ns: int


class CallEvents:
    """What has been said of one call so far; the first event of each kind counts."""

    def __init__(self) -> None:
        self._seen: dict[str, CallEvent] = {}
        self._news: asyncio.Future[None] | None = None
        self.audio_packets = 0

    def take(self, event: CallEvent) -> bool:
        """Keep an event; returns whether it is the first of its kind."""
        if event.kind in self._seen:
            return False
        self._seen[event.kind] = event
        if self._news is not None and not self._news.done():
            self._news.set_result(None)
        return True

    def get(self, kind: str) -> CallEvent | None:
        """Return the first event of a kind, if there was one."""
        return self._seen.get(kind)

    @property
    def connection_id(self) -> str:
        """The call connection id, as the events name it; empty before the first."""
        return next((str(e.data["callConnectionId"]) for e in self._seen.values() if "callConnectionId" in e.data), "")

    async def first(self, *kinds: str, within_ns: int) -> CallEvent:
        """Wait for an event of one of these kinds; of several that have come, the one named first.

        Raises:
            TimeoutError: none has come in time.
        """
        async with asyncio.timeout(within_ns / 1e9):
            while True:
                for kind in kinds:
                    if kind in self._seen:
                        return self._seen[kind]
                self._news = asyncio.get_running_loop().create_future()
                await self._news


class Receiver:
    """Takes what the service sends; every call has its own address, which nobody can guess."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._secret = secrets.token_urlsafe(12)
        self._calls: dict[str, CallEvents] = {}
        self._runner: web.AppRunner | None = None
        self.base_url = ""
        self.counts: Counter[str] = Counter()
        """`callbacks`, `duplicate`, `no such call`, `malformed`, `audio packets`."""

    async def open(self, host: str, port: int, public_url: str) -> None:
        """Listen.

        Raises:
            BadInputError: the address cannot be listened on.
        """
        app = web.Application(client_max_size=BODY_BYTES_MAX)
        app.router.add_post("/{secret}/callbacks/{call}", self._on_callback)
        app.router.add_get("/{secret}/media/{call}", self._on_media)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port, backlog=1024).start()
        except OSError as error:
            problem = Problem(f"options.listen: {host}:{port} cannot be listened on: {error.strerror}")
            raise BadInputError([problem]) from None
        bound = self._runner.addresses[0]
        self.base_url = public_url or f"http://{host}:{bound[1]}"

    async def close(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    def expect(self, call: str) -> CallEvents:
        """Begin to take what is said of a call."""
        events = self._calls[call] = CallEvents()
        return events

    def forget(self, call: str) -> None:
        """The call is over."""
        self._calls.pop(call, None)

    def callback_url(self, call: str) -> str:
        """Return where the service is to post the events of a call."""
        return f"{self.base_url}/{self._secret}/callbacks/{call}"

    def media_url(self, call: str) -> str:
        """Return the socket that the service is to dial for the audio of a call."""
        scheme, _, rest = self.base_url.partition("://")
        return f"{'wss' if scheme == 'https' else 'ws'}://{rest}/{self._secret}/media/{call}"

    def _find(self, request: web.Request) -> CallEvents | None:
        if not secrets.compare_digest(request.match_info["secret"].encode(), self._secret.encode()):
            return None
        return self._calls.get(request.match_info["call"])

    async def _on_callback(self, request: web.Request) -> web.Response:
        body = await request.read()
        now_ns, events = self._clock(), self._find(request)
        try:
            items = msgspec.json.decode(body, type=list[dict[str, Any]])
            told = [
                CallEvent(str(item["type"]).removeprefix(EVENT_PREFIX), dict(item.get("data") or {}), now_ns)
                for item in items
            ]
        except (msgspec.MsgspecError, KeyError, TypeError, ValueError):
            self.counts["malformed"] += 1
            return web.Response(status=400)
        self.counts["callbacks"] += len(told)
        if events is None:
            self.counts["no such call"] += len(told)
            return web.Response(status=404)
        for event in told:
            if not events.take(event) and event.kind not in {"ParticipantsUpdated", "MediaStreamingStateChanged"}:
                self.counts["duplicate"] += 1
        return web.Response()

    async def _on_media(self, request: web.Request) -> web.StreamResponse:
        events = self._find(request)
        if events is None:
            return web.Response(status=404)
        socket = web.WebSocketResponse(autoping=True, compress=False, max_msg_size=BODY_BYTES_MAX)
        await socket.prepare(request)
        async for message in socket:
            if message.type is not WSMsgType.TEXT or '"audiodata"' not in message.data[:40].lower():
                continue
            if not events.audio_packets:
                events.take(CallEvent(FIRST_AUDIO, {}, self._clock()))
            events.audio_packets += 1
            self.counts["audio packets"] += 1
        return socket
