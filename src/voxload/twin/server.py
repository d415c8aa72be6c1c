"""The twin as a server: HTTP and WebSockets on one port, one timing wheel, one event loop."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import logging
import socket
import ssl
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

import picows
from aiohttp import web
from multidict import CIMultiDict
from picows import WSCloseCode, WSFrame, WSMsgType, WSTransport, WSUpgradeRequest, WSUpgradeResponse

from voxload.clock import NS_PER_S, Clock, monotonic_ns, sleep_s, unix_ns
from voxload.dialects.base import AgentSession, Dialect, HttpRequest, HttpResponse
from voxload.front import MESSAGE_BYTES_MAX, Front
from voxload.model.twin import TwinSettings
from voxload.serving import BACKLOG, watch_files
from voxload.timer import WheelTimer
from voxload.twin.agent import Agent, Close
from voxload.twin.desk import Desk, Repertoire
from voxload.twin.follow_ups import FollowUps
from voxload.twin.record import CallRecord
from voxload.twin.speaking import Send
from voxload.wheel import Wheel

BODY_BYTES_MAX = 1024 * 1024
BACKLOG_BYTES_MAX = 8 * 1024 * 1024
"""What a caller may leave unread before its connection is cut."""
STOP_S = 2.0
_PROMETHEUS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_log = logging.getLogger("voxload.twin")


MakeAgent = Callable[[Desk, CallRecord, AgentSession, Send, Close], Agent]
"""Returns the brain of a new call."""


class CallSocket(picows.WSListener):
    """The media socket of one call: messages in, messages out, nothing else."""

    def __init__(self, server: TwinServer) -> None:
        super().__init__()
        self._server = server
        self._clock = server.clock
        self._transport: WSTransport | None = None
        self._fragments = bytearray()
        self._fragment_is_text = True
        self.agent: Agent | None = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        """The handshake is done."""
        self._transport = transport
        transport.underlying_transport.set_write_buffer_limits(high=BACKLOG_BYTES_MAX)
        self._server.sockets.add(self)
        if self.agent is not None:
            self.agent.on_connected(self._clock())

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """A frame has arrived."""
        kind = frame.msg_type
        if kind == WSMsgType.TEXT or kind == WSMsgType.BINARY:  # noqa: PLR1714  # no tuple on the hot path
            if frame.fin and self.agent is not None:
                self.agent.on_message(frame.get_payload_as_bytes(), kind == WSMsgType.TEXT, self._clock())
                return
            self._fragments = bytearray(frame.get_payload_as_memoryview())
            self._fragment_is_text = kind == WSMsgType.TEXT
        elif kind == WSMsgType.CONTINUATION:
            self._continue(transport, frame)
        elif kind == WSMsgType.CLOSE:
            code = frame.get_close_code()
            transport.send_close(WSCloseCode.OK if code == WSCloseCode.NO_INFO else code)
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """The connection is gone."""
        self._server.sockets.discard(self)
        if self.agent is not None:
            handshake = transport.close_handshake
            self.agent.on_closed("completed" if handshake is not None and handshake.recv is not None else "lost")
        self.agent = self._transport = None

    def pause_writing(self) -> None:
        """The caller does not read: cut it off before it costs more memory."""
        _log.warning("a caller left %d bytes unread; its connection is cut", BACKLOG_BYTES_MAX)
        if self._transport is not None:
            self._transport.disconnect(graceful=False)

    def resume_writing(self) -> None:
        """Nothing to do: there was no pause but the end."""

    def send(self, payload: bytes, text: bool) -> None:
        """Send one message; the agent's way out."""
        if self._transport is not None:
            self._transport.send(WSMsgType.TEXT if text else WSMsgType.BINARY, payload)

    def close(self, code: int) -> None:
        """Send a close frame and end the connection once it is out; the agent's way to hang up."""
        if self._transport is not None:
            self._transport.send_close(WSCloseCode(code))
            self._transport.disconnect()

    def _continue(self, transport: WSTransport, frame: WSFrame) -> None:
        if len(self._fragments) + frame.payload_size > MESSAGE_BYTES_MAX:
            transport.send_close(WSCloseCode.MESSAGE_TOO_BIG)
            transport.disconnect()
            return
        self._fragments += frame.get_payload_as_memoryview()
        if frame.fin and self.agent is not None:
            payload, self._fragments = bytes(self._fragments), bytearray()
            self.agent.on_message(payload, self._fragment_is_text, self._clock())


