"""Speech changes its rate and nothing else: length, labels, pitch, edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxload.audio.corpus import Utterance, load_corpus
from voxload.audio.speech import active_bounds
from voxload.audio.stretch import change_rate, stretch

RATE_HZ = 16_000
RATES = (0.5, 0.8, 0.93, 1.15, 1.2, 1.5, 2.0)


def pitch_hz(samples):
    """Median pitch of the loud voiced 40 ms windows, by the highest peak of the autocorrelation (70-350 Hz)."""
    values = samples.astype(float)
    size, found = 640, []
    for start in range(0, len(values) - size, size // 2):
        window = values[start : start + size] - values[start : start + size].mean()
        power = np.dot(window, window)
        if power / size < 2_000**2:
            continue
        correlation = np.correlate(window, window, "full")[size - 1 :]
        lag = int(np.argmax(correlation[45:230])) + 45
        if correlation[lag] > 0.6 * power:
            found.append(RATE_HZ / lag)
    return float(np.median(found))


@pytest.mark.parametrize("rate", RATES)
def test_length_and_labels_are_divided_by_the_rate(rate):
    for utterance in load_corpus().callers[:8]:
        said = change_rate(utterance, rate)
        assert said.active_start == round(utterance.active_start / rate)
        assert said.active_end == round(utterance.active_end / rate)
        assert len(said.samples) == round(len(utterance.samples) / rate)
        assert (said.id, said.text, said.intent, said.voice) == (
            utterance.id,
            utterance.text,
            utterance.intent,
            utterance.voice,
        )


@pytest.mark.parametrize("rate", [0.8, 0.93, 1.15, 1.2, 1.5, 2.0])
def test_the_labels_are_where_the_detector_finds_the_speech(rate):
    errors_ms = []
    for utterance in load_corpus().callers:
        said = change_rate(utterance, rate)
        start, end = active_bounds(said.samples, RATE_HZ)
        errors_ms += [abs(start - said.active_start) / 16, abs(end - said.active_end) / 16]
    assert np.median(errors_ms) == 0
    assert max(errors_ms) <= 5


@pytest.mark.parametrize("rate", RATES)
def test_the_edges_are_the_same_sounds(rate):
    utterance = load_corpus().callers[3]
    said = change_rate(utterance, rate)
    n = 100
    source, first, last = utterance.samples, utterance.active_start, utterance.active_end
    np.testing.assert_array_equal(said.samples[said.active_start : said.active_start + n], source[first : first + n])
    np.testing.assert_array_equal(said.samples[said.active_end - n : said.active_end], source[last - n : last])


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("name", ["billing_question-slt-1", "billing_question-rms-1"])
def test_the_pitch_of_a_voice_stays(name, rate):
    utterance = load_corpus().find(name)[0]
    assert pitch_hz(change_rate(utterance, rate).samples) == pytest.approx(pitch_hz(utterance.samples), rel=0.05)


@pytest.mark.parametrize("rate", [0.5, 0.7, 1.3, 2.0])
def test_a_tone_stays_one_tone(rate):
    time_s = np.arange(RATE_HZ) / RATE_HZ
    tone = 8_000 * np.sin(2 * np.pi * 200 * time_s)
    out = stretch(tone, round(len(tone) / rate), RATE_HZ)
    power = np.abs(np.fft.rfft(out * np.hanning(len(out)))) ** 2
    frequencies_hz = np.fft.rfftfreq(len(out), 1 / RATE_HZ)
    assert frequencies_hz[np.argmax(power)] == pytest.approx(200, abs=3)
    assert power[abs(frequencies_hz - 200) < 20].sum() > 0.99 * power.sum()


def test_the_loudness_stays():
    utterance = load_corpus().callers[0]
    for rate in RATES:
        said = change_rate(utterance, rate)
        before, after = (
            np.sqrt(np.mean(u.samples[u.active_start : u.active_end].astype(float) ** 2)) for u in (utterance, said)
        )
        assert 20 * np.log10(after / before) == pytest.approx(0, abs=1)


def test_rate_one_changes_nothing():
    utterance = load_corpus().callers[0]
    assert change_rate(utterance, 1) is utterance


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 3_000), st.integers(1, 3_000), st.integers(0, 3_000), st.floats(0.5, 2), st.integers(0, 99))
def test_any_lengths_keep_their_order(lead, active, tail, rate, seed):
    samples = np.random.default_rng(seed).integers(-9_000, 9_000, lead + active + tail).astype(np.int16)
    utterance = Utterance("u", "", "", "", samples, RATE_HZ, lead, lead + active)
    said = change_rate(utterance, rate)
    assert 0 <= said.active_start < said.active_end <= len(said.samples)
    assert abs(said.active_start - lead / rate) <= 1
    assert abs(said.active_end - (lead + active) / rate) <= 1.5
    assert abs(len(said.samples) - len(samples) / rate) <= 1.5
    assert np.abs(said.samples.astype(int)).max() <= 9_001
