"""What a dialect is: one wire protocol without I/O, spoken from both sides, the caller's and the agent's.

A dialect never opens a socket and never reads a clock. The engine (for callers) and the twin (for agents) move the
bytes; the dialect says which. All payloads of a run are prepared once (`prepare`), only the parts that change with each
send are spliced in (`stamp`). What a peer can say stands in `events`, the steps of the set-up in `setup`; all names can
be imported from here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict

from voxload.dialects.events import (
    NO_EVENTS,
    AudioIn,
    Dtmf,
    Ended,
    EndOfSpeech,
    Event,
    Interrupted,
    Malformed,
    Mark,
    Message,
    PeerError,
    Ready,
    ReplyEnded,
    ReplyWanted,
    Respond,
    SpeechStarted,
    Stage,
    Transcript,
    TurnTaking,
    Unknown,
    Usage,
)
from voxload.dialects.setup import Dial, ExchangeJob, HttpRequest, HttpResponse, SetupFailed, SetupStep, Signal, refused
from voxload.dialects.splice import Splicer
from voxload.inlet import AudioForm
from voxload.model.outcome import Outcome

__all__ = [
    "NO_EVENTS",
    "AgentSession",
    "AudioForm",
    "AudioFormat",
    "AudioIn",
    "CallDesk",
    "CallIdentity",
    "CallerSession",
    "Dial",
    "Dialect",
    "DialectOptions",
    "Dtmf",
    "EndOfSpeech",
    "Ended",
    "Event",
    "ExchangeJob",
    "HttpRequest",
    "HttpResponse",
    "Interrupted",
    "Malformed",
    "Mark",
    "Message",
    "Outgoing",
    "PeerError",
    "Ready",
    "ReplyEnded",
    "ReplyWanted",
    "Respond",
    "SetupFailed",
    "SetupStep",
    "Signal",
    "SpeechStarted",
    "Stage",
    "Template",
    "Transcript",
    "TurnTaking",
    "Unknown",
    "Usage",
    "refused",
]

Outgoing = Message | Signal
"""What a caller can send while the call is up: on its media socket, or on the trunk."""


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


# --- the two sides of a call ------------------------------------------------------------------------------------------


class CallIdentity(NamedTuple):
    """What makes one call differ from the next: its index in the run, and the caller's values by name.

    `headers` go with every request and handshake of the call: the scenario's, and its trace context. The engine adds
    them to those that it sends itself; an exchange that makes requests for the call is told them by the dialect.
    """

    call_index: int
    call_id: str
    values: Mapping[str, str] = {}
    headers: Mapping[str, str] = {}


class CallerSession(ABC):
    """The caller's side of one call: setup steps, outgoing messages, and the meaning of incoming ones."""

    splice: Splicer | None = None
    """What a send adds to a prepared frame, as a layout; without one, `stamp` says it."""
    stops_agent: bool = False
    """Whether this side itself drops the agent's unplayed audio when the caller begins to speak (push to talk)."""

    @abstractmethod
    def open(self) -> SetupStep:
        """Return the first step of the call's set-up."""

    @property
    def audio_form(self) -> AudioForm | None:
        """How the messages look that `decode` takes for one `AudioIn` and nothing else; None: it must see them all.

        Asked once, when the call is up.
        """
        return None

    def on_response(self, response: HttpResponse) -> SetupStep:
        """Return the step that follows the answer to the last `HttpRequest`."""
        return SetupFailed(Outcome.PROTOCOL_ERROR, f"unexpected HTTP answer {response.status}")

    def on_signal(self, payload: bytes) -> Sequence[SetupStep | Event]:
        """Return what a message of the trunk means for this call: steps during the set-up, events at any time."""
        return ()

    def waiting_for(self) -> str:
        """Return what the set-up is waiting for, in words, for the reason of a call that is not ready in time."""
        return ""

    def on_connected(self) -> Sequence[Outgoing]:
        """Return the messages to send as soon as the media socket is open."""
        return ()

    def stamp(self, prepared: bytes, sequence: int, unix_ns: int) -> bytes:
        """Return the message that carries a prepared frame now; `sequence` counts the frames of the call from 0."""
        return prepared if self.splice is None else self.splice(prepared, sequence, unix_ns)

    @abstractmethod
    def decode(self, payload: bytes, text: bool) -> Sequence[Event]:
        """Return what one incoming message means, in order; unknown and broken messages are events too."""

    def start_of_speech(self) -> Sequence[Message]:
        """Return the messages that tell the agent that the caller begins to speak, if the protocol has any."""
        return ()

    def end_of_speech(self, unix_ns: int) -> Sequence[Message]:
        """Return the messages that tell the agent that the caller has finished, if the protocol has any."""
        return ()

    def said(self, text: str) -> Sequence[Outgoing]:
        """Return what to send when an utterance is over, for a peer that must be told its words."""
        return ()

    def dtmf(self, digit: str) -> Sequence[Outgoing]:
        """Return the messages for a key press; none where the protocol has none."""
        return ()

    def played(self, mark: str) -> Sequence[Message]:
        """Return the answer to a `Mark` whose audio has now been played or dropped."""
        return ()

    def dropped(self, unplayed_ns: int) -> Sequence[Message]:
        """Return what to send after an interruption, when `unplayed_ns` of the agent's audio will never be heard."""
        return ()

    def hang_up(self) -> Sequence[Outgoing]:
        """Return the messages to send before the socket is closed."""
        return ()

    def released(self) -> Sequence[Signal]:
        """Return what the exchange must hear once the call is over, however it ended (the set-up included)."""
        return ()

    def template_values(self) -> Mapping[str, str]:
        """Return the values that the set-up brought, for `${...}` in side traffic (such as `session_id`)."""
        return {}


