"""The WebSockets of the stand-in for the Speech service: messages put together, and recognitions on one connection."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, cast

import msgspec
import picows
from picows import WSCloseCode, WSFrame, WSMsgType, WSTransport

from voxload.clock import Clock
from voxload.front import MESSAGE_BYTES_MAX
from voxload.quotas import ConcurrencyLimit
from voxload.speech_protocol import (
    AUDIO,
    SPEECH_CONTEXT,
    SpeechMessage,
    SpeechProtocolError,
    read_binary,
    read_text,
    text_message,
)
from voxload.standins.log import RequestLog
from voxload.standins.speech.access import BAD_MESSAGE_CODE, THROTTLED, THROTTLED_CODE, TOO_BIG_CODE
from voxload.standins.speech.recognition import Recognition, Studio
from voxload.standins.speech.wishes import Options, UnsupportedAudioError, options_of

REASON_BYTES_MAX = 123
UNREAD_BYTES_MAX = 8 * 1024 * 1024
"""What a client may leave unread before its connection is cut."""


class SpeechSocket(picows.WSListener):
    """One connection: whole messages in, messages and a reason to close out."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self._transport: WSTransport | None = None
        self._fragments = bytearray()
        self._fragment_is_text = True

    @abstractmethod
    def on_message(self, message: SpeechMessage, now_ns: int) -> None:
        """Take a message of the client's."""

    @abstractmethod
    def on_gone(self) -> None:
        """The connection is gone."""

    def send_text(self, path: str, request_id: str, body: bytes) -> None:
        """Send a text message."""
        if self._transport is not None:
            self._transport.send(WSMsgType.TEXT, text_message(path, request_id, body))

    def send_binary(self, message: bytes) -> None:
        """Send a binary message."""
        if self._transport is not None:
            self._transport.send(WSMsgType.BINARY, message)

    def refuse(self, code: int, reason: str) -> None:
        """Close with a code and a reason."""
        if self._transport is not None:
            self._transport.send_close(cast(WSCloseCode, code), reason.encode()[:REASON_BYTES_MAX])
            self._transport.disconnect()

    def cut(self) -> None:
        """Lose the connection."""
        if self._transport is not None:
            self._transport.disconnect(graceful=False)

    # --- what picows reports ---

    def on_ws_connected(self, transport: WSTransport) -> None:
        """The handshake is done."""
        self._transport = transport
        transport.underlying_transport.set_write_buffer_limits(high=UNREAD_BYTES_MAX)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """A frame has arrived."""
        kind = frame.msg_type
        if kind == WSMsgType.TEXT or kind == WSMsgType.BINARY:  # noqa: PLR1714  # no tuple on the hot path
            if frame.fin:
                self._read(frame.get_payload_as_bytes(), kind == WSMsgType.TEXT)
                return
            self._fragments = bytearray(frame.get_payload_as_memoryview())
            self._fragment_is_text = kind == WSMsgType.TEXT
        elif kind == WSMsgType.CONTINUATION:
            self._fragments += frame.get_payload_as_memoryview()
            if len(self._fragments) > MESSAGE_BYTES_MAX:
                self.refuse(TOO_BIG_CODE, "a message that is too long")
            elif frame.fin:
                whole, self._fragments = bytes(self._fragments), bytearray()
                self._read(whole, self._fragment_is_text)
        elif kind == WSMsgType.CLOSE:
            code = frame.get_close_code()
            transport.send_close(WSCloseCode.OK if code == WSCloseCode.NO_INFO else code)
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:  # noqa: ARG002  # picows' signature
        """The connection is gone."""
        self._transport = None
        self.on_gone()

    def pause_writing(self) -> None:
        """The client does not read: cut it off before it costs more memory."""
        self.cut()

    def resume_writing(self) -> None:
        """Nothing to do: there was no pause but the end."""

    def _read(self, payload: bytes, text: bool) -> None:
        try:
            message = read_text(payload) if text else read_binary(payload)
        except SpeechProtocolError as error:
            self.refuse(BAD_MESSAGE_CODE, str(error))
            return
        self.on_message(message, self._clock())


class RecognitionSocket(SpeechSocket):
    """A connection on which recognitions follow each other; `mode` and `query` are those of its address."""

    def __init__(
        self,
        studio: Studio,
        limit: ConcurrencyLimit,
        log: RequestLog,
        clock: Clock,
        route: str,
        mode: str,
        query: dict[str, str],
    ) -> None:
        super().__init__(clock)
        self._studio, self._limit, self._log = studio, limit, log
        self._route, self._mode, self._query = route, mode, query
        self._request_id = ""
        self._since_ns = 0
        self._turn: Recognition | None = None

    def on_message(self, message: SpeechMessage, now_ns: int) -> None:
        """Take context and audio; what else clients tell (speech.config, telemetry) changes nothing."""
        if message.path == AUDIO:
            if message.request_id != self._request_id:
                self._start(message.request_id, options_of(None, self._mode, self._query), now_ns)
            if self._turn is not None:
                try:
                    self._turn.hear(message.body, now_ns)
                except UnsupportedAudioError as error:
                    self._finish(400)
                    self.refuse(BAD_MESSAGE_CODE, f"Unsupported audio format: {error}")
        elif message.path == SPEECH_CONTEXT:
            try:
                context: Any = msgspec.json.decode(message.body or b"{}")
            except msgspec.DecodeError:
                self.refuse(BAD_MESSAGE_CODE, "speech.context is no JSON")
                return
            self._start(message.request_id, options_of(context, self._mode, self._query), now_ns)

    def on_gone(self) -> None:
        """The connection is gone, and with it the recognition."""
        self._finish(499)

    def _start(self, request_id: str, options: Options, now_ns: int) -> None:
        self._finish(499)
        self._request_id, self._since_ns = request_id, now_ns
        if not self._limit.acquire():
            self._log.note("TURN", self._route, self._route, 429, now_ns)
            self.refuse(THROTTLED_CODE, THROTTLED)
            return
        self._turn = Recognition(self._studio, options, self._sender(request_id), self._on_over)

    def _sender(self, request_id: str) -> Callable[[str, bytes], None]:
        return lambda path, body: self.send_text(path, request_id, body)

    def _on_over(self, complete: bool) -> None:
        self._finish(200 if complete else 500)
        if not complete:
            self.cut()

    def _finish(self, status: int) -> None:
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.stop()
            self._limit.release()
            self._log.note("TURN", self._route, self._route, status, self._since_ns, phrases=turn.phrases)
