"""What a peer can say: the events that a dialect reads out of messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple


class Message(NamedTuple):
    """One WebSocket message: a text message carries UTF-8."""

    payload: bytes
    text: bool = True


class Ready(NamedTuple):
    """The media channel is open for speech (only dialects that announce it; else the open socket is the sign)."""


class AudioIn(NamedTuple):
    """Speech from the peer: raw samples in the dialect's `AudioFormat`, of any length."""

    audio: bytes


class SpeechStarted(NamedTuple):
    """The peer says that it hears us speak."""


class EndOfSpeech(NamedTuple):
    """The caller says that its utterance is over (protocols with an explicit end)."""


class TurnTaking(NamedTuple):
    """The caller of this call chooses how its utterances end: by its own message, or as the agent hears it."""

    by_message: bool


class ReplyWanted(NamedTuple):
    """The caller asks the agent to speak now, whatever has been said."""


class Interrupted(NamedTuple):
    """Audio that has been sent and not been played must be dropped (stop, clear, cancel).

    From a caller: the agent shall stop speaking.
    """

    if_heard: bool = False
    """It is said at every utterance, and means something only while the agent is heard."""


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
    audio_input_tokens: int | None = None
    audio_output_tokens: int | None = None
    """Tokens of audio, counted apart by speech-to-speech models; None: the model has none."""
    cached_input_tokens: int | None = None
    cached_audio_input_tokens: int | None = None
    """Which of the input tokens were read from a cache, at another price; None: the agent does not say."""

    def plus(self, other: Usage) -> Usage:
        """Return the sum of both."""
        pairs = zip(self, other, strict=True)
        return Usage(*(two if one is None else one + (two or 0) for one, two in pairs))  # type: ignore[arg-type]


class Mark(NamedTuple):
    """The agent wants to hear when all audio that it has sent up to here has been played (or dropped)."""

    name: str


class Stage(NamedTuple):
    """The agent tells that it has reached a stage of its work on the turn, such as `llm_first_token`."""

    name: str


class Respond(NamedTuple):
    """The protocol itself asks for an answer at once (an application's ping, a session's settings)."""

    messages: Sequence[Message]


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
    | TurnTaking
    | ReplyWanted
    | Interrupted
    | ReplyEnded
    | Transcript
    | Dtmf
    | PeerError
    | Ended
    | Usage
    | Mark
    | Stage
    | Respond
    | Unknown
    | Malformed
)

NO_EVENTS: tuple[Event, ...] = ()