class AgentSession(ABC):
    """The agent's side of one call, as the twin speaks it."""

    greets_unasked: ClassVar[bool] = True
    """Whether the agent may speak before it was asked to."""

    @abstractmethod
    def decode(self, payload: bytes, text: bool) -> Sequence[Event]:
        """Return what one message of the caller means."""

    def on_connected(self) -> Sequence[Message]:
        """Return the messages to send as soon as the socket is open."""
        return ()

    @abstractmethod
    def stamp(self, prepared: bytes, sequence: int, unix_ns: int) -> bytes:
        """Return the message that carries a prepared frame of agent speech; `sequence` counts from 0 in a reply."""

    def speech_started(self) -> Sequence[Message]:
        """Return the messages that say that the agent hears the caller speak."""
        return ()

    def speech_ended(self) -> Sequence[Message]:
        """Return the messages that say that the agent takes the caller's utterance for finished.

        Its beginning may have been told by `interrupted`, or not at all (a word too short to stop the agent).
        """
        return ()

    def transcript(self, transcript: Transcript) -> Sequence[Message]:
        """Return the messages that say what the agent understood, or what it says itself."""
        return ()

    def reply_started(self, text: str) -> Sequence[Message]:
        """Return the messages that open a spoken reply."""
        return ()

    def note_usage(self, usage: Usage) -> None:  # noqa: B027  # most protocols carry none
        """Take the cost of the reply that comes next; protocols that carry it put it into one of its messages."""

    def reply_ended(self) -> Sequence[Message]:
        """Return the messages that close a spoken reply."""
        return ()

    def interrupted(self) -> Sequence[Message]:
        """Return the messages that make the caller's side drop unplayed audio."""
        return ()

    def error(self, error: PeerError) -> Sequence[Message]:
        """Return the messages that report an error without ending the call."""
        return ()


class CallDesk(Protocol):
    """What the agent's HTTP routes may ask of the twin that serves them."""

    def admit(self, details: Mapping[str, Any]) -> str | HttpResponse:
        """Open a session and return its id, or the refusal to send (a quota is full)."""

    def call_metrics(self, call_id: str) -> Mapping[str, Any] | None:
        """Return the numbers of one call, or None when there is no such call."""

    def unix_s(self) -> float:
        """Return the time of day, for protocols that sign it."""


class Template(NamedTuple):
    """A text with `${name}` in a dialect's options, and the names that the dialect itself knows there."""

    text: str
    names: Sequence[str] = ()


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
    audio_is_text: bool = True
    """Whether the caller's audio travels in text messages (JSON) or in binary ones."""

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

    @property
    def agent_audio_is_text(self) -> bool:
        """Whether the agent's audio travels in text messages; as the caller's unless the protocol says otherwise."""
        return self.audio_is_text

    @abstractmethod
    def prepare_caller(self, frames: Sequence[bytes]) -> list[bytes]:
        """Encode frames of caller speech once for the run (raw audio in, everything but the stamp out)."""

    def templates(self) -> Mapping[tuple[str | int, ...], Template]:
        """Return the nested options that may hold `${variable}`, by their place; the top ones may anyway."""
        return {}

    @abstractmethod
    def caller(self, identity: CallIdentity) -> CallerSession:
        """Return the caller's side of a new call."""

    def trunk(self) -> Dial | None:
        """Return how to reach the exchange that rings the agents of this protocol; None: callers ring by themselves."""
        return None

    def exchange_job(self) -> ExchangeJob | None:
        """Return the exchange that the run must start, whose address then becomes the option `exchange`; None: none."""
        return None

    def signal_call_id(self, payload: bytes) -> str:
        """Return which call (`CallIdentity.call_id`) a message of the trunk is for; empty when it is for none."""
        return ""

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
