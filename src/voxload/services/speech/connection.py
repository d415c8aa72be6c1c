"""WebSockets to the Speech service: handshakes with back-off where it is busy, and whole messages."""

from __future__ import annotations

import asyncio
import json
import secrets
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, cast
from urllib.parse import urlsplit

import picows

from voxload.clock import NS_PER_S
from voxload.model.outcome import Outcome
from voxload.services.base import Operation, OperationFailedError
from voxload.services.speech.client import Counts, Credentials
from voxload.services.speech.options import SpeechOptions
from voxload.speech_protocol import CONNECTION_HEADER, SUBPROTOCOL

MESSAGE_BYTES_MAX = 16 * 1024 * 1024
READ_BUFFER_BYTES = 4096
THROTTLED = frozenset({429})
RETRIED = frozenset({429, 503})
BACK_OFF_MAX_NS = 60 * NS_PER_S
REFUSING_CODES = frozenset({1003, 1007, 1008})
"""Close codes with which a service says that it does not want what it was sent (RFC 6455, 7.4.1)."""
CONFIG = json.dumps({"context": {"system": {"name": "voxload", "lang": "Python"}}}).encode()
"""Body of speech.config: who we are."""
_THROTTLING_WORDS = ("quota", "throttl", "too many", "code 4429")


def new_id() -> str:
    """Return an id as requests and connections have it: 32 hexadecimal digits."""
    return secrets.token_hex(16)


class Handler(Protocol):
    """What a connection is used for at a time."""

    def on_text(self, message: bytes) -> None:
        """A text message has come."""

    def on_binary(self, message: bytes) -> None:
        """A binary message has come."""

    def on_lost(self, failure: OperationFailedError) -> None:
        """The connection is gone."""


class Connection(picows.WSListener):
    """One WebSocket; `handler` gets what comes while it is set."""

    def __init__(self) -> None:
        super().__init__()
        self.handler: Handler | None = None
        self.lost: OperationFailedError | None = None
        """Why it is gone; None while it is there."""
        self.used = False
        self.paused_ns = 0
        """Since when the service takes nothing, if so: set by who sends."""
        self.paused = False
        self._transport: picows.WSTransport | None = None
        self._fragments = bytearray()
        self._fragment_is_text = True

    def send(self, payload: bytes, text: bool = False) -> None:
        """Hand a message to the kernel, or to the buffer behind it."""
        if self._transport is not None:
            self._transport.send(picows.WSMsgType.TEXT if text else picows.WSMsgType.BINARY, payload)

    def close(self) -> None:
        """Say goodbye and leave."""
        self.handler = None
        if self._transport is not None:
            self._transport.send_close(picows.WSCloseCode.OK)
            self._transport.disconnect()

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        """The handshake is done."""
        self._transport = transport

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        """One frame; messages in several frames are put together here."""
        kind = frame.msg_type
        if frame.fin and (kind == picows.WSMsgType.TEXT or kind == picows.WSMsgType.BINARY):  # noqa: PLR1714  # two compares beat a set
            self._deliver(frame.get_payload_as_bytes(), kind == picows.WSMsgType.TEXT)
        elif kind == picows.WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()
        elif kind not in {picows.WSMsgType.PING, picows.WSMsgType.PONG}:
            self._collect(frame)

    def _collect(self, frame: picows.WSFrame) -> None:
        if frame.msg_type != picows.WSMsgType.CONTINUATION:
            self._fragments.clear()
            self._fragment_is_text = frame.msg_type == picows.WSMsgType.TEXT
        self._fragments += frame.get_payload_as_bytes()
        if len(self._fragments) > MESSAGE_BYTES_MAX:
            raise ValueError("a message of more than 16 MiB")  # picows ends the connection
        if frame.fin:
            whole = bytes(self._fragments)
            self._fragments.clear()
            self._deliver(whole, self._fragment_is_text)

    def _deliver(self, message: bytes, text: bool) -> None:
        handler = self.handler
        if handler is not None:
            (handler.on_text if text else handler.on_binary)(message)

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:
        """The socket is gone."""
        self._transport = None
        self.lost = _closing(transport)
        if self.handler is not None:
            self.handler.on_lost(self.lost)

    def pause_writing(self) -> None:
        """The service does not read: what is sent waits in a buffer."""
        self.paused = True

    def resume_writing(self) -> None:
        """The service reads again."""
        self.paused, self.paused_ns = False, 0


