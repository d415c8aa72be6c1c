"""The call flow of a FastAPI voice backend: start by POST, then JSON audio chunks over `/ws/call/{session_id}`.

Caller: `POST /api/v1/calls/start {"agent_type","caller_number","language"}` answered with `{"session_id",…}`;
WebSocket `/ws/call/{session_id}` with subprotocol `call-protocol`; at the message rate
`{"type":"audio_chunk","data":b64,"timestamp":s}`, after an utterance `{"type":"end_speech"}`.
Agent: `{"type":"transcript","text","is_final"}`, then `{"type":"agent_response","text","audio":b64,"sequence"}` in one
message or many, closed by one with `"final":true`, which may tell `"usage":{"input_tokens","output_tokens"}`. `dtmf`,
`interrupted` and `error` messages are extensions that a backend may ignore.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import quote, unquote, urlsplit

import msgspec
import pybase64
from pydantic import Field, field_validator

from voxload.dialects.base import (
    NO_EVENTS,
    AgentSession,
    AudioForm,
    AudioFormat,
    AudioIn,
    CallDesk,
    CallerSession,
    CallIdentity,
    Dial,
    Dialect,
    DialectOptions,
    Dtmf,
    EndOfSpeech,
    Event,
    HttpRequest,
    HttpResponse,
    Interrupted,
    Malformed,
    Message,
    PeerError,
    ReplyEnded,
    SetupFailed,
    SetupStep,
    SpeechStarted,
    Transcript,
    Unknown,
    Usage,
    refused,
)
from voxload.dialects.splice import PREPARED, UNIX_S, new_splice
from voxload.model.outcome import Outcome

START_PATH = "/api/v1/calls/start"
SOCKET_PREFIX = "/ws/call/"
CALLS_PREFIX = "/api/v1/calls/"
METRICS_SUFFIX = "/metrics"
SUBPROTOCOL = "call-protocol"

_CHUNK_HEAD = b'{"type":"audio_chunk","data":"'
_REPLY_HEAD = b'{"type":"agent_response","audio":"'
_REPLY_FORM = AudioForm((_REPLY_HEAD,))
_JSON_HEADERS = {"content-type": "application/json"}


class RtmedOptions(DialectOptions):
    """Options of the dialect `rtmed`; texts may hold `${variable}`."""

    message_rate: int = Field(10, description="Audio messages a second: 10, or up to 50 as in telephony.")
    agent_type: str = "medical"
    caller_number: str = "${caller_number}"
    language: str = "en-US"

    @field_validator("message_rate")
    @classmethod
    def _whole_milliseconds(cls, value: int) -> int:
        if not 1 <= value <= 50 or 1000 % value:
            raise ValueError("message_rate must be 1 to 50 and divide 1000 (10, 20, 25, 40, 50)")
        return value


class _Message(msgspec.Struct):
    """Any message of either side; fields that a kind does not carry stay empty."""

    type: str = ""
    text: str = ""
    data: str = ""
    audio: str = ""
    is_final: bool = True
    final: bool = False
    intent: str = ""
    digit: str = ""
    code: str | int = ""
    message: str = ""
    speaker: str = "caller"
    usage: Any = None


class _Kind(msgspec.Struct):
    type: str = ""


_decoder = msgspec.json.Decoder(_Message)
_KINDS = frozenset(
    {"audio_chunk", "end_speech", "dtmf", "agent_response", "transcript", "speech_started", "interrupted", "error"}
)


def _fast_audio(payload: bytes, head: bytes) -> bytes | None:
    """Return the audio of a message that starts with `head` without parsing it as JSON; None when it is not plain."""
    end = payload.find(b'"', len(head))
    if end < 0:
        return None
    try:
        return pybase64.b64decode(payload[len(head) : end], validate=True)
    except binascii.Error:
        return None


def _decode(payload: bytes, text: bool) -> _Message | Unknown | Malformed:
    if not text:
        return Unknown("binary")
    try:
        return _decoder.decode(payload)
    except msgspec.ValidationError as error:
        kind = _kind(payload)
        if kind and kind not in _KINDS:
            return Unknown(kind)
        return Malformed(f"not an rtmed message: {error}")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return Malformed(f"not JSON: {error}")


def _kind(payload: bytes) -> str:
    """Return the type of a message whose fields are not those of the protocol; empty when it has none."""
    try:
        return msgspec.json.decode(payload, type=_Kind).type
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""


def _audio(encoded: str) -> AudioIn | Malformed:
    try:
        return AudioIn(pybase64.b64decode(encoded, validate=True))
    except (binascii.Error, ValueError) as error:
        return Malformed(f"audio is not base64: {error}")


class RtmedCaller(CallerSession):
    """The caller's side of one call."""

    splice = new_splice(PREPARED, UNIX_S, b"}")

    def __init__(self, target: str, options: RtmedOptions, identity: CallIdentity) -> None:
        self._target = target
        self._options = options
        self._identity = identity
        self._session_id = ""

    def open(self) -> SetupStep:
        """Start the call over HTTP."""
        options, values = self._options, self._identity.values
        details = {
            "agent_type": values.get("agent_type", options.agent_type),
            "caller_number": values.get("caller_number", options.caller_number),
            "language": values.get("language", options.language),
        }
        return HttpRequest("POST", self._target + START_PATH, _JSON_HEADERS, json.dumps(details).encode())

    def on_response(self, response: HttpResponse) -> SetupStep:
        """Dial the media socket of the session that the target opened."""
        if response.status >= 400:
            return refused(f"POST {START_PATH}", response.status)
        try:
            session_id = json.loads(response.body).get("session_id")
        except (ValueError, AttributeError):
            session_id = None
        if not isinstance(session_id, str) or not session_id:
            return SetupFailed(Outcome.PROTOCOL_ERROR, f"POST {START_PATH} answered without a session_id")
        self._session_id = session_id
        scheme, rest = self._target.split("://", 1)
        socket_scheme = "wss" if scheme == "https" else "ws"
        return Dial(f"{socket_scheme}://{rest}{SOCKET_PREFIX}{quote(session_id, safe='')}", (SUBPROTOCOL,))

    def decode(self, payload: bytes, text: bool) -> Sequence[Event]:
        """Return what the agent says."""
        if payload.startswith(_REPLY_HEAD):
            audio = _fast_audio(payload, _REPLY_HEAD)
            if audio:
                return (AudioIn(audio),)
        message = _decode(payload, text)
        if not isinstance(message, _Message):
            return (message,)
        match message.type:
            case "agent_response":
                return _reply_events(message)
            case "transcript":
                return (Transcript(message.text, "caller", message.is_final, message.intent),)
            case "speech_started":
                return (SpeechStarted(),)
            case "interrupted":
                return (Interrupted(),)
            case "error":
                return (PeerError(str(message.code), message.message),)
            case kind:
                return (Unknown(kind),)

    def end_of_speech(self, unix_ns: int) -> Sequence[Message]:
        """Say that the utterance is over."""
        return (Message(b'{"type":"end_speech"}'),)

    def dtmf(self, digit: str) -> Sequence[Message]:
        """Press a key."""
        return _json_message({"type": "dtmf", "digit": digit})

    @property
    def audio_form(self) -> AudioForm:
        """A chunk of a reply, whatever its number."""
        return _REPLY_FORM

    def template_values(self) -> Mapping[str, str]:
        """Return `session_id`."""
        return {"session_id": self._session_id}


