"""Media streaming of Azure Communication Services: JSON audio on a WebSocket that is dialled to the backend.

Caller: `{"kind":"AudioMetadata","audioMetadata":{…}}` once, then every 20 ms `{"kind":"AudioData","audioData":
{"timestamp","participantRawID","data":b64,"silent"}}`; a key press is `{"kind":"DtmfData","dtmfData":{"data"}}`.
Backend: `AudioData` and `StopAudio`, in several casings (`Casing`): told apart by their kind alone, whatever its case,
because some backends write an empty `stopAudio` beside their audio. Backends send JSON of their own on the same socket
too, told by its `type`: unknown messages, never errors.

This dialect dials the backend's socket directly; `acs` does so after a telephone call has been answered.
"""

from __future__ import annotations

import binascii
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

import msgspec
import pybase64
from pydantic import Field, field_validator

from voxload.dialects.base import (
    NO_EVENTS,
    AgentSession,
    AudioForm,
    AudioFormat,
    AudioIn,
    CallerSession,
    CallIdentity,
    Dial,
    Dialect,
    DialectOptions,
    Dtmf,
    Event,
    Interrupted,
    Malformed,
    Message,
    Outgoing,
    SetupStep,
    Unknown,
)
from voxload.dialects.splice import PREPARED, UTC_MS, new_splice

Casing = Literal["pascal", "camel", "mixed"]
"""How a backend writes: `Kind`/`AudioData` (C#), `kind`/`audioData` with camel-case kinds, or `kind`/`AudioData`."""

CONNECTION_ID_HEADER = "x-ms-call-connection-id"
CORRELATION_ID_HEADER = "x-ms-call-correlation-id"
SAMPLE_RATES_HZ = (16_000, 24_000)

_STAMP_HEAD = b'{"kind":"AudioData","audioData":{"timestamp":"'
_AUDIO: dict[Casing, tuple[bytes, bytes]] = {
    "pascal": (b'{"Kind":"AudioData","AudioData":{"Data":"', b'"},"StopAudio":null}'),
    "camel": (b'{"kind":"audioData","audioData":{"data":"', b'","isSilent":false},"stopAudio":{}}'),
    "mixed": (b'{"kind":"AudioData","audioData":{"data":"', b'"}}'),
}
_AUDIO_FORM = AudioForm((
    *(head for head, _ in _AUDIO.values()),
    *(head.replace(b":", b": ").replace(b",", b", ") for head, _ in _AUDIO.values()),
))  # fmt: skip
_STOP: dict[Casing, bytes] = {
    "pascal": b'{"Kind":"StopAudio","AudioData":null,"StopAudio":{}}',
    "camel": b'{"kind":"stopAudio","stopAudio":{}}',
    "mixed": b'{"kind":"StopAudio","stopAudio":{}}',
}
_AUDIO_HEAD = re.compile(
    rb'\s*\{\s*"kind"\s*:\s*"audiodata"\s*,\s*"audiodata"\s*:\s*\{\s*'
    rb'(?:"(?:timestamp|participant(?:rawid)?)"\s*:\s*"[^"\\]*"\s*,\s*|"(?:is)?silent"\s*:\s*(?:true|false)\s*,\s*)*'
    rb'"data"\s*:\s*"',
    re.IGNORECASE,
)
"""What comes before the audio in the usual orders of fields; every other order is parsed."""


def check_sample_rate(value: int) -> int:
    """Return a sample rate in Hz that media streaming has.

    Raises:
        ValueError: it is another one.
    """
    if value not in SAMPLE_RATES_HZ:
        raise ValueError("sample_rate must be 16000 or 24000")
    return value


