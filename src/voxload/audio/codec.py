"""WAV files in, linear and µ-law samples in and out, and resampling."""

from __future__ import annotations

import io
import struct
import warnings
import wave
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import soxr

from voxload.errors import BadInputError, Problem

with warnings.catch_warnings():
    # Python 3.11 and 3.12 announce that audioop leaves the standard library; from 3.13 on audioop-lts provides it.
    warnings.simplefilter("ignore", DeprecationWarning)
    import audioop

Samples = npt.NDArray[np.int16]
"""Mono audio: shape (n,), full scale 32,768."""

Encoding = Literal["pcm16", "mulaw"]
"""How samples travel: 16-bit little-endian, or 8-bit µ-law (ITU-T G.711)."""

FULL_SCALE = 32_768
RATE_MIN_HZ, RATE_MAX_HZ = 4_000, 192_000
_PCM16_SUGGESTION = "convert it to 16-bit PCM, for example: ffmpeg -i in.wav -ac 1 -c:a pcm_s16le out.wav"

rms = audioop.rms
"""rms(pcm16, 2): root mean square of samples, truncated to an integer; 0 for no samples."""
peak = audioop.max
"""peak(pcm16, 2): the largest absolute sample; 0 for no samples."""


MULAW_SAMPLES = audioop.ulaw2lin(bytes(range(256)), 2)
"""The 16-bit samples of all 256 µ-law bytes."""


def amplitude(level_dbfs: float) -> float:
    """Return the amplitude of a level in dB relative to full scale (0 dBFS is an RMS of 32,768)."""
    return float(FULL_SCALE * 10 ** (level_dbfs / 20))


def samples_to_ns(samples: int, sample_rate_hz: int) -> int:
    """Return how long a number of samples lasts, in ns (rounded down)."""
    return samples * 1_000_000_000 // sample_rate_hz


def read_wav(source: Path | str | bytes, name: str = "") -> tuple[Samples, int]:
    """Return the samples of a 16-bit PCM WAV file and its sample rate in Hz; several channels are averaged into one.

    `source` is a path or the file's bytes; `name` stands for the file in errors.

    Raises:
        BadInputError: the file is missing, is no WAV file, or holds other than 16-bit PCM.
    """
    name = name or (source if isinstance(source, str) else str(source) if isinstance(source, Path) else "WAV data")
    try:
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
    except OSError as error:
        raise BadInputError([Problem(f"cannot be read: {error.strerror or error}", name)]) from None
    try:
        with wave.open(io.BytesIO(data)) as file:
            channels, width, rate_hz = file.getnchannels(), file.getsampwidth(), file.getframerate()
            raw = file.readframes(file.getnframes())
    except (wave.Error, EOFError, struct.error, ValueError, RuntimeError, OSError) as error:
        # `wave` lets RuntimeError and others out for chunk sizes that make no sense.
        suggestion = _PCM16_SUGGESTION if data[:4] == b"RIFF" else "expected a WAV file with 16-bit PCM"
        raise BadInputError(
            [Problem(f"not a readable WAV file: {str(error) or 'damaged'}", name, 0, suggestion)]
        ) from None
    if width != 2:
        raise BadInputError([Problem(f"holds {8 * width}-bit samples, not 16-bit", name, 0, _PCM16_SUGGESTION)])
    if not RATE_MIN_HZ <= rate_hz <= RATE_MAX_HZ:
        raise BadInputError([Problem(f"sample rate {rate_hz} Hz is not within {RATE_MIN_HZ} to {RATE_MAX_HZ}", name)])
    frame = 2 * channels
    samples = np.frombuffer(raw[: len(raw) - len(raw) % frame], dtype="<i2").astype(np.int16)
    if channels > 1:
        samples = np.rint(samples.reshape(-1, channels).mean(axis=1)).astype(np.int16)
    return samples, rate_hz


def write_wav(path: Path, samples: Samples, sample_rate_hz: int) -> None:
    """Write mono 16-bit PCM as a WAV file."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate_hz)
        file.writeframes(encode_audio(samples, "pcm16"))


def resample(samples: Samples, from_hz: int, to_hz: int) -> Samples:
    """Return the samples at another rate (band-limited, without delay, saturating)."""
    if from_hz == to_hz or not len(samples):
        return samples
    # In float, because soxr adds dither to 16-bit output, which would turn digital silence into noise.
    converted = soxr.resample(samples.astype(np.float32), from_hz, to_hz)
    rounded: Samples = np.clip(np.rint(converted), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
    return rounded


def encode_audio(samples: Samples, encoding: Encoding) -> bytes:
    """Return samples as they travel: two bytes each for pcm16, one for mulaw.

    Raises:
        ValueError: the encoding is not known.
    """
    pcm = samples.astype("<i2", copy=False).tobytes()
    if encoding == "pcm16":
        return pcm
    if encoding == "mulaw":
        return audioop.lin2ulaw(pcm, 2)
    raise ValueError(f"unknown audio encoding {encoding!r}")


def decode_pcm(audio: bytes, encoding: Encoding) -> bytes:
    """Return encoded audio as 16-bit PCM; half a sample at the end is dropped.

    Raises:
        ValueError: the encoding is not known.
    """
    if encoding == "pcm16":
        return audio[:-1] if len(audio) & 1 else audio
    if encoding == "mulaw":
        return audioop.ulaw2lin(audio, 2)
    raise ValueError(f"unknown audio encoding {encoding!r}")


def decode_audio(audio: bytes, encoding: Encoding) -> Samples:
    """Return the samples of encoded audio, as `decode_pcm` reads it."""
    return np.frombuffer(decode_pcm(audio, encoding), dtype="<i2").astype(np.int16)
