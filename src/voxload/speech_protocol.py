"""The WebSocket protocol of Azure's Speech service: messages with headers, as text or binary, and their bodies; no I/O.

A text message is header lines, an empty line and a body, all with CRLF; a binary message is the length of its headers
as two bytes (big-endian), the headers, each line ending with CRLF, and the payload. Source: Microsoft, "Speech service
WebSocket protocol", and what its SDK 1.53 sends and accepts.
"""

from __future__ import annotations

import struct
from typing import Literal, NamedTuple

import msgspec

from voxload.clock import utc_of

SUBPROTOCOL = "USP"
"""What the SDK offers as Sec-WebSocket-Protocol."""
KEY_HEADER = "Ocp-Apim-Subscription-Key"
CONNECTION_HEADER = "X-ConnectionId"

RecognitionMode = Literal["interactive", "conversation", "dictation"]
MODES: tuple[RecognitionMode, ...] = ("interactive", "conversation", "dictation")
UNIVERSAL_PATHS = ("/stt/speech/universal/v2", "/speech/universal/v2")
"""Recognition with the mode in speech.context: what the SDK asks for behind `SpeechConfig(endpoint=…)`, and the same
at the address of a region."""
SYNTHESIS_PATHS = ("/tts/cognitiveservices/websocket/v1", "/cognitiveservices/websocket/v1")
"""Synthesis over a WebSocket, behind `SpeechConfig(endpoint=…)` and `SpeechConfig(host=…)`."""
SYNTHESIS_STREAM_PATHS = ("/tts/cognitiveservices/websocket/v2", "/cognitiveservices/websocket/v2")
"""Likewise for texts that come in pieces, as a language model writes them."""
SYNTHESIS_REST_PATHS = ("/tts/cognitiveservices/v1", "/cognitiveservices/v1")

# client to service
SPEECH_CONFIG = "speech.config"
SPEECH_CONTEXT = "speech.context"
AUDIO = "audio"
SSML = "ssml"
SYNTHESIS_CONTEXT = "synthesis.context"
TEXT_PIECE = "text.piece"
TEXT_END = "text.end"
# service to client
TURN_START = "turn.start"
TURN_END = "turn.end"
SPEECH_START_DETECTED = "speech.startDetected"
SPEECH_END_DETECTED = "speech.endDetected"
SPEECH_HYPOTHESIS = "speech.hypothesis"
SPEECH_FRAGMENT = "speech.fragment"
SPEECH_PHRASE = "speech.phrase"
RESPONSE = "response"
AUDIO_METADATA = "audio.metadata"

JSON = "application/json; charset=utf-8"
TICK_NS = 100
"""Offsets and durations count ticks of 100 ns."""

_LENGTH = struct.Struct(">H")
_WAV_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")


class SpeechProtocolError(ValueError):
    """A message that is none of this protocol."""


class SpeechMessage(NamedTuple):
    """One message that was received."""

    path: str
    """In lower case, as are the names of `headers`."""
    request_id: str
    headers: dict[str, str]
    body: bytes


def recognition_path(mode: RecognitionMode) -> str:
    """Return the URL path of recognition in a mode, as behind `SpeechConfig(host=…)`."""
    return f"/speech/recognition/{mode}/cognitiveservices/v1"


def ticks(span_ns: int) -> int:
    """Return ns as ticks, rounded down."""
    return span_ns // TICK_NS


def timestamp(unix_time_ns: int) -> str:
    """Return a Unix time in ns as X-Timestamp has it: `2026-11-30T12:00:00.000Z`."""
    return utc_of(unix_time_ns).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def _header_lines(path: str, request_id: str, content_type: str, stamp: str, stream_id: str) -> str:
    lines = [f"X-Timestamp:{stamp}"] if stamp else []
    lines.append(f"Path:{path}")
    if content_type:
        lines.append(f"Content-Type:{content_type}")
    if request_id:
        lines.append(f"X-RequestId:{request_id}")
    if stream_id:
        lines.append(f"X-StreamId:{stream_id}")
    return "".join(f"{line}\r\n" for line in lines)


