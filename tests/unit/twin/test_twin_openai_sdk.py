"""The real openai library has a conversation with the embedded agent over plain sockets."""

import asyncio
import base64
import contextlib

import pytest
from openai import AsyncAzureOpenAI, AsyncOpenAI
from test_twin_server import on_uvloop

from voxload.audio.codec import encode_audio, resample
from voxload.audio.corpus import load_corpus
from voxload.clock import monotonic_ns
from voxload.dialects.registry import build_dialect
from voxload.model.twin import TwinSettings
from voxload.serving import listen
from voxload.twin.replies import CorpusRepertoire
from voxload.twin.server import TwinServer

MS = 1_000_000
FRAME_BYTES = 960
QUICK = {"greeting": False, "latency": {"turn": "700ms"}, "reply_seconds_max": 0.3}
SAID = "opening_hours-slt-1"


@contextlib.asynccontextmanager
async def twin(**options):
    listener, url = listen("127.0.0.1", 0)
    dialect = build_dialect("openai_realtime", url, options)
    server = TwinServer(TwinSettings.model_validate(QUICK), dialect, CorpusRepertoire(dialect, 0.3))
    await server.start(listener)
    try:
        async with asyncio.timeout(20):
            yield url
    finally:
        await server.stop()


async def speak(connection, after_ms):
    """Send an utterance in real time, then silence; returns when its last active sample was spoken."""
    (said,) = load_corpus().find(SAID)
    pcm = encode_audio(resample(said.samples, said.sample_rate_hz, 24_000), "pcm16") + bytes(48 * after_ms)
    start_ns = monotonic_ns()
    for number, at in enumerate(range(0, len(pcm), FRAME_BYTES)):
        await asyncio.sleep(max(start_ns + (number + 1) * 20 * MS - monotonic_ns(), 0) / 1e9)
        frame = pcm[at : at + FRAME_BYTES]
        await connection.input_audio_buffer.append(audio=base64.b64encode(frame).decode())
    return start_ns + said.active_end_ns


async def until(connection, last):
    """Return the events up to one of the type `last`, and when the first audio came."""
    events, first_ns = [], 0
    async for event in connection:
        events.append(event)
        if event.type.endswith("audio.delta") and not first_ns:
            first_ns = monotonic_ns()
        if event.type == last:
            return events, first_ns
    raise AssertionError("the connection was closed")


def clients(url):
    return {
        "openai": AsyncOpenAI(api_key="k", base_url=f"{url}/v1"),
        "azure_v1": AsyncOpenAI(api_key="k", base_url=f"{url}/openai/v1"),
        "azure": AsyncAzureOpenAI(
            api_key="k",
            api_version="2025-04-01-preview",
            azure_endpoint="https://unused.example",
            websocket_base_url=f"{url.replace('http', 'ws')}/openai",
        ),
    }


@pytest.mark.parametrize("name", ["azure_v1"])
@on_uvloop
async def test_the_server_finds_the_turn(name):
    async with twin() as url, clients(url)[name].realtime.connect(model="gpt-realtime") as connection:
        transcription = {"model": "whisper-1"}
        await connection.session.update(
            session={"type": "realtime", "audio": {"input": {"transcription": transcription}}}
        )
        listening = asyncio.create_task(until(connection, "rate_limits.updated"))
        ended_ns = await speak(connection, 1500)
        events, first_ns = await listening
    kinds = [event.type for event in events]
    order = [
        "session.created",
        "session.updated",
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.input_audio_transcription.completed",
        "response.created",
        "response.output_audio.delta",
        "response.output_audio.done",
        "response.done",
    ]
    assert sorted(order, key=kinds.index) == order
    (transcript,) = [event.transcript for event in events if event.type.endswith("transcription.completed")]
    assert transcript == load_corpus().find(SAID)[0].text
    assert 600 < (first_ns - ended_ns) / MS < 1200, "the agent keeps its 700 ms, give or take a busy machine"
    done = events[kinds.index("response.done")].response
    assert done.status == "completed"
    assert done.usage.total_tokens == done.usage.input_tokens + done.usage.output_tokens
    assert done.usage.output_token_details.audio_tokens == 6, "0.3 s of speech"
    audio = b"".join(base64.b64decode(event.delta) for event in events if event.type == "response.output_audio.delta")
    assert len(audio) == 0.3 * 48_000


@on_uvloop
async def test_the_client_ends_the_turn():
    """Push to talk, in the events of the GA version and of Azure's dated API, both at once."""
    await asyncio.gather(push_to_talk(beta=False), push_to_talk(beta=True))


async def push_to_talk(beta):
    async with twin() as url:
        client = clients(url)["azure" if beta else "openai"]
        realtime = client.beta.realtime if beta else client.realtime
        async with realtime.connect(model="my-deployment") as connection:
            if beta:
                await connection.session.update(session={"turn_detection": None})
            else:
                session = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}
                await connection.session.update(session=session)
            await speak(connection, 0)
            await connection.input_audio_buffer.commit()
            await connection.response.create()
            events, _ = await until(connection, "response.done")
            assert events[-1].response.status == "completed"
            kinds = {event.type for event in events}
            assert "input_audio_buffer.speech_started" not in kinds
            assert ("response.audio.delta" if beta else "response.output_audio.delta") in kinds


@on_uvloop
async def test_a_response_can_be_asked_for_and_cancelled():
    async with twin() as url, clients(url)["openai"].realtime.connect(model="gpt-realtime") as connection:
        content = [{"type": "input_text", "text": "Hello"}]
        await connection.conversation.item.create(item={"type": "message", "role": "user", "content": content})
        await connection.response.create()
        await until(connection, "response.output_audio.delta")
        await connection.response.cancel()
        events, _ = await until(connection, "response.done")
        assert events[-1].response.status == "cancelled"
        assert events[-1].response.status_details.reason == "client_cancelled"
        await connection.response.cancel()
        events, _ = await until(connection, "error")
        assert events[-1].error.code == "response_cancel_not_active"
