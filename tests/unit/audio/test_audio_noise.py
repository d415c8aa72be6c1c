"""Noise has the level, the spectrum and the character that its kind says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import voxload
from voxload.audio.codec import amplitude
from voxload.audio.corpus import load_corpus
from voxload.audio.noise import noise_bed, unit_noise

KINDS = ("white", "pink", "babble")


def level_dbfs(samples):
    return 20 * np.log10(np.sqrt(np.mean(samples.astype(float) ** 2)) / 32_768)


def octave_levels_db(samples, rate_hz, from_hz, octaves):
    """Power density in successive octaves, in dB, averaged over 1 s blocks."""
    blocks = samples[: len(samples) // rate_hz * rate_hz].astype(float).reshape(-1, rate_hz) * np.hanning(rate_hz)
    density = (np.abs(np.fft.rfft(blocks)) ** 2).mean(axis=0)
    return [10 * np.log10(density[from_hz << k : from_hz << (k + 1)].mean()) for k in range(octaves)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 24_000, 44_100])
def test_level_and_length_are_exact(kind, rate_hz):
    bed = noise_bed(kind, rate_hz, 1.5, -40, seed=3)
    assert bed.dtype == np.int16
    assert len(bed) == 1.5 * rate_hz
    assert level_dbfs(bed) == pytest.approx(-40, abs=0.05)


def test_pink_falls_by_3_db_an_octave_and_white_does_not():
    for kind, slope_db in (("pink", -3.01), ("white", 0)):
        levels_db = octave_levels_db(noise_bed(kind, 16_000, 20, -30, 1), 16_000, 100, 6)  # 100 to 6,400 Hz
        assert np.diff(levels_db) == pytest.approx(np.full(5, slope_db), abs=0.4)


@pytest.mark.parametrize("kind", ["white", "pink"])
def test_the_band_is_the_same_at_every_rate(kind):
    bed = noise_bed(kind, 48_000, 2, -30, 1).astype(float)
    power = np.abs(np.fft.rfft(bed)) ** 2
    frequencies_hz = np.fft.rfftfreq(len(bed), 1 / 48_000)
    inside = (frequencies_hz >= 49) & (frequencies_hz <= 8_001)
    assert power[inside].sum() > 0.999 * power.sum()


def test_babble_is_speech_and_not_one_speaker():
    bed = noise_bed("babble", 16_000, 10, -30, 1).astype(float)
    windows_db = 20 * np.log10(np.sqrt((bed.reshape(-1, 320) ** 2).mean(axis=1)))
    white = noise_bed("white", 16_000, 10, -30, 1).astype(float)
    white_db = 20 * np.log10(np.sqrt((white.reshape(-1, 320) ** 2).mean(axis=1)))
    one = load_corpus().callers[0]
    one_db = 20 * np.log10(
        np.sqrt(
            (one.samples[one.active_start : one.active_start + 40_960].astype(float).reshape(-1, 320) ** 2).mean(axis=1)
        )
    )
    assert 2 * white_db.std() < windows_db.std() < one_db.std() / 1.5
    power = np.abs(np.fft.rfft(bed)) ** 2
    assert power[: len(power) // 2].sum() > 0.9 * power.sum()  # below 4 kHz, as speech is


@pytest.mark.parametrize("kind", KINDS)
def test_a_loop_has_no_seam(kind):
    bed = unit_noise(kind, 32_000, 16_000, np.random.default_rng(7))
    steps = np.abs(np.diff(bed))
    assert abs(bed[0] - bed[-1]) <= steps.max()
    if kind != "babble":  # sentences meet at cuts; the loop's seam is no different from those
        doubled = np.concatenate([bed, bed])
        seam = np.abs(np.fft.rfft(doubled[32_000 - 512 : 32_000 + 512] * np.hanning(1024))) ** 2
        inner = np.abs(np.fft.rfft(doubled[8_000 - 512 : 8_000 + 512] * np.hanning(1024))) ** 2
        assert seam[400:].mean() < 3 * inner[400:].mean()


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides(kind):
    first, again, other = (noise_bed(kind, 8_000, 0.5, -30, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.5


def test_another_process_makes_the_same_noise():
    code = (
        "import zlib; from voxload.audio.noise import noise_bed, seed_of;"
        "print(zlib.crc32(noise_bed('babble', 16000, 1, -30, 5).tobytes()), seed_of(5, 'a', 'b'))"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(Path(voxload.__file__).parents[1])},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(runs) == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [0, 1, 2, 37])
def test_short_noise_is_finite(kind, length):
    wave = unit_noise(kind, length, 16_000, np.random.default_rng(1))
    assert wave.shape == (length,)
    assert np.isfinite(wave).all()
    assert not length or amplitude(0) * np.abs(wave).max() < 1e9