def text_message(path: str, request_id: str, body: bytes, content_type: str = JSON, stamp: str = "") -> bytes:
    """Return a text message; `stamp` is its X-Timestamp, which clients send and the service does not."""
    return _header_lines(path, request_id, content_type, stamp, "").encode() + b"\r\n" + body


def binary_head(path: str, request_id: str, content_type: str = "", stamp: str = "", stream_id: str = "") -> bytes:
    """Return all of a binary message before its payload; a message is `head + payload`, so that heads may be reused."""
    headers = _header_lines(path, request_id, content_type, stamp, stream_id).encode()
    return _LENGTH.pack(len(headers)) + headers


def read_text(message: bytes) -> SpeechMessage:
    """Read a text message.

    Raises:
        SpeechProtocolError: it has no headers, or no path.
    """
    head, separator, body = message.partition(b"\r\n\r\n")
    if not separator:
        raise SpeechProtocolError("a text message without an empty line after its headers")
    return _read(head, body)


def read_binary(message: bytes) -> SpeechMessage:
    """Read a binary message.

    Raises:
        SpeechProtocolError: it is shorter than its headers, or has no path.
    """
    if len(message) < 2:
        raise SpeechProtocolError("a binary message without the length of its headers")
    end = 2 + int.from_bytes(message[:2], "big")
    if len(message) < end:
        raise SpeechProtocolError("a binary message that is shorter than its headers")
    return _read(message[2:end], message[end:])


def _read(head: bytes, body: bytes) -> SpeechMessage:
    headers: dict[str, str] = {}
    for line in head.decode("utf-8", "replace").split("\r\n"):
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    path = headers.get("path", "").lower()
    if not path:
        raise SpeechProtocolError("a message without a path")
    return SpeechMessage(path, headers.get("x-requestid", ""), headers, body)


def wav_header(sample_rate_hz: int, audio_bytes: int = 0, mulaw: bool = False) -> bytes:
    """Return the header of mono audio, 16-bit PCM or µ-law.

    Without a length it is what the first audio message of a stream carries: both of its lengths are 0.
    """
    width = 1 if mulaw else 2
    whole = audio_bytes + _WAV_HEADER.size - 8 if audio_bytes else 0
    return _WAV_HEADER.pack(
        b"RIFF", whole, b"WAVE", b"fmt ", 16, 7 if mulaw else 1, 1, sample_rate_hz, width * sample_rate_hz, width,
        8 * width, b"data", audio_bytes,
    )  # fmt: skip


class Word(msgspec.Struct, rename="pascal", omit_defaults=True):
    """A word with its place in the audio, in ticks."""

    word: str
    offset: int = 0
    duration: int = 0
    confidence: float | None = None


class Alternative(msgspec.Struct, rename="pascal", omit_defaults=True):
    """One way to understand a phrase, in the detailed format."""

    confidence: float
    lexical: str
    itn: str = msgspec.field(name="ITN")
    masked_itn: str = msgspec.field(name="MaskedITN")
    display: str
    words: list[Word] | None = None


class PrimaryLanguage(msgspec.Struct, rename="pascal"):
    """The language that was detected, where several were offered."""

    language: str
    confidence: str = "High"


class Phrase(msgspec.Struct, rename="pascal", omit_defaults=True):
    """The body of speech.phrase: a final result; offset and duration in ticks from the start of the audio.

    `recognition_status` is `Success`, `NoMatch`, `InitialSilenceTimeout`, `BabbleTimeout`, `Error` or `EndOfDictation`.
    """

    recognition_status: str
    display_text: str = ""
    offset: int = -1
    duration: int = -1
    n_best: list[Alternative] | None = None
    id: str = ""
    primary_language: PrimaryLanguage | None = None
    speaker_id: str = ""


class Hypothesis(msgspec.Struct, rename="pascal", omit_defaults=True):
    """The body of speech.hypothesis and speech.fragment: an interim result."""

    text: str
    offset: int = -1
    duration: int = -1
    id: str = ""
    primary_language: PrimaryLanguage | None = None
    speaker_id: str = ""


class Detected(msgspec.Struct, rename="pascal", omit_defaults=True):
    """The body of speech.startDetected and speech.endDetected: where speech begins or the audio ends, in ticks."""

    offset: int = -1
