"""OpenAI's Realtime API over a WebSocket, in the names of the GA and the beta version, at OpenAI and at Azure.

Caller: `session.update`, then `input_audio_buffer.append` at the frame rate, silence too; turns are found by the
server, or told by `input_audio_buffer.commit` and `response.create`; when the agent is interrupted, the audio that was
not played is dropped and `conversation.item.truncate` says how much was heard.
Agent: see `openai_realtime_agent`. Audio is PCM at 24 kHz or µ-law at 8 kHz, in base64, both ways.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal
from urllib.parse import quote, urlsplit

import msgspec
import pybase64
from pydantic import Field, field_validator, model_validator

from voxload.dialects.base import (
    NO_EVENTS,
    AudioFormat,
    AudioIn,
    CallerSession,
    CallIdentity,
    Dial,
    Dialect,
    DialectOptions,
    Ended,
    Event,
    Interrupted,
    Malformed,
    Message,
    PeerError,
    Ready,
    ReplyEnded,
    Respond,
    SetupStep,
    SpeechStarted,
    Stage,
    Transcript,
    Unknown,
)
from voxload.dialects.openai_realtime_agent import FRAME_MS, OpenaiRealtimeAgent
from voxload.dialects.openai_realtime_events import (
    ErrorDetails,
    ResponseState,
    ServerEvent,
    StatusDetails,
    decode_event,
    event_kind,
)
from voxload.dialects.openai_realtime_session import AUDIO_FORMATS, build_session, merged, spoken_format, turn_detection
from voxload.dialects.splice import PREPARED, new_splice

PATHS = {"openai": "/v1/realtime", "azure_v1": "/openai/v1/realtime", "azure": "/openai/realtime"}
BETA_HEADER = "openai-beta"

_APPEND_HEAD = b'{"type":"input_audio_buffer.append","audio":"'
AGENT_WORDS = frozenset(
    {
        "response.output_audio_transcript.done",
        "response.audio_transcript.done",
        "response.output_text.done",
        "response.text.done",
    }
)
READ_EVENTS = AGENT_WORDS | {
    "conversation.item.input_audio_transcription.completed",
    "conversation.item.input_audio_transcription.failed",
    "error",
    "response.audio.delta",
    "response.created",
    "response.done",
    "response.output_audio.delta",
    "session.updated",
}
"""Events that are understood by their fields; all others may have any."""
SILENT_FAMILIES = (
    "conversation.",
    "input_audio_buffer.",
    "mcp_list_tools.",
    "output_audio_buffer.",
    "rate_limits.",
    "response.",
    "session.",
)
"""Families of events that are known; those of them that mean nothing here are left out."""


class OpenaiRealtimeOptions(DialectOptions):
    """Options of the dialect `openai_realtime`; texts may hold `${variable}`."""

    api: Literal["openai", "azure_v1", "azure"] = Field(
        "openai", description="Whose path and key header: OpenAI, Azure's v1 API, or Azure's dated API."
    )
    model: str = Field("gpt-realtime", description="Model, or name of the deployment at Azure.")
    api_version: str = Field("2025-04-01-preview", description="Of Azure's dated API.")
    api_key: str = Field("", description="Sent as the API takes it; best from the environment.")
    authentication: Literal["", "bearer", "api-key"] = Field(
        "", description="How the key is sent; by default as a bearer token at OpenAI, as api-key at Azure."
    )
    names: Literal["", "ga", "beta"] = Field("", description="Names of the events; beta at Azure's dated API, else ga.")
    turn_detection: Literal["server_vad", "semantic_vad", "none"] = Field(
        "server_vad", description="Who finds the end of an utterance; none: the caller commits it."
    )
    silence_ms: int = Field(500, ge=0, description="Silence that ends an utterance (server_vad).")
    format: Literal["pcm16", "g711_ulaw"] = Field("pcm16", description="24 kHz PCM, or 8 kHz µ-law.")
    frame_ms: Literal[20, 40, 60, 100] = Field(20, description="Audio in one message.")
    greeting: bool = Field(True, description="Ask the agent to speak first, which it never does by itself.")
    voice: str = ""
    instructions: str = ""
    transcription: str = Field("", description="Model that writes down what the caller says; none by default.")
    session: dict[str, Any] = Field({}, description="Further fields of session.update, over those made of the rest.")

    @field_validator("model")
    @classmethod
    def _some_model(cls, value: str) -> str:
        if not value:
            raise ValueError("model must not be empty")
        return value

    @model_validator(mode="after")
    def _session_keeps_its_sense(self) -> OpenaiRealtimeOptions:
        session = self.merged_session()
        if spoken_format(session) != {AUDIO_FORMATS[self.format]}:
            raise ValueError("session must not change the audio format; use the option format")
        if (turn_detection(session) is None) != (self.turn_detection == "none"):
            raise ValueError("session must not switch turn detection; use the option turn_detection")
        return self

    @property
    def beta(self) -> bool:
        """Whether the events have their names of the beta version."""
        return self.names == "beta" or (not self.names and self.api == "azure")

    def merged_session(self) -> dict[str, Any]:
        """Return the session that is asked for."""
        made = build_session(
            beta=self.beta,
            form=self.format,
            turn_detection=self.turn_detection,
            silence_ms=self.silence_ms,
            voice=self.voice,
            instructions=self.instructions,
            transcription=self.transcription,
        )
        return merged(made, self.session)


class OpenaiRealtimeCaller(CallerSession):
    """The caller's side of one call: a client of the API."""

    splice = new_splice(PREPARED)

    def __init__(self, dialect: OpenaiRealtimeDialect, identity: CallIdentity) -> None:
        options, values = dialect.options, identity.values
        self._options = options
        self._dialect = dialect
        self._values = values
        self.stops_agent = self._by_message = options.turn_detection == "none"
        self._ready = False
        self._responding = False  # a response is under way
        self._item = ""  # the agent's message that is being heard
        self._response = ""
        self._dropped = ""  # the response whose audio is not wanted any more
        self._heard_bytes = 0  # of that message

    def open(self) -> SetupStep:
        """Dial the API."""
        options, values = self._options, self._values
        scheme, _, rest = self._dialect.target.partition("://")
        model = quote(values.get("model", options.model), safe="")
        query = f"model={model}"
        if options.api == "azure":
            version = quote(values.get("api_version", options.api_version), safe="")
            query = f"api-version={version}&deployment={model}"
        url = f"{'wss' if scheme == 'https' else 'ws'}://{rest}{PATHS[options.api]}?{query}"
        headers: dict[str, str] = {}
        key = values.get("api_key", options.api_key)
        if key:
            bearer = (options.authentication or ("bearer" if options.api == "openai" else "api-key")) == "bearer"
            headers |= {"authorization": f"Bearer {key}"} if bearer else {"api-key": key}
        if options.beta and options.api == "openai":
            headers[BETA_HEADER] = "realtime=v1"
        return Dial(url, (), headers, await_ready=True)

    def waiting_for(self) -> str:
        """Return what the set-up is waiting for."""
        return "session.updated"

    def on_connected(self) -> Sequence[Message]:
        """Ask for the session."""
        texts = {
            name: self._values[name] for name in ("instructions", "transcription", "voice") if name in self._values
        }
        options = self._options.model_copy(update=texts) if texts else self._options
        return _message({"type": "session.update", "session": options.merged_session()})

    def decode(self, payload: bytes, text: bool) -> Sequence[Event]:
        """Return what the agent says."""
        if not text:
            return (Unknown("binary"),)
        try:
            return self._mean(decode_event(payload))
        except msgspec.ValidationError as error:
            kind = event_kind(payload)
            return (
                (Unknown(kind),) if kind and kind not in READ_EVENTS else (Malformed(f"not a server event: {error}"),)
            )
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return (Malformed(f"not JSON: {error}"),)

    def _mean(self, event: ServerEvent) -> Sequence[Event]:
        match event.type:
            case "response.output_audio.delta" | "response.audio.delta":
                return self._on_audio(event)
            case "input_audio_buffer.speech_started":
                return (SpeechStarted(), Interrupted(if_heard=True)) if self._dialect.interrupts else (SpeechStarted(),)
            case "input_audio_buffer.speech_stopped":
                return (Stage("speech_stopped"),)
            case "conversation.item.input_audio_transcription.completed":
                return (Transcript((event.transcript or "").strip(), "caller"),)
            case kind if kind in AGENT_WORDS:
                return (Transcript((event.transcript or event.text or "").strip(), "agent"),)
            case "response.created":
                self._responding = True
                return (Stage("response_created"),)
            case "response.done":
                return self._on_done(event.response or ResponseState())
            case "session.updated":
                return self._on_updated(event.session or {})
            case "error" | "conversation.item.input_audio_transcription.failed":
                return self._on_error((event.error or ErrorDetails()).event(), event.type == "error")
            case kind:
                return NO_EVENTS if kind.startswith(SILENT_FAMILIES) else (Unknown(kind),)

    def _on_audio(self, event: ServerEvent) -> Sequence[Event]:
        response, item = event.response_id or "", event.item_id or ""
        if response and response == self._dropped:
            return NO_EVENTS  # it was under way when the agent was interrupted
        try:
            audio = pybase64.b64decode(event.delta or "", validate=True)
        except (binascii.Error, ValueError) as error:
            return (Malformed(f"audio is not base64: {error}"),)
        if item != self._item:
            self._item, self._heard_bytes = item, 0
        self._response = response
        self._heard_bytes += len(audio)
        return (AudioIn(audio),) if audio else NO_EVENTS

    def _on_done(self, response: ResponseState) -> Sequence[Event]:
        self._responding = False
        events: list[Event] = []
        details = response.status_details or StatusDetails()
        if response.usage is not None:
            events.append(response.usage.event())
        match response.status:
            case "cancelled":
                return (*events, Interrupted(if_heard=True))
            case "failed":
                events.append((details.error or ErrorDetails(code="response_failed")).event())
            case "incomplete":
                events.append(PeerError(f"incomplete_{details.reason or 'response'}"))
        return (*events, ReplyEnded())

    def _on_updated(self, session: dict[str, Any]) -> Sequence[Event]:
        if self._ready:
            return NO_EVENTS
        wanted = AUDIO_FORMATS[self._options.format]
        others = spoken_format(session) - {wanted}
        if others:
            return (Malformed(f"the session's audio is {', '.join(sorted(others))}, not {wanted} as asked for"),)
        self._ready = True
        if self._options.greeting:
            return (Ready(), Respond(_message({"type": "response.create"})))
        return (Ready(),)

    def _on_error(self, error: PeerError, of_a_request: bool) -> Sequence[Event]:
        if self._ready or not of_a_request:
            return (error,)
        return (error, Ended(f"session.update was answered with {error.code}: {error.message}"))

    def start_of_speech(self) -> Sequence[Message]:
        """Where the caller ends its turns itself: begin one, and stop the agent, which would not notice."""
        if not self._by_message:
            return ()
        clear = _message({"type": "input_audio_buffer.clear"})
        return (*clear, *_message({"type": "response.cancel"})) if self._responding else clear

    def end_of_speech(self, unix_ns: int) -> Sequence[Message]:
        """Commit what was said and ask for the answer, unless the server does both."""
        if not self._by_message:
            return ()
        return (*_message({"type": "input_audio_buffer.commit"}), *_message({"type": "response.create"}))

    def dropped(self, unplayed_ns: int) -> Sequence[Message]:
        """Say how much of the agent's message was heard."""
        item, self._item = self._item, ""
        self._dropped = self._response
        form = self._dialect.agent_format
        sample_bytes = form.frame_bytes // form.frame_samples
        heard_ns = self._heard_bytes // sample_bytes * 1_000_000_000 // form.sample_rate_hz
        if not item or unplayed_ns <= 0:
            return ()
        played_ms = max(heard_ns - unplayed_ns, 0) // 1_000_000
        fields = {"type": "conversation.item.truncate", "item_id": item, "content_index": 0, "audio_end_ms": played_ms}
        return _message(fields)


