"""The ear's timeline: paced, bursty, late and interrupted audio."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxload.audio.corpus import load_corpus
from voxload.audio.frames import cut_frames, silence_frame
from voxload.audio.playout import Ear, Playout

MS = 1_000_000
BUFFER_NS = 60 * MS
REPLY = load_corpus().reply("billing_question")
FRAMES = cut_frames(REPLY, 16_000, "pcm16", 20)
QUIET = silence_frame(16_000, "pcm16", 20)
T0 = 10_000 * MS
STEP_NS = 20 * MS
LOUD = (np.full(320, 8_000) * np.where(np.arange(320) % 40 < 20, 1, -1)).astype(np.int16).tobytes()


def paced(ear: Ear, frames, start_ns: int = T0, step_ns: int = STEP_NS) -> int:
    for frame in frames:
        ear.hear(frame, start_ns)
        start_ns += step_ns
    return start_ns


def state(ear: Ear) -> tuple[int | bool, ...]:
    return (ear.speaking, ear.onset_ns, ear.last_active_ns, ear.segments, ear.reply_onset_ns, ear.heard_ns)


# --- Playout ----------------------------------------------------------------------------------------------------------


def test_a_burst_plays_one_packet_after_the_other():
    playout = Playout(BUFFER_NS)
    assert [playout.add(T0 + n, 100 * MS, 0) for n in range(5)] == [T0 + n * 100 * MS for n in range(5)]
    assert playout.end_ns == T0 + 500 * MS


def test_the_buffer_absorbs_jitter_up_to_its_length():
    playout = Playout(BUFFER_NS)
    playout.add(T0, STEP_NS, T0)
    assert playout.add(T0 + STEP_NS + BUFFER_NS, STEP_NS, T0 + STEP_NS) == T0 + STEP_NS
    assert playout.underruns == 0
    # One ns later than that the buffer is empty: it fills anew, and the listener hears the whole pause.
    late_ns = T0 + 2 * STEP_NS + BUFFER_NS + 1
    assert playout.add(late_ns, STEP_NS, T0 + 2 * STEP_NS) == late_ns
    assert (playout.underruns, playout.underrun_ns) == (1, BUFFER_NS + 1)
    # and the next packets have their slack again
    assert playout.add(late_ns + STEP_NS + BUFFER_NS, STEP_NS, late_ns + STEP_NS) == late_ns + STEP_NS
    assert playout.underruns == 1


@pytest.mark.parametrize(
    ("gap_ms", "trailing_silence_ms", "underruns"),
    [(1, 0, 1), (1_000, 0, 1), (1_001, 0, 0), (300, 50, 1), (300, 51, 0)],
)
def test_a_pause_is_no_underrun(gap_ms, trailing_silence_ms, underruns):
    playout = Playout(BUFFER_NS)
    playout.add(T0, 500 * MS, 0)
    end_ns = T0 + 500 * MS
    arrival_ns = end_ns + BUFFER_NS + gap_ms * MS
    start_ns = playout.add(arrival_ns, STEP_NS, end_ns - trailing_silence_ms * MS)
    assert playout.underruns == underruns
    assert playout.underrun_ns == underruns * (gap_ms * MS + BUFFER_NS)
    assert start_ns == arrival_ns


def test_flush_drops_what_has_not_played():
    playout = Playout(BUFFER_NS)
    playout.add(T0, 3_000 * MS, 0)
    assert playout.flush(T0 + 1_000 * MS) == 2_000 * MS
    assert playout.flush(T0 + 1_000 * MS) == 0
    assert playout.add(T0 + 1_100 * MS, STEP_NS, T0 + 1_000 * MS) == T0 + 1_100 * MS  # a new spurt, no underrun
    assert playout.underruns == 0
    assert playout.flush(T0 + 9_000 * MS) == 0


# --- Ear: onsets ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate_hz", "encoding"), [(16_000, "pcm16"), (24_000, "pcm16"), (8_000, "mulaw"), (8_000, "pcm16")]
)
def test_the_onset_is_where_the_utterance_has_it(rate_hz, encoding):
    for utterance in load_corpus().agents:
        frames = cut_frames(utterance, rate_hz, encoding, 20)
        ear = Ear(rate_hz, encoding, BUFFER_NS)
        end_ns = paced(ear, frames.frames)
        assert ear.reply_onset_ns == pytest.approx(T0 + frames.active_start_ns, abs=MS)
        # Online the end is that of a 10 ms window; offline a fading tail is followed in 5 ms steps.
        assert ear.last_active_ns == pytest.approx(T0 + frames.active_end_ns, abs=20 * MS)
        assert ear.heard_ns == end_ns - T0
        assert ear.playout.underruns == 0


def test_jitter_within_the_buffer_moves_nothing():
    steady, shaken = Ear(16_000, "pcm16", BUFFER_NS), Ear(16_000, "pcm16", BUFFER_NS)
    paced(steady, FRAMES.frames)
    random = np.random.default_rng(7)
    for number, frame in enumerate(FRAMES.frames):
        late_ns = int(random.integers(0, BUFFER_NS)) if number else 0
        shaken.hear(frame, T0 + number * STEP_NS + late_ns)
    assert state(shaken) == state(steady)
    assert shaken.playout.underruns == 0


@given(sizes=st.lists(st.integers(1, 9_000), min_size=1, max_size=30), spread_ns=st.integers(0, 300 * MS))
@settings(max_examples=60, deadline=None)
def test_burst_and_paced_delivery_are_heard_alike(sizes, spread_ns):
    audio = b"".join(FRAMES.frames)
    steady = Ear(16_000, "pcm16", BUFFER_NS)
    paced(steady, FRAMES.frames)
    burst, position, packets = Ear(16_000, "pcm16", BUFFER_NS), 0, []
    for size in sizes:
        packets.append(audio[position : position + 2 * size])
        position += 2 * size
    packets.append(audio[position:])
    for number, packet in enumerate(packets):
        # Bursty, and never later than real time would have it.
        played_ns = sum(map(len, packets[:number])) * 31_250
        burst.hear(packet, T0 + min(number * spread_ns // len(packets), played_ns))
    assert state(burst) == state(steady)
    assert burst.playout.underruns == 0


def test_a_burst_is_in_the_future():
    ear = Ear(16_000, "pcm16", BUFFER_NS)
    ear.hear(b"".join(FRAMES.frames), T0)
    assert ear.first_sound_ns == T0
    assert ear.last_active_ns > T0 + 3_000 * MS
    assert not ear.turn_over(T0 + 1_000 * MS, 350 * MS)
    assert ear.speaks_at(T0 + FRAMES.active_start_ns + MS)
    assert not ear.speaks_at(T0 + FRAMES.active_start_ns - MS)
    over_ns = ear.last_active_ns + 350 * MS
    assert not ear.turn_over(over_ns - 1, 350 * MS)
    assert ear.turn_over(over_ns, 350 * MS)


# --- Ear: underruns ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stalls", [[(10, 100)], [(10, 100), (30, 61), (40, 400)], [(20, 60)]])
def test_underruns_are_counted_exactly(stalls):
    ear = Ear(16_000, "pcm16", BUFFER_NS)
    start_ns, expected = T0, []
    spare_ns = BUFFER_NS  # how late the next packet may be
    for number in range(60):
        stall_ns = dict(stalls).get(number, 0) * MS
        start_ns += stall_ns
        if stall_ns > spare_ns:
            expected.append(stall_ns + BUFFER_NS - spare_ns)
            spare_ns = BUFFER_NS
        else:
            spare_ns -= stall_ns
        ear.hear(LOUD, start_ns)
        start_ns += STEP_NS
    assert (ear.playout.underruns, ear.playout.underrun_ns) == (len(expected), sum(expected))


def test_pauses_between_replies_are_no_underruns():
    ear = Ear(16_000, "pcm16", BUFFER_NS)
    end_ns = paced(ear, FRAMES.frames)
    end_ns = paced(ear, FRAMES.frames, end_ns + 400 * MS)  # the utterance ends in silence: a pause
    paced(ear, [LOUD] * 20, end_ns + 2_000 * MS)
    paced(ear, [LOUD] * 20, end_ns + 2_400 * MS + 1_100 * MS)  # breaks off in speech, but for more than 1 s
    assert ear.playout.underruns == 0
    assert ear.segments >= 3


def test_silence_that_stalls_is_no_underrun_and_anchors_anew():
    ear = Ear(16_000, "pcm16", BUFFER_NS)
    end_ns = paced(ear, [QUIET] * 50)
    start_ns = end_ns + 500 * MS
    paced(ear, FRAMES.frames, start_ns)
    assert ear.playout.underruns == 0
    assert ear.onset_ns == pytest.approx(start_ns + FRAMES.active_start_ns, abs=MS)


# --- Ear: replies -----------------------------------------------------------------------------------------------------


def test_speech_that_was_going_on_is_no_reply():
    ear = Ear(16_000, "pcm16", BUFFER_NS)
    now_ns = paced(ear, [LOUD] * 50)
    assert ear.reply_onset_ns == T0
    ear.await_reply(now_ns)
    assert (ear.first_sound_ns, ear.reply_onset_ns) == (0, 0)
    now_ns = paced(ear, [LOUD] * 10, now_ns)
    assert ear.reply_onset_ns == 0
    assert not ear.turn_over(now_ns + 5_000 * MS, 350 * MS)
    now_ns = paced(ear, [QUIET] * 20, now_ns)
    assert not ear.speaking
    paced(ear, [LOUD] * 10, now_ns)
    assert ear.reply_onset_ns == now_ns


def test_first_sound_is_an_arrival_and_needs_level():
    ear = Ear(16_000, "pcm16", BUFFER_NS)
    faint = (np.full(320, 8) * np.where(np.arange(320) % 2, 1, -1)).astype(np.int16).tobytes()  # -72 dBFS
    breath = (np.full(320, 13) * np.where(np.arange(320) % 2, 1, -1)).astype(np.int16).tobytes()  # -68 dBFS
    ear.await_reply(T0 + 100 * MS)
    ear.hear(LOUD, T0)  # too early
    ear.hear(faint, T0 + 120 * MS)
    assert ear.first_sound_ns == 0
    ear.hear(breath, T0 + 150 * MS)
    ear.hear(LOUD, T0 + 170 * MS)
    assert ear.first_sound_ns == T0 + 150 * MS


def test_a_reply_in_one_burst_begins_with_its_first_segment():
    ear = Ear(16_000, "pcm16", BUFFER_NS)
    ear.await_reply(T0 - 300 * MS)
    ear.hear(b"".join([*[LOUD] * 10, *[QUIET] * 20, *[LOUD] * 10, *[QUIET] * 20]), T0)
    assert (ear.segments, ear.reply_onset_ns, ear.onset_ns) == (2, T0, T0 + 600 * MS)
    assert not ear.speaking
    assert [ear.speaks_at(T0 + ms * MS) for ms in (100, 300, 700, 900)] == [True, False, True, False]


# --- Ear: interruption ------------------------------------------------------------------------------------------------


def test_flush_ends_speech_now():
    ear = Ear(16_000, "pcm16", BUFFER_NS)
    ear.hear(LOUD * 150, T0)
    now_ns = T0 + 1_000 * MS
    assert ear.flush(now_ns) == 2_000 * MS
    assert (ear.speaking, ear.segments, ear.onset_ns, ear.last_active_ns) == (False, 1, T0, now_ns)
    assert ear.heard_ns == 1_000 * MS
    assert ear.reply_onset_ns == T0
    assert not ear.speaks_at(now_ns)
    ear.hear(LOUD * 10, now_ns + 100 * MS)  # the next reply starts at its arrival
    assert (ear.segments, ear.onset_ns, ear.playout.underruns) == (2, now_ns + 100 * MS, 0)


def test_flush_unsays_a_reply_that_was_never_heard():
    ear = Ear(16_000, "pcm16", BUFFER_NS)
    ear.hear(QUIET * 50 + LOUD * 50, T0)
    assert ear.reply_onset_ns == T0 + 1_000 * MS
    ear.flush(T0 + 500 * MS)
    assert (ear.reply_onset_ns, ear.segments, ear.onset_ns, ear.speaking) == (0, 0, 0, False)
    ear.hear(LOUD * 10, T0 + 600 * MS)
    assert ear.reply_onset_ns == T0 + 600 * MS


def test_flush_with_nothing_to_drop():
    ear = Ear(16_000, "pcm16", BUFFER_NS)
    assert ear.flush(T0) == 0
    end_ns = paced(ear, [LOUD] * 20)
    assert ear.flush(end_ns + 700 * MS) == 0
    assert ear.last_active_ns == end_ns
    assert ear.heard_ns == 400 * MS


# --- Ear: anything at all ---------------------------------------------------------------------------------------------


@given(
    packets=st.lists(
        st.tuples(
            st.one_of(
                st.binary(max_size=700),
                st.integers(0, 700).map(bytes),
                st.integers(0, 400).map(lambda n: b"\xff\x7f" * n),
                st.integers(0, 400).map(lambda n: b"\x00\x80" * n),
            ),
            st.integers(0, 2_000 * MS),
            st.booleans(),
        ),
        max_size=40,
    ),
    encoding=st.sampled_from(["pcm16", "mulaw"]),
    rate_hz=st.sampled_from([8_000, 11_025, 16_000, 24_000, 44_100]),
    buffer_ns=st.sampled_from([0, BUFFER_NS]),
)
@settings(max_examples=200, deadline=None)
def test_no_audio_and_no_arrival_breaks_it(packets, encoding, rate_hz, buffer_ns):
    ear = Ear(rate_hz, encoding, buffer_ns)
    now_ns, opened = T0, 0
    for audio, wait_ns, interrupt in packets:
        now_ns += wait_ns
        ear.hear(audio, now_ns)
        if interrupt:
            ear.flush(now_ns)
            assert ear.last_active_ns <= now_ns
            opened = 0
        assert ear.heard_ns >= 0
        assert ear.segments >= opened
        assert ear.onset_ns <= ear.last_active_ns
        assert (ear.playout.underruns == 0) == (ear.playout.underrun_ns == 0)
        opened = ear.segments


def test_without_a_buffer_jittery_speech_is_still_speech():
    ear = Ear(16_000, "pcm16", 0)
    for number in range(50):
        ear.hear(LOUD, T0 + number * STEP_NS + number % 3 * MS)
    assert ear.segments == 1
    assert ear.onset_ns == pytest.approx(T0, abs=4 * MS)
