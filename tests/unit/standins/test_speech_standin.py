"""The Speech stand-in by Azure's own SDK: recognition once and continuously, synthesis, refusals, counters."""

import json
import threading
import urllib.error
import urllib.request

import numpy as np
import pytest

from voxload.audio.codec import read_wav, resample
from voxload.audio.corpus import load_corpus
from voxload.standins.speech.settings import DEVELOPMENT_KEY
from voxload.standins.web import StandInProcess, build

speech = pytest.importorskip("azure.cognitiveservices.speech", reason="the SDK has no wheel for this platform")

CORPUS = load_corpus()
FIRST, SECOND = CORPUS.callers[0], CORPUS.callers[1]
SILENCE = bytes(32_000)
END_S = 20


@pytest.fixture(scope="module")
def service():
    synthesis = {"first_byte": "300ms", "real_time_factor": 0.2}
    with StandInProcess("speech", {"recognition": {"final_latency": "550ms"}, "synthesis": synthesis}) as process:
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


def test_languages_and_speakers_are_told_to_those_who_ask(service):
    settings = config(service, by="endpoint")
    stream = speech.audio.PushAudioInputStream()
    stream.write(FIRST.samples.tobytes())
    stream.close()
    languages = speech.languageconfig.AutoDetectSourceLanguageConfig(languages=["de-DE", "en-US"])
    found = speech.SpeechRecognizer(
        settings,
        audio_config=speech.audio.AudioConfig(stream=stream),
        auto_detect_source_language_config=languages,
    ).recognize_once()
    assert speech.AutoDetectSourceLanguageResult(found).language == "en-US"

    stream = speech.audio.PushAudioInputStream()
    stream.write(FIRST.samples.tobytes())
    stream.close()
    listener = speech.transcription.ConversationTranscriber(
        settings, audio_config=speech.audio.AudioConfig(stream=stream)
    )
    said, stopped = [], threading.Event()
    listener.transcribed.connect(lambda event: said.append((event.result.speaker_id, event.result.text)))
    listener.session_stopped.connect(lambda _: stopped.set())
    listener.start_transcribing_async().get()
    assert stopped.wait(END_S)
    listener.stop_transcribing_async().get()
    assert said == [("Guest-1", FIRST.text)]


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
        assert told["refused"] >= 1  # the SDK tries a handshake five times


REPLY = CORPUS.agents[-1]
SPEAK = "<speak version='1.0' xml:lang='en-US'><voice name='en-US-JennyNeural'>Hi</voice></speak>"


def synthesiser(settings):
    return speech.SpeechSynthesizer(settings, audio_config=None)


def speak(settings, text):
    speaker = synthesiser(settings)  # kept: the SDK may hang when it goes while it speaks
    asked = speaker.speak_ssml_async(text) if text.startswith("<") else speaker.speak_text_async(text)
    return asked.get()


@pytest.mark.parametrize("by", ["host", "endpoint"])
def test_a_text_of_the_corpus_is_spoken_as_it_is_there(service, by):
    result = speak(config(service, by=by), REPLY.text)
    assert result.reason == speech.ResultReason.SynthesizingAudioCompleted
    samples, rate_hz = read_wav(result.audio_data)
    assert rate_hz == 16_000
    assert np.array_equal(samples, REPLY.samples[REPLY.active_start : REPLY.active_end])


def test_audio_comes_with_its_told_latency_and_pace(service):
    speaker = synthesiser(config(service))
    speaker.speak_text_async("Hello").get()  # the connection stands
    result = speaker.speak_text_async(REPLY.text).get()

    def latency_ms(name):
        return int(result.properties.get_property(getattr(speech.PropertyId, f"SpeechServiceResponse_{name}LatencyMs")))

    first_ms, last_ms = latency_ms("SynthesisFirstByte"), latency_ms("SynthesisFinish")
    spread_ms = (REPLY.active_end - REPLY.active_start) / 16 * 0.2
    assert 298 <= first_ms < 600  # the SDK rounds
    assert last_ms - first_ms == pytest.approx(spread_ms, abs=250)


def test_ssml_is_spoken_with_its_pauses_and_words(service):
    speaker = synthesiser(config(service))
    words = []
    speaker.synthesis_word_boundary.connect(lambda event: words.append((event.text, event.audio_offset / 1e7)))
    ssml = (
        "<speak version='1.0' xml:lang='en-US' xmlns='http://www.w3.org/2001/10/synthesis'>"
        "<voice name='en-US-JennyNeural'><prosody rate='slow'>One moment</prosody><break time='500ms'/>please</voice>"
        "</speak>"
    )
    result = speaker.speak_ssml_async(ssml).get()
    assert result.audio_duration.total_seconds() == pytest.approx(16 / 15 + 0.5, abs=0.002)
    assert [word for word, _ in words] == ["One", "moment", "please"]
    assert words[2][1] == pytest.approx(10 / 15 + 0.5, abs=0.002)


@pytest.mark.parametrize(
    ("name", "rate_hz", "bytes_per_s"),
    [
        ("Riff24Khz16BitMonoPcm", 24_000, 48_000),
        ("Raw8Khz8BitMonoMULaw", 8_000, 8_000),
        ("Raw48Khz16BitMonoPcm", 48_000, 96_000),
    ],
)
def test_audio_has_the_form_that_was_asked_for(service, name, rate_hz, bytes_per_s):
    settings = config(service)
    settings.set_speech_synthesis_output_format(speech.SpeechSynthesisOutputFormat[name])
    audio = speak(settings, "Hello there, caller").audio_data
    if name.startswith("Riff"):
        samples, found_hz = read_wav(audio)
        assert found_hz == rate_hz
        assert len(samples) == pytest.approx(19 / 15 * rate_hz, abs=2)
    else:
        assert len(audio) == pytest.approx(19 / 15 * bytes_per_s, abs=4)