def _message(fields: Mapping[str, Any]) -> Sequence[Message]:
    return (Message(json.dumps(fields).encode()),)


class OpenaiRealtimeDialect(Dialect):
    """See the module's text."""

    name: ClassVar[str] = "openai_realtime"
    options_type: ClassVar[type[DialectOptions]] = OpenaiRealtimeOptions
    options: OpenaiRealtimeOptions

    def __init__(self, target: str, options: DialectOptions) -> None:
        super().__init__(target, options)
        detection = turn_detection(self.options.merged_session()) or {}
        self.interrupts = bool(detection.get("interrupt_response", True))
        """Whether the server stops the agent when it hears the caller."""
        self._sockets = 0

    @property
    def caller_format(self) -> AudioFormat:
        """PCM at 24 kHz or µ-law at 8 kHz."""
        options = self.options
        if options.format == "pcm16":
            return AudioFormat(24_000, "pcm16", options.frame_ms)
        return AudioFormat(8_000, "mulaw", options.frame_ms)

    @property
    def agent_format(self) -> AudioFormat:
        """The same in frames of 20 ms."""
        return self.caller_format._replace(frame_ms=FRAME_MS)

    def prepare_caller(self, frames: Sequence[bytes]) -> list[bytes]:
        """Encode the whole message."""
        return [_APPEND_HEAD + pybase64.b64encode(frame) + b'"}' for frame in frames]

    def caller(self, identity: CallIdentity) -> OpenaiRealtimeCaller:
        """Return the caller's side of a new call."""
        return OpenaiRealtimeCaller(self, identity)

    def prepare_agent(self, frames: Sequence[bytes]) -> list[bytes]:
        """Encode all but what names the response."""
        return [b'"delta":"' + pybase64.b64encode(frame) + b'"}' for frame in frames]

    def agent(self, call_id: str) -> OpenaiRealtimeAgent:
        """Return the agent's side of a call, in the version whose name the call id begins with."""
        return OpenaiRealtimeAgent(self.options.format, self.options.turn_detection, call_id)

    def socket_call_id(self, path: str, headers: Mapping[str, str]) -> str | None:
        """Return a new id for a socket on any of the three paths; the API has none of its own."""
        clean = urlsplit(path).path.rstrip("/")
        if clean not in PATHS.values():
            return None
        beta = clean == PATHS["azure"] or "realtime=v1" in headers.get(BETA_HEADER, "")
        self._sockets += 1
        return f"{'beta' if beta else 'ga'}-{self._sockets}"