def _reply_events(message: _Message) -> list[Event]:
    events: list[Event] = []
    if message.text:
        events.append(Transcript(message.text, "agent", True, message.intent))
    encoded = message.audio or message.data
    if encoded:
        events.append(_audio(encoded))
    if isinstance(message.usage, dict):
        events.append(Usage(_tokens(message.usage, "input_tokens"), _tokens(message.usage, "output_tokens")))
    if message.final:
        events.append(ReplyEnded())
    return events


def _tokens(usage: Mapping[str, Any], name: str) -> int:
    """Return a count of tokens; 0 where the agent gives none that makes sense."""
    count = usage.get(name)
    return count if isinstance(count, int) and not isinstance(count, bool) and count > 0 else 0


class RtmedAgent(AgentSession):
    """The agent's side of one call."""

    def __init__(self) -> None:
        self._usage: Usage | None = None

    def decode(self, payload: bytes, text: bool) -> Sequence[Event]:
        """Return what the caller says."""
        if payload.startswith(_CHUNK_HEAD):
            audio = _fast_audio(payload, _CHUNK_HEAD)
            if audio:
                return (AudioIn(audio),)
        message = _decode(payload, text)
        if not isinstance(message, _Message):
            return (message,)
        match message.type:
            case "audio_chunk":
                return (_audio(message.data),) if message.data else NO_EVENTS
            case "end_speech":
                return (EndOfSpeech(),)
            case "dtmf":
                return (Dtmf(message.digit),)
            case kind:
                return (Unknown(kind),)

    def stamp(self, prepared: bytes, sequence: int, unix_ns: int) -> bytes:
        """Add the sequence number."""
        return prepared + b"%d}" % sequence

    def transcript(self, transcript: Transcript) -> Sequence[Message]:
        """Say what was understood."""
        fields: dict[str, Any] = {"type": "transcript", "text": transcript.text, "is_final": transcript.final}
        if transcript.intent:
            fields["intent"] = transcript.intent
        return _json_message(fields)

    def reply_started(self, text: str) -> Sequence[Message]:
        """Send the text of the reply ahead of its audio."""
        return _json_message({"type": "agent_response", "text": text})

    def note_usage(self, usage: Usage) -> None:
        """Tell the cost when the reply closes."""
        self._usage = usage

    def reply_ended(self) -> Sequence[Message]:
        """Close the reply."""
        usage, self._usage = self._usage, None
        if usage is None:
            return (Message(b'{"type":"agent_response","final":true}'),)
        tokens = {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}
        fields = {"type": "agent_response", "final": True, "usage": tokens}
        return _json_message(fields)

    def interrupted(self) -> Sequence[Message]:
        """Tell the caller to drop unplayed audio."""
        return (Message(b'{"type":"interrupted"}'),)

    def error(self, error: PeerError) -> Sequence[Message]:
        """Report an error."""
        return _json_message({"type": "error", "code": error.code, "message": error.message})


