"""The bodies of Call Automation requests, as far as the exchange reads them."""

from __future__ import annotations

from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from voxload.standins.acs.errors import bad_request
from voxload.standins.acs.identifiers import raw_id_of

Identifier = dict[str, Any]
AUDIO_FORMATS = {"": 16_000, "pcm16kmono": 16_000, "pcm24kmono": 24_000}
"""Samples a second by the lower-case name of a media stream's format; 16 kHz unless it is named."""


class Body(msgspec.Struct, rename="camel"):
    """Base of all bodies: camel-case names; fields that the exchange does not know are left alone."""


class Operation(Body, kw_only=True):
    """What all requests within a call carry."""

    operation_context: str | None = None
    operation_callback_uri: str | None = None


class MediaStreaming(Body, kw_only=True):
    """`mediaStreamingOptions`."""

    transport_url: str = ""
    transport_type: str = "websocket"
    content_type: str = "audio"
    audio_channel_type: str = "mixed"
    start_media_streaming: bool = False
    enable_bidirectional: bool = False
    audio_format: str | None = None
    enable_dtmf_tones: bool = False

    @property
    def sample_rate_hz(self) -> int:
        """Samples a second."""
        return AUDIO_FORMATS[(self.audio_format or "").lower()]


class Transcription(Body, kw_only=True):
    """`transcriptionOptions`."""

    start_transcription: bool = False


class Connecting(Body, kw_only=True):
    """What a request that makes a connection says about it."""

    callback_uri: str
    operation_context: str | None = None
    media_streaming_options: MediaStreaming | None = None
    transcription_options: Transcription | None = None


class Answer(Connecting, kw_only=True):
    """`:answer`."""

    incoming_call_context: str
    answered_by: dict[str, Any] | None = None


class Create(Connecting, kw_only=True):
    """`POST /calling/callConnections`."""

    targets: list[Identifier]
    source_caller_id_number: dict[str, Any] | None = None
    source_display_name: str | None = None
    source: dict[str, Any] | None = None


class CallLocator(Body, kw_only=True):
    """Which call; exactly one of the ids."""

    kind: str | None = None
    server_call_id: str | None = None
    group_call_id: str | None = None
    room_id: str | None = None

    @property
    def key(self) -> str:
        """The id, whichever it is."""
        return self.server_call_id or self.group_call_id or self.room_id or ""


class Connect(Connecting, kw_only=True):
    """`:connect`."""

    call_locator: CallLocator


class Reject(Body, kw_only=True):
    """`:reject`."""

    incoming_call_context: str
    call_reject_reason: str | None = None


class Redirect(Body, kw_only=True):
    """`:redirect`."""

    incoming_call_context: str
    target: Identifier


class PlayOptions(Body, kw_only=True):
    """`playOptions`."""

    loop: bool = False


class Play(Operation, kw_only=True):
    """`:play`."""

    play_sources: list[dict[str, Any]]
    play_to: list[Identifier] | None = None
    play_options: PlayOptions | None = None
    interrupt_call_media_operation: bool | None = None


class DtmfOptions(Body, kw_only=True):
    """`dtmfOptions`."""

    inter_tone_timeout_in_seconds: float | None = None
    max_tones_to_collect: int | None = None
    stop_tones: list[str] | None = None


class Choice(Body, kw_only=True):
    """One of the `choices`."""

    label: str
    phrases: list[str]
    tone: str | None = None


class RecognizeOptions(Body, kw_only=True):
    """`recognizeOptions`."""

    target_participant: Identifier
    interrupt_prompt: bool | None = None
    initial_silence_timeout_in_seconds: float | None = None
    dtmf_options: DtmfOptions | None = None
    choices: list[Choice] | None = None


class Recognize(Operation, kw_only=True):
    """`:recognize`."""

    recognize_input_type: str
    recognize_options: RecognizeOptions
    play_prompt: dict[str, Any] | None = None
    play_prompts: list[dict[str, Any]] | None = None
    interrupt_call_media_operation: bool | None = None


class OneParticipant(Operation, kw_only=True):
    """Requests about one participant: continuous DTMF, hold, unhold."""

    target_participant: Identifier


class SendTones(OneParticipant, kw_only=True):
    """`:sendDtmfTones`."""

    tones: list[str]


class Transfer(OneParticipant, kw_only=True):
    """`:transferToParticipant`."""

    transferee: Identifier | None = None


class AddParticipant(Operation, kw_only=True):
    """`participants:add`."""

    participant_to_add: Identifier
    invitation_timeout_in_seconds: float | None = None


class RemoveParticipant(Operation, kw_only=True):
    """`participants:remove`."""

    participant_to_remove: Identifier


class MuteParticipants(Operation, kw_only=True):
    """`participants:mute`."""

    target_participants: list[Identifier]


class MoveParticipants(Operation, kw_only=True):
    """`participants:moveHere`."""

    target_participants: list[Identifier]
    from_call: str


class CancelAdd(Operation, kw_only=True):
    """`participants:cancelAddParticipant`."""

    invitation_id: str


class StartRecording(Body, kw_only=True):
    """`POST /calling/recordings`."""

    call_locator: CallLocator | None = None
    call_connection_id: str | None = None
    recording_state_callback_uri: str | None = None
    pause_on_start: bool | None = None


B = TypeVar("B", bound=Body)


def read(body: bytes, form: type[B]) -> B:
    """Return a request's body.

    Raises:
        ApiError: 400, naming the field that is wrong.
    """
    try:
        return msgspec.json.decode(body or b"{}", type=form)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise bad_request(f"The request body is invalid: {error}") from None


def check_callback(uri: str | None) -> str:
    """Return a callback address.

    Raises:
        ApiError: it is no absolute http or https URL.
    """
    text = uri or ""
    if not _is_url(text, {"http", "https"}):
        raise bad_request(f"The field callbackUri is invalid: {text!r} is not an absolute http or https URL.")
    return text


def check_media(options: MediaStreaming | None) -> MediaStreaming | None:
    """Return media streaming options.

    Raises:
        ApiError: they cannot be met.
    """
    if options is None:
        return None
    field, url = "The field mediaStreamingOptions", options.transport_url
    if not _is_url(url, {"ws", "wss"}):
        raise bad_request(f"{field}.transportUrl is invalid: {url!r} is not a ws or wss URL.")
    if (options.audio_format or "").lower() not in AUDIO_FORMATS:
        raise bad_request(f"{field}.audioFormat is invalid: {options.audio_format!r}.")
    return options


def check_participant(body: Identifier, field: str = "targetParticipant") -> str:
    """Return a participant's raw id.

    Raises:
        ApiError: the field names nobody.
    """
    raw_id = raw_id_of(body)
    if not raw_id:
        raise bad_request(f"The field {field} names no participant.")
    return raw_id


def _is_url(text: str, schemes: set[str]) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in schemes and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False