def _closing(transport: picows.WSTransport) -> OperationFailedError:
    """Return what the end of a connection means for who still needed it."""
    handshake = transport.close_handshake
    received = handshake.recv if handshake is not None else None
    if received is None:
        return OperationFailedError(Outcome.DROPPED_BY_TARGET, "connection lost")
    code, words = int(cast("int", received.code)), f" ({received.reason})" if received.reason else ""
    reason = f"closed by the service with code {code}{words}"
    refused = code in REFUSING_CODES or is_throttling(reason)
    return OperationFailedError(Outcome.REJECTED if refused else Outcome.DROPPED_BY_TARGET, reason)


def is_throttling(reason: str) -> bool:
    """Return whether the reason with which a service ends something speaks of a limit."""
    return any(word in reason.lower() for word in _THROTTLING_WORDS)


@contextmanager
def counting_limits(operation: Operation, counts: Counts) -> Iterator[None]:
    """Count a request that was let in: whether a limit ended it nevertheless."""
    throttled = False
    try:
        yield
    except OperationFailedError as failed:
        throttled = is_throttling(failed.reason)
        raise
    finally:
        operation.observe("throttled", throttled)
        counts["throttled"] += throttled


class Dialler:
    """Opens connections, and waits where the service asks for it; counts the handshakes that are refused."""

    def __init__(self, options: SpeechOptions, credentials: Credentials, counts: Counts) -> None:
        self._options, self._credentials, self._counts = options, credentials, counts
        self._tls: ssl.SSLContext | None = None

    async def open(self, operation: Operation, url: str, kind: str) -> Connection:
        """Return a connection, after as many retries as the options allow.

        Raises:
            OperationFailedError: there is none to be had.
        """
        back_off_ns = self._options.back_off_ns
        for attempt in range(self._options.retries + 1):
            since_ns = operation.clock()
            try:
                connection = await self._dial(url)
            except picows.WSInvalidStatusError as error:
                status, wait_ns = _answer(error)
                operation.recorder.http_answer(kind, str(status))
                operation.observe("throttled", status in THROTTLED)
                self._counts["throttled"] += status in THROTTLED
                if status not in RETRIED or attempt == self._options.retries:
                    tries = f" after {attempt + 1} tries" if attempt else ""
                    raise OperationFailedError(Outcome.REJECTED, f"handshake answered {status}{tries}") from None
                wait_ns = wait_ns or min(back_off_ns << attempt, BACK_OFF_MAX_NS)
                self._counts["retries"] += 1
                self._counts.back_off_ns += wait_ns
                await asyncio.sleep(wait_ns / NS_PER_S)
            except OperationFailedError:
                operation.recorder.http_answer(kind, "error")
                raise
            else:
                operation.recorder.http_answer(kind, "101")
                operation.latency("speech_connect", since_ns, operation.clock())
                return connection
        raise AssertionError("the last attempt raises or returns")

    async def _dial(self, url: str) -> Connection:
        connection = Connection()
        headers = {
            **await self._credentials.headers(),
            CONNECTION_HEADER: new_id(),
            "Sec-WebSocket-Protocol": SUBPROTOCOL,
        }
        if self._tls is None and urlsplit(url).scheme == "wss":  # it reads all certificates of the system
            self._tls = ssl.create_default_context()
        make: Callable[[], Connection] = lambda: connection  # noqa: E731
        try:
            await picows.ws_connect(
                make,
                url,
                ssl_context=self._tls,
                websocket_handshake_timeout=self._options.connect_timeout_ns / NS_PER_S,
                extra_headers=headers,
                max_frame_size=MESSAGE_BYTES_MAX,
                read_buffer_init_size=READ_BUFFER_BYTES,
                max_redirects=0,
                use_aiofastnet=False,
            )
        except picows.WSInvalidStatusError:
            raise
        except TimeoutError:
            raise OperationFailedError(Outcome.SETUP_TIMEOUT, "no answer in time (connect_timeout)") from None
        except picows.WSError as error:
            raise OperationFailedError(Outcome.PROTOCOL_ERROR, str(error) or type(error).__name__) from None
        except OSError as error:
            raise OperationFailedError(Outcome.CONNECT_FAILED, str(error) or type(error).__name__) from None
        return connection


def _answer(error: picows.WSInvalidStatusError) -> tuple[int, int]:
    """Return (status, how long the service asks to wait in ns, 0 if it does not say)."""
    response = error.response
    if response is None:
        return 0, 0
    try:
        wait_s = float(response.headers.get("Retry-After") or 0)
    except ValueError:
        wait_s = 0.0
    return int(response.status), round(min(max(wait_s, 0.0) * NS_PER_S, BACK_OFF_MAX_NS))
