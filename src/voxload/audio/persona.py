"""How an utterance sounds when a persona says it, and what its line carries between utterances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from voxload.audio.codec import Encoding, Samples, decode_audio, encode_audio, resample
from voxload.audio.corpus import Utterance
from voxload.audio.frames import FrameSet, cut_frames, silence_frame
from voxload.audio.noise import noise_bed, seed_of, to_samples, unit_noise
from voxload.audio.stretch import change_rate
from voxload.model.persona import Persona

CORPUS_LEVEL_DBFS = -20.0
"""Level of the corpus' active speech."""

G711_RATE_HZ = 8_000
BED_RATE_HZ = 16_000
BED_SECONDS = 2


def voiced_by(utterances: Sequence[Utterance], persona: Persona) -> tuple[Utterance, ...]:
    """Return the utterances in the persona's voice; all of them when it has none in that voice (a WAV file)."""
    chosen = tuple(utterance for utterance in utterances if persona.voice in {"any", utterance.voice})
    return chosen or tuple(utterances)


def active_rms(utterance: Utterance) -> float:
    """Return the RMS of the active speech, between the labels; 32,768 is 0 dBFS."""
    speech = utterance.samples[utterance.active_start : utterance.active_end].astype(np.float64)
    return float(np.sqrt(np.mean(speech**2))) if len(speech) else 0.0


def apply_persona(utterance: Utterance, persona: Persona, seed: int) -> Utterance:
    """Return the utterance as this persona says it, with the same id: rate, level, noise, codec, in this order.

    The noise lies over all of the utterance, its RMS there exactly `snr_db` below the RMS of the active speech. The
    bounds of the speech are those of the utterance, divided by the rate: they are not looked for in the noise. Samples
    saturate at full scale. The noise hangs on the seed, its kind and the utterance's id, so personas with the same
    `Persona.sound` get the same samples. The utterance itself is returned when nothing changes.
    """
    said = change_rate(utterance, persona.speaking_rate)
    if persona.level_db or persona.noise is not None:
        gain = 10 ** (persona.level_db / 20)
        wave = said.samples.astype(np.float64) * gain
        noise = persona.noise
        if noise is not None:
            level = active_rms(said) * gain / 10 ** (noise.snr_db / 20)
            rng = np.random.default_rng(seed_of(seed, noise.kind, utterance.id))
            wave += level * unit_noise(noise.kind, len(wave), said.sample_rate_hz, rng)
        said = _with_samples(said, to_samples(wave))
    if persona.codec == "g711":
        said = _with_samples(said, g711_round_trip(said.samples, said.sample_rate_hz))
    return said


def g711_round_trip(samples: Samples, sample_rate_hz: int) -> Samples:
    """Return the samples after 8 kHz µ-law (ITU-T G.711) and back, as many, at the same rate and without delay."""
    narrow = resample(samples, sample_rate_hz, G711_RATE_HZ)
    back = resample(decode_audio(encode_audio(narrow, "mulaw"), "mulaw"), G711_RATE_HZ, sample_rate_hz)
    missing = max(0, len(samples) - len(back))
    return np.concatenate([back, np.zeros(missing, dtype=np.int16)])[: len(samples)]


def cut_persona_frames(
    utterance: Utterance, persona: Persona, sample_rate_hz: int, encoding: Encoding, frame_ms: int, seed: int
) -> FrameSet:
    """Return an utterance as this persona says it, as frames; the bounds are those of the clean speech.

    `cut_frames` looks for the bounds in what is sent when the format is not that of the utterance, which noise or a
    low level would spoil: so the frames come from what the persona says, and the bounds from the same speech at its
    own level and without noise.

    Raises:
        BadInputError: as `cut_frames`.
    """
    clean = cut_frames(change_rate(utterance, persona.speaking_rate), sample_rate_hz, encoding, frame_ms)
    said = apply_persona(utterance, persona, seed)
    frames = cut_frames(said, sample_rate_hz, encoding, frame_ms).frames
    return FrameSet(frames, clean.active_start_ns, clean.active_end_ns, clean.last_active_frame)


def bed_frames(
    persona: Persona,
    sample_rate_hz: int,
    encoding: Encoding,
    frame_ms: int,
    seed: int,
    speech_dbfs: float = CORPUS_LEVEL_DBFS,
) -> tuple[bytes, ...]:
    """Return about 2 s of the persona's noise as frames to send in a loop between utterances; none if it is quiet.

    The level is that of the noise within an utterance whose active speech was recorded at `speech_dbfs`; the loop has
    no seam.

    Raises:
        BadInputError: the frame is not a whole number of samples.
    """
    if persona.noise is None:
        return ()
    size = len(silence_frame(sample_rate_hz, encoding, frame_ms))
    count = max(1, BED_SECONDS * 1000 // frame_ms)
    level_dbfs = speech_dbfs + persona.level_db - persona.noise.snr_db
    loop = noise_bed(persona.noise.kind, BED_RATE_HZ, count * frame_ms / 1000, level_dbfs, seed)
    # Resamplers and codecs see the loop's neighbours too: of three rounds, the second has true ones on both sides.
    rounds = np.tile(loop, 3)
    if persona.codec == "g711":
        rounds = g711_round_trip(rounds, BED_RATE_HZ)
    audio = encode_audio(resample(rounds, BED_RATE_HZ, sample_rate_hz), encoding)
    middle = audio[count * size : 2 * count * size]
    return tuple(middle[offset : offset + size] for offset in range(0, len(middle), size))


def _with_samples(utterance: Utterance, samples: Samples) -> Utterance:
    samples.flags.writeable = False
    return replace(utterance, samples=samples)