class RtmedDialect(Dialect):
    """The specification's own API; see the module's text for the messages."""

    name: ClassVar[str] = "rtmed"
    options_type: ClassVar[type[DialectOptions]] = RtmedOptions
    options: RtmedOptions

    def __init__(self, target: str, options: DialectOptions) -> None:
        super().__init__(target, options)

    @property
    def caller_format(self) -> AudioFormat:
        """16 kHz PCM in chunks of one message period."""
        return AudioFormat(16_000, "pcm16", 1000 // self.options.message_rate)

    @property
    def agent_format(self) -> AudioFormat:
        """16 kHz PCM in 20 ms frames."""
        return AudioFormat(16_000, "pcm16", 20)

    def prepare_caller(self, frames: Sequence[bytes]) -> list[bytes]:
        """Encode all but the time stamp."""
        return [_CHUNK_HEAD + pybase64.b64encode(frame) + b'","timestamp":' for frame in frames]

    def caller(self, identity: CallIdentity) -> RtmedCaller:
        """Return the caller's side of a new call."""
        return RtmedCaller(self.target, self.options, identity)

    def prepare_agent(self, frames: Sequence[bytes]) -> list[bytes]:
        """Encode all but the sequence number."""
        return [_REPLY_HEAD + pybase64.b64encode(frame) + b'","sequence":' for frame in frames]

    def agent(self, call_id: str) -> RtmedAgent:
        """Return the agent's side of a call."""
        return RtmedAgent()

    def socket_call_id(self, path: str, headers: Mapping[str, str]) -> str | None:
        """Return the session id in `/ws/call/{session_id}`."""
        clean = urlsplit(path).path
        return unquote(clean[len(SOCKET_PREFIX) :]) or None if clean.startswith(SOCKET_PREFIX) else None

    def subprotocol(self) -> str:
        """Return `call-protocol`."""
        return SUBPROTOCOL

    def answer(self, request: HttpRequest, desk: CallDesk) -> HttpResponse | None:
        """Serve `POST /api/v1/calls/start` and `GET /api/v1/calls/{id}/metrics`."""
        path = urlsplit(request.url).path
        if path == START_PATH:
            return _start(request, desk)
        if path.startswith(CALLS_PREFIX) and path.endswith(METRICS_SUFFIX):
            call_id = unquote(path[len(CALLS_PREFIX) : -len(METRICS_SUFFIX)])
            metrics = desk.call_metrics(call_id)
            if metrics is None:
                return _json_response(404, {"error": f"no call {call_id!r}"})
            return _json_response(200, metrics)
        return None


def _start(request: HttpRequest, desk: CallDesk) -> HttpResponse:
    if request.method != "POST":
        return _json_response(405, {"error": "use POST"})
    try:
        details = json.loads(request.body)
    except ValueError:
        return _json_response(400, {"error": "the body is not JSON"})
    if not isinstance(details, dict):
        return _json_response(422, {"error": "the body is not an object"})
    admitted = desk.admit(details)
    if isinstance(admitted, HttpResponse):
        return admitted
    return _json_response(200, {"session_id": admitted, "status": "started"})


def _json_response(status: int, body: Mapping[str, Any]) -> HttpResponse:
    return HttpResponse(status, _JSON_HEADERS, json.dumps(body).encode())


def _json_message(fields: Mapping[str, Any]) -> Sequence[Message]:
    return (Message(json.dumps(fields).encode()),)
