"""The call's connection: HTTP for the set-up, picows on uvloop for the media socket."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine, Sequence
from typing import cast
from urllib.parse import urlsplit

import aiohttp
import aiohttp_socks
import picows
from python_socks import ProxyConnectionError, ProxyError

from voxload.clock import monotonic_ns
from voxload.dialects.base import Dial, HttpRequest, HttpResponse, Signal
from voxload.engine.call import Call
from voxload.engine.mouth import FrameMouth, Mouth, SocketMouth
from voxload.engine.network import Network
from voxload.engine.proxies import proxy_for
from voxload.engine.reach import tls_words
from voxload.engine.receiver import READ_BUFFER_BYTES, Reading
from voxload.engine.sources import NO_PORT_LEFT
from voxload.errors import RunAbortedError
from voxload.inlet import plain_audio_first
from voxload.model.outcome import Outcome
from voxload.process import NO_FILE_LEFT

MESSAGE_BYTES_MAX = 16 * 1024 * 1024
ORDERLY_CLOSE_CODES = {1000, 1001, 1005}
"""Close codes with which a peer ends a call that is simply over."""
PROTOCOL_CLOSE_CODES = {1002, 1003, 1007, 1009}
"""Close codes that say that one side broke the WebSocket protocol (RFC 6455, 7.4.1)."""


_TEXT, _BINARY = picows.WSMsgType.TEXT, picows.WSMsgType.BINARY
_make_frame = getattr(picows.picows, "_make_test_ws_frame", None)
_FRAMES = tuple(
    (_make_frame(kind, payload, fin, False), payload, kind is _TEXT, fin)
    for kind, payload, fin in ((_TEXT, b"text", True), (_BINARY, b"a part", False))
    if _make_frame is not None
)
PROXY_ERRORS = (
    ProxyError,
    ProxyConnectionError,
    aiohttp_socks.ProxyError,
    aiohttp_socks.ProxyConnectionError,
    aiohttp.ClientHttpProxyError,
    aiohttp.ClientProxyConnectionError,
)


class SocketLine(picows.WSListener):
    """The connection of one call over real sockets; see `voxload.engine.context.Line`."""

    def __init__(self, call: Call, network: Network) -> None:
        super().__init__()
        self._call = call
        self._network = network
        self._clock = network.clock
        self.inlet = call.inlet if network.clock is monotonic_ns else None
        """What takes plain audio before `on_ws_frame` does, by the machine's own clock."""
        self._transport: picows.WSTransport | None = None
        # None: the socket is not open, or the target does not read
        self._write: Callable[[picows.WSMsgType, bytes], None] | None = None
        self._mouth: SocketMouth | None = None  # writes the audio to the socket by itself
        self._reading: Reading | None = None  # reads the socket without the event loop
        self._fragments = bytearray()
        self._fragment_is_text = True
        self._task: asyncio.Task[None] | None = None
        self._proxied = self._gone = False

    # --- set-up ---

    def request(self, request: HttpRequest) -> None:
        """Send a set-up request in a task of its own."""
        self._run(self._request(request))

    def dial(self, dial: Dial) -> None:
        """Open the media socket in a task of its own."""
        self._run(self._dial(dial))

    def _run(self, work: Coroutine[None, None, None]) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._task = task
        self._network.spawn(task)

    async def _request(self, request: HttpRequest) -> None:
        try:
            response = await self._fetch(request)
        except Exception as error:  # noqa: BLE001  # whatever the client raises ends this one call
            outcome, reason = classify(error)
            self._call.on_failed(outcome, f"{request.method} {urlsplit(request.url).path}: {reason}", self._clock())
            return
        self._guard(lambda: self._call.on_response(response, self._clock()))

    async def _fetch(self, request: HttpRequest) -> HttpResponse:
        headers = {**self._network.headers, **request.headers}
        async with self._network.web.request(
            request.method, request.url, self._call.spec.index, headers=headers, data=request.body or None
        ) as answer:
            body = await answer.read()
            return HttpResponse(answer.status, {k.lower(): v for k, v in answer.headers.items()}, body)

    async def _dial(self, dial: Dial) -> None:
        headers = {**self._network.headers, **dial.headers}
        if dial.subprotocols:
            headers["Sec-WebSocket-Protocol"] = ", ".join(dial.subprotocols)
        try:
            proxy = proxy_for(dial.url)
            self._proxied = proxy is not None
            await picows.ws_connect(
                lambda: self,
                dial.url,
                ssl_context=self._network.web.tls_for(dial.url),
                proxy=proxy,
                socket_factory=self._network.web.socket_factory(self._call.spec.index),
                websocket_handshake_timeout=self._network.timeouts.setup_ns / 1e9,
                extra_headers=headers,
                max_frame_size=MESSAGE_BYTES_MAX,
                read_buffer_init_size=READ_BUFFER_BYTES,
                max_redirects=0,
                use_aiofastnet=False,
            )
        except Exception as error:  # noqa: BLE001  # as above
            outcome, reason = classify(error)
            self._call.on_failed(outcome, f"opening the media socket: {reason}", self._clock())

    # --- traffic ---

    def send(self, payload: bytes, text: bool) -> bool:
        """Hand a message to the kernel; see `Line.send`."""
        write = self._write
        if write is None:
            return False
        write(_TEXT if text else _BINARY, payload)
        if self._mouth is not None:
            self._settle()
        return True

    def lend(self, mouth: FrameMouth) -> None:
        """Let the mouth write to the socket itself, unless it is written in Python, or the socket encrypts."""
        transport = self._transport
        if transport is None or isinstance(mouth, Mouth):
            return
        if transport.underlying_transport.get_extra_info("ssl_object") is None:
            self._mouth = cast("SocketMouth", mouth)
            self._settle()

    def _settle(self) -> None:
        """Give the socket to the mouth when the loop holds no older bytes; else they leave first, and it waits."""
        mouth, transport = self._mouth, self._transport
        if mouth is None or transport is None:
            return
        below = transport.underlying_transport
        if below.get_write_buffer_size():
            mouth.detach()
        elif not mouth.attached:
            mouth.attach(below.get_extra_info("socket").fileno(), below.write)

    def _take_back(self) -> None:
        """Let nobody else use a socket that is closing, whose number another one may get."""
        if self._mouth is not None:
            self._mouth.detach()
            self._mouth = None
        if self._reading is not None:
            reading, self._reading = self._reading, None
            reading.end()

    def ping(self, payload: bytes) -> None:
        """Send a ping."""
        if self._mouth is not None and self._mouth.ping(payload):
            return
        if self._transport is not None and self._write is not None:
            self._transport.send_ping(payload)
            if self._mouth is not None:
                self._settle()

    def side_request(self, request: HttpRequest, answered: Callable[[str, int], None]) -> None:
        """Send a request beside the call."""

        async def fetch() -> None:
            try:
                status = str((await self._fetch(request)).status)
            except (TimeoutError, aiohttp.ClientError, OSError, ProxyError, RunAbortedError):
                status = "error"
            answered(status, self._clock())

        self._network.spawn(asyncio.get_running_loop().create_task(fetch()))

    def signal(self, payload: bytes) -> None:
        """Send a message on the trunk."""
        if self._network.trunk is not None:
            self._network.trunk.send(self._call, payload)

    def release(self, signals: Sequence[Signal]) -> None:
        """Send the last signals and take no more."""
        trunk = self._network.trunk
        if trunk is not None:
            for signal in signals:
                trunk.send(self._call, signal.payload)
            trunk.forget(self._call)

    def close(self) -> None:
        """Start the closing handshake."""
        self._take_back()
        if self._transport is not None:
            self._transport.send_close(picows.WSCloseCode.OK)
        else:
            self.abort()

    def abort(self) -> None:
        """Drop the connection, or give up the set-up."""
        self._gone = True
        self._take_back()
        if self._transport is not None:
            self._transport.disconnect(graceful=False)
        elif self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    # --- what picows reports ---

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        """The handshake is done."""
        if self._gone:
            transport.disconnect(graceful=False)
            return
        self._transport, self._write = transport, transport.send
        receiver, inlet = self._network.receiver, self.inlet
        if receiver is not None and inlet is not None and not transport.is_secure and not self._proxied:
            self._reading = Reading(receiver, inlet, transport, self._on_pong)
            asyncio.get_running_loop().call_soon(self._reading.begin)  # picows has seen what came with the answer then
        self._guard(lambda: self._call.on_connected(self._clock()))

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        """One frame; messages in several frames are put together here."""
        kind = frame.msg_type
        if (kind is _TEXT or kind is _BINARY) and frame.fin:
            try:  # as `_deliver`, without the call
                self._call.on_message(frame.get_payload_as_bytes(), kind is _TEXT, self._clock())
            except Exception as error:  # noqa: BLE001  # a defect of ours must not take the other calls down
                self._call.on_failed(Outcome.INTERNAL_ERROR, repr(error), self._clock())
        elif kind == picows.WSMsgType.PONG:
            self._on_pong(frame.get_payload_as_bytes(), self._clock())
        elif kind == picows.WSMsgType.CLOSE:
            self._take_back()
            transport.send_close(frame.get_close_code())
            transport.disconnect()
        elif kind != picows.WSMsgType.PING:
            self._collect(frame)
        elif self._mouth is not None:  # picows has sent the pong, or kept it
            self._settle()

    on_ws_frame = plain_audio_first(on_ws_frame, *_FRAMES)

    def _collect(self, frame: picows.WSFrame) -> None:
        if frame.msg_type != picows.WSMsgType.CONTINUATION:
            self._fragments.clear()
            self._fragment_is_text = frame.msg_type == picows.WSMsgType.TEXT
        self._fragments += frame.get_payload_as_bytes()
        if len(self._fragments) > MESSAGE_BYTES_MAX:
            self._call.on_closed(Outcome.PROTOCOL_ERROR, "a message of more than 16 MiB", self._clock())
        elif frame.fin:
            whole = bytes(self._fragments)
            self._fragments.clear()
            self._deliver(whole, self._fragment_is_text)

    def _deliver(self, payload: bytes, text: bool) -> None:
        try:
            self._call.on_message(payload, text, self._clock())
        except Exception as error:  # noqa: BLE001  # a defect of ours must not take the other calls down
            self._call.on_failed(Outcome.INTERNAL_ERROR, repr(error), self._clock())

    def _on_pong(self, payload: bytes, now_ns: int) -> None:
        try:
            self._call.on_pong(payload, now_ns)
        except Exception as error:  # noqa: BLE001  # as above
            self._call.on_failed(Outcome.INTERNAL_ERROR, repr(error), now_ns)

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001  # as above
            self._call.on_failed(Outcome.INTERNAL_ERROR, repr(error), self._clock())

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:
        """The socket is gone."""
        outcome, reason = _closing(transport)
        handshake = transport.close_handshake
        orderly = handshake is not None and handshake.recv is not None and _code(handshake.recv) in ORDERLY_CLOSE_CODES
        self._take_back()
        self._transport = self._write = None
        self._guard(lambda: self._call.on_closed(outcome, reason, self._clock(), orderly))

    def pause_writing(self) -> None:
        """The target does not read: real-time audio is dropped rather than queued."""
        self._write = None

    def resume_writing(self) -> None:
        """The target reads again."""
        if self._transport is not None:
            self._write = self._transport.send


