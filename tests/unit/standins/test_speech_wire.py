"""The Speech stand-in to clients without manners: wrong messages, lost connections, faults; nothing hangs or leaks."""

import asyncio
import json

import aiohttp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxload import speech_protocol as protocol
from voxload.audio.corpus import load_corpus
from voxload.clock import NS_PER_MS, NS_PER_S, monotonic_ns
from voxload.standins.serving import Server
from voxload.standins.speech.known import Known
from voxload.standins.speech.recognition import Recognition, Studio
from voxload.standins.speech.server import SpeechStandIn
from voxload.standins.speech.settings import DEVELOPMENT_KEY, SpeechSettings
from voxload.standins.speech.voice import SynthesisError, audio_form, read_ssml
from voxload.standins.speech.wishes import Options, UnsupportedAudioError
from voxload.wheel import Wheel

FIRST = load_corpus().callers[0]
KNOWN = Known.of(load_corpus())
KEY = {protocol.KEY_HEADER: DEVELOPMENT_KEY}
STT, TTS = protocol.recognition_path("conversation"), protocol.SYNTHESIS_PATHS[0]
HEADER = protocol.wav_header(16_000)
SPEAK = b"<speak version='1.0' xml:lang='en-US'><voice name='en-US-JennyNeural'>Hello there</voice></speak>"
CONTEXT = {"synthesis": {"audio": {"outputFormat": "raw-8khz-8bit-mono-mulaw", "metadataOptions": {}}}}
WAIT_S = 10


class World:
    """A stand-in and a client."""

    def __init__(self, told):
        self.stand_in = SpeechStandIn(SpeechSettings.model_validate(told))
        self.server = Server.of(self.stand_in)

    async def __aenter__(self):
        await self.server.start()
        self.http = aiohttp.ClientSession(headers=KEY)
        return self

    async def __aexit__(self, *_):
        await self.http.close()
        await self.server.stop()

    def open(self, path, **more):
        return self.http.ws_connect(self.server.url + path, **more)

    async def refused(self, path, **more):
        with pytest.raises(aiohttp.WSServerHandshakeError) as error:
            await self.open(path, **more)
        return error.value.status

    async def idle(self):
        for _ in range(WAIT_S * 100):
            if not self.stand_in.recognitions.in_use:
                return
            await asyncio.sleep(0.01)
        raise AssertionError("a recognition holds its place for ever")


def audio(payload, request_id="a1"):
    return protocol.binary_head(protocol.AUDIO, request_id) + payload


async def read(socket):
    """Return (path, body) of the next message."""
    message = await socket.receive(timeout=WAIT_S)
    if message.type == aiohttp.WSMsgType.TEXT:
        found = protocol.read_text(message.data.encode())
        return found.path, json.loads(found.body)
    assert message.type == aiohttp.WSMsgType.BINARY, message
    found = protocol.read_binary(message.data)
    return found.path, found.body


async def until(socket, path):
    found = []
    while not found or found[-1][0] != path:
        found.append(await read(socket))
    return found


async def test_handshakes_are_answered_as_the_service_does():
    async with World({}) as world:
        assert await world.refused("/speech/elsewhere") == 404
        assert dict(world.stand_in._log.counts) == {"GET ? 404": 1}  # whatever the address: counters do not grow
        assert await world.refused(STT, headers={protocol.KEY_HEADER: "wrong"}) == 401
        assert await world.refused(TTS, headers={protocol.KEY_HEADER: ""}) == 401
        for headers in ({"Authorization": "Bearer a.b.c"}, {"Authorization": "Bearer aad#/subscriptions/1#a.b.c"}):
            async with world.open(STT, headers={protocol.KEY_HEADER: "", **headers}, protocols=["USP"]) as socket:
                assert socket.protocol == "USP"
    async with World({"faults": {"error_rate": 1}}) as world:
        assert await world.refused(STT) == 503
        assert await world.refused(TTS) == 503
        counts = await (await world.http.get(world.server.url + "/voxload/counters")).json()
        assert counts["requests"] == {f"GET {STT} 503": 1, f"GET {TTS} 503": 1}
    async with World({"keys": []}) as world, world.open(STT, headers={protocol.KEY_HEADER: ""}):
        pass


STEREO = HEADER[:22] + b"\2" + HEADER[23:]


