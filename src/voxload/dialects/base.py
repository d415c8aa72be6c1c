"""What a dialect is: one wire protocol without I/O, spoken from both sides, the caller's and the agent's.

A dialect never opens a socket and never reads a clock. The engine (for callers) and the twin (for agents) move the
bytes; the dialect says which. All payloads of a run are prepared once (`prepare`), only the parts that change with each
send are spliced in (`stamp`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict

from voxload.model.outcome import Outcome

# --- audio on the wire ------------------------------------------------------------------------------------------------


class AudioFormat(NamedTuple):
    """How audio travels: mono samples of `encoding`, in frames of `frame_ms`."""

    sample_rate_hz: int = 16_000
    encoding: Literal["pcm16", "mulaw"] = "pcm16"
    frame_ms: int = 20

    @property
    def frame_samples(self) -> int:
        """Samples in one frame."""
        return self.sample_rate_hz * self.frame_ms // 1000

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame before any text encoding."""
        return self.frame_samples * (2 if self.encoding == "pcm16" else 1)


# --- what a peer can say ----------------------------------------------------------------------------------------------


class Ready(NamedTuple):
    """The media channel is open for speech (only dialects that announce it; else the open socket is the sign)."""


class AudioIn(NamedTuple):
    """Speech from the peer: raw samples in the dialect's `AudioFormat`, of any length."""

    audio: bytes


class SpeechStarted(NamedTuple):
    """The peer says that it hears us speak."""


class EndOfSpeech(NamedTuple):
    """The caller says that its utterance is over (protocols with an explicit end)."""


class Interrupted(NamedTuple):
    """Audio that has been sent and not been played must be dropped (stop, clear, cancel)."""


class ReplyEnded(NamedTuple):
    """The agent says that the audio of its reply is complete."""


class Transcript(NamedTuple):
    """Text of what somebody said: the caller as the agent understood it, or the agent itself."""

    text: str
    speaker: Literal["caller", "agent"]
    final: bool = True
    intent: str = ""
    """The intent that the agent names for it, where the protocol carries one."""


class Dtmf(NamedTuple):
    """A key press."""

    digit: str


class PeerError(NamedTuple):
    """The peer reports an error and the call goes on: counted by code."""

    code: str
    message: str = ""


class Ended(NamedTuple):
    """The peer ends the call in the protocol's own words."""

    reason: str = ""


class Usage(NamedTuple):
    """What a reply has cost at the language model, as the agent reports it."""

    input_tokens: int
    output_tokens: int


class Unknown(NamedTuple):
    """A well-formed message of a kind that the dialect does not know: counted, never fatal."""

    kind: str


class Malformed(NamedTuple):
    """Bytes that are not the protocol at all (no JSON, no base64): the call ends as a protocol error."""

    detail: str


Event = (
    Ready
    | AudioIn
    | SpeechStarted
    | EndOfSpeech
    | Interrupted
    | ReplyEnded
    | Transcript
    | Dtmf
    | PeerError
    | Ended
    | Usage
    | Unknown
    | Malformed
)

NO_EVENTS: tuple[Event, ...] = ()


class Message(NamedTuple):
    """One WebSocket message: a text message carries UTF-8."""

    payload: bytes
    text: bool = True


# --- setting a call up ------------------------------------------------------------------------------------------------


class HttpRequest(NamedTuple):
    """An HTTP request; the engine sends it and hands the answer to `CallerSession.on_response`."""

    method: str
    url: str
    headers: Mapping[str, str] = {}
    body: bytes = b""


class HttpResponse(NamedTuple):
    """An HTTP answer; header names are lower case."""

    status: int
    headers: Mapping[str, str] = {}
    body: bytes = b""


class Dial(NamedTuple):
    """Open the media WebSocket to `url`; when it is open the call is ready, or waits for `Ready` if told so."""

    url: str
    subprotocols: Sequence[str] = ()
    headers: Mapping[str, str] = {}
    await_ready: bool = False


class SetupFailed(NamedTuple):
    """The target's answer ends the attempt."""

    outcome: Outcome
    reason: str


SetupStep = HttpRequest | Dial | SetupFailed


class CallIdentity(NamedTuple):
    """What makes one call differ from the next: its index in the run, and the caller's values by name."""

    call_index: int
    call_id: str
    values: Mapping[str, str] = {}


