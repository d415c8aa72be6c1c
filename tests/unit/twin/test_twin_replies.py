"""What the twin says begins with an audible sample, in whatever format it travels."""

import base64
import json

import pytest

from voxload.audio.codec import decode_audio, rms
from voxload.audio.corpus import load_corpus
from voxload.audio.speech import SpeechDetector
from voxload.dialects.base import AudioFormat
from voxload.dialects.rtmed import RtmedDialect, RtmedOptions
from voxload.twin.replies import CorpusRepertoire, audible_part, fingerprints

FORMATS = [AudioFormat(16_000, "pcm16", 20), AudioFormat(24_000, "pcm16", 20), AudioFormat(8_000, "mulaw", 20)]


@pytest.fixture(scope="module")
def dialect():
    return RtmedDialect("http://twin", RtmedOptions())


@pytest.mark.parametrize("form", FORMATS)
def test_every_reply_is_heard_from_its_first_sample_on(form):
    for utterance in load_corpus().agents:
        part = audible_part(utterance, form, None)
        detector = SpeechDetector(form.sample_rate_hz)
        detector.feed(part.samples.astype("<i2").tobytes(), 0)
        onset_ns = detector.closed[0][0] if detector.closed else detector.onset_ns
        assert detector.opened
        assert onset_ns <= 1_000_000, utterance.id


def test_payloads_carry_the_audio_in_frames_of_the_dialect(dialect):
    repertoire = CorpusRepertoire(dialect)
    greeting = load_corpus().greeting
    assert repertoire.greeting.text == greeting.text
    assert repertoire.greeting.frame_ns == 20_000_000
    audio = b""
    for number, payload in enumerate(repertoire.greeting.payloads):
        message = json.loads(dialect.agent("x").stamp(payload, number, 0))
        assert message["sequence"] == number
        audio += base64.b64decode(message["audio"])
    assert len(audio) == 640 * len(repertoire.greeting.payloads)
    heard = decode_audio(audio, "pcm16")
    spoken = greeting.samples[greeting.active_start : greeting.active_end]
    assert (heard[: len(spoken)] == spoken).all()
    assert not heard[len(spoken) :].any()


def test_each_exchange_answers_its_own_intent_and_shares_payloads(dialect):
    corpus, repertoire = load_corpus(), CorpusRepertoire(dialect)
    assert len(repertoire.exchanges) == len(corpus.callers)
    for caller, exchange in zip(corpus.callers, repertoire.exchanges, strict=True):
        assert (exchange.heard, exchange.intent) == (caller.text, caller.intent)
        assert exchange.reply.text == corpus.reply(caller.intent).text
    assert len({id(exchange.reply) for exchange in repertoire.exchanges}) <= len(corpus.agents)


def test_replies_can_be_cut_short(dialect):
    short = CorpusRepertoire(dialect, 0.5)
    assert all(exchange.reply.length_ns == 500_000_000 for exchange in short.exchanges)


@pytest.mark.parametrize("form", FORMATS)
def test_no_two_utterances_end_alike(form):
    seen = {}
    for utterance in load_corpus().callers:
        found = fingerprints(utterance, form)
        assert 1 <= len(found) <= 2
        for fingerprint in found:
            assert seen.setdefault(fingerprint, utterance.id) == utterance.id


def test_a_reply_breaks_where_there_is_speech_on_both_sides(dialect):
    for exchange in CorpusRepertoire(dialect).exchanges:
        reply = exchange.reply
        assert abs(reply.break_at - len(reply.frames) / 2) <= len(reply.frames) / 4
        for frame in reply.frames[reply.break_at - 1 : reply.break_at + 1]:
            assert rms(frame, 2) >= 184  # -45 dBFS
