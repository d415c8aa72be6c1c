"""The detector finds onsets and ends where they were put, however the audio is cut."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxload.audio.codec import amplitude, resample
from voxload.audio.corpus import load_corpus
from voxload.audio.speech import SpeechDetector, active_bounds

MS = 1_000_000
CORPUS = load_corpus()
SPOKEN = (*CORPUS.callers, *CORPUS.agents)


def silence(ms: float, rate_hz: int = 16_000) -> np.ndarray:
    return np.zeros(round(ms * rate_hz / 1000), dtype=np.int16)


def tone(ms: float, rate_hz: int = 16_000, level_dbfs: float = -20.0, hz: float = 440.0) -> np.ndarray:
    time_s = np.arange(round(ms * rate_hz / 1000)) / rate_hz
    return (
        np.rint(amplitude(level_dbfs) * 2**0.5 * np.cos(2 * np.pi * hz * time_s)).clip(-32768, 32767).astype(np.int16)
    )


def feed(samples: np.ndarray, rate_hz: int, cuts: list[int], at_ns: int = 0) -> SpeechDetector:
    detector = SpeechDetector(rate_hz)
    for start, end in pairwise([0, *cuts, len(samples)]):
        detector.feed(samples[start:end].tobytes(), at_ns + start * 1_000_000_000 // rate_hz)
    return detector


def segments(detector: SpeechDetector) -> list[tuple[int, int]]:
    return [*detector.closed, *([(detector.onset_ns, detector.last_active_ns)] if detector.speaking else [])]


@given(
    lead=st.integers(0, 5_000),
    length_ms=st.integers(70, 500),
    rate_hz=st.sampled_from([8_000, 16_000, 24_000]),
    level_dbfs=st.floats(-38, 0),
)
@settings(max_examples=150)
def test_a_tone_is_found_to_the_sample_and_to_the_window(lead, length_ms, rate_hz, level_dbfs):
    burst = tone(length_ms, rate_hz, level_dbfs)
    samples = np.concatenate([np.zeros(lead, dtype=np.int16), burst, silence(300, rate_hz)])
    detector = feed(samples, rate_hz, list(range(rate_hz // 50, len(samples), rate_hz // 50)))
    assert detector.opened == 1
    assert not detector.speaking
    (onset_ns, end_ns), period_ns = detector.closed[0], 1_000_000_000 / rate_hz
    assert onset_ns == pytest.approx(lead * period_ns, abs=2 * MS)  # a soft tone starts below the threshold's 5 ms
    assert (lead + len(burst)) * period_ns == pytest.approx(end_ns, abs=10 * MS + period_ns)
    start, end = active_bounds(samples, rate_hz)
    assert start * period_ns == pytest.approx(onset_ns, abs=period_ns)
    assert end == pytest.approx(lead + len(burst), abs=rate_hz // 500)


@pytest.mark.parametrize("lead_ms", [0, 0.0625, 3, 9.9375, 10, 19, 123.4375])
def test_a_clear_onset_is_exact(lead_ms):
    detector = feed(np.concatenate([silence(lead_ms), tone(200)]), 16_000, [])
    assert detector.speaking
    assert detector.onset_ns == lead_ms * MS


def test_thresholds_and_hold_times():
    def opens(samples: np.ndarray) -> bool:
        return feed(samples, 16_000, []).opened > 0

    assert opens(tone(200, level_dbfs=-44.5))
    assert not opens(tone(200, level_dbfs=-45.5))
    assert opens(tone(50))
    assert not opens(tone(40))
    assert not opens(np.concatenate([tone(40), silence(10), tone(40)]))
    # Speech that has opened goes on 6 dB lower, and over pauses of less than 250 ms.
    assert feed(np.concatenate([tone(100), tone(300, level_dbfs=-50.5)]), 16_000, []).last_active_ns == 400 * MS
    assert feed(np.concatenate([tone(100), tone(300, level_dbfs=-51.5)]), 16_000, []).last_active_ns == 100 * MS
    assert feed(np.concatenate([tone(100), silence(240), tone(100)]), 16_000, []).opened == 1
    assert feed(np.concatenate([tone(100), silence(250), tone(100)]), 16_000, []).opened == 2
    assert not feed(np.concatenate([tone(100), silence(250)]), 16_000, []).speaking
    louder = SpeechDetector(16_000, open_dbfs=-30)
    louder.feed(tone(200, level_dbfs=-35).tobytes(), 0)
    assert not louder.opened


def test_a_click_before_speech_is_not_its_onset_and_a_plosive_is():
    def onset_ms(samples: np.ndarray) -> float:
        return feed(samples, 16_000, []).onset_ns / MS

    assert onset_ms(np.concatenate([silence(20), tone(10), silence(40), tone(100)])) == 70
    assert onset_ms(np.concatenate([silence(20), tone(10), silence(25), tone(100)])) == 20
    single = silence(100)
    single[90 * 16] = 1_200  # one stray sample is loud, its 5 ms are not
    assert onset_ms(np.concatenate([single, tone(100)])) == 100


def cuts_of(length: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(0, length), max_size=40).map(sorted)


@given(data=st.data(), index=st.integers(0, len(SPOKEN) - 1), rate_hz=st.sampled_from([8_000, 16_000]))
@settings(max_examples=80, deadline=None)
def test_the_size_of_chunks_does_not_matter(data, index, rate_hz):
    samples = resample(SPOKEN[index].samples, 16_000, rate_hz)
    samples = np.concatenate([samples, silence(400, rate_hz), samples[: len(samples) // 2]])
    whole = feed(samples, rate_hz, [])
    ragged = feed(samples, rate_hz, data.draw(cuts_of(len(samples))))
    assert whole.opened >= 2
    for step_ms in (10, 20, 100):
        step = rate_hz * step_ms // 1000
        assert segments(feed(samples, rate_hz, list(range(step, len(samples), step)))) == segments(whole)
    assert segments(ragged) == segments(whole)
    assert (ragged.opened, ragged.speaking) == (whole.opened, whole.speaking)


@given(
    parts=st.lists(st.tuples(st.integers(1, 400), st.sampled_from([-90, -60, -52, -50, -46, -44, -20])), max_size=12),
    data=st.data(),
)
@settings(max_examples=150, deadline=None)
def test_nor_does_it_for_levels_about_the_thresholds(parts, data):
    samples = np.concatenate([silence(0), *(tone(ms, level_dbfs=level, hz=500) for ms, level in parts)])
    whole = feed(samples, 16_000, [])
    ragged = feed(samples, 16_000, data.draw(cuts_of(len(samples))))
    assert segments(ragged) == segments(whole)


@pytest.mark.parametrize("rate_hz", [8_000, 16_000])
def test_where_the_windows_lie_does_not_move_an_onset(rate_hz):
    for utterance in SPOKEN:
        samples = resample(utterance.samples, 16_000, rate_hz)
        shifts = range(0, rate_hz // 100, rate_hz // 1600)
        bounds = [active_bounds(np.concatenate([np.zeros(n, dtype=np.int16), samples]), rate_hz) for n in shifts]
        onsets = [start - shift for (start, _), shift in zip(bounds, shifts, strict=True)]
        assert max(onsets) - min(onsets) <= rate_hz // 1000, utterance.id


def test_a_gap_in_the_timeline_is_silence():
    detector = SpeechDetector(16_000)
    voice = tone(100).tobytes()
    detector.feed(voice, 1_000 * MS)
    detector.feed(voice, 1_300 * MS)  # 200 ms later: the same segment
    assert (detector.opened, detector.last_active_ns) == (1, 1_400 * MS)
    detector.feed(voice, 1_650 * MS)  # 250 ms later: a new one
    assert detector.opened == 2
    assert detector.closed[0] == (1_000 * MS, 1_400 * MS)
    assert detector.onset_ns == 1_650 * MS


def test_speech_opens_over_small_gaps():
    detector = SpeechDetector(16_000)
    for number in range(6):
        detector.feed(tone(20).tobytes(), number * 35 * MS)
    assert detector.opened == 1
    assert detector.onset_ns == pytest.approx(0, abs=MS)
    jittery = SpeechDetector(16_000)
    for number in range(6):
        jittery.feed(tone(20).tobytes(), number * 23 * MS)
    assert jittery.opened == 1
    assert jittery.onset_ns == pytest.approx(0, abs=10 * MS)


def test_the_rest_of_a_window_before_a_gap_counts():
    detector = SpeechDetector(16_000)
    detector.feed(tone(105).tobytes(), 0)
    assert detector.last_active_ns == 100 * MS
    detector.feed(silence(20).tobytes(), 200 * MS)
    assert detector.last_active_ns == 105 * MS


def test_cut_ends_and_forgets():
    def three() -> SpeechDetector:
        return feed(np.concatenate([tone(200), silence(300), tone(200), silence(300), tone(200)]), 16_000, [])

    detector = three()
    detector.cut(1_100 * MS)
    assert (detector.opened, detector.speaking, detector.last_active_ns) == (3, False, 1_100 * MS)
    detector.cut(600 * MS)
    assert (detector.opened, detector.onset_ns, detector.last_active_ns) == (2, 500 * MS, 600 * MS)
    detector.cut(300 * MS)
    assert (detector.opened, detector.onset_ns, detector.last_active_ns) == (1, 0, 200 * MS)
    detector.cut(0)
    assert (detector.opened, detector.onset_ns, detector.last_active_ns) == (0, 0, 0)
    detector.feed(tone(200).tobytes(), 50 * MS)
    assert (detector.opened, detector.onset_ns) == (1, 50 * MS)


def test_speaks_at():
    detector = feed(np.concatenate([silence(100), tone(200), silence(300), tone(200)]), 16_000, [], at_ns=0)
    answers = {ms: detector.speaks_at(ms * MS) for ms in (99, 100, 299, 300, 599, 600, 799, 1_049, 1_050)}
    assert [ms for ms, answer in answers.items() if answer] == [100, 299, 600, 799, 1_049]
    assert not SpeechDetector(16_000).speaks_at(5)


def test_active_bounds_of_odd_files():
    assert active_bounds(silence(0), 16_000) is None
    assert active_bounds(silence(1_000), 16_000) is None
    assert active_bounds(tone(30), 16_000) is None
    clipped = np.full(16_000, -32_768, dtype=np.int16)
    assert active_bounds(clipped, 16_000) == (0, 16_000)
    odd = np.concatenate([silence(33, 11_025), tone(777, 11_025), silence(41, 11_025)])
    start, end = active_bounds(odd, 11_025)
    assert start == pytest.approx(33 * 11.025, abs=2)
    assert end == pytest.approx(810 * 11.025, abs=20)
    for rate_hz in (22_050, 44_100, 48_000):
        samples = np.concatenate([silence(500, rate_hz), tone(5_000, rate_hz), silence(500, rate_hz)])
        start, end = active_bounds(samples, rate_hz)
        assert start == pytest.approx(0.5 * rate_hz, abs=2)
        assert end == pytest.approx(5.5 * rate_hz, abs=rate_hz // 500)


def test_two_segments_are_bounded_by_first_and_last():
    samples = np.concatenate([silence(100), *[tone(100), silence(400)] * 80])
    start, end = active_bounds(samples, 16_000)  # more segments than the detector keeps
    assert start == 1_600
    assert end == pytest.approx(len(samples) - 6_400, abs=32)