class CallerSession(ABC):
    """The caller's side of one call: setup steps, outgoing messages, and the meaning of incoming ones."""

    @abstractmethod
    def open(self) -> SetupStep:
        """Return the first step of the call's set-up."""

    def on_response(self, response: HttpResponse) -> SetupStep:
        """Return the step that follows the answer to the last `HttpRequest`."""
        return SetupFailed(Outcome.PROTOCOL_ERROR, f"unexpected HTTP answer {response.status}")

    def on_connected(self) -> Sequence[Message]:
        """Return the messages to send as soon as the media socket is open."""
        return ()

    @abstractmethod
    def stamp(self, prepared: bytes, sequence: int, unix_ns: int) -> bytes:
        """Return the message that carries a prepared frame now; `sequence` counts the frames of the call from 0."""

    @abstractmethod
    def decode(self, payload: bytes, text: bool) -> Sequence[Event]:
        """Return what one incoming message means, in order; unknown and broken messages are events too."""

    def end_of_speech(self, unix_ns: int) -> Message | None:
        """Return the message that tells the agent that the caller has finished, if the protocol has one."""
        return None

    def dtmf(self, digit: str) -> Message | None:
        """Return the message for a key press, or None where the protocol has none."""
        return None

    def hang_up(self) -> Sequence[Message]:
        """Return the messages to send before the socket is closed."""
        return ()

    def template_values(self) -> Mapping[str, str]:
        """Return the values that the set-up brought, for `${...}` in side traffic (such as `session_id`)."""
        return {}


class AgentSession(ABC):
    """The agent's side of one call, as the twin speaks it."""

    @abstractmethod
    def decode(self, payload: bytes, text: bool) -> Sequence[Event]:
        """Return what one message of the caller means."""

    def on_connected(self) -> Sequence[Message]:
        """Return the messages to send as soon as the socket is open."""
        return ()

    @abstractmethod
    def stamp(self, prepared: bytes, sequence: int, unix_ns: int) -> bytes:
        """Return the message that carries a prepared frame of agent speech; `sequence` counts from 0 in a reply."""

    def transcript(self, transcript: Transcript) -> Message | None:
        """Return the message that says what the agent understood, or what it says itself."""
        return None

    def reply_started(self, text: str) -> Message | None:
        """Return the message that opens a spoken reply."""
        return None

    def note_usage(self, usage: Usage) -> None:  # noqa: B027  # most protocols carry none
        """Take the cost of the reply that comes next; protocols that carry it put it into one of its messages."""

    def reply_ended(self) -> Message | None:
        """Return the message that closes a spoken reply."""
        return None

    def interrupted(self) -> Message | None:
        """Return the message that makes the caller's side drop unplayed audio."""
        return None

    def error(self, error: PeerError) -> Message | None:
        """Return the message that reports an error without ending the call."""
        return None


class CallDesk(Protocol):
    """What the agent's HTTP routes may ask of the twin that serves them."""

    def admit(self, details: Mapping[str, Any]) -> str | HttpResponse:
        """Open a session and return its id, or the refusal to send (a quota is full)."""

    def call_metrics(self, call_id: str) -> Mapping[str, Any] | None:
        """Return the numbers of one call, or None when there is no such call."""


class DialectOptions(BaseModel):
    """Base of a dialect's options in a scenario: unknown names are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Dialect(ABC):
    """One wire protocol. A new dialect is one subclass in one file and an entry point in `voxload.dialects`.

    `target` is the base URL of the agent (`http://…` or `https://…`), without a trailing slash. The twin builds the
    dialect with its own address and uses the agent's half of it.
    """

    name: ClassVar[str]
    options_type: ClassVar[type[DialectOptions]] = DialectOptions
    audio_is_text: ClassVar[bool] = True
    """Whether audio travels in text messages (JSON) or in binary ones."""

    def __init__(self, target: str, options: DialectOptions) -> None:
        self.target = target.rstrip("/")
        self.options = options

    # --- the caller's side ---

    @property
    @abstractmethod
    def caller_format(self) -> AudioFormat:
        """How the caller's speech travels; `frame_ms` is the pace of the sends."""

    @property
    def agent_format(self) -> AudioFormat:
        """How the agent's speech travels; the same as the caller's unless the protocol says otherwise."""
        return self.caller_format

    @abstractmethod
    def prepare_caller(self, frames: Sequence[bytes]) -> list[bytes]:
        """Encode frames of caller speech once for the run (raw audio in, everything but the stamp out)."""

    @abstractmethod
    def caller(self, identity: CallIdentity) -> CallerSession:
        """Return the caller's side of a new call."""

    # --- the agent's side ---

    @abstractmethod
    def prepare_agent(self, frames: Sequence[bytes]) -> list[bytes]:
        """Encode frames of agent speech once."""

    @abstractmethod
    def agent(self, call_id: str) -> AgentSession:
        """Return the agent's side of the call `call_id`."""

    @abstractmethod
    def socket_call_id(self, path: str, headers: Mapping[str, str]) -> str | None:
        """Return the call that a WebSocket handshake on `path` belongs to, or None when the path is not ours."""

    def subprotocol(self) -> str | None:
        """Return the WebSocket subprotocol that the agent accepts."""
        return None

    def answer(self, request: HttpRequest, desk: CallDesk) -> HttpResponse | None:
        """Answer an HTTP request of the protocol (`request.url` is the path), or None when the path is not ours."""
        return None