class AcsMediaOptions(DialectOptions):
    """Options of the dialect `acs_media`; texts may hold `${variable}`."""

    path: str = Field("/ws", description="Of the backend's media socket, after the target; or a whole ws:// URL.")
    sample_rate: int = Field(16_000, description="16000 or 24000: samples a second, both ways.")
    caller_number: str = Field("${caller_number}", description="Who calls: the participant of the audio.")
    casing: Casing = Field("pascal", description="How the embedded agent writes its messages.")

    @field_validator("sample_rate")
    @classmethod
    def _known_rate(cls, value: int) -> int:
        return check_sample_rate(value)

    @field_validator("path")
    @classmethod
    def _path_or_url(cls, value: str) -> str:
        if not value.startswith(("/", "ws://", "wss://", "${")):
            raise ValueError("path must begin with / (or be a whole ws:// or wss:// URL)")
        return value


def _parse(payload: bytes, text: bool) -> tuple[str, dict[str, Any]] | Unknown | Malformed:
    """Return a message's kind in lower case and its fields by lower-case name; what is no such message as an event."""
    if not text:
        return Unknown("binary")
    try:
        message = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Malformed(f"not JSON: {error}")
    if not isinstance(message, dict):
        return Malformed("not a JSON object")
    fields = {name.lower(): value for name, value in message.items()}
    kind = fields.get("kind")
    if not isinstance(kind, str):
        named = fields.get("type")
        return Unknown(named if isinstance(named, str) else "")
    return kind.lower(), fields


