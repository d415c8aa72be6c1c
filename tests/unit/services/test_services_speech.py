"""The Speech service tested by Microsoft's client and by ours, which must measure the same; and what they are given."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from importlib import resources

import numpy as np
import pytest
from component_runs import Ran, closed, constant
from pydantic import ValidationError

from voxload.audio.corpus import load_corpus
from voxload.clock import monotonic_ns
from voxload.errors import BadInputError
from voxload.measure.recorder import Recorder
from voxload.model.source import Source
from voxload.services.base import Operation
from voxload.services.settings import read_settings
from voxload.services.speech.component import SpeechComponent
from voxload.services.speech.material import MESSAGE_NS, Material, Said, Script
from voxload.services.speech.options import (
    RecognitionOptions,
    SpeechOptions,
    SpeechSettings,
    SynthesisOptions,
    address_of,
    bytes_per_s,
)
from voxload.services.speech.results import Heard, Result
from voxload.standins.web import StandInProcess

CLIENTS = ("fast", "sdk")
MS = 1_000_000


def mean(ran, metric):
    histogram = ran.collector.histogram(metric)
    return histogram.mean / 1e9, histogram.count


# --- the same service, measured by both clients -----------------------------------------------------------------------

FILE = str(resources.files("voxload.audio") / "data" / "test_results-slt-2.wav")
SHORT = {"file": FILE, "text": "Are my lab results back yet?"}
"""1.7 s of speech."""
TOLD = {"final_latency": "800ms", "interim_latency": "250ms", "segmentation_silence": "400ms"}
SDK_MORE_MS = 60
"""The SDK hands results on from a queue that it looks at every some 10 ms; a busy machine adds to that."""


@asynccontextmanager
async def service_told(**settings):
    """A stand-in in a process of its own, with the options that lead to it."""
    process = await asyncio.to_thread(StandInProcess("speech", settings).start)
    try:
        yield process, {"endpoint": process.url, "access_key": "voxload-development-key"}
    finally:
        await asyncio.to_thread(process.stop)


async def by_both(load, told, **options):
    """What either client measures of the same service, side by side."""
    async with service_told(**told) as (_, place):
        found = [Ran("speech", load, client=client, **place, **options) for client in CLIENTS]
        await asyncio.gather(*(ran() for ran in found))
    return dict(zip(CLIENTS, found, strict=True))


async def test_both_clients_read_off_the_latencies_that_the_service_was_told():
    stt = {"utterances": 2, "pause": "800ms", "audio": [SHORT]}
    found = await by_both(constant(4), {"recognition": TOLD}, stt=stt)
    least = {}
    for client, ran in found.items():
        assert ran.ended == {"completed": 4}, ran.errors()
        assert (ran.count("stt_final_latency"), ran.count("stt_first_hypothesis")) == (8, 8)
        assert ran.count("stt_interim_latency") >= 16
        assert mean(ran, "stt_wer") == (0.0, 48)
        assert mean(ran, "stt_missed") == (0.0, 8)
        assert mean(ran, "throttled") == (0.0, 4)
        assert ran.facts["streams up at most"] == "4"
        # the least is told; what is above it is this machine's business
        least[client] = {name: ran.ms(f"stt_{name}_latency", 0.01) for name in ("final", "interim")}
        assert 799 <= least[client]["final"] < 800 + SDK_MORE_MS
        assert 249 <= least[client]["interim"] < 250 + SDK_MORE_MS
        assert ran.ms("stt_final_latency", 0.5) < 1000
    for name in ("final", "interim"):
        assert abs(least["sdk"][name] - least["fast"][name]) < SDK_MORE_MS


async def test_word_errors_and_misses_are_found():
    told = {"faults": {"word_error_rate": 0.3, "no_match_rate": 0.4}, "recognition": {"final_latency": "500ms"}}
    stt = {"utterances": 1, "final_timeout": "20s", "audio": [SHORT]}
    for ran in (await by_both(constant(28, "500ms"), told, stt=stt)).values():
        assert set(ran.ended) <= {"completed", "step_failed"}
        missed, said = mean(ran, "stt_missed")
        assert said == 14
        assert 0 < missed < 1
        assert ran.count("stt_final_latency") == round((1 - missed) * said)
        errors, words = mean(ran, "stt_wer")
        assert words == 14 * 6
        assert missed < errors < missed + (1 - missed) * 0.7  # every word of what was missed is wrong
        assert ran.ended["step_failed"] == round(missed * said)
        assert "nothing was recognised: NoMatch 1 times" in ran.errors()
        assert ran.result.duration_s < 15  # a stream that was not understood is not waited for


@pytest.mark.parametrize("client", CLIENTS)
async def test_the_limit_of_concurrent_recognitions_is_met(client):
    service = {"recognition": {"concurrent": 2, "final_latency": "500ms"}}
    stt = {"utterances": 1, "finish": "close", "audio": [SHORT]}
    ran = await Ran("speech", constant(8, "500ms"), client=client, stt=stt, service=service, retries=0)()
    assert ran.ended == {"completed": 2, "rejected": 2}, ran.errors()
    assert mean(ran, "throttled") == (0.5, 4)
    assert ("429" if client == "fast" else "TooManyRequests") in ran.errors()
    assert ran.facts["throttled"] == "2"
    # the SDK asks for a recognition only after its handshake: one more may be let in and then closed
    assert ran.facts["streams up at most"] in {"2", "3"}


async def test_many_streams_at_once_are_said_to_their_end():
    stt = {"utterances": 1, "audio": [SHORT]}
    service = {"recognition": {"final_latency": "600ms", "concurrent": 0}}
    ran = await Ran("speech", closed(80, "1500ms"), stt=stt, service=service)()
    assert ran.ended == {"completed": 80}, ran.errors()
    assert ran.facts["streams up at most"] == "80"
    assert (mean(ran, "stt_wer"), mean(ran, "stt_missed")) == ((0.0, 80 * 6), (0.0, 80))
    assert ran.ms("stt_final_latency", 0.01) >= 599
    # every message of every stream was sent, silence until the result included, and its lateness is known
    least = 80 * len(Material(ran.settings.options.stt, SynthesisOptions(), ("en-US",)).script(0).messages)
    sent = ran.collector.totals().frames_sent
    assert sent >= least
    assert ran.count("loop_lateness") >= sent
    assert float(ran.facts["audio recognised"].split()[0]) == pytest.approx(sent / 10, abs=0.1)


@pytest.mark.parametrize("client", CLIENTS)
async def test_a_service_that_vanishes_ends_the_run(client):
    async with service_told(recognition={"final_latency": "500ms"}) as (process, place):
        stt = {"utterances": 2, "pause": "1s", "audio": [SHORT]}
        ran = Ran("speech", closed(4, "60s"), client=client, **place, stt=stt, retries=0)
        asyncio.get_running_loop().call_later(1.5, process._child.kill)
        await ran()
    assert f"{place['endpoint']} is gone since" in ran.result.cut_short
    assert set(ran.ended) <= {"dropped_by_target", "connect_failed", "completed", "cancelled"}
    assert ran.ended["connect_failed"] > 0
    assert ran.result.duration_s < 30


async def test_a_stand_in_of_our_own_that_dies_is_told():
    ran = Ran("speech", closed(2, "60s"), stt={"utterances": 1})
    ran.runner._on_ready = lambda: asyncio.get_running_loop().call_later(
        0.7, ran.component._stand_in._process._child.kill
    )
    await ran()
    assert ran.result.cut_short == "the stand-in for Speech died"


# --- synthesis by both ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("audio_format", ["raw-16khz-16bit-mono-pcm", "riff-24khz-16bit-mono-pcm"])
async def test_both_clients_measure_the_same_synthesis(audio_format):
    told = {"synthesis": {"first_byte": "200ms", "real_time_factor": 0.2}}
    texts = ["Your results are in, and everything looks normal."]
    found = await by_both(constant(4), told, mode="tts", tts={"texts": texts, "format": audio_format})
    said = load_corpus().find("test_results-awb-1")[0]  # the stand-in has this text on record
    audio_s = (said.active_end_ns - said.active_start_ns) / 1e9
    for ran in found.values():
        assert ran.ended == {"completed": 4}, ran.errors()
        assert 199 <= ran.ms("tts_first_byte", 0.01) < 200 + SDK_MORE_MS
        factor, count = mean(ran, "tts_real_time_factor")
        assert count == 4
        assert 0.2 + 0.2 / audio_s - 0.04 < factor < 0.2 + 0.3 / audio_s
        assert ran.facts["characters synthesised"] == str(4 * len(texts[0]))
        assert float(ran.facts["audio synthesised"].split()[0]) == pytest.approx(4 * audio_s, rel=0.05)
        assert mean(ran, "throttled") == (0.0, 4)
        labels = [
            dict(series.labels)["connection"] for series in ran.collector.series() if series.metric == "tts_first_byte"
        ]
        assert set(labels) <= {"new", "reused"}


async def test_texts_over_the_limit_are_counted():
    told = {"synthesis": {"first_byte": "20ms", "real_time_factor": 0, "transactions_per_s": 2}}
    for client, ran in (await by_both(constant(6), told, mode="tts")).items():
        assert set(ran.ended) == {"completed", "rejected"}, ran.errors()
        assert mean(ran, "throttled") == (pytest.approx(ran.ended["rejected"] / 6), 6)
        assert ("code 4429" if client == "fast" else "TooManyRequests") in ran.errors()


async def test_recognition_and_synthesis_take_turns():
    stt = {"utterances": 1, "finish": "close", "audio": [SHORT]}
    ran = await Ran("speech", constant(8, "500ms"), mode="both", stt=stt)()
    assert ran.ended == {"completed": 4}, ran.errors()
    assert (ran.count("stt_final_latency"), ran.count("tts_first_byte")) == (2, 2)
    kinds = [series.labels["kind"] for series in ran.collector.series() if series.metric == "operation_latency"]
    assert sorted(kinds) == ["stt", "tts"]  # a stream and a text are not alike


# --- what is said -----------------------------------------------------------------------------------------------------


def test_reports_open_with_what_is_tested():
    found = {mode: SpeechComponent.headline_of(settings_of(mode)) for mode in ("stt", "tts", "both")}
    assert found["stt"] == ("stt_final_latency", "stt_interim_latency")
    assert found["tts"] == ("tts_first_byte",)
    assert found["both"] == found["stt"] + found["tts"]


def settings_of(mode):
    return SpeechSettings.model_validate({"component": "speech", "options": {"mode": mode}})


async def test_a_stream_that_cannot_be_over_in_time_is_told_before_the_load():
    with pytest.raises(BadInputError, match="timeout: 120 s is too short for streams of"):
        await Ran("speech", constant(1), stt={"utterances": 40})()


def test_a_stream_holds_its_utterances_where_it_says():
    material = Material(RecognitionOptions(utterances=3, pause="1250ms"), SynthesisOptions(), ("en-US", "en-GB"))
    script, corpus = material.script(5), load_corpus().callers
    assert script is material.script(5 + len(corpus))
    assert [said.text for said in script.said] == [corpus[(15 + step) % len(corpus)].text for step in range(3)]
    assert [material.language(index) for index in range(3)] == ["en-US", "en-GB", "en-US"]
    audio = np.frombuffer(b"".join(script.messages), "<i2")
    assert {len(message) for message in script.messages} == {3200}
    for said, utterance in zip(script.said, (corpus[(15 + step) % len(corpus)] for step in range(3)), strict=True):
        start, end = said.start_ns * 16 // MS, said.end_ns * 16 // MS
        spoken = utterance.samples[utterance.active_start : utterance.active_end]
        assert np.array_equal(audio[start:end], spoken)
    for before, after in zip(script.said, script.said[1:], strict=False):
        assert after.start_ns - before.end_ns >= 1250 * MS
    assert script.due_ns(0) == MESSAGE_NS
    assert script.due_ns(len(script.messages) - 1) == script.duration_ns


def test_a_stream_that_closes_ends_with_its_last_word():
    script = Material(
        RecognitionOptions(utterances=1, finish="close", sample_rate=8000), SynthesisOptions(), ("en-US",)
    ).script(0)
    assert len(b"".join(script.messages)) == script.said[0].end_ns * 8000 // 1_000_000_000 * 2
    assert {len(message) for message in script.messages[:-1]} == {1600}
    assert script.due_ns(len(script.messages) - 1) == pytest.approx(script.said[0].end_ns, abs=125_000)


def test_texts_are_taken_in_turn_and_made_ssml(tmp_path):
    file = tmp_path / "texts.txt"
    file.write_text("Fish & chips?\n\n<speak>As it is</speak>\n")
    tts = SynthesisOptions(text_file=str(file), voice="de-DE-KatjaNeural")
    material = Material(RecognitionOptions(), tts, ("en-US",))
    assert "xml:lang='de-DE'><voice name='de-DE-KatjaNeural'>Fish &amp; chips?</voice>" in material.ssml(0)
    assert material.ssml(3) == "<speak>As it is</speak>"


def test_the_rate_of_a_format_is_that_of_its_name():
    assert bytes_per_s("raw-16khz-16bit-mono-pcm") == 32_000
    assert bytes_per_s("raw-8khz-8bit-mono-mulaw") == 8_000
    assert bytes_per_s("audio-24khz-48kbitrate-mono-mp3") == 6_000


# --- what came back ---------------------------------------------------------------------------------------------------


def result(arrived_ms, start_ms, end_ms, text="", status="Success"):
    return Result(arrived_ms * MS, start_ms * MS, end_ms * MS, text, status)


def scored(heard: Heard, *, over: bool = True):
    said = (Said("one two three", 100 * MS, 1100 * MS), Said("four five", 2000 * MS, 3000 * MS))
    recorder = Recorder()
    operation = Operation(0, "x", "hold", 0, monotonic_ns, recorder, ())
    heard.first_ns = 10_000 * MS
    heard.over = over
    heard.score(operation, Script((), b"", said, 3000 * MS))
    return {series.metric: series.histogram for series in recorder.take(1, 0, 0, 0).series}


def test_a_phrase_that_the_service_parts_counts_when_its_last_part_has_come():
    parts = [result(11_000, 100, 500, "one"), result(11_700, 550, 1100, "two three"), result(13_500, 2000, 3000, "six")]
    found = scored(Heard(final=parts))
    assert found["stt_final_latency"].count == 2
    assert found["stt_final_latency"].total == (600 + 500) * MS
    assert found["stt_missed"].total == 0
    assert (found["stt_wer"].total / 1e9, found["stt_wer"].count) == (2, 5)  # "six" for "four five"


def test_a_phrase_that_covers_two_utterances_is_the_result_of_both():
    found = scored(Heard(final=[result(13_400, 100, 3000, "one two three four five")]))
    assert found["stt_final_latency"].total == (2300 + 400) * MS
    assert found["stt_missed"].total == 0


def test_what_has_no_result_is_missed_but_only_where_the_service_had_its_time():
    finals = [result(11_700, 100, 1100, "one two three"), result(13_300, 2000, 3000, "", "NoMatch")]
    found = scored(Heard(final=list(finals)))
    assert (found["stt_missed"].total / 1e9, found["stt_missed"].count) == (1, 2)
    assert found["stt_final_latency"].count == 1
    early = scored(Heard(final=finals), over=False)
    assert set(early) == {"stt_final_latency"}


def test_interim_results_count_from_the_end_of_what_they_cover():
    heard = Heard(interim=[result(10_700, 100, 500), result(11_250, 100, 1100), result(12_900, 2000, 2600)])
    found = scored(heard)
    assert found["stt_interim_latency"].total == (200 + 150 + 300) * MS
    assert found["stt_first_hypothesis"].total == (600 + 900) * MS
    untold = scored(Heard(interim=[Result(10_700 * MS, -1, -1)]))
    assert "stt_interim_latency" not in untold


# --- options ----------------------------------------------------------------------------------------------------------


def test_the_service_is_where_the_options_say():
    endpoint = address_of("https://name.cognitiveservices.azure.com", "", "")
    assert endpoint.recognition == "wss://name.cognitiveservices.azure.com/stt/speech/universal/v2"
    assert endpoint.synthesis == "wss://name.cognitiveservices.azure.com/tts/cognitiveservices/websocket/v1"
    region = address_of("", "", "westeurope")
    assert region.recognition == "wss://westeurope.stt.speech.microsoft.com/speech/universal/v2"
    assert region.synthesis == "wss://westeurope.tts.speech.microsoft.com/cognitiveservices/websocket/v1"
    host = address_of("", "ws://127.0.0.1:5000", "")
    assert host.recognition == "ws://127.0.0.1:5000/speech/recognition/conversation/cognitiveservices/v1"
    assert (endpoint.universal, region.universal, host.universal) == (True, True, False)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"endpoint": "https://x"}, "exactly one of access_key, token, entra"),
        ({"endpoint": "https://x", "access_key": "k", "entra": True}, "exactly one"),
        ({"endpoint": "https://x", "region": "westeurope", "access_key": "k"}, "give one of endpoint, region"),
        ({"region": "westeurope", "entra": True}, "needs the endpoint"),
        ({"region": "West Europe", "access_key": "k"}, "is not a region"),
        ({"host": "http://x"}, "does not start with ws://"),
        ({"endpoint": "ws://x", "access_key": "k"}, "does not start with http://"),
        ({"language": ["en-US", "English"]}, "'English' is not a language"),
        ({"tts": {"voice": "Ava"}}, "is not the name of a voice"),
        ({"tts": {"format": "flac"}}, "raw-16khz-16bit-mono-pcm"),
        ({"tts": {"texts": ["a"], "text_file": "README.md"}}, "not both"),
        ({"tts": {"texts": [" "]}}, "a text is empty"),
        ({"stt": {"utterances": 0}}, "utterances"),
    ],
)
def test_wrong_options_are_named(options, words):
    with pytest.raises(ValidationError, match=words):
        SpeechOptions.model_validate(options)


def test_files_are_looked_up_beside_the_file_and_all_that_is_wrong_is_told(tmp_path):
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "no.wav").write_bytes(b"no")
    audio = [{"file": name, "text": "x"} for name in ("nowhere.wav", "no.wav", FILE)]
    document = {"component": "speech", "options": {"stt": {"audio": audio}, "tts": {"text_file": "empty.txt"}, "x": 1}}
    with pytest.raises(BadInputError) as told:
        read_settings(Source(document, str(tmp_path / "speech.yaml")), SpeechSettings, {})
    words = str(told.value)
    for part in ("0.file", "nowhere.wav cannot be read", "no.wav not a readable WAV", "empty.txt holds no text", "'x'"):
        assert part in words
    assert FILE not in words


def test_a_container_may_ask_for_no_key():
    assert not SpeechOptions(host="ws://127.0.0.1:5000").own_service
