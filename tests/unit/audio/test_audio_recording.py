"""Recordings: what was said, at the instant at which it was heard, within bounded memory."""

from __future__ import annotations

import io
import struct
import wave
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxload.audio.codec import encode_audio
from voxload.audio.corpus import load_corpus
from voxload.audio.playout import Ear
from voxload.audio.recording import MOMENTS_MAX, RATE_HZ, CallRecording, RecordingData
from voxload.audio.recording_keeper import FinishedRecording, RecordingKeeper, RecordingPolicy
from voxload.clock import NS_PER_MS, NS_PER_S
from voxload.errors import BadInputError

T0 = 5 * NS_PER_S
FRAME_NS = 20 * NS_PER_MS


def tone(duration_ms: int, rate_hz: int = RATE_HZ, hz: float = 440.0) -> npt.NDArray[np.int16]:
    time_s = np.arange(duration_ms * rate_hz // 1000) / rate_hz
    return (10_000 * np.sin(2 * np.pi * hz * time_s)).astype(np.int16)


def frames(samples: npt.NDArray[np.int16], encoding: str = "pcm16", rate_hz: int = RATE_HZ) -> list[bytes]:
    audio = encode_audio(samples, encoding)  # type: ignore[arg-type]
    size = rate_hz // 50 * (2 if encoding == "pcm16" else 1)
    return [audio[at : at + size] for at in range(0, len(audio), size)]


def spans_ms(channel: npt.NDArray[np.int16]) -> list[tuple[int, int]]:
    """Return the stretches of sound, joined over dips of under 5 ms."""
    loud = np.flatnonzero(np.abs(channel.astype(int)) > 300)
    if not len(loud):
        return []
    cuts = np.flatnonzero(np.diff(loud) > RATE_HZ // 200)
    starts, ends = np.r_[loud[0], loud[cuts + 1]], np.r_[loud[cuts], loud[-1]]
    return [(round(a / 16), round(b / 16)) for a, b in zip(starts, ends, strict=True)]


@pytest.mark.parametrize(("encoding", "rate_hz"), [("pcm16", 16_000), ("pcm16", 24_000), ("mulaw", 8_000)])
def test_both_sides_are_heard_at_their_instants(encoding: str, rate_hz: int) -> None:
    recording = CallRecording(rate_hz, encoding)  # type: ignore[arg-type]
    recording.caller(T0 + 100 * NS_PER_MS, tone(200, 8_000), 8_000)
    for number, audio in enumerate(frames(tone(300, rate_hz), encoding, rate_hz)):
        recording.agent(T0 + 500 * NS_PER_MS + number * FRAME_NS, audio)
    stereo = recording.render(T0, T0 + NS_PER_S)
    assert stereo.shape == (RATE_HZ, 2)
    assert stereo.dtype == np.int16
    for channel, (start_ms, end_ms) in ((0, (100, 300)), (1, (500, 800))):
        ((first, last),) = spans_ms(stereo[:, channel])
        assert abs(first - start_ms) <= 2
        assert abs(last - end_ms) <= 2
    heard = stereo[RATE_HZ // 2 + 320 : RATE_HZ // 2 + 4000, 1].astype(float)
    level = np.sqrt(np.mean(heard**2))
    assert level == pytest.approx(10_000 / np.sqrt(2), rel=0.03)


def test_real_speech_survives_within_the_noise_of_mulaw() -> None:
    spoken = load_corpus().greeting
    assert spoken.sample_rate_hz == RATE_HZ
    recording = CallRecording(RATE_HZ, "pcm16")
    for number, audio in enumerate(frames(spoken.samples)):
        recording.agent(T0 + number * FRAME_NS, audio)
    heard = recording.render(T0, T0 + spoken.duration_ns)[:, 1].astype(float)
    noise = heard - spoken.samples[: len(heard)]
    assert 10 * np.log10(np.mean(spoken.samples.astype(float) ** 2) / np.mean(noise**2)) > 30


def test_a_gap_stays_a_gap_and_silence_costs_nothing() -> None:
    recording = CallRecording(RATE_HZ, "pcm16")
    parts = frames(tone(200))
    for number, audio in enumerate(parts):
        late_ns = 70 * NS_PER_MS if number >= 5 else 0
        recording.agent(T0 + number * FRAME_NS + late_ns, audio)
    held = recording.size_bytes
    assert held == 200 * 16
    recording.agent(T0 + NS_PER_S, bytes(640 * 50))
    assert recording.size_bytes == held
    assert spans_ms(recording.render(T0, T0 + NS_PER_S)[:, 1]) == [(0, 100), (170, 270)]
    quiet = CallRecording(8_000, "mulaw")
    quiet.agent(T0, b"\xff\x7f" * 80)
    assert quiet.size_bytes == 0


def test_an_interruption_drops_what_had_not_played() -> None:
    recording = CallRecording(RATE_HZ, "pcm16")
    for number, audio in enumerate(frames(tone(1000))):
        recording.agent(T0 + number * FRAME_NS, audio)
    recording.flush(T0 + 450 * NS_PER_MS)
    assert recording.size_bytes == 450 * 16
    for number, audio in enumerate(frames(tone(100))):
        recording.agent(T0 + 700 * NS_PER_MS + number * FRAME_NS, audio)
    assert spans_ms(recording.render(T0, T0 + NS_PER_S)[:, 1]) == [(0, 450), (700, 800)]
    recording.flush(T0)
    recording.flush(T0)
    assert recording.size_bytes == 0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 200), st.integers(1, 60)), max_size=12), st.integers(0, 1500))