@pytest.mark.parametrize(
    "message",
    [
        "no headers",
        "X-RequestId:1\r\n\r\n{}",
        "Path:speech.context\r\nX-RequestId:1\r\n\r\n{",
        b"\xff\xff",
        b"",
        audio(STEREO),
    ],
)
async def test_wrong_messages_close_the_connection(message):
    async with World({}) as world, world.open(STT) as socket:
        await (socket.send_str if isinstance(message, str) else socket.send_bytes)(message)
        while (closing := await socket.receive(timeout=WAIT_S)).type != aiohttp.WSMsgType.CLOSE:
            assert closing.type == aiohttp.WSMsgType.TEXT  # turn.start, before the audio
        assert closing.data == 1007 and closing.extra
        await world.idle()


async def test_recognitions_follow_each_other_on_one_connection():
    pcm = FIRST.samples.tobytes()
    async with World({}) as world, world.open(STT) as socket:
        for name in ("a1", "b2"):
            await socket.send_bytes(audio(HEADER, name))
            await socket.send_bytes(audio(pcm, name))  # all at once
            await socket.send_bytes(audio(b"", name))
            await socket.send_bytes(audio(b"", name))  # once too often
            messages = await until(socket, protocol.TURN_END)
            phrases = [body for path, body in messages if path == protocol.SPEECH_PHRASE]
            assert [phrase.get("DisplayText") for phrase in phrases] == [FIRST.text, None]
        assert world.stand_in.counters()["recognitions"]["started"] == 2
        await world.idle()


async def test_a_phrase_comes_when_it_is_told_to_over_the_wire():
    short = min(load_corpus().callers, key=lambda utterance: utterance.active_end)
    pcm = short.samples.tobytes() + bytes(32_000)
    async with World({"recognition": {"final_latency": "650ms"}}) as world, world.open(STT) as socket:
        await socket.send_bytes(audio(HEADER))
        phrases = asyncio.create_task(until(socket, protocol.SPEECH_PHRASE))
        came_ns = []
        phrases.add_done_callback(lambda _: came_ns.append(monotonic_ns()))
        start_ns = monotonic_ns()
        for place in range(0, len(pcm), 3200):
            due_ns = start_ns + min(place + 3200, len(pcm)) * 31_250
            await asyncio.sleep((due_ns - monotonic_ns()) / 1e9)
            await socket.send_bytes(audio(pcm[place : place + 3200]))
        assert (await phrases)[-1][1]["DisplayText"] == short.text
    told_ns = start_ns + short.active_end * NS_PER_S // 16_000 + 650 * NS_PER_MS
    assert 0 <= came_ns[0] - told_ns < 300 * NS_PER_MS  # a busy machine is late, none is early


async def test_a_client_that_goes_leaves_its_place_to_others():
    async with World({"recognition": {"concurrent": 1}}) as world:
        async with world.open(STT) as socket:
            await socket.send_bytes(audio(HEADER + FIRST.samples.tobytes()[:64_000]))
            assert (await read(socket))[0] == protocol.TURN_START
            assert await world.refused(STT) == 429
            socket._response.connection.transport.abort()
        await world.idle()
        async with world.open(STT) as socket:
            await socket.send_bytes(audio(HEADER))
            assert (await read(socket))[0] == protocol.TURN_START


async def test_connections_are_lost_in_the_middle_when_told_so():
    async with World({"faults": {"disconnect_rate": 1}, "synthesis": {"first_byte": "1ms"}}) as world:
        async with world.open(STT) as socket:
            await socket.send_bytes(audio(HEADER + FIRST.samples.tobytes()))
            await socket.send_bytes(audio(b""))
            while (message := await socket.receive(timeout=WAIT_S)).type == aiohttp.WSMsgType.TEXT:
                assert protocol.SPEECH_PHRASE not in message.data
            assert message.type in {aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR, aiohttp.WSMsgType.CLOSING}
        async with world.open(TTS) as socket:
            await say(socket)
            received = 0
            while (message := await socket.receive(timeout=WAIT_S)).type in {
                aiohttp.WSMsgType.TEXT,
                aiohttp.WSMsgType.BINARY,
            }:
                received += message.type == aiohttp.WSMsgType.BINARY
            assert 0 < received < 8  # of 734 ms
        told = world.stand_in.counters()
        assert told["recognitions"]["disconnects"] == told["syntheses"]["disconnects"] == 1


async def say(socket, context=CONTEXT, ssml=SPEAK):
    await socket.send_str(
        protocol.text_message(protocol.SYNTHESIS_CONTEXT, "a1", json.dumps(context).encode()).decode()
    )
    await socket.send_str(protocol.text_message(protocol.SSML, "a1", ssml, "application/ssml+xml").decode())


