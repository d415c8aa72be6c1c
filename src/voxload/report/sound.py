"""Recordings in a report: the envelope of a WAV file to draw, and a small form of it to carry inside the page."""

from __future__ import annotations

import base64
import io
import struct
import wave
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import soxr

EMBEDDED_MAX_BYTES = 4_000_000
"""Recorded sound that one page carries at most, as base64 text; what does not fit is linked."""
EMBEDDED_RATE_HZ = 8_000
ENVELOPE_POINTS = 480
_DISPLAY_FLOOR_DB = 48.0

Samples = npt.NDArray[np.int16]


class Sound(NamedTuple):
    """A recording as a page shows it: one of `data_uri` and `file` is set (embedded or linked), or neither.

    `channels` holds a peak envelope for each channel, 0 to 100.
    """

    data_uri: str
    file: str
    duration_s: float
    channels: tuple[tuple[int, ...], ...]


def envelope(samples: Samples, points: int) -> list[int]:
    """Return the largest absolute sample (0 to 32,768) of each of `points` equal parts of mono audio, shape (n,).

    Shorter audio gives as many points as it has samples.
    """
    points = min(points, len(samples))
    if points <= 0:
        return []
    starts = np.arange(points) * len(samples) // points
    return [int(value) for value in np.maximum.reduceat(np.abs(samples.astype(np.int32)), starts)]


def display_height(peak: int) -> int:
    """Return how high a peak is drawn, 0 to 100: in dB from -48 dBFS up, since quiet speech is still heard."""
    if peak <= 0:
        return 0
    level_db = 20 * np.log10(peak / 32_768)
    return int(np.clip(round(100 * (1 + level_db / _DISPLAY_FLOOR_DB)), 0, 100))


def read_wav(data: bytes) -> tuple[Samples, int] | None:
    """Return the samples of a 16-bit PCM WAV file, shape (n, channels), and its rate in Hz; None for other files."""
    try:
        with wave.open(io.BytesIO(data)) as file:
            channels, width, rate_hz = file.getnchannels(), file.getsampwidth(), file.getframerate()
            raw = file.readframes(file.getnframes())
    except (wave.Error, EOFError, struct.error, ValueError, RuntimeError, OSError):
        return None
    if width != 2 or rate_hz <= 0:
        return None
    whole = len(raw) - len(raw) % (2 * channels)
    return np.frombuffer(raw[:whole], "<i2").reshape(-1, channels).astype(np.int16), rate_hz


def compact_wav(samples: Samples, rate_hz: int) -> bytes:
    """Return audio of shape (n, channels) as a WAV file of 8 kHz µ-law: a quarter of 16 kHz PCM, played by browsers."""
    if rate_hz != EMBEDDED_RATE_HZ and len(samples):
        slow = soxr.resample(samples.astype(np.float32), rate_hz, EMBEDDED_RATE_HZ)
        samples = np.clip(np.rint(slow), -32_768, 32_767).astype(np.int16)
    channels, body = samples.shape[1], mulaw(samples).tobytes()
    # Format 7 is µ-law; formats other than PCM need the size field of the extension and a `fact` chunk.
    form = struct.pack("<HHIIHHH", 7, channels, EMBEDDED_RATE_HZ, EMBEDDED_RATE_HZ * channels, channels, 8, 0)
    chunks = b"".join(
        name + struct.pack("<I", len(part)) + part + b"\0" * (len(part) & 1)
        for name, part in ((b"fmt ", form), (b"fact", struct.pack("<I", len(samples))), (b"data", body))
    )
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def mulaw(samples: Samples) -> npt.NDArray[np.uint8]:
    """Return 16-bit samples as µ-law bytes (ITU-T G.711)."""
    value = samples.astype(np.int32) >> 2  # 14 bits, as the recommendation has it
    magnitude = np.minimum(np.abs(value), 8158) + 33
    # The segment is the position of the leading one above bit 5: 33 <= magnitude < 2^13.
    segment = np.floor(np.log2(magnitude)).astype(np.int32) - 5
    code = (segment << 4) | ((magnitude >> (segment + 1)) & 0x0F)
    found: npt.NDArray[np.uint8] = (~(code | np.where(value < 0, 0x80, 0)) & 0xFF).astype(np.uint8)
    return found


def sounds(names: Iterable[str], recordings: Mapping[str, bytes] | None) -> dict[str, Sound]:
    """Return what a page shows of recordings, by file name; `names` come in the order in which they may use the space.

    Without `recordings` nothing is known of the files, so they are linked; with them, a name that they lack has none.
    """
    found: dict[str, Sound] = {}
    left = EMBEDDED_MAX_BYTES
    for name in dict.fromkeys(filter(None, names)):
        if name.startswith("/"):
            continue  # not within the run's folder: no relative link
        if recordings is None:
            found[name] = Sound("", name, 0.0, ())
            continue
        audio = read_wav(recordings[name]) if name in recordings else None
        if audio is None:
            continue
        samples, rate_hz = audio
        channels = tuple(
            tuple(display_height(peak) for peak in envelope(samples[:, channel], ENVELOPE_POINTS))
            for channel in range(min(samples.shape[1], 2))
        )
        duration_s = len(samples) / rate_hz
        uri = ""
        # Four characters of base64 for three bytes.
        if duration_s * EMBEDDED_RATE_HZ * samples.shape[1] * 4 / 3 + 200 <= left:
            uri = "data:audio/wav;base64," + base64.b64encode(compact_wav(samples, rate_hz)).decode()
            left -= len(uri)
        found[name] = Sound(uri, "" if uri else name, duration_s, channels)
    return found
