"""What the Speech stand-in hears: phrases to the sample, at their told instants, on a clock of the test's own."""

import jiwer
import msgspec
import numpy as np
import pytest

from voxload import speech_protocol as protocol
from voxload.audio.codec import decode_audio, encode_audio, resample, write_wav
from voxload.audio.corpus import load_corpus
from voxload.audio.noise import noise_bed
from voxload.audio.persona import apply_persona, bed_frames
from voxload.audio.speech import active_bounds
from voxload.clock import NS_PER_MS, NS_PER_S
from voxload.errors import BadInputError
from voxload.model.persona import Persona
from voxload.standins.speech.ear import Ear
from voxload.standins.speech.known import Known
from voxload.standins.speech.recognition import Recognition, Studio
from voxload.standins.speech.settings import KnownRecording, SpeechSettings
from voxload.standins.speech.wishes import Options, UnsupportedAudioError, audio_format, options_of
from voxload.wheel import Wheel

CORPUS = load_corpus()
KNOWN = Known.of(CORPUS)
EVERYTHING = (*CORPUS.callers, *CORPUS.extras, *CORPUS.agents)
FIRST, SECOND = CORPUS.callers[0], CORPUS.callers[1]
SEGMENTATION_NS = 500 * NS_PER_MS


def mulaw(samples):
    return decode_audio(encode_audio(samples, "mulaw"), "mulaw")


def noisy(samples):
    noise = np.random.default_rng(1).normal(0, 104, len(samples))  # -50 dBFS
    return np.clip(samples + noise, -32_768, 32_767).astype(np.int16)