def _closing(transport: picows.WSTransport) -> tuple[Outcome, str]:
    """Return what the end of a socket means for a call that was still up."""
    handshake = transport.close_handshake
    sent, received = (handshake.sent, handshake.recv) if handshake is not None else (None, None)
    if sent is not None and _code(sent) in PROTOCOL_CLOSE_CODES and not (received and handshake.recv_then_sent):
        return Outcome.PROTOCOL_ERROR, f"WebSocket protocol broken: {sent.reason or _code(sent)}"
    if received is not None:
        detail = f" ({received.reason})" if received.reason else ""
        return Outcome.DROPPED_BY_TARGET, f"closed by the target with code {_code(received)}{detail}"
    return Outcome.DROPPED_BY_TARGET, "connection lost"


def _code(info: picows.picows.WSCloseInfo) -> int:
    """Return the close code as a number (picows' enum is an int, though its stub does not say so)."""
    return cast("int", info.code)


def classify(error: BaseException) -> tuple[Outcome, str]:
    """Return the outcome of a call whose set-up raised `error`, and the reason in a few words."""
    match error:
        case OSError(errno=number) if number in NO_PORT_LEFT:
            return Outcome.SHED, "no local port is left towards the target: more source addresses (source_addresses)"
        case OSError(errno=number) if number in NO_FILE_LEFT:
            return Outcome.SHED, "no more files can be opened here: raise the limit (ulimit -n)"
        case picows.WSInvalidStatusError():
            status = error.response.status if error.response is not None else "?"
            return Outcome.REJECTED, f"handshake answered {status}"
        case TimeoutError():
            return Outcome.SETUP_TIMEOUT, "no answer in time"
        case _ if isinstance(error, PROXY_ERRORS):
            return Outcome.CONNECT_FAILED, f"the proxy of the environment: {_words(error)}"
        case RunAbortedError():
            return Outcome.CONNECT_FAILED, _words(error)
        case aiohttp.ClientConnectorError() | ssl.SSLError() | ConnectionRefusedError():
            return Outcome.CONNECT_FAILED, tls_words(error) or _words(error)
        case aiohttp.ServerDisconnectedError() | ConnectionResetError() | aiohttp.ClientOSError():
            return Outcome.CONNECT_FAILED, _words(error)
        case aiohttp.ClientError() | picows.WSError():
            return Outcome.PROTOCOL_ERROR, _words(error)
        case OSError():
            return Outcome.CONNECT_FAILED, _words(error)
        case _:
            return Outcome.INTERNAL_ERROR, repr(error)


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__