def _part(fields: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a nested object by lower-case name of its fields; empty where there is none."""
    part = fields.get(name)
    return {key.lower(): value for key, value in part.items()} if isinstance(part, dict) else {}


def _audio(payload: bytes) -> bytes | None:
    """Return the audio of a message in one of the usual forms without parsing it as JSON; None when it is not plain."""
    head = _AUDIO_HEAD.match(payload)
    if head is None:
        return None
    start = head.end()
    try:
        return pybase64.b64decode(payload[start : payload.find(b'"', start)], validate=True)
    except binascii.Error:
        return None


def _audio_events(fields: Mapping[str, Any]) -> Sequence[Event]:
    encoded = _part(fields, "audiodata").get("data")
    if not isinstance(encoded, str):
        return (Malformed("AudioData without audioData.data"),)
    if not encoded:
        return NO_EVENTS
    try:
        return (AudioIn(pybase64.b64decode(encoded, validate=True)),)
    except (binascii.Error, ValueError) as error:
        return (Malformed(f"audio is not base64: {error}"),)


class AcsMediaCaller(CallerSession):
    """The caller's side of one call's media socket: the service as the backend sees it."""

    def __init__(self, url: str, options: AcsMediaOptions, identity: CallIdentity) -> None:
        number = identity.values.get("caller_number", options.caller_number)
        participant = number if ":" in number else f"4:{number}"
        self._url = url
        self._format = AudioFormat(options.sample_rate)
        raw_id = json.dumps(participant).encode()
        self.splice = new_splice(_STAMP_HEAD, UTC_MS, b'Z","participantRawID":' + raw_id + b',"data":"', PREPARED)
        self.connection_id = str(uuid.uuid5(uuid.NAMESPACE_OID, identity.call_id))
        self.subscription_id = self.connection_id

    def open(self) -> SetupStep:
        """Dial the backend's media socket."""
        ids = {CONNECTION_ID_HEADER: self.connection_id, CORRELATION_ID_HEADER: self.connection_id}
        return Dial(self._url, (), ids)

    def on_connected(self) -> Sequence[Outgoing]:
        """Say how the audio travels."""
        metadata = {
            "subscriptionId": self.subscription_id,
            "encoding": "PCM",
            "sampleRate": self._format.sample_rate_hz,
            "channels": 1,
            "length": self._format.frame_bytes,
        }
        return (_message({"kind": "AudioMetadata", "audioMetadata": metadata}),)

    def decode(self, payload: bytes, text: bool) -> Sequence[Event]:
        """Return what the backend says."""
        audio = _audio(payload) if text else None
        if audio:
            return (AudioIn(audio),)
        message = _parse(payload, text)
        if isinstance(message, Unknown | Malformed):
            return (message,)
        kind, fields = message
        match kind:
            case "audiodata":
                return _audio_events(fields)
            case "stopaudio":
                return (Interrupted(),)
            case _:
                return (Unknown(kind),)

    def dtmf(self, digit: str) -> Sequence[Outgoing]:
        """Press a key."""
        return (_message({"kind": "DtmfData", "dtmfData": {"data": digit}}),)

    @property
    def audio_form(self) -> AudioForm | None:
        """Audio as the service's own SDKs write it."""
        return _AUDIO_FORM

    def template_values(self) -> Mapping[str, str]:
        """Return `call_connection_id`."""
        return {"call_connection_id": self.connection_id}


class AcsMediaAgent(AgentSession):
    """The backend's side of one call's media socket."""

    def __init__(self, casing: Casing) -> None:
        self._stop = Message(_STOP[casing])

    def decode(self, payload: bytes, text: bool) -> Sequence[Event]:
        """Return what the service says."""
        audio = _audio(payload) if text else None
        if audio:
            return (AudioIn(audio),)
        message = _parse(payload, text)
        if isinstance(message, Unknown | Malformed):
            return (message,)
        kind, fields = message
        match kind:
            case "audiodata":
                return _audio_events(fields)
            case "dtmfdata":
                digit = _part(fields, "dtmfdata").get("data")
                return (Dtmf(digit),) if isinstance(digit, str) else (Malformed("DtmfData without dtmfData.data"),)
            case "audiometadata":
                return NO_EVENTS
            case _:
                return (Unknown(kind),)

    def stamp(self, prepared: bytes, sequence: int, unix_ns: int) -> bytes:
        """Return the frame as it was prepared: the backend's audio carries no stamp."""
        return prepared

    def interrupted(self) -> Sequence[Message]:
        """Make the service drop unplayed audio."""
        return (self._stop,)


class AcsMediaDialect(Dialect):
    """See the module's text."""

    name: ClassVar[str] = "acs_media"
    options_type: ClassVar[type[DialectOptions]] = AcsMediaOptions
    options: AcsMediaOptions

    def __init__(self, target: str, options: DialectOptions) -> None:
        super().__init__(target, options)
        places = re.split(r"\$\{[^}]*\}", urlsplit(self.options.path).path)
        self._path = re.compile("[^/]+".join(map(re.escape, places)))
        self._strangers = 0

    @property
    def caller_format(self) -> AudioFormat:
        """PCM in 20 ms frames at the rate of the options."""
        return AudioFormat(self.options.sample_rate)

    def prepare_caller(self, frames: Sequence[bytes]) -> list[bytes]:
        """Encode all but what differs from call to call."""
        ends = (b'","silent":false}}', b'","silent":true}}')
        return [pybase64.b64encode(frame) + ends[not any(frame)] for frame in frames]

    def caller(self, identity: CallIdentity) -> AcsMediaCaller:
        """Return the caller's side of a new call."""
        path = identity.values.get("path", self.options.path)
        scheme, _, rest = self.target.partition("://")
        url = path if "://" in path else f"{'wss' if scheme == 'https' else 'ws'}://{rest}{path}"
        return AcsMediaCaller(url, self.options, identity)

    def prepare_agent(self, frames: Sequence[bytes]) -> list[bytes]:
        """Encode the whole message."""
        head, tail = _AUDIO[self.options.casing]
        return [head + pybase64.b64encode(frame) + tail for frame in frames]

    def agent(self, call_id: str) -> AcsMediaAgent:
        """Return the agent's side of a call."""
        return AcsMediaAgent(self.options.casing)

    def socket_call_id(self, path: str, headers: Mapping[str, str]) -> str | None:
        """Return the call connection id of the handshake's headers, a number where there is none."""
        if not self._path.fullmatch(urlsplit(path).path):
            return None
        self._strangers += 1
        return headers.get(CONNECTION_ID_HEADER) or f"socket-{self._strangers}"


def _message(fields: Mapping[str, Any]) -> Message:
    return Message(json.dumps(fields, separators=(",", ":")).encode())
