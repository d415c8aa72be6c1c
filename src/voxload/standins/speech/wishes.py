"""What a client asks of a recognition: context and address of its connection, and the form of its audio."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

from voxload.audio.codec import RATE_MAX_HZ, RATE_MIN_HZ, Encoding
from voxload.clock import NS_PER_MS
from voxload.speech_protocol import MODES, PrimaryLanguage, RecognitionMode

SPEAKER = "Guest-1"


class UnsupportedAudioError(ValueError):
    """Audio that the stand-in does not take."""


class Options(NamedTuple):
    """What a client asks of a recognition."""

    mode: RecognitionMode = "interactive"
    detailed: bool = False
    word_timings: bool = False
    segmentation_ns: int = 0
    initial_silence_ns: int = 0
    language: PrimaryLanguage | None = None
    """What is told to a client that has several to choose from."""
    speaker_id: str = ""
    """What is told to a client that wants speakers told apart: on a call's line there is one."""


def options_of(context: Any, mode: str, query: dict[str, str]) -> Options:
    """Return what the body of speech.context and the query of the URL ask for; `mode` is that of the URL's path."""
    context = context if isinstance(context, dict) else {}
    detection = _part(context, "phraseDetection")
    mode = mode or str(detection.get("mode", "")).lower()
    mode = mode if mode in MODES else "interactive"
    segmentation = _part(_part(detection, mode.upper()), "segmentation")
    output = _part(context, "phraseOutput")
    details = _part(output, "detailed").get("options")
    initial_ms = detection.get("initialSilenceTimeout", query.get("initialSilenceTimeoutMs"))
    return Options(
        mode,
        str(output.get("format", query.get("format", ""))).lower() == "detailed",
        (isinstance(details, list) and "WordTimings" in details) or query.get("wordLevelTimestamps") == "true",
        _ms(segmentation.get("segmentationSilenceTimeoutMs")),
        _ms(initial_ms),
        _language(_part(context, "languageId").get("languages")),
        SPEAKER if "speakerDiarization" in detection else "",
    )


def _language(offered: Any) -> PrimaryLanguage | None:
    """Return the one of some languages that the corpus speaks, or the first of them."""
    names = [name for name in offered if isinstance(name, str)] if isinstance(offered, list) else []
    english = [name for name in names if name.lower().startswith("en")]
    return PrimaryLanguage((english or names)[0]) if names else None


def _part(data: dict[str, Any], name: str) -> dict[str, Any]:
    found = data.get(name)
    return found if isinstance(found, dict) else {}


def _ms(value: Any) -> int:
    """Return milliseconds as ns; 0 when there are none."""
    text = str(value)
    return min(int(text), 600_000) * NS_PER_MS if text.isdecimal() else 0


def audio_format(data: bytes) -> tuple[Encoding, int, bytes]:
    """Return encoding and sample rate of a stream from its WAV header, and the audio behind it.

    Raises:
        UnsupportedAudioError: it is not mono PCM of 16 bits, nor µ-law.
    """
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        return "pcm16", 16_000, data
    place = 12
    kind = channels = rate_hz = bits = 0
    while place + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, place)
        place += 8
        if name == b"data":
            break
        if name == b"fmt " and place + 16 <= len(data):
            kind, channels, rate_hz, _, _, bits = struct.unpack_from("<HHIIHH", data, place)
        place += size + size % 2
    encoding: Encoding = "mulaw" if kind == 7 else "pcm16"
    if kind not in {1, 7} or channels != 1 or bits != (8 if kind == 7 else 16):
        raise UnsupportedAudioError(f"WAV format {kind} with {channels} channels of {bits} bits")
    if not RATE_MIN_HZ <= rate_hz <= RATE_MAX_HZ:
        raise UnsupportedAudioError(f"{rate_hz} samples a second")
    return encoding, rate_hz, data[place:]
