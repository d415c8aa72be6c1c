"""A persona's speech: exact noise, exact labels, the codec's band; and the bed between utterances."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from voxload.audio.codec import decode_audio, encode_audio, resample, write_wav
from voxload.audio.corpus import load_corpus, utterance_from_wav
from voxload.audio.frames import cut_frames
from voxload.audio.noise import noise_bed
from voxload.audio.persona import (
    active_rms,
    apply_persona,
    bed_frames,
    cut_persona_frames,
    g711_round_trip,
    voiced_by,
)
from voxload.audio.speech import active_bounds
from voxload.model.persona import READY_PERSONAS, Persona

CALLERS = load_corpus().callers
KINDS = ("white", "pink", "babble")
FORMS = [(16_000, "pcm16", 20), (8_000, "mulaw", 20), (24_000, "pcm16", 40), (8_000, "pcm16", 10)]


def persona(**traits):
    return Persona.model_validate({"name": "test", **traits})


def rms(samples):
    return float(np.sqrt(np.mean(samples.astype(float) ** 2)))


def active(utterance, samples=None):
    samples = utterance.samples if samples is None else samples
    return samples[utterance.active_start : utterance.active_end].astype(float)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("snr_db", [-5, 0, 10, 20, 30])
@pytest.mark.parametrize("traits", [{}, {"speaking_rate": 0.8, "level_db": -10}])
def test_the_measured_snr_is_the_stated_one(kind, snr_db, traits):
    utterance = CALLERS[2]
    clean = apply_persona(utterance, persona(**traits), 1)
    noisy = apply_persona(utterance, persona(**traits, noise={"kind": kind, "snr_db": snr_db}), 1)
    noise = noisy.samples.astype(float) - clean.samples
    assert 20 * np.log10(rms(active(clean)) / rms(noise)) == pytest.approx(snr_db, abs=0.1)
    assert rms(noise[: clean.active_start]) > 0.3 * rms(noise)  # it lies over the lead too
    assert rms(noise[clean.active_end :]) > 0.3 * rms(noise)


@pytest.mark.parametrize("level_db", [-30, -8, 6])
def test_the_level_is_relative_to_the_recording(level_db):
    utterance = CALLERS[0]
    said = apply_persona(utterance, persona(level_db=level_db), 1)
    assert 20 * np.log10(active_rms(said) / active_rms(utterance)) == pytest.approx(level_db, abs=0.1)


def test_too_loud_saturates_instead_of_wrapping():
    said = apply_persona(CALLERS[0], persona(level_db=12), 1)
    louder = CALLERS[0].samples.astype(float) * 10 ** (12 / 20)
    np.testing.assert_array_equal(said.samples, np.clip(np.rint(louder), -32_768, 32_767))
    assert np.abs(louder).max() > 32_768


@pytest.mark.parametrize("name", READY_PERSONAS)
def test_labels_are_scaled_and_not_found_anew(name):
    ready = READY_PERSONAS[name]
    for utterance in CALLERS[:4]:
        said = apply_persona(utterance, ready, 1)
        assert said.active_start == round(utterance.active_start / ready.speaking_rate)
        assert said.active_end == round(utterance.active_end / ready.speaking_rate)
        assert len(said.samples) == round(len(utterance.samples) / ready.speaking_rate)
        assert (said.id, said.sample_rate_hz) == (utterance.id, utterance.sample_rate_hz)
        with pytest.raises(ValueError, match="read-only"):
            said.samples[0] = 1


def test_nothing_to_change_gives_the_same_utterance():
    assert apply_persona(CALLERS[0], READY_PERSONAS["calm"], 1) is CALLERS[0]
    assert apply_persona(CALLERS[0], persona(patience="1s", interrupts=1), 1) is CALLERS[0]


def test_the_corpus_is_left_as_it_is():
    before = CALLERS[0].samples.copy()
    apply_persona(CALLERS[0], READY_PERSONAS["noisy_street"], 1)
    np.testing.assert_array_equal(CALLERS[0].samples, before)


def test_seed_and_utterance_decide_the_noise_and_the_name_does_not():
    noise = {"noise": {"kind": "babble", "snr_db": 10}}
    first = apply_persona(CALLERS[0], persona(**noise), 1).samples
    other_name = Persona.model_validate({"name": "other", "patience": "2s", **noise})
    assert other_name.sound == persona(**noise).sound
    np.testing.assert_array_equal(first, apply_persona(CALLERS[0], other_name, 1).samples)
    for changed in (
        apply_persona(CALLERS[0], persona(**noise), 2),
        apply_persona(replace(CALLERS[0], id="x"), persona(**noise), 1),
    ):
        assert (first != changed.samples).mean() > 0.5


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 24_000, 44_100])
@pytest.mark.parametrize("length", [1, 16_001, 30_000])
def test_g711_keeps_length_and_time(rate_hz, length):
    time_s = np.arange(length) / rate_hz
    tone = np.rint(6_000 * np.sin(2 * np.pi * 700 * time_s)).astype(np.int16)
    out = g711_round_trip(tone, rate_hz)
    assert out.shape == (length,)
    if length > 1:
        inner = slice(500, length - 500)
        error = out[inner].astype(float) - tone[inner]
        assert 20 * np.log10(rms(tone[inner]) / rms(error)) > 30  # a delay of one sample would leave 11 dB at 16 kHz


def test_g711_takes_what_lies_above_4_khz():
    utterance = CALLERS[0]
    said = apply_persona(utterance, persona(codec="g711"), 1)

    def high(samples):
        power = np.abs(np.fft.rfft(samples.astype(float))) ** 2
        return power[len(power) * 17 // 32 :].sum()  # above 4.25 kHz

    assert high(said.samples) < 1e-3 * high(utterance.samples)
    narrow = (resample(samples, 16_000, 8_000).astype(float) for samples in (utterance.samples, said.samples))
    assert np.corrcoef(*narrow)[0, 1] > 0.995


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("traits", [{"noise": {"kind": "white", "snr_db": 0}}, {"level_db": -28}, {"codec": "g711"}])
def test_frames_have_the_bounds_of_clean_speech(form, traits):
    utterance = CALLERS[1]
    clean, said = cut_frames(utterance, *form), cut_persona_frames(utterance, persona(**traits), *form, seed=1)
    assert (said.active_start_ns, said.active_end_ns) == (clean.active_start_ns, clean.active_end_ns)
    assert said.last_active_frame == clean.last_active_frame
    assert [len(frame) for frame in said.frames] == [len(frame) for frame in clean.frames]
    assert said.frames != clean.frames


def test_the_bounds_cannot_be_found_in_the_noise():
    """Why `cut_persona_frames` exists: the detector takes all of a noisy utterance for speech."""
    said = apply_persona(CALLERS[1], persona(noise={"kind": "white", "snr_db": 10}), 1)
    start, end = active_bounds(said.samples, 16_000)
    assert start < 100
    assert end > len(said.samples) - 100


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("codec", ["none", "g711"])
def test_the_bed_is_the_noise_of_the_utterance(form, kind, codec):
    rate_hz, encoding, frame_ms = form
    who = persona(noise={"kind": kind, "snr_db": 15}, codec=codec, level_db=-3)
    bed = bed_frames(who, *form, seed=1)
    assert len(bed) == 2_000 // frame_ms
    assert {len(frame) for frame in bed} == {rate_hz * frame_ms // 1000 * (2 if encoding == "pcm16" else 1)}
    assert bed == bed_frames(who, *form, seed=1) != bed_frames(who, *form, seed=2)
    frames = cut_persona_frames(CALLERS[0], who, *form, seed=1).frames
    clean = cut_persona_frames(CALLERS[0], who.model_copy(update={"noise": None}), *form, seed=1).frames
    noise = decode_audio(b"".join(frames), encoding).astype(float) - decode_audio(b"".join(clean), encoding)
    difference_db = 20 * np.log10(rms(decode_audio(b"".join(bed), encoding)) / rms(noise))
    # What µ-law and limited bands do to speech and noise together and apart differs a little; babble fluctuates.
    assert difference_db == pytest.approx(0, abs=2 if kind == "babble" else 1)


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("codec", ["none", "g711"])
def test_the_bed_has_no_seam(form, codec):
    """Both ends of the loop are what a long unbroken noise has there, through resampler and codec too."""
    who = persona(noise={"kind": "pink", "snr_db": 15}, codec=codec)
    rate_hz, encoding, _ = form
    bed = decode_audio(b"".join(bed_frames(who, *form, seed=1)), encoding).astype(int)
    unbroken = np.tile(noise_bed("pink", 16_000, 2, -35, 1), 7)
    unbroken = g711_round_trip(unbroken, 16_000) if codec == "g711" else unbroken
    audio = encode_audio(resample(unbroken, 16_000, rate_hz), encoding)
    middle = decode_audio(audio, encoding)[3 * len(bed) : 4 * len(bed)]
    assert abs(bed - middle).max() <= (0 if (rate_hz, codec) == (16_000, "none") else 64)
    assert (abs(bed - middle) > 1).mean() < 0.001  # a rounding to the other side of a µ-law step here and there


def test_a_quiet_persona_has_no_bed():
    assert bed_frames(READY_PERSONAS["calm"], 16_000, "pcm16", 20, 1) == ()
    assert bed_frames(persona(codec="g711", level_db=-5), 8_000, "mulaw", 20, 1) == ()


def test_the_voice_is_chosen_where_there_is_a_choice(tmp_path):
    found = load_corpus().find("test_results")
    assert {utterance.voice for utterance in voiced_by(found, persona(voice="rms"))} == {"rms"}
    assert len(voiced_by(found, persona(voice="slt"))) == 2
    assert voiced_by(found, persona()) == found
    write_wav(tmp_path / "mine.wav", found[0].samples, 16_000)
    mine = utterance_from_wav((tmp_path / "mine.wav").read_bytes(), "mine.wav")
    assert voiced_by([mine], persona(voice="rms")) == (mine,)


def test_noise_at_44_khz_survives_the_way_to_the_wire():
    """A user's WAV at 44.1 kHz: the noise lies in the band that is sent, so the SNR there is the stated one."""
    source = CALLERS[0]
    wide = resample(source.samples, 16_000, 44_100)
    scale = 44_100 / 16_000
    utterance = replace(
        source,
        samples=wide,
        sample_rate_hz=44_100,
        active_start=round(source.active_start * scale),
        active_end=round(source.active_end * scale),
    )
    who = persona(noise={"kind": "white", "snr_db": 10})
    noisy = decode_audio(b"".join(cut_persona_frames(utterance, who, 16_000, "pcm16", 20, 1).frames), "pcm16")
    clean = decode_audio(b"".join(cut_frames(utterance, 16_000, "pcm16", 20).frames), "pcm16")
    noise = (noisy.astype(float) - clean)[: len(source.samples)]
    assert 20 * np.log10(active_rms(source) / rms(noise)) == pytest.approx(10, abs=0.5)