class TwinServer:
    """Serves one dialect's agent. Create it inside the running loop, `start`, and `stop`."""

    def __init__(
        self,
        settings: TwinSettings,
        dialect: Dialect,
        repertoire: Repertoire,
        clock: Clock = monotonic_ns,
        make_agent: MakeAgent = Agent,
    ) -> None:
        self.clock = clock
        self.dialect = dialect
        self._make_agent = make_agent
        wheel = Wheel(clock())
        self.desk = Desk(settings, dialect, repertoire, wheel, clock, unix_ns() - clock(), _stand_still)
        self.sockets: set[CallSocket] = set()
        self._loop = asyncio.get_running_loop()
        self._timer = WheelTimer.on_loop(wheel, clock, self._loop)
        self._web = web.Server(self._serve_http, access_log=None)
        self._fronts: dict[web.RequestHandler, Front] = {}
        self._follow_ups = FollowUps()
        self._server: asyncio.Server | None = None

    async def start(self, listener: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        """Serve on a socket that `listen` has opened, over TLS if told so."""
        files = watch_files()
        self._server = await self._loop.create_server(
            lambda: Front(self._web, self._fronts, self._open_socket, files.opened),
            sock=listener,
            backlog=BACKLOG,
            ssl=tls,
        )
        self._timer.start()

    async def stop(self) -> None:
        """Close all sockets (WebSocket code 1001), then the port."""
        if self._server is not None:
            self._server.close()
        for opened in list(self.sockets):
            if opened.agent is not None:
                opened.agent.hang_up("stopped", WSCloseCode.GOING_AWAY.value)
        for _ in range(int(STOP_S * 100)):
            if not self.sockets:
                break
            await asyncio.sleep(0.01)
        await self._web.shutdown(0.1)
        await self._follow_ups.close()
        self._timer.stop()

    # --- WebSockets ---

    def _open_socket(self, request: WSUpgradeRequest) -> Any:
        """Answer a WebSocket handshake."""
        headers = _lower(request.headers)
        if not _is_handshake(headers):  # picows finds out only after the call has been let in
            return _refuse(_json(HTTPStatus.BAD_REQUEST, {"error": "not a WebSocket handshake (RFC 6455, 4.2.1)"}))
        call_id = self.dialect.socket_call_id(request.path.decode("latin-1"), headers)
        if call_id is None:
            return _refuse(_json(HTTPStatus.NOT_FOUND, {"error": "no WebSocket here"}))
        record = self.desk.connect(call_id)
        if isinstance(record, HttpResponse):
            return _refuse(record)
        opened = CallSocket(self)
        opened.agent = self._make_agent(self.desk, record, self.dialect.agent(call_id), opened.send, opened.close)
        offered = [name.strip() for name in headers.get("sec-websocket-protocol", "").split(",")]
        spoken = self.dialect.subprotocol()
        extra = {"Sec-WebSocket-Protocol": spoken} if spoken and spoken in offered else None
        response = WSUpgradeResponse.create_101_response(extra)
        return picows.WSUpgradeResponseWithListener(response, opened)

    # --- HTTP ---

    async def _serve_http(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            body = await request.read() if request.body_exists else b""
            answer = self.dialect.answer(
                HttpRequest(request.method, request.raw_path, _lower(request.headers), body), self.desk
            ) or self._answer(request)
            self._follow_ups.send(answer.follow_ups)
            return web.Response(status=answer.status, body=answer.body, headers=CIMultiDict(answer.headers))
        finally:
            front = self._fronts.get(request.protocol)
            if front is not None:
                front.busy = False

    def _answer(self, request: web.BaseRequest) -> HttpResponse:
        """Answer the twin's own routes."""
        if request.path == "/health" and request.method in {"GET", "HEAD"}:
            return _json(HTTPStatus.OK, self.health())
        if request.path == "/metrics" and request.method == "GET":
            return HttpResponse(200, {"content-type": _PROMETHEUS_TYPE}, self.desk.meters.expose())
        return _json(HTTPStatus.NOT_FOUND, {"error": f"no {request.method} {request.path} here"})

    def health(self) -> dict[str, Any]:
        """Return what `GET /health` says."""
        return {
            "status": "healthy",
            "active_calls": self.desk.active_calls,
            "sessions": self.desk.connections.in_use,
            "sessions_max": self.desk.connections.limit,
            "uptime_s": round((self.clock() - self.desk.origin_ns) / NS_PER_S, 3),
            "dialect": self.dialect.name,
        }


def _is_handshake(headers: Mapping[str, str]) -> bool:
    try:
        key = base64.b64decode(headers.get("sec-websocket-key", ""), validate=True)
    except (binascii.Error, ValueError):
        return False
    return len(key) == 16 and headers.get("sec-websocket-version") in {"13", "8", "7"} and "connection" in headers


def _stand_still(for_ns: int) -> None:
    """Block the whole process, as a long garbage collection or a frozen host would."""
    sleep_s(for_ns / NS_PER_S)


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _json(status: int, body: Mapping[str, Any]) -> HttpResponse:
    return HttpResponse(status, {"content-type": "application/json"}, json.dumps(body).encode())


def _refuse(answer: HttpResponse) -> Any:
    response = WSUpgradeResponse.create_error_response(answer.status, answer.body, CIMultiDict(answer.headers))
    return picows.WSUpgradeResponseWithListener(response, None)
