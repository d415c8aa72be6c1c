"""The Speech stand-in by Azure's own SDK: recognition once and continuously, refusals, counters."""

import json
import threading
import urllib.request

import pytest

from voxload.audio.codec import resample
from voxload.audio.corpus import load_corpus
from voxload.standins.speech.settings import DEVELOPMENT_KEY
from voxload.standins.web import StandInProcess, build

speech = pytest.importorskip("azure.cognitiveservices.speech", reason="the SDK has no wheel for this platform")

pytestmark = pytest.mark.xdist_group("speech-sdk")

CORPUS = load_corpus()
FIRST, SECOND = CORPUS.callers[0], CORPUS.callers[1]
SILENCE = bytes(32_000)
END_S = 20


@pytest.fixture(scope="module")
def service():
    with StandInProcess("speech", {"recognition": {"final_latency": "550ms"}}) as process:
        yield process


def config(process, key=DEVELOPMENT_KEY, by="host", **more):
    url = process.url.replace("http", "ws") if by == "host" else process.url
    given = {"subscription": key} if key else {}
    return speech.SpeechConfig(**{by: url}, **given, **more)


def recogniser(settings, pcm, rate_hz=16_000):
    stream = speech.audio.PushAudioInputStream(speech.audio.AudioStreamFormat(rate_hz, 16, 1))
    stream.write(pcm)
    stream.close()
    return speech.SpeechRecognizer(settings, audio_config=speech.audio.AudioConfig(stream=stream))


def counters(process):
    return json.load(urllib.request.urlopen(f"{process.url}/voxload/counters"))


@pytest.mark.parametrize("by", ["host", "endpoint"])
def test_one_utterance_is_recognised(service, by):
    result = recogniser(config(service, by=by), FIRST.samples.tobytes()).recognize_once()
    assert result.reason == speech.ResultReason.RecognizedSpeech
    assert result.text == FIRST.text
    assert (result.offset + result.duration) / 1e7 == pytest.approx(FIRST.active_end / 16_000, abs=0.001)


def test_the_telephones_rate_is_recognised(service):
    pcm = resample(SECOND.samples, 16_000, 8_000).tobytes()
    assert recogniser(config(service), pcm, 8_000).recognize_once().text == SECOND.text


def test_the_detailed_format_holds_words(service):
    settings = config(service)
    settings.output_format = speech.OutputFormat.Detailed
    settings.request_word_level_timestamps()
    result = recogniser(settings, FIRST.samples.tobytes()).recognize_once()
    best = json.loads(result.json)["NBest"][0]
    assert best["Display"] == FIRST.text
    assert [word["Word"] for word in best["Words"]] == best["Lexical"].split()


def test_a_stream_is_recognised_continuously(service):
    pcm = SILENCE.join(utterance.samples.tobytes() for utterance in CORPUS.callers[:3]) + SILENCE
    found = recogniser(config(service), pcm)
    interim, final, stopped = [], [], threading.Event()
    found.recognizing.connect(lambda event: interim.append(event.result.text))
    found.recognized.connect(lambda event: final.append(event.result.text))
    found.session_stopped.connect(lambda _: stopped.set())
    before = counters(service)["requests"]
    found.start_continuous_recognition_async().get()
    assert stopped.wait(END_S)
    found.stop_continuous_recognition_async().get()
    assert final == [utterance.text for utterance in CORPUS.callers[:3]]
    assert "hello i would like to book an appointment" in interim
    turn = "TURN /speech/recognition/conversation/cognitiveservices/v1 200"
    assert counters(service)["requests"][turn] == before.get(turn, 0) + 1  # the SDK needed no second one


def test_silence_ends_without_a_match(service):
    settings = config(service)
    settings.set_property(speech.PropertyId.SpeechServiceConnection_InitialSilenceTimeoutMs, "1000")
    result = recogniser(settings, SILENCE * 3).recognize_once()
    assert result.reason == speech.ResultReason.NoMatch
    assert result.no_match_details.reason == speech.NoMatchReason.InitialSilenceTimeout


def test_a_wrong_key_is_refused_at_once(service):
    result = recogniser(config(service, "wrong"), FIRST.samples.tobytes()).recognize_once()
    assert result.cancellation_details.code == speech.CancellationErrorCode.AuthenticationFailure
    assert "401" in result.cancellation_details.error_details


@pytest.mark.parametrize("over_quota", ["handshake", "close"])
def test_recognitions_over_the_quota_are_throttled(over_quota):
    with StandInProcess("speech", {"recognition": {"concurrent": 1, "over_quota": over_quota}}) as process:
        stream = speech.audio.PushAudioInputStream()
        first = speech.SpeechRecognizer(config(process), audio_config=speech.audio.AudioConfig(stream=stream))
        begun, finished, texts = threading.Event(), threading.Event(), []
        first.recognizing.connect(lambda _: begun.set())
        first.recognized.connect(lambda event: texts.append(event.result.text))
        first.session_stopped.connect(lambda _: finished.set())
        first.start_continuous_recognition_async().get()
        stream.write(FIRST.samples.tobytes())
        assert begun.wait(END_S)
        refused = recogniser(config(process), FIRST.samples.tobytes()).recognize_once()
        assert refused.cancellation_details.code == speech.CancellationErrorCode.TooManyRequests
        stream.close()
        assert finished.wait(END_S)
        assert texts == [FIRST.text]
        # the place is free again
        assert recogniser(config(process), FIRST.samples.tobytes()).recognize_once().text == FIRST.text
        told = counters(process)["recognitions"]
        assert (told["started"], told["at_most"], told["now"]) == (2, 1, 0)
        assert told["refused"] == (5 if over_quota == "handshake" else 1)  # the SDK tries a handshake five times


def test_wrong_settings_are_all_told():
    from voxload.errors import BadInputError

    with pytest.raises(BadInputError) as error:
        build("speech", {"recognition": {"final_latency": "100ms"}, "synthesis": {"first_byte": "soon"}})
    text = str(error.value)
    assert "final_latency is shorter than segmentation_silence" in text
    assert "synthesis.first_byte" in text
