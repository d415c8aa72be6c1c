"""Frames carry the utterance, all of it, in equal pieces with true bounds."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxload.audio.codec import decode_audio
from voxload.audio.corpus import Utterance, load_corpus
from voxload.audio.frames import cut_frames, silence_frame
from voxload.audio.speech import active_bounds
from voxload.errors import BadInputError

SPOKEN = load_corpus().find("billing_question-slt-1")[0]


def test_frames_at_the_utterances_own_rate_are_its_samples():
    frame_set = cut_frames(SPOKEN, 16_000, "pcm16", 20)
    samples = decode_audio(b"".join(frame_set.frames), "pcm16")
    assert {len(frame) for frame in frame_set.frames} == {640}
    assert samples[: len(SPOKEN.samples)].tolist() == SPOKEN.samples.tolist()
    assert len(samples) - len(SPOKEN.samples) < 320
    assert not samples[len(SPOKEN.samples) :].any()
    assert frame_set.active_start_ns == SPOKEN.active_start_ns
    assert frame_set.active_end_ns == SPOKEN.active_end_ns
    assert frame_set.last_active_frame == (SPOKEN.active_end_ns - 1) // 20_000_000


@pytest.mark.parametrize(
    ("rate_hz", "encoding", "frame_ms", "size"),
    [(8_000, "mulaw", 20, 160), (24_000, "pcm16", 20, 960), (16_000, "pcm16", 100, 3_200), (16_000, "mulaw", 30, 480)],
)
def test_bounds_are_those_of_what_is_sent(rate_hz, encoding, frame_ms, size):
    frame_set = cut_frames(SPOKEN, rate_hz, encoding, frame_ms)
    assert {len(frame) for frame in frame_set.frames} == {size}
    samples = decode_audio(b"".join(frame_set.frames), encoding)
    start, end = active_bounds(samples, rate_hz)
    period_ns = 1_000_000_000 // rate_hz
    assert frame_set.active_start_ns == pytest.approx(start * 1_000_000_000 / rate_hz, abs=1)
    assert abs(frame_set.active_end_ns - end * 1_000_000_000 // rate_hz) <= period_ns
    assert abs(frame_set.active_start_ns - SPOKEN.active_start_ns) < 30_000_000
    last = frame_set.frames[frame_set.last_active_frame]
    assert np.abs(decode_audio(last, encoding)).max() > 90
    assert len(frame_set.frames) == -(-SPOKEN.duration_ns // (frame_ms * 1_000_000))


@given(length=st.integers(1, 2_000), frame_ms=st.sampled_from([10, 20, 60]))
def test_any_length_is_padded_to_whole_frames(length, frame_ms):
    samples = np.full(length, 1_000, dtype=np.int16)
    frame_set = cut_frames(Utterance("x", "", "", "", samples, 8_000, 0, length), 8_000, "pcm16", frame_ms)
    audio = decode_audio(b"".join(frame_set.frames), "pcm16")
    assert len(audio) % (8 * frame_ms) == 0
    assert len(audio) - length < 8 * frame_ms
    assert np.count_nonzero(audio) == length
    assert frame_set.last_active_frame == len(frame_set.frames) - 1


def test_what_is_too_soft_to_detect_keeps_its_scaled_bounds():
    samples = np.full(1_600, 20, dtype=np.int16)
    frame_set = cut_frames(Utterance("x", "", "", "", samples, 16_000, 160, 1_440), 8_000, "pcm16", 20)
    assert (frame_set.active_start_ns, frame_set.active_end_ns) == (10_000_000, 90_000_000)


def test_silence_is_silent():
    assert silence_frame(16_000, "pcm16", 20) == bytes(640)
    assert silence_frame(8_000, "mulaw", 20) == b"\xff" * 160
    assert not decode_audio(silence_frame(8_000, "mulaw", 20), "mulaw").any()


@pytest.mark.parametrize(("rate_hz", "frame_ms"), [(11_025, 20), (16_000, 0)])
def test_frames_that_are_no_whole_number_of_samples_are_refused(rate_hz, frame_ms):
    with pytest.raises(BadInputError, match="whole number of samples"):
        cut_frames(SPOKEN, rate_hz, "pcm16", frame_ms)


def test_an_empty_utterance_is_refused():
    empty = dataclasses.replace(SPOKEN, samples=np.zeros(0, dtype=np.int16))
    with pytest.raises(BadInputError, match="empty"):
        cut_frames(empty, 16_000, "pcm16", 20)
