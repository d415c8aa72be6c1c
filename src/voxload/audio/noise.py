"""Noise of a chosen kind and level: white, pink, or other people talking."""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt

from voxload.audio.codec import FULL_SCALE, Samples, amplitude, resample
from voxload.audio.corpus import Utterance, load_corpus
from voxload.model.persona import NoiseKind

BAND_HZ = (50.0, 8_000.0)
"""The noise lies in this band, at any sample rate: its level does not hang on what a resampler would cut off."""

_TALKERS = 6
_TALKER_LEVEL_DB = 3.0
_TALKER_PITCH = (0.88, 1.14)  # makes more voices out of three

Wave = npt.NDArray[np.float64]


def noise_bed(kind: NoiseKind, sample_rate_hz: int, seconds: float, level_dbfs: float, seed: int) -> Samples:
    """Return noise of exactly this RMS level (0 dBFS is 32,768); played in a loop it has no seam."""
    unit = unit_noise(kind, round(seconds * sample_rate_hz), sample_rate_hz, np.random.default_rng(seed))
    return to_samples(unit * amplitude(level_dbfs))


def unit_noise(kind: NoiseKind, length: int, sample_rate_hz: int, rng: np.random.Generator) -> Wave:
    """Return noise with an RMS of 1, shape (length,), whose end leads into its beginning."""
    wave = _babble(length, sample_rate_hz, rng) if kind == "babble" else _coloured(kind, length, sample_rate_hz, rng)
    level = np.sqrt(np.mean(wave**2)) if length else 0.0
    return wave / level if level else wave


def to_samples(wave: Wave) -> Samples:
    """Return a wave rounded to 16 bits, saturating."""
    samples: Samples = np.clip(np.rint(wave), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
    return samples


def seed_of(seed: int, *words: str) -> list[int]:
    """Return a seed for numpy that is a matter of these words too; the same in every process."""
    return [seed, *(zlib.crc32(word.encode()) for word in words)]


def _coloured(kind: NoiseKind, length: int, sample_rate_hz: int, rng: np.random.Generator) -> Wave:
    """Return Gaussian noise shaped in the frequency domain, which makes it periodic in `length`.

    Pink noise has a power of 1/f, that is -3 dB an octave.
    """
    if not length:
        return np.zeros(0)
    frequencies_hz = np.fft.rfftfreq(length, 1 / sample_rate_hz)
    low_hz, high_hz = BAND_HZ
    inside = (frequencies_hz >= low_hz) & (frequencies_hz <= high_hz)
    if not inside.any():
        inside = frequencies_hz > 0  # shorter than a period of the band's lowest tone
    gain = np.zeros(len(frequencies_hz))
    gain[inside] = frequencies_hz[inside] ** -0.5 if kind == "pink" else 1.0
    return np.fft.irfft(np.fft.rfft(rng.standard_normal(length)) * gain, length)


def _babble(length: int, sample_rate_hz: int, rng: np.random.Generator) -> Wave:
    """Return six people who talk at once, each with a voice and a level of its own, without pauses."""
    corpus = load_corpus()
    sentences = (*corpus.callers, *corpus.agents)
    wave = np.zeros(length)
    for _ in range(_TALKERS):
        pitch = rng.uniform(*_TALKER_PITCH)
        gain = amplitude(rng.uniform(-_TALKER_LEVEL_DB, _TALKER_LEVEL_DB)) / FULL_SCALE
        track = _talker(sentences, length, sample_rate_hz, pitch, rng)
        wave += gain * np.roll(track, int(rng.integers(max(1, length))))
    return wave


def _talker(
    sentences: tuple[Utterance, ...], length: int, sample_rate_hz: int, pitch: float, rng: np.random.Generator
) -> Wave:
    """Return the active parts of sentences in a drawn order, `length` samples."""
    parts: list[Samples] = []
    missing = length
    while missing > 0:
        sentence = sentences[int(rng.integers(len(sentences)))]
        spoken = sentence.samples[sentence.active_start : sentence.active_end]
        # Taken for a recording at another rate, speech comes out with another pitch.
        parts.append(resample(spoken, round(sentence.sample_rate_hz * pitch), sample_rate_hz))
        missing -= len(parts[-1])
    return np.concatenate(parts)[:length].astype(np.float64) if parts else np.zeros(0)
