"""One port for HTTP and WebSockets: looks at each request's head and hands the connection to aiohttp or to picows."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from typing import Any, cast

from aiohttp import web
from picows import WSAutoPingStrategy, WSListener, WSUpgradeRequest, WSUpgradeResponseWithListener
from picows.picows import WSProtocol  # type: ignore[attr-defined]  # not in picows' stubs; ws_create_server builds it so

HEAD_BYTES_MAX = 16 * 1024
HANDSHAKE_S = 10.0
MESSAGE_BYTES_MAX = 4 * 1024 * 1024
READ_BUFFER_BYTES = 4096
"""A socket's first read buffer; small, because there may be 10,000 of them (picows doubles it where needed)."""

OpenSocket = Callable[[WSUpgradeRequest], WSListener | WSUpgradeResponseWithListener | None]

_UPGRADE = re.compile(rb"^upgrade:[ \t]*websocket[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_CONNECTION = re.compile(rb"^connection:[^\r\n]*\bupgrade\b[^\r\n]*", re.IGNORECASE | re.MULTILINE)
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_log = logging.getLogger("voxload.front")


class Front(asyncio.Protocol):
    """The first reader of a connection.

    The head of a request decides: `Upgrade: websocket` gives the connection to picows for good; anything else goes to
    an aiohttp handler, and this object stays in between, because clients also open WebSockets on connections that they
    have used for HTTP. It looks again only when no request is being answered, so a body is never taken for a head.
    `opened` hears the number of the connection's file.
    """

    __slots__ = ("_buffer", "_fronts", "_http", "_open_socket", "_opened", "_timeout", "_transport", "_web", "busy")

    def __init__(
        self,
        web_server: web.Server,
        fronts: dict[web.RequestHandler, Front],
        open_socket: OpenSocket,
        opened: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._opened = opened
        self._web = web_server
        self._fronts = fronts
        self._open_socket = open_socket
        self._transport: asyncio.Transport | None = None
        self._http: web.RequestHandler | None = None
        self._timeout: asyncio.TimerHandle | None = None
        self._buffer = b""
        self.busy = False
        """A request is with the HTTP handler."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to wait for a request."""
        self._transport = transport = cast(asyncio.Transport, transport)
        self._opened(transport.get_extra_info("socket").fileno())
        self._timeout = asyncio.get_running_loop().call_later(HANDSHAKE_S, transport.abort)

    def data_received(self, data: bytes) -> None:
        """Find out whom the bytes are for."""
        transport = self._transport
        if transport is None:
            return
        if self.busy and self._http is not None:
            self._http.data_received(data)
            return
        data = self._buffer + data
        end = data.find(b"\r\n\r\n")
        if end < 0 and len(data) <= HEAD_BYTES_MAX:
            self._buffer = data
            return
        self._buffer = b""
        if end < 0:
            transport.write(_TOO_LARGE)
            transport.close()
        elif _UPGRADE.search(data, 0, end + 2):
            self._to_websocket(transport, data, end)
        else:
            self._to_http(transport, data)

    def eof_received(self) -> bool | None:
        """The client sends no more."""
        if self._http is not None:
            self._http.eof_received()
        return None

    def pause_writing(self) -> None:
        """Slow the HTTP handler down."""
        if self._http is not None:
            self._http.pause_writing()

    def resume_writing(self) -> None:
        """Let the HTTP handler go on."""
        if self._http is not None:
            self._http.resume_writing()

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection is gone."""
        self._cancel_timeout()
        self._leave_http(exc)
        self._transport = None

    def _to_http(self, transport: asyncio.Transport, data: bytes) -> None:
        self._cancel_timeout()
        if self._http is None:
            self._http = self._web()
            self._fronts[self._http] = self
            self._http.connection_made(transport)
        self.busy = True
        self._http.data_received(data)

    def _to_websocket(self, transport: asyncio.Transport, data: bytes, end: int) -> None:
        self._cancel_timeout()
        self._leave_http(None)
        # picows takes only the bare value; browsers send "keep-alive, Upgrade"
        head = _CONNECTION.sub(b"Connection: Upgrade", data[:end])
        protocol = _websocket_protocol(self._open_socket)
        transport.pause_reading()  # the loop chooses between its two ways of reading when reading starts
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        rest = memoryview(head + data[end:])
        while rest and not transport.is_closing():
            buffer = protocol.get_buffer(-1)
            size = min(len(buffer), len(rest))
            buffer[:size] = rest[:size]
            protocol.buffer_updated(size)
            rest = rest[size:]
        if not transport.is_closing():
            transport.resume_reading()

    def _leave_http(self, exc: BaseException | None) -> None:
        if self._http is not None:
            self._fronts.pop(self._http, None)
            self._http.connection_lost(exc)
            self._http = None

    def _cancel_timeout(self) -> None:
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None


def _websocket_protocol(open_socket: OpenSocket) -> Any:
    """Return the protocol that `picows.ws_create_server` would make for a connection."""
    return WSProtocol(
        None,
        None,
        False,  # is_client_side
        open_socket,
        _log,
        True,  # disconnect_on_exception
        HANDSHAKE_S,
        False,  # enable_auto_ping
        20,
        20,
        WSAutoPingStrategy.PING_WHEN_IDLE,
        True,  # enable_auto_pong
        MESSAGE_BYTES_MAX,
        None,  # extra_headers
        READ_BUFFER_BYTES,
    )
