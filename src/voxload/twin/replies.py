"""What the twin says: the corpus' agent speech, cut to what is audible and encoded once for all calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from voxload.audio.codec import amplitude, decode_audio, decode_pcm, encode_audio, peak, resample, rms
from voxload.audio.corpus import GENERIC, Corpus, Utterance, load_corpus
from voxload.audio.frames import cut_frames
from voxload.audio.speech import OPEN_DBFS, active_bounds
from voxload.clock import NS_PER_MS
from voxload.dialects.base import AudioFormat, Dialect
from voxload.twin.exchange import Exchange
from voxload.twin.hearing import ACTIVE_LEVEL
from voxload.twin.speaking import PreparedReply


class CorpusRepertoire:
    """The greeting and one exchange for each caller utterance of the corpus (`Repertoire`).

    Frame 0 of each reply begins with the first audible sample, so that the latency that the twin keeps is the latency
    that is heard. `seconds_max` cuts replies short.
    """

    def __init__(self, dialect: Dialect, seconds_max: float | None = None, corpus: Corpus | None = None) -> None:
        corpus = corpus or load_corpus()
        prepared: dict[str, PreparedReply] = {}

        def reply(utterance: Utterance) -> PreparedReply:
            if utterance.id not in prepared:
                prepared[utterance.id] = prepare_reply(utterance, dialect, seconds_max)
            return prepared[utterance.id]

        self.greeting = reply(corpus.greeting)
        self.generic = reply(corpus.reply(GENERIC))
        self.exchanges = tuple(
            Exchange(caller.text, caller.intent, reply(corpus.reply(caller.intent))) for caller in corpus.callers
        )
        form = dialect.caller_format
        self.known = {
            fingerprint: exchange
            for caller, exchange in zip(corpus.callers, self.exchanges, strict=True)
            for fingerprint in fingerprints(caller, form)
        }
        for extra in corpus.extras:
            exchange = Exchange(extra.text, extra.intent, self.generic)
            self.known |= dict.fromkeys(fingerprints(extra, form), exchange)


def audible_part(utterance: Utterance, form: AudioFormat, seconds_max: float | None) -> Utterance:
    """Return the utterance from its first to its last audible sample, as `form` carries it, no longer than told."""
    samples = resample(utterance.samples, utterance.sample_rate_hz, form.sample_rate_hz)
    bounds = (utterance.active_start, utterance.active_end)
    if form.sample_rate_hz != utterance.sample_rate_hz or form.encoding != "pcm16":
        # Resampling and µ-law move the bounds: a fricative may lose all that made it audible.
        samples = decode_audio(encode_audio(samples, form.encoding), form.encoding)
        bounds = active_bounds(samples, form.sample_rate_hz) or (0, len(samples))
    start, end = bounds
    if seconds_max is not None:
        end = min(end, start + max(1, round(seconds_max * form.sample_rate_hz)))
    return replace(
        utterance,
        samples=samples[start:end],
        sample_rate_hz=form.sample_rate_hz,
        active_start=0,
        active_end=end - start,
    )


def prepare_reply(utterance: Utterance, dialect: Dialect, seconds_max: float | None) -> PreparedReply:
    """Return an utterance as messages of the dialect, ready to be stamped."""
    form = dialect.agent_format
    part = audible_part(utterance, form, seconds_max)
    frames = cut_frames(part, form.sample_rate_hz, form.encoding, form.frame_ms).frames
    return PreparedReply(
        utterance.text,
        tuple(dialect.prepare_agent(frames)),
        form.frame_ms * NS_PER_MS,
        frames,
        break_in_speech(frames, form),
    )


def break_in_speech(frames: Sequence[bytes], form: AudioFormat) -> int:
    """Return the frame nearest to the middle that has speech right before it and in it: there a hole is heard."""
    levels = [rms(decode_pcm(frame, form.encoding), 2) for frame in frames]
    speech = amplitude(OPEN_DBFS)
    inside = [n for n in range(1, len(levels)) if min(levels[n - 1], levels[n]) >= speech]
    return min(inside, key=lambda n: abs(2 * n - len(levels)), default=-1)


def fingerprints(utterance: Utterance, form: AudioFormat) -> set[bytes]:
    """Return the last loud frames by which `Hearing.fingerprint` knows an utterance that is sent as it is.

    Some callers send all of it, others stop after the last active sample: then a faint rest is not in it.
    """
    cut = cut_frames(utterance, form.sample_rate_hz, form.encoding, form.frame_ms)
    found: set[bytes] = set()
    for last in (len(cut.frames), cut.last_active_frame + 1):
        sent = (decode_pcm(frame, form.encoding) for frame in reversed(cut.frames[:last]))
        found.add(next((pcm for pcm in sent if peak(pcm, 2) >= ACTIVE_LEVEL), b""))
    return found - {b""}
