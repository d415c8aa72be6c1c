"""Speech cut into the equal frames that a dialect sends."""

from __future__ import annotations

from dataclasses import dataclass

from voxload.audio.codec import Encoding, decode_audio, encode_audio, resample, samples_to_ns
from voxload.audio.corpus import Utterance
from voxload.audio.speech import active_bounds
from voxload.errors import BadInputError

_SILENCE = {"pcm16": b"\0", "mulaw": b"\xff"}


@dataclass(frozen=True, slots=True)
class FrameSet:
    """An utterance as frames of equal size, the last one padded with silence.

    `active_start_ns` and `active_end_ns` bound the speech (end exclusive), counted from the first sample of frame 0;
    `last_active_frame` is the index of the frame that holds the last active sample.
    """

    frames: tuple[bytes, ...]
    active_start_ns: int
    active_end_ns: int
    last_active_frame: int


def _frame_samples(sample_rate_hz: int, frame_ms: int) -> int:
    samples, rest = divmod(sample_rate_hz * frame_ms, 1000)
    if rest or samples <= 0:
        raise BadInputError(f"a frame of {frame_ms} ms at {sample_rate_hz} Hz is not a whole number of samples")
    return samples


def silence_frame(sample_rate_hz: int, encoding: Encoding, frame_ms: int) -> bytes:
    """Return one frame of digital silence.

    Raises:
        BadInputError: the frame is not a whole number of samples.
    """
    width = 2 if encoding == "pcm16" else 1
    return _SILENCE[encoding] * (width * _frame_samples(sample_rate_hz, frame_ms))


def cut_frames(utterance: Utterance, sample_rate_hz: int, encoding: Encoding, frame_ms: int) -> FrameSet:
    """Return an utterance as frames of `frame_ms` in the given format.

    Where resampling or µ-law changes the samples (8 kHz loses what a fricative has above 4 kHz), the bounds of the
    speech are those of what is sent; else they are the utterance's own.

    Raises:
        BadInputError: the frame is not a whole number of samples, or the utterance is empty.
    """
    silence = silence_frame(sample_rate_hz, encoding, frame_ms)
    samples = resample(utterance.samples, utterance.sample_rate_hz, sample_rate_hz)
    if not len(samples):
        raise BadInputError(f"utterance {utterance.id!r} is empty")
    audio = encode_audio(samples, encoding)
    start = utterance.active_start * sample_rate_hz // utterance.sample_rate_hz
    end = max(start + 1, utterance.active_end * sample_rate_hz // utterance.sample_rate_hz)
    if sample_rate_hz != utterance.sample_rate_hz or encoding != "pcm16":
        start, end = active_bounds(decode_audio(audio, encoding), sample_rate_hz) or (start, end)
    size = len(silence)
    audio += silence[: -len(audio) % size]
    return FrameSet(
        tuple(audio[offset : offset + size] for offset in range(0, len(audio), size)),
        samples_to_ns(start, sample_rate_hz),
        samples_to_ns(end, sample_rate_hz),
        (end - 1) // _frame_samples(sample_rate_hz, frame_ms),
    )