FORMS = {
    "as it is": (16_000, lambda samples: samples),
    "8 kHz": (8_000, lambda samples: resample(samples, 16_000, 8_000)),
    "24 kHz": (24_000, lambda samples: resample(samples, 16_000, 24_000)),
    "telephone": (8_000, lambda samples: mulaw(resample(samples, 16_000, 8_000))),
    "half as loud": (16_000, lambda samples: (samples // 2).astype(np.int16)),
    "noisy": (16_000, noisy),
}


def segments(samples, rate_hz, message_ms=100):
    """Return the phrases of audio behind 987 ms of silence, with the place where the samples began."""
    lead = rate_hz * 987 // 1000
    pcm = np.concatenate([np.zeros(lead, np.int16), samples, np.zeros(rate_hz, np.int16)]).tobytes()
    ear, size, found = Ear(rate_hz, SEGMENTATION_NS), 2 * rate_hz * message_ms // 1000, []
    for place in range(0, len(pcm), size):
        piece = pcm[place : place + size]
        segment = ear.hear(piece, (place + len(piece)) * NS_PER_S // (2 * rate_hz))
        if segment:
            found.append(segment)
    return found, lead


@pytest.mark.parametrize("form", FORMS)
def test_all_of_the_corpus_is_known_by_the_course_of_its_level(form):
    rate_hz, change = FORMS[form]
    for utterance in EVERYTHING:
        found, _ = segments(change(utterance.samples), rate_hz)
        assert len(found) == 1, utterance.id
        assert KNOWN.whole(found[0].levels) == ("" if utterance.intent == "noise" else utterance.text), utterance.id


@pytest.mark.parametrize("message_ms", [20, 37, 100, 200])
@pytest.mark.parametrize("form", ["as it is", "telephone"])
def test_the_end_of_speech_is_found_to_the_sample(form, message_ms):
    rate_hz, change = FORMS[form]
    for utterance in EVERYTHING[:6]:
        samples = change(utterance.samples)
        ((segment,), lead) = segments(samples, rate_hz, message_ms)
        start, end = active_bounds(samples, rate_hz)
        sample_ns = NS_PER_S / rate_hz
        assert abs(segment.onset_ns - (lead + start) * sample_ns) <= 2 * sample_ns
        assert abs(segment.end_ns - (lead + end) * sample_ns) <= 2 * sample_ns
        # sent in real time: it was heard when it was spoken
        assert abs(segment.ended_at_ns - segment.end_ns) <= sample_ns


def test_audio_that_comes_faster_than_it_is_spoken_is_heard_when_it_comes():
    pcm = FIRST.samples.tobytes()
    ear = Ear(16_000, SEGMENTATION_NS)
    for number, place in enumerate(range(0, len(pcm), 3200)):
        ear.hear(pcm[place : place + 3200], 1000 + number)
    segment = ear.end()
    last = segment.end_ns // (100 * NS_PER_MS)
    assert segment.ended_at_ns == 1000 + last - 1  # in the message after that one


def test_utterances_without_a_pause_between_them_make_one_text():
    joined = np.concatenate([FIRST.samples[: FIRST.active_end + 3200], SECOND.samples])
    ((segment,), _) = segments(joined, 16_000)
    assert KNOWN.whole(segment.levels) == f"{FIRST.text} {SECOND.text}"


def test_who_never_pauses_is_heard_in_phrases_of_a_minute():
    spoken = np.concatenate([each.samples[each.active_start : each.active_end] for each in CORPUS.callers])
    spoken = np.tile(spoken, 2)  # 128 s
    found, lead = segments(spoken, 16_000)
    begins = [round((segment.onset_ns - lead * NS_PER_S / 16_000) / 1e9, 1) for segment in found]
    assert begins == pytest.approx([0, 60, 120], abs=0.2)
    assert found[-1].end_ns - found[0].onset_ns == pytest.approx(len(spoken) / 16_000 * NS_PER_S, abs=NS_PER_S / 10)


def test_other_speech_is_not_taken_for_the_corpus():
    for utterance in CORPUS.callers:
        ((segment,), _) = segments(utterance.samples[::-1], 16_000)
        assert KNOWN.whole(segment.levels) is None, utterance.id


PERSONAS = [
    {"noise": {"kind": "white", "snr_db": 15}},
    {"noise": {"kind": "pink", "snr_db": 15}, "codec": "g711", "level_db": 2},
    {"noise": {"kind": "babble", "snr_db": 20}},
    {"speaking_rate": 0.8},
    {"speaking_rate": 1.3},
    {"level_db": -12, "codec": "g711"},
]


@pytest.mark.parametrize("told", PERSONAS, ids=str)
def test_personas_are_understood_in_their_noise_and_at_their_rate(told):
    persona = Persona.model_validate({"name": "anybody", **told})
    loop = b"".join(bed_frames(persona, 16_000, "pcm16", 20, 1)) or bytes(64_000)
    pause = np.resize(np.frombuffer(loop, "<i2"), 32_000)
    line, place, ends = Line(), 2 * len(pause), []
    line.speak(np.tile(pause, 2))
    for utterance in CORPUS.callers[:8]:
        said = apply_persona(utterance, persona, 1)
        line.speak(np.concatenate([said.samples, pause]))
        ends.append((place + said.active_end) * NS_PER_S // 16_000)
        place += len(said.samples) + len(pause)
    phrases = [found for found in line.of(protocol.SPEECH_PHRASE) if found[1]["RecognitionStatus"] == "Success"]
    assert [body["DisplayText"] for _, body in phrases] == [each.text for each in CORPUS.callers[:8]]
    for (at_ns, _), end_ns in zip(phrases, ends, strict=True):
        late_ms = (at_ns - end_ns) / NS_PER_MS - 700
        # noise hides the very end, not what is known of it; a low level loses it
        assert -100 <= late_ms <= 20 if "level_db" in told and "noise" not in told else -10 <= late_ms <= 20


def test_noise_alone_is_no_speech():
    bed = noise_bed("pink", 16_000, 20, -35, 1)
    line = Line()
    line.speak(np.concatenate([SILENCE, bed, SILENCE, FIRST.samples, SILENCE]))  # it begins and ends
    phrases = [(body["RecognitionStatus"], body.get("DisplayText")) for _, body in line.of(protocol.SPEECH_PHRASE)]
    assert phrases == [("InitialSilenceTimeout", None), ("Success", FIRST.text)]


def test_speech_before_noise_ends_where_the_noise_begins():
    line = Line()
    line.speak(np.concatenate([SILENCE, FIRST.samples[: FIRST.active_end], noise_bed("white", 16_000, 4, -35, 1)]))
    (phrase,) = [body for _, body in line.of(protocol.SPEECH_PHRASE)]
    assert phrase["DisplayText"] == FIRST.text


def test_what_is_being_said_is_guessed_from_its_beginning():
    ((segment,), _) = segments(FIRST.samples, 16_000)
    guess = KNOWN.begun(segment.levels[:100])
    assert guess.text == FIRST.text
    assert guess.sure
    assert KNOWN.begun(segment.levels[::-1][:100]) is None


def test_recordings_of_ones_own_are_known_too(tmp_path):
    samples = SECOND.samples[::-1]
    write_wav(tmp_path / "own.wav", samples, 16_000)
    known = Known.of(CORPUS, [KnownRecording(file=str(tmp_path / "own.wav"), text="Of my own.")])
    ((segment,), _) = segments(samples, 16_000)
    assert known.whole(segment.levels) == "Of my own."
    (tmp_path / "bad.wav").write_bytes(b"none")
    missing = [KnownRecording(file=str(tmp_path / name), text="-") for name in ("bad.wav", "gone.wav")]
    with pytest.raises(BadInputError) as error:
        Known.of(CORPUS, missing)
    assert "bad.wav" in str(error.value) and "gone.wav" in str(error.value)


class Line:
    """A recognition on a clock that the test moves: audio in real time, messages with their instants."""

    def __init__(self, mode="conversation", settings=None, **options):
        self.wheel = Wheel(0)
        self.studio = Studio(SpeechSettings.model_validate(settings or {}), KNOWN, self.wheel)
        self.now_ns, self.sent, self.over = 0, [], []
        self.turn = Recognition(self.studio, Options(mode, **options), self._take, self.over.append)

    def _take(self, path, body):
        self.sent.append((self.now_ns, path, msgspec.json.decode(body)))

    def wait(self, until_ns):
        while (due_ns := self.wheel.next_due_ns()) is not None and due_ns <= until_ns:
            self.now_ns = due_ns
            self.wheel.advance(due_ns)
        self.now_ns = until_ns
        self.wheel.advance(until_ns)

    def speak(self, samples, rate_hz=16_000, message_ms=100):
        pcm, start_ns = samples.astype("<i2").tobytes(), self.now_ns
        size = 2 * rate_hz * message_ms // 1000
        for place in range(0, len(pcm), size):
            piece = pcm[place : place + size]
            self.wait(start_ns + (place + len(piece)) * NS_PER_S // (2 * rate_hz))
            self.turn.hear(piece, self.now_ns)

    def of(self, path):
        return [(at_ns, body) for at_ns, found, body in self.sent if found == path]


SILENCE = np.zeros(16_000, np.int16)


def test_a_phrase_comes_its_told_latency_after_the_end_of_speech():
    line = Line(settings={"recognition": {"final_latency": "812ms"}})
    line.speak(np.concatenate([FIRST.samples, SILENCE, SECOND.samples, SILENCE]))
    phrases = line.of(protocol.SPEECH_PHRASE)
    assert [body["DisplayText"] for _, body in phrases] == [FIRST.text, SECOND.text]
    before = len(FIRST.samples) + len(SILENCE)
    for (at_ns, body), end in zip(phrases, (FIRST.active_end, before + SECOND.active_end), strict=True):
        assert 0 <= at_ns - (end * NS_PER_S // 16_000 + 812 * NS_PER_MS) <= NS_PER_MS
        assert body["Offset"] + body["Duration"] == pytest.approx(end * 625, abs=2)


def test_no_phrase_comes_before_the_silence_that_ends_it():
    line = Line(segmentation_ns=900 * NS_PER_MS)
    line.speak(np.concatenate([FIRST.samples, SILENCE, SILENCE]))
    ((at_ns, _),) = line.of(protocol.SPEECH_PHRASE)
    end_ns = FIRST.active_end * NS_PER_S // 16_000
    assert 900 * NS_PER_MS <= at_ns - end_ns <= 1000 * NS_PER_MS  # with the message that completes it


def test_interim_results_grow_and_never_outlive_the_speech():
    line = Line(settings={"recognition": {"interim_every": "200ms", "interim_latency": "120ms"}})
    line.speak(np.concatenate([FIRST.samples, SILENCE]))
    hypotheses = line.of(protocol.SPEECH_HYPOTHESIS)
    said = protocol_words(FIRST.text)
    assert len(hypotheses) >= 8
    texts = [body["Text"] for _, body in hypotheses]
    assert all(said.startswith(text) for text in texts)
    assert texts == sorted(texts, key=len)
    ((phrase_ns, _),) = line.of(protocol.SPEECH_PHRASE)
    assert all(at_ns < phrase_ns for at_ns, _ in hypotheses)
    for at_ns, body in hypotheses:  # each is as late as told after the audio that it covers
        spoken_ns = (body["Offset"] + body["Duration"]) * 100
        assert 120 * NS_PER_MS <= at_ns - spoken_ns <= 121 * NS_PER_MS


def protocol_words(text):
    return text.lower().replace(",", "").rstrip(".?")


def test_hypotheses_that_would_follow_the_phrase_are_dropped():
    line = Line(settings={"recognition": {"interim_latency": "5s"}})
    line.speak(np.concatenate([FIRST.samples, SILENCE]))
    line.wait(20 * NS_PER_S)
    assert not line.of(protocol.SPEECH_HYPOTHESIS)
    ((at_ns, _),) = line.of(protocol.SPEECH_PHRASE)
    assert 0 <= at_ns - (FIRST.active_end * NS_PER_S // 16_000 + 700 * NS_PER_MS) <= NS_PER_MS


def test_a_single_recognition_has_one_phrase_even_if_its_silences_are_long():
    line = Line("interactive", segmentation_ns=3 * NS_PER_S, initial_silence_ns=2 * NS_PER_S)
    line.speak(np.concatenate([FIRST.samples, np.zeros(16_000 * 5, np.int16)]))
    assert [body["RecognitionStatus"] for _, body in line.of(protocol.SPEECH_PHRASE)] == ["Success"]


def test_a_single_recognition_ends_with_its_first_phrase():
    line = Line("interactive")
    line.speak(np.concatenate([FIRST.samples, SILENCE, SECOND.samples, SILENCE]))
    paths = [path for _, path, _ in line.sent if path != protocol.SPEECH_HYPOTHESIS]
    assert paths == ["turn.start", "speech.startDetected", "speech.endDetected", "speech.phrase", "turn.end"]
    assert line.over == [True]


def test_the_end_of_the_audio_ends_phrase_and_turn():
    line = Line()
    line.speak(FIRST.samples[: FIRST.active_end])
    line.turn.hear(b"", line.now_ns)
    line.wait(10 * NS_PER_S)
    statuses = [(at_ns, body["RecognitionStatus"]) for at_ns, body in line.of(protocol.SPEECH_PHRASE)]
    assert [status for _, status in statuses] == ["Success", "EndOfDictation"]
    assert 0 <= statuses[0][0] - (FIRST.active_end * NS_PER_S // 16_000 + 700 * NS_PER_MS) <= NS_PER_MS
    assert line.sent[-1][1] == protocol.TURN_END and line.over == [True]


@pytest.mark.parametrize(("mode", "seconds"), [("interactive", 5), ("conversation", 15)])
def test_silence_is_waited_for_as_long_as_the_service_does(mode, seconds):
    line = Line(mode)
    line.speak(np.zeros(16_000 * (seconds + 1), np.int16))
    ((at_ns, body),) = line.of(protocol.SPEECH_PHRASE)
    assert (body["RecognitionStatus"], at_ns) == ("InitialSilenceTimeout", seconds * NS_PER_S)
    assert line.over == ([True] if mode == "interactive" else [])


def test_noise_and_unknown_speech_are_told_apart():
    cough = CORPUS.find("noise")[0]
    other = FIRST.samples[::-1]
    line = Line()
    line.speak(np.concatenate([cough.samples, SILENCE, other, SILENCE]))
    statuses = [(body["RecognitionStatus"], body.get("DisplayText")) for _, body in line.of(protocol.SPEECH_PHRASE)]
    assert statuses == [("NoMatch", None), ("Success", "Speech that is not known.")]
    line = Line(settings={"recognition": {"unknown_text": None}})
    line.speak(np.concatenate([other, SILENCE]))
    assert [body["RecognitionStatus"] for _, body in line.of(protocol.SPEECH_PHRASE)] == ["NoMatch"]


def test_faults_strike():
    line = Line(settings={"faults": {"no_match_rate": 1}})
    line.speak(np.concatenate([FIRST.samples, SILENCE]))
    assert [body["RecognitionStatus"] for _, body in line.of(protocol.SPEECH_PHRASE)] == ["NoMatch"]
    line = Line(settings={"faults": {"disconnect_rate": 1}})
    line.speak(np.concatenate([FIRST.samples, SILENCE]))
    assert not line.of(protocol.SPEECH_PHRASE) and line.over == [False]
    line = Line(settings={"faults": {"word_error_rate": 1}})
    line.speak(np.concatenate([FIRST.samples, SILENCE]))
    ((_, body),) = line.of(protocol.SPEECH_PHRASE)
    assert body["RecognitionStatus"] == "Success"
    heard = body["DisplayText"].lower().replace(",", "").replace(".", "")
    assert jiwer.wer(protocol_words(FIRST.text), heard) == 1


def test_the_detailed_format_has_words_at_their_places():
    line = Line(detailed=True, word_timings=True)
    line.speak(np.concatenate([FIRST.samples, SILENCE]))
    ((_, body),) = line.of(protocol.SPEECH_PHRASE)
    (best,) = body["NBest"]
    assert best["Lexical"] == protocol_words(FIRST.text)
    assert best["Words"][0]["Offset"] == body["Offset"]
    last = best["Words"][-1]
    assert last["Offset"] + last["Duration"] == body["Offset"] + body["Duration"]


def test_a_stream_of_mulaw_is_heard():
    line = Line()
    header = bytearray(protocol.wav_header(8_000))
    header[20:22], header[34:36] = (7).to_bytes(2, "little"), (8).to_bytes(2, "little")
    sound = encode_audio(resample(np.concatenate([FIRST.samples, SILENCE]), 16_000, 8_000), "mulaw")
    line.turn.hear(bytes(header), 0)
    for place in range(0, len(sound), 160):
        line.wait((place + 160) * NS_PER_S // 8_000)
        line.turn.hear(sound[place : place + 160], line.now_ns)
    assert [body["DisplayText"] for _, body in line.of(protocol.SPEECH_PHRASE)] == [FIRST.text]


def test_audio_of_other_forms_is_refused():
    header = bytearray(protocol.wav_header(16_000))
    header[22] = 2  # stereo
    with pytest.raises(UnsupportedAudioError, match="2 channels"):
        audio_format(bytes(header))
    assert audio_format(protocol.wav_header(8_000) + b"ab") == ("pcm16", 8_000, b"ab")
    assert audio_format(b"no header") == ("pcm16", 16_000, b"no header")


def test_what_a_client_asks_for_is_read_from_context_and_address():
    context = {
        "phraseDetection": {
            "mode": "CONVERSATION",
            "initialSilenceTimeout": 3000,
            "CONVERSATION": {"segmentation": {"segmentationSilenceTimeoutMs": 700, "mode": "Custom"}},
        },
        "phraseOutput": {"format": "Detailed", "detailed": {"options": ["WordTimings"]}},
    }
    full = Options("conversation", True, True, 700 * NS_PER_MS, 3 * NS_PER_S)
    assert options_of(context, "", {}) == full
    assert options_of({}, "dictation", {"format": "detailed", "initialSilenceTimeoutMs": "3000"}) == Options(
        "dictation", True, False, 0, 3 * NS_PER_S
    )
    assert options_of({"phraseDetection": {"mode": 7}, "phraseOutput": [1]}, "", {}) == Options()
