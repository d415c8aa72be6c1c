"""Every label of the corpus holds against its audio."""

from __future__ import annotations

import hashlib
import io
import wave
from importlib import resources
from itertools import product

import msgspec
import numpy as np
import pytest

from voxload.audio.codec import read_wav
from voxload.audio.corpus import SpeechLabel, load_corpus, utterance_from_wav
from voxload.audio.speech import SpeechDetector, active_bounds
from voxload.errors import BadInputError

FOLDER = resources.files("voxload.audio") / "data"
LABELS = msgspec.json.decode((FOLDER / "speech.json").read_bytes(), type=list[SpeechLabel])
INTENTS = {
    "book_appointment", "cancel_appointment", "refill_prescription", "test_results", "billing_question",
    "opening_hours",
}  # fmt: skip
SECONDS = {
    "backchannel": pytest.approx(0.6, abs=0.2),
    "noise": pytest.approx(0.6, abs=0.1),
    "monologue": pytest.approx(13.5, abs=1.5),
}
EXTRAS = {
    "mm_hm-slt-1": ("caller", "backchannel"),
    "mm_hm-rms-1": ("caller", "backchannel"),
    "cough-1": ("noise", "noise"),
    "book_appointment-slt-long": ("caller", "monologue"),
}


@pytest.mark.parametrize("label", LABELS, ids=lambda label: label.id)
def test_label_holds_against_its_audio(label):
    data = (FOLDER / label.file).read_bytes()
    samples, rate_hz = read_wav(data)
    assert hashlib.sha256(data).hexdigest() == label.sha256
    assert (rate_hz, len(samples)) == (label.sample_rate_hz, label.samples) == (16_000, len(samples))
    assert active_bounds(samples, rate_hz) == (label.active_start, label.active_end)
    lead, tail = label.active_start, label.samples - label.active_end
    assert 1_200 <= lead <= 2_000
    assert 1_200 <= tail <= 2_400
    assert not samples[: lead - 640].any()  # digital silence, so that nothing is heard before the label says so
    speech = samples[label.active_start : label.active_end].astype(float)
    assert 20 * np.log10(np.sqrt(np.mean(speech**2)) / 32_768) == pytest.approx(-20, abs=1)
    assert np.abs(speech).max() < 32_000
    assert label.text
    assert label.samples / rate_hz == SECONDS.get(label.intent, pytest.approx(2.75, abs=1.25))


def test_the_set_is_complete_and_small():
    extras = [label for label in LABELS if label.intent in SECONDS]
    callers = [label for label in LABELS if label.role == "caller" and label not in extras]
    agents = [label for label in LABELS if label.role == "agent"]
    assert {label.id for label in callers} == {
        f"{intent}-{voice}-{number}" for intent, voice, number in product(INTENTS, ("slt", "rms"), (1, 2))
    }
    for intent in INTENTS:
        assert len({label.text for label in callers if label.intent == intent}) == 2
    assert {label.intent for label in agents} == INTENTS | {"greeting", "generic"}
    assert {label.id: (label.role, label.intent) for label in extras} == EXTRAS
    assert len(callers) + len(agents) + len(extras) == len(LABELS) == len({label.id for label in LABELS})
    assert len({label.sha256 for label in LABELS}) == len(LABELS)
    files = [file for file in FOLDER.iterdir() if file.is_file()]
    assert {file.name for file in files} == {label.file for label in LABELS} | {"speech.json"}
    assert sum(len(file.read_bytes()) for file in files) < 4_000_000


def test_find_by_id_by_intent_or_not_at_all():
    corpus = load_corpus()
    assert corpus is load_corpus()
    assert [utterance.id for utterance in corpus.find("test_results-rms-2")] == ["test_results-rms-2"]
    found = corpus.find("test_results")
    assert len(found) == 4
    assert set(found) <= set(corpus.callers)
    assert corpus.find("test_result") == ()
    assert corpus.find("greeting") == ()  # the agent's intents are not the callers'
    assert corpus.find("greeting-awb-1") == (corpus.greeting,)
    assert all(corpus.find(name) for name in corpus.names())
    assert corpus.names()[:6] == list(dict.fromkeys(utterance.intent for utterance in corpus.callers))


def test_extras_are_found_but_are_no_requests():
    corpus = load_corpus()
    assert [utterance.id for utterance in corpus.extras] == list(EXTRAS)
    assert {utterance.intent for utterance in corpus.callers} == INTENTS
    assert len(corpus.callers) == 24
    assert [utterance.voice for utterance in corpus.find("backchannel")] == ["slt", "rms"]
    assert [utterance.id for utterance in corpus.find("noise")] == ["cough-1"]
    assert corpus.find("monologue") == corpus.find("book_appointment-slt-long")
    assert {"backchannel", "noise", "monologue"} <= set(corpus.names())
    assert corpus.reply("backchannel").intent == "generic"


def test_the_monologue_has_no_pause_that_ends_an_utterance():
    long = load_corpus().find("monologue")[0]
    detector = SpeechDetector(long.sample_rate_hz)
    detector.feed(long.samples.tobytes(), 0)
    assert (detector.opened, len(detector.closed)) == (1, 0)


def test_replies_by_intent():
    corpus = load_corpus()
    assert {corpus.reply(intent).intent for intent in INTENTS} == INTENTS
    assert corpus.reply("test_results") in corpus.agents
    assert corpus.reply("").id == corpus.reply("weather").id == corpus.reply("greeting").id == "generic-awb-1"
    assert corpus.greeting.id == "greeting-awb-1"


def test_times_and_immutability():
    utterance = load_corpus().callers[0]
    assert utterance.duration_ns == len(utterance.samples) * 62_500
    assert utterance.active_start_ns == utterance.active_start * 62_500
    assert utterance.active_end_ns == utterance.active_end * 62_500
    with pytest.raises(ValueError, match="read-only"):
        utterance.samples[0] = 1


def test_a_users_file_becomes_an_utterance():
    source = load_corpus().callers[0]
    data = (FOLDER / f"{source.id}.wav").read_bytes()
    utterance = utterance_from_wav(data, "mine.wav", text="hello", intent="book_appointment")
    assert (utterance.id, utterance.text, utterance.intent) == ("mine.wav", "hello", "book_appointment")
    assert (utterance.active_start, utterance.active_end) == (source.active_start, source.active_end)


@pytest.mark.parametrize("samples", [0, 10, 16_000])
def test_a_silent_file_is_refused(samples):
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(b"\x05\x00" * samples)
    with pytest.raises(BadInputError, match=r"mine\.wav: holds no speech"):
        utterance_from_wav(buffer.getvalue(), "mine.wav")