def test_what_is_rendered_is_what_the_ear_heard(bursts: list[tuple[int, int]], flush_ms: int) -> None:
    """Packets of any size, in bursts and late, put where the playout model plays them."""
    ear, recording = Ear(RATE_HZ, "pcm16", 60 * NS_PER_MS), CallRecording(RATE_HZ, "pcm16")
    now_ns, flushed = T0, False
    for gap_ms, length_ms in bursts:
        now_ns += gap_ms * NS_PER_MS
        if not flushed and now_ns - T0 > flush_ms * NS_PER_MS:
            flushed = True
            ear.flush(now_ns)
            recording.flush(now_ns)
        audio = tone(length_ms).tobytes()
        ear.hear(audio, now_ns)
        # The end of what has arrived, less its length, is where this packet begins to play.
        recording.agent(ear.playout.end_ns - length_ms * NS_PER_MS, audio)
    stereo = recording.render(T0, T0 + 60 * NS_PER_S)
    assert recording.size_bytes == pytest.approx(ear.heard_ns * 16 / NS_PER_MS, abs=1)
    sounding = sum(last - first for first, last in spans_ms(stereo[:, 1]))
    # Where stretches meet, the resampled edges and the joining of dips blur up to 6 ms.
    assert abs(sounding - ear.heard_ns / NS_PER_MS) <= 1 + 6 * len(bursts)


def test_memory_is_bounded_and_the_call_says_so() -> None:
    recording = CallRecording(RATE_HZ, "pcm16", limit_ns=NS_PER_S)
    for number in range(500):
        recording.agent(T0 + number * FRAME_NS, tone(20).tobytes())
        recording.moment(T0, "x")
    assert recording.size_bytes == RATE_HZ
    assert recording.truncated
    for _ in range(MOMENTS_MAX):
        recording.moment(T0, "x")
    assert len(recording.moments) == MOMENTS_MAX


