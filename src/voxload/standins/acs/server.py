"""The exchange as a server: the REST API, tokens and keys, the trunk of the callers, counters."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import msgspec
from aiohttp import web
from multidict import CIMultiDict

from voxload.certificates import ensure_certificates, server_tls
from voxload.dialects.acs_trunk import TRUNK_PATH
from voxload.process import freeze_garbage
from voxload.serving import BACKLOG, listen, stop_signal
from voxload.standins.acs.callee import Visitor
from voxload.standins.acs.exchange import Exchange
from voxload.standins.acs.identifiers import raw_id_of_number
from voxload.standins.acs.job import ExchangeJob
from voxload.standins.acs.rest import ROOT, Api
from voxload.standins.acs.tokens import IDENTITY_AUDIENCES, IDENTITY_PATH, ISSUER, KEYS_PATH, OPENID_PATH
from voxload.standins.acs.trunk import TrunkEnd
from voxload.standins.log import COUNTERS_PATH

RING_PATH = "/voxload/ring"
BODY_BYTES_MAX = 1024 * 1024
FLUSH_S = 3.0
"""How long callbacks that are under way may take when the exchange is stopped."""


class RingOnce(msgspec.Struct, rename={"caller": "from", "callee": "to"}):
    """The body of `POST /voxload/ring`."""

    webhook: str = ""
    caller: str = "+15550100001"
    callee: str = "+18005550100"
    seconds: float = 5.0


class Served(NamedTuple):
    """Where an exchange is."""

    url: str
    """Plain http, for callers and tools on this machine."""
    endpoint: str
    """What the backend takes for the endpoint of its Azure resource."""
    authority: str
    """File of the certificate authority to trust; empty without TLS."""
    identity_header: str
    """The secret of the managed identity's endpoint."""


class Site:
    """The routes."""

    def __init__(self, exchange: Exchange, shown_url: str, webhook: str = "") -> None:
        self._exchange = exchange
        self._api = Api(exchange)
        self._url = shown_url
        self._webhook = webhook

    def app(self) -> web.Application:
        """Return the application."""
        app = web.Application(client_max_size=BODY_BYTES_MAX)
        app.router.add_get(KEYS_PATH, self._keys)
        app.router.add_get(OPENID_PATH, self._openid)
        app.router.add_get(IDENTITY_PATH, self._identity)
        app.router.add_get(TRUNK_PATH, self._trunk)
        app.router.add_get(COUNTERS_PATH, self._counters)
        app.router.add_post(RING_PATH, self._ring)
        app.router.add_get("/health", self._health)
        app.router.add_route("*", ROOT + "{rest:.*}", self._rest)
        return app

    async def _rest(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        reply = await self._api.answer(request.method, request.raw_path, headers, await request.read())
        extra: CIMultiDict[str] = CIMultiDict(reply.headers)
        for name in ("x-ms-client-request-id", "repeatability-request-id"):
            if name in headers:
                extra[name] = headers[name]
        if reply.body is None:
            return web.Response(status=reply.status, headers=extra)
        return web.json_response(reply.body, status=reply.status, headers=extra)

    async def _keys(self, request: web.Request) -> web.Response:  # noqa: ARG002  # aiohttp's signature, here and below
        return web.json_response(self._exchange.tokens.key_set())

    async def _openid(self, request: web.Request) -> web.Response:  # noqa: ARG002
        return web.json_response({"issuer": ISSUER, "jwks_uri": self._url + KEYS_PATH})

    async def _identity(self, request: web.Request) -> web.Response:
        if request.headers.get("X-IDENTITY-HEADER") != self._exchange.tokens.identity_header:
            return web.json_response({"error": "invalid_request", "message": "wrong X-IDENTITY-HEADER"}, status=401)
        resource = request.query.get("resource", "")
        if resource not in IDENTITY_AUDIENCES:
            return web.json_response({"error": "invalid_resource", "message": f"no resource {resource!r}"}, status=400)
        return web.json_response(self._exchange.tokens.identity_token(resource))

    async def _trunk(self, request: web.Request) -> web.StreamResponse:
        return await TrunkEnd(self._exchange).serve(request)

    async def _counters(self, request: web.Request) -> web.Response:  # noqa: ARG002
        return web.json_response(self._exchange.as_data())

    async def _ring(self, request: web.Request) -> web.StreamResponse:
        """Ring a webhook once; each step is a line of JSON, the last one holds the outcome."""
        try:
            wish = msgspec.json.decode(await request.read(), type=RingOnce)
        except msgspec.MsgspecError as error:
            return web.json_response({"error": str(error)}, status=400)
        webhook = wish.webhook or self._webhook
        if not webhook:
            return web.json_response({"error": "no webhook: name one, or give the exchange its own"}, status=400)
        steps: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        visitor = Visitor(self._exchange, wish.seconds, steps.put_nowait)
        visitor.ring(webhook, raw_id_of_number(wish.caller), raw_id_of_number(wish.callee))
        answer = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await answer.prepare(request)
        try:
            step: dict[str, Any] = {}
            while "outcome" not in step:
                step = await steps.get()
                await answer.write(json.dumps(step).encode() + b"\n")
        finally:
            visitor.hang_up()
        return answer

    async def _health(self, request: web.Request) -> web.Response:  # noqa: ARG002
        return web.json_response({"status": "healthy", "active_calls": self._exchange.active_calls})


async def serve(job: ExchangeJob, announce: Callable[[Served], None], parent: bool) -> None:
    """Serve until it is told to stop; `announce` is called once the exchange listens.

    Raises:
        RunAbortedError: the address cannot be listened on, or the certificates cannot be made.
    """
    settings = job.settings
    listener, endpoint = listen(job.host, job.port, "the exchange")
    url, certificates, tls = endpoint, None, None
    listeners: list[tuple[socket.socket, ssl.SSLContext | None]] = []
    if settings.tls:
        certificates = ensure_certificates(Path(settings.certificates), job.host)
        tls = server_tls(certificates)
        endpoint = endpoint.replace("http://", "https://", 1)
        inner, url = listen("127.0.0.1", 0, "the exchange")
        listeners.append((inner, None))
    listeners.append((listener, tls))
    connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=300)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as http:
        exchange = Exchange(settings, http)
        runner = web.AppRunner(Site(exchange, endpoint, job.webhook).app(), access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        for opened, context in listeners:
            await web.SockSite(runner, opened, ssl_context=context, backlog=BACKLOG).start()
        stopping = await stop_signal(parent)
        freeze_garbage()
        authority = str(certificates.authority.resolve()) if certificates else ""
        announce(Served(url, endpoint, authority, exchange.tokens.identity_header))
        await stopping.wait()
        await exchange.close(FLUSH_S)
        await runner.cleanup()
