"""Jitter and late frames on arrivals whose answer is known."""

import timeit
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxload.measure.emodel import burst_ratio
from voxload.measure.jitter import JitterMeter, LateFrames

MS = 1_000_000
FRAME = 20 * MS


def rfc_jitter(packets):
    """RFC 3550, 6.4.1, in real numbers."""
    jitter = 0.0
    for (arrival, media), (next_arrival, next_media) in pairwise(packets):
        jitter += (abs((next_arrival - arrival) - (next_media - media)) - jitter) / 16
    return jitter


def metered(packets):
    meter = JitterMeter()
    for packet in packets:
        meter.add(*packet)
    return meter.jitter_ns


def test_an_even_stream_has_no_jitter():
    assert metered([(10**15 + n * FRAME, n * FRAME) for n in range(500)]) == 0


def test_alternating_delay_converges_to_its_step():
    packets = [(n * FRAME + (n % 2) * 8 * MS, n * FRAME) for n in range(500)]
    assert metered(packets) == pytest.approx(8 * MS, rel=1e-6)


def test_one_stall_hardly_shows():
    packets = [(n * FRAME + (400 * MS if n >= 50 else 0), n * FRAME) for n in range(150)]
    assert metered(packets) < MS


def test_a_pause_between_spurts_is_no_jitter():
    meter = JitterMeter()
    for n in range(10):
        meter.add(n * FRAME + (n % 2) * MS, n * FRAME)
    before = meter.jitter_ns
    meter.start_spurt()
    meter.add(60_000 * MS, 10 * FRAME)
    assert meter.jitter_ns == before > 0
    meter.add(60_020 * MS, 11 * FRAME)
    assert meter.jitter_ns < before


@given(st.lists(st.integers(0, 300 * MS), max_size=200))
def test_integers_follow_the_formula(delays):
    packets = [(n * FRAME + delay, n * FRAME) for n, delay in enumerate(delays)]
    assert abs(metered(packets) - rfc_jitter(packets)) <= 2


def test_frames_on_time_are_not_late():
    frames = LateFrames(60 * MS)
    assert not any(frames.add(n * FRAME + (n % 4) * 20 * MS, n * FRAME) for n in range(100))
    assert (frames.frames, frames.late, frames.runs, frames.late_share, frames.burst_ratio) == (100, 0, 0, 0.0, 1.0)


def test_the_buffer_is_the_limit():
    frames = LateFrames(60 * MS)
    assert not frames.add(1000, 0)
    assert not frames.add(1000 + FRAME + 60 * MS, FRAME)
    assert frames.add(1001 + 2 * FRAME + 60 * MS, 2 * FRAME)
    assert frames.late_share == pytest.approx(1 / 3)


def test_a_stall_makes_one_run():
    frames = LateFrames(60 * MS)
    for n in range(100):
        held = 50 <= n < 65  # delivered together at frame 65
        frames.add((65 if held else n) * FRAME, n * FRAME)
    assert (frames.late, frames.runs) == (12, 1)  # the last three are still within 60 ms
    assert frames.burst_ratio == pytest.approx(12 * 0.88)


def test_a_burst_ahead_of_time_is_not_late():
    frames = LateFrames(60 * MS)
    assert not any(frames.add(n * MS, n * FRAME) for n in range(150))


def test_each_spurt_has_its_own_anchor():
    frames = LateFrames(20 * MS)
    frames.add(0, 0)
    assert frames.add(500 * MS, FRAME)
    frames.start_spurt()
    assert not frames.add(5000 * MS, 2 * FRAME)
    assert not frames.add(5020 * MS, 3 * FRAME)
    assert frames.add(5100 * MS, 4 * FRAME)
    assert (frames.frames, frames.late, frames.runs) == (5, 2, 2)


@given(st.lists(st.integers(0, 200 * MS), min_size=1, max_size=200), st.integers(0, 100 * MS))
def test_lateness_is_relative_to_the_anchor(delays, buffer_ns):
    frames = LateFrames(buffer_ns)
    seen = [frames.add(n * FRAME + delay, n * FRAME) for n, delay in enumerate(delays)]
    assert seen == [delay - delays[0] > buffer_ns for delay in delays]
    runs = [len(run) for run in "".join("x" if late else " " for late in seen).split()]
    assert (frames.late, frames.runs) == (sum(runs), len(runs))
    assert frames.burst_ratio == burst_ratio(runs, len(seen))


def test_meters_are_cheap():
    meter, frames = JitterMeter(), LateFrames(60 * MS)
    seconds = timeit.timeit(lambda: (meter.add(123, 45), frames.add(123, 45)), number=20_000)
    assert seconds / 20_000 < 20e-6  # measured at 0.3 µs; the bound only catches a change of kind