def test_audio_outside_the_call_is_cut_and_overlaps_saturate() -> None:
    recording = CallRecording(RATE_HZ, "pcm16")
    loud = np.full(RATE_HZ, 30_000, np.int16)
    recording.caller(T0 - 500 * NS_PER_MS, loud, RATE_HZ)
    recording.caller(T0 - 500 * NS_PER_MS, loud, RATE_HZ)
    recording.caller(T0 + 10 * NS_PER_S, loud, RATE_HZ)
    stereo = recording.render(T0, T0 + NS_PER_S)
    assert set(stereo[: RATE_HZ // 2, 0]) == {32_767}
    assert not stereo[RATE_HZ // 2 :].any()
    assert recording.render(T0, T0).shape == recording.render(T0, T0 - 1).shape == (0, 2)


def chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 12
    while at < len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        found.append((name, data[at + 8 : at + 8 + size]))
        at += 8 + size + (size & 1)
    assert at == len(data)
    return found


def test_the_file_holds_two_channels_and_the_labels(tmp_path: Path) -> None:
    recording = CallRecording(RATE_HZ, "pcm16")
    recording.caller(T0, tone(100), RATE_HZ)
    recording.moment(T0 + 1500 * NS_PER_MS, "underrun", "speech broke\toff\nhere", 240 * NS_PER_MS)
    recording.moment(T0 + 500 * NS_PER_MS, "barge_in")
    recording.moment(T0 + 99 * NS_PER_S, "later")
    path = tmp_path / "call-0007.wav"
    recording.write_wav(path, T0, T0 + 2 * NS_PER_S)
    data = path.read_bytes()
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getnchannels(), file.getframerate(), file.getnframes()) == (2, RATE_HZ, 2 * RATE_HZ)
        heard = np.frombuffer(file.readframes(2 * RATE_HZ), "<i2").reshape(-1, 2)
    assert np.array_equal(heard, recording.render(T0, T0 + 2 * NS_PER_S))
    lines = path.with_suffix(".txt").read_text().splitlines()
    assert lines == ["0.500000\t0.500000\tbarge_in", "1.500000\t1.740000\tunderrun: speech broke off here"]
    assert struct.unpack_from("<I", data, 4)[0] == len(data) - 8
    parts = dict(chunks(data))
    assert struct.unpack_from("<I4x", parts[b"cue "])[0] == 2
    positions = [struct.unpack_from("<I", parts[b"cue "], 4 + 24 * number + 20)[0] for number in range(2)]
    assert positions == [8_000, 24_000]
    assert b"underrun: speech broke off here\0" in parts[b"LIST"]
    assert struct.pack("<I", 240 * 16) in parts[b"LIST"]


@pytest.mark.parametrize(
    ("text", "kind", "amount"),
    [("1%", "share", 0.01), (" 0.5 % ", "share", 0.005), ("100%", "share", 1), ("10", "count", 10),
     ("worst:20", "worst", 20), ("0", "count", 0)],
)  # fmt: skip
def test_policies_are_read(text: str, kind: str, amount: float) -> None:
    policy = RecordingPolicy.parse(text)
    assert (policy.kind, policy.amount) == (kind, pytest.approx(amount))


@pytest.mark.parametrize(
    "text",
    ["", "some", "-1", "-1%", "101%", "1.5", "worst", "worst:", "worst:x", "worst:1%", "worst:9999", "nan%", "1e3"],
)
def test_other_policies_are_refused(text: str) -> None:
    with pytest.raises(BadInputError, match=r"record|calls|memory"):
        RecordingPolicy.parse(text)


def test_a_recording_travels_as_data() -> None:
    recording = CallRecording(24_000, "pcm16")
    recording.caller(T0 + 100 * NS_PER_MS, tone(200, 8_000), 8_000)
    for number, audio in enumerate(frames(tone(300, 24_000), "pcm16", 24_000)):
        recording.agent(T0 + 500 * NS_PER_MS + number * FRAME_NS, audio)
    recording.moment(T0 + 400 * NS_PER_MS, "turn", "one", 5)
    body = msgspec.msgpack.encode(recording.to_data())
    arrived = CallRecording.from_data(msgspec.msgpack.decode(body, type=RecordingData))
    assert arrived.wav(T0, T0 + NS_PER_S) == recording.wav(T0, T0 + NS_PER_S)
    assert arrived.label_track(T0, T0 + NS_PER_S) == recording.label_track(T0, T0 + NS_PER_S) != ""
    assert arrived.sent_wav() == recording.sent_wav()


def keeper(policy: str, seed: int = 7, planned: int = 0) -> tuple[RecordingKeeper, dict[str, int]]:
    """Return a keeper, and the recordings (index by id) that are left when all that it hands on is obeyed."""
    left: dict[str, int] = {}

    def hand_on(finished: FinishedRecording, replaces: str) -> None:
        left[finished.call_id] = finished.index
        if replaces:
            del left[replaces]

    return RecordingKeeper(RecordingPolicy.parse(policy), seed, planned, hand_on), left


@pytest.mark.parametrize("shards", [1, 3])
def test_a_share_is_the_same_calls_for_any_number_of_shards(shards: int) -> None:
    keepers = [keeper("5%")[0] for _ in range(shards)]
    chosen = {index for index in range(4000) if keepers[index % shards].wants(index)}
    assert 150 < len(chosen) < 250
    assert chosen == {index for index in range(4000) if keeper("5%")[0].wants(index)}
    assert chosen != {index for index in range(4000) if keeper("5%", 8)[0].wants(index)}
    more, _ = keeper("10%")
    assert all(more.wants(index) for index in chosen)


@pytest.mark.parametrize(("planned", "expected"), [(1000, 10), (4, 4), (0, 10)])
def test_a_number_of_calls_is_met_exactly(planned: int, expected: int) -> None:
    chooser, _ = keeper("10", 7, planned)
    assert sum(chooser.wants(index) for index in range(2000)) == expected


def finished(index: int) -> FinishedRecording:
    return FinishedRecording(index, f"call-{index}", CallRecording(8_000, "mulaw"), 0, 1)


@given(st.lists(st.integers(0, 50), max_size=60), st.integers(1, 8))
def test_only_the_worst_are_left(badnesses: list[int], count: int) -> None:
    worst, left = keeper(f"worst:{count}")
    for index, badness in enumerate(badnesses):
        worst.ended(finished(index), badness)
        so_far = sorted(range(index + 1), key=lambda each: (-badnesses[each], each))[:count]
        assert sorted(left.values()) == sorted(so_far)


def test_none_of_the_worst_is_none() -> None:
    assert not keeper("worst:0")[0].wants(0)


def test_a_share_keeps_every_call_that_was_recorded() -> None:
    some, left = keeper("50%")
    for index in range(30):
        some.ended(finished(index), float(index))
    assert list(left.values()) == list(range(30))