async def test_texts_follow_each_other_and_a_new_one_ends_the_one_before():
    told = {"synthesis": {"first_byte": "50ms", "real_time_factor": 0}}
    async with World(told) as world, world.open(TTS) as socket:
        for _ in range(2):
            await say(socket)
            messages = await until(socket, protocol.TURN_END)
            assert [path for path, _ in messages[:2]] == [protocol.TURN_START, protocol.RESPONSE]
            assert sum(len(body) for path, body in messages if path == protocol.AUDIO) == pytest.approx(5867, abs=2)
        await say(socket)
        await say(socket)
        assert sum(path == protocol.AUDIO for path, _ in await until(socket, protocol.TURN_END)) == 8
        counts = await (await world.http.get(world.server.url + "/voxload/counters")).json()
        assert counts["requests"][f"TURN {TTS} 200"] == 3
        assert counts["requests"][f"TURN {TTS} 499"] == 1


async def test_short_audio_is_recognised_by_plain_requests_too():
    pcm = FIRST.samples.tobytes()

    async def in_small_pieces():
        yield HEADER[:10]
        yield HEADER[10:]
        yield pcm

    async with World({"recognition": {"concurrent": 1}}) as world:
        address = f"{world.server.url}/speech/recognition/conversation/cognitiveservices/v1"
        for body in (HEADER + pcm, in_small_pieces()):
            answer = await world.http.post(address + "?language=en-US&format=detailed", data=body)
            found = await answer.json()
            assert (found["RecognitionStatus"], found["DisplayText"]) == ("Success", FIRST.text)
            assert found["NBest"][0]["Display"] == FIRST.text
        silent = await (await world.http.post(address + "?language=en-US", data=HEADER + bytes(32_000))).json()
        assert silent["RecognitionStatus"] == "NoMatch"
        for query, body, headers, status in (
            ("", HEADER, {}, 400),
            ("?language=en-US", STEREO, {}, 400),
            ("?language=en-US", HEADER, {protocol.KEY_HEADER: "wrong"}, 401),
        ):
            assert (await world.http.post(address + query, data=body, headers=headers)).status == status
        async with world.open(STT) as socket:
            await socket.send_bytes(audio(HEADER))
            assert (await read(socket))[0] == protocol.TURN_START
            assert (await world.http.post(address + "?language=en-US", data=HEADER + pcm)).status == 429
        await world.idle()


@pytest.mark.parametrize("context", [{}, {"synthesis": []}, {"synthesis": {"audio": {"metadataOptions": [1]}}}, []])
async def test_a_synthesis_without_sense_is_refused(context):
    async with World({}) as world, world.open(TTS) as socket:
        await say(socket, context)
        closing = await socket.receive(timeout=WAIT_S)
        assert (closing.type, closing.data) == (aiohttp.WSMsgType.CLOSE, 1007)


@pytest.mark.parametrize(
    "ssml",
    [
        b"",
        b"<speak",
        b"<p>Hi</p>",
        b"<speak/>",
        b"<speak> <break/> </speak>",
        b"<!DOCTYPE a [<!ENTITY b 'c'>]><speak>&b;</speak>",
        b"<speak>" + b"long " * 3000 + b"</speak>",
    ],
)
def test_what_is_no_ssml_is_told(ssml):
    with pytest.raises(SynthesisError):
        read_ssml(ssml)


def test_ssml_is_read_in_order():
    ssml = "One <emphasis>two</emphasis>\n three<break time='1.5s'/><p>four<break strength='strong'/></p>five"
    assert read_ssml(f"<speak>{ssml}</speak>".encode()).parts == ("One two three", 1.5, "four", 1.0, "five")


@pytest.mark.parametrize(
    "name", ["", "raw-16khz-8bit-mono-pcm", "raw-1khz-16bit-mono-pcm", "webm-24khz-16bit-mono-opus"]
)
def test_forms_that_are_not_made_are_refused(name):
    with pytest.raises(SynthesisError):
        audio_form(name)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=5000), max_size=6), st.sampled_from(["interactive", "conversation"]), st.booleans())
def test_no_audio_breaks_a_recognition(pieces, mode, with_header):
    wheel, sent, now_ns = Wheel(0), [], 0
    studio = Studio(SpeechSettings(), KNOWN, wheel)
    turn = Recognition(studio, Options(mode), lambda path, _: sent.append(path), lambda _: None)
    loud = np.random.default_rng(len(pieces)).normal(0, 8000, 4000).astype("<i2").tobytes()
    try:
        for piece in [*([HEADER] if with_header else []), *pieces, loud, b""]:
            now_ns += 10_000_000
            turn.hear(piece, now_ns)
    except UnsupportedAudioError:
        return
    for _ in range(4000):  # 2 s at most: the phrase is out
        now_ns += 500_000
        wheel.advance(now_ns)
    assert sent.count(protocol.TURN_END) == 1