def test_audio_is_streamed(service):
    speaker = synthesiser(config(service))
    result = speaker.start_speaking_text_async(REPLY.text).get()
    stream, buffer, read = speech.AudioDataStream(result), bytes(16_000), 0
    while size := stream.read_data(buffer):
        read += size
    assert read == 2 * (REPLY.active_end - REPLY.active_start)


@pytest.mark.parametrize("wrong", ["ssml", "form", "key"])
def test_what_cannot_be_spoken_is_refused(service, wrong):
    settings = config(service, "wrong" if wrong == "key" else DEVELOPMENT_KEY)
    if wrong == "form":
        settings.set_speech_synthesis_output_format(speech.SpeechSynthesisOutputFormat.Audio16Khz32KBitRateMonoMp3)
    result = speak(settings, "<speak" if wrong == "ssml" else SPEAK)
    codes = speech.CancellationErrorCode
    assert result.cancellation_details.error_code == (
        codes.AuthenticationFailure if wrong == "key" else codes.BadRequest
    )
    told = {"ssml": "Ssml parsing error", "form": "audio-16khz-32kbitrate-mono-mp3", "key": "401"}[wrong]
    assert told in result.cancellation_details.error_details


def test_a_text_that_a_model_writes_is_spoken_sentence_by_sentence(service):
    address = service.url.replace("http", "ws") + "/tts/cognitiveservices/websocket/v2"
    speaker = synthesiser(speech.SpeechConfig(endpoint=address, subscription=DEVELOPMENT_KEY))
    request = speech.SpeechSynthesisRequest(input_type=speech.SpeechSynthesisRequestInputType.TextStream)
    first, chunks = threading.Event(), []

    def take(event):
        chunks.append(len(event.result.audio_data))
        first.set()

    speaker.synthesizing.connect(take)
    asked = speaker.speak_async(request)
    for piece in ("Hello ", "there. ", "And now"):
        request.input_stream.write(piece)
    assert first.wait(END_S)  # before the text is complete
    request.input_stream.write(" the rest")
    request.input_stream.close()
    result = asked.get()
    assert result.reason == speech.ResultReason.SynthesizingAudioCompleted
    assert result.audio_duration.total_seconds() == pytest.approx(
        (len("Hello there.") + len("And now the rest")) / 15, abs=0.01
    )


def test_texts_over_the_quota_are_throttled():
    with StandInProcess("speech", {"synthesis": {"transactions_per_s": 1, "real_time_factor": 0}}) as process:
        speakers = [synthesiser(config(process)) for _ in range(3)]
        results = [asked.get() for asked in [speaker.speak_text_async("Hello") for speaker in speakers]]
        refused = [result.cancellation_details for result in results if result.cancellation_details]
        assert len(refused) == 2
        assert all(each.error_code == speech.CancellationErrorCode.TooManyRequests for each in refused)
        told = counters(process)["syntheses"]
        assert (told["started"], told["refused"], told["characters"]) == (1, 2, 5)


def test_plain_requests_speak_too(service):
    def post(path, key=DEVELOPMENT_KEY, form="riff-16khz-16bit-mono-pcm", body=SPEAK, **headers):
        headers |= {"X-Microsoft-OutputFormat": form, "Content-Type": "application/ssml+xml"}
        if key:
            headers["Ocp-Apim-Subscription-Key"] = key
        return urllib.request.urlopen(urllib.request.Request(service.url + path, body.encode(), headers))

    answer = post("/cognitiveservices/v1")
    samples, rate_hz = read_wav(answer.read())
    assert (rate_hz, len(samples)) == (16_000, round(2 / 15 * 16_000))
    token = post("/sts/v1.0/issueToken", body="").read().decode()
    assert post(
        "/cognitiveservices/v1", key="", form="raw-8khz-8bit-mono-mulaw", Authorization=f"Bearer {token}"
    ).read()
    for wrong in ({"key": "wrong"}, {"form": "mp3"}, {"body": "text"}):
        with pytest.raises(urllib.error.HTTPError) as error:
            post("/cognitiveservices/v1", **wrong)
        assert error.value.code == (401 if "key" in wrong else 400)


def test_tokens_and_voices_are_those_of_the_sdk(service):
    settings = speech.SpeechConfig(host=service.url.replace("http", "ws"))
    settings.authorization_token = "a.b.c"
    assert recogniser(settings, FIRST.samples.tobytes()).recognize_once().text == FIRST.text
    speaker = synthesiser(config(service))
    voices = speaker.get_voices_async().get().voices
    assert "en-US-JennyNeural" in [voice.short_name for voice in voices]


def test_wrong_settings_are_all_told():
    from voxload.errors import BadInputError

    with pytest.raises(BadInputError) as error:
        build("speech", {"recognition": {"final_latency": "100ms"}, "synthesis": {"first_byte": "soon"}})
    text = str(error.value)
    assert "final_latency is shorter than segmentation_silence" in text
    assert "synthesis.first_byte" in text
