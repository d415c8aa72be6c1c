"""Our webhook: shakes hands as Event Grid asks, wants its key, and hands every event on."""

from __future__ import annotations

import hmac
import secrets
from collections import Counter
from collections.abc import Callable

import msgspec
from aiohttp import web

from voxload.errors import BadInputError, Problem

BODY_BYTES_MAX = 16 * 1024 * 1024
PATH = "/events"


class _Event(msgspec.Struct):
    """What we read of an event in either schema."""

    id: str = ""
    eventType: str = ""  # noqa: N815  # the schema's name
    data: msgspec.Raw = msgspec.Raw(b"null")


class _Validation(msgspec.Struct):
    validationCode: str = ""  # noqa: N815  # the schema's name


class Webhook:
    """Listens for deliveries; `arrive(event_id)` is called for each event."""

    def __init__(self, arrive: Callable[[str], None], key: str = "") -> None:
        self._arrive = arrive
        self.key = key or secrets.token_urlsafe(16)
        self.counts: Counter[str] = Counter()
        """deliveries, handshakes, wrong key, malformed."""
        self._runner: web.AppRunner | None = None
        self.url = ""
        """Address with the key, once open."""

    async def open(self, host: str, port: int) -> None:
        """Listen.

        Raises:
            BadInputError: the address cannot be had.
        """
        application = web.Application(client_max_size=BODY_BYTES_MAX)
        application.router.add_post(PATH, self._take)
        application.router.add_route("OPTIONS", PATH, self._allow)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port, backlog=1024).start()
        except OSError as error:
            raise BadInputError([Problem(f"options.listen: {host}:{port} cannot be had: {error}")]) from None
        address = self._runner.addresses[0]
        self.url = f"http://{host}:{address[1]}{PATH}?code={self.key}"

    async def close(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    def _is_known(self, request: web.Request) -> bool:
        known = hmac.compare_digest(request.query.get("code", ""), self.key)
        self.counts["wrong key"] += not known
        return known

    async def _allow(self, request: web.Request) -> web.Response:
        """Answer the handshake of the CloudEvents schema."""
        if not self._is_known(request):
            return web.Response(status=401)
        self.counts["handshakes"] += 1
        origin = request.headers.get("WebHook-Request-Origin", "")
        return web.Response(headers={"WebHook-Allowed-Origin": origin, "WebHook-Allowed-Rate": "*"})

    async def _take(self, request: web.Request) -> web.Response:
        if not self._is_known(request):
            return web.Response(status=401)
        body = await request.read()
        try:
            events = [_ONE.decode(body)] if body.lstrip()[:1] == b"{" else _MANY.decode(body)
        except msgspec.DecodeError:
            self.counts["malformed"] += 1
            return web.Response(status=400)
        if request.headers.get("aeg-event-type") == "SubscriptionValidation" and events:
            self.counts["handshakes"] += 1
            code = msgspec.json.decode(events[0].data, type=_Validation).validationCode
            return web.json_response({"validationResponse": code})
        self.counts["deliveries"] += 1
        for event in events:
            self._arrive(event.id)
        return web.Response()


_ONE = msgspec.json.Decoder(_Event)
_MANY = msgspec.json.Decoder(list[_Event])
