"""The twin's one port, with real sockets: aiohttp for HTTP, and `websockets` as an independent WebSocket client."""

import asyncio
import base64
import contextlib
import functools
import json
import struct

import aiohttp
import pytest
import uvloop
import websockets
from prometheus_client.parser import text_string_to_metric_families
from twin_bench import MS, ToneRepertoire, voice
from websockets.asyncio.client import connect

from voxload.audio.codec import encode_audio
from voxload.clock import monotonic_ns
from voxload.dialects.rtmed import RtmedDialect, RtmedOptions
from voxload.errors import RunAbortedError
from voxload.model.twin import TwinSettings
from voxload.serving import listen
from voxload.twin.server import TwinServer


def on_uvloop(test):
    """Run an asynchronous test on the loop that the twin itself uses."""

    @functools.wraps(test)
    def run(*args, **kwargs):
        uvloop.run(test(*args, **kwargs))

    return run


QUICK = {"greeting": False, "latency": {"stt": "30ms", "llm": "50ms", "tts": "20ms"}}


@contextlib.asynccontextmanager
async def twin(settings=None):
    listener, url = listen("127.0.0.1", 0)
    dialect = RtmedDialect(url, RtmedOptions(message_rate=50))
    server = TwinServer(TwinSettings.model_validate(settings or QUICK), dialect, ToneRepertoire(dialect))
    await server.start(listener)
    async with aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(total=10)) as http:
        try:
            yield server, url, http
        finally:
            await server.stop()


async def start_call(http, number="1"):
    async with http.post("/api/v1/calls/start", json={"caller_number": number}) as answer:
        assert answer.status == 200
        return (await answer.json())["session_id"]


def socket_url(url, session_id):
    return url.replace("http", "ws") + f"/ws/call/{session_id}"


def chunk(samples):
    return json.dumps({"type": "audio_chunk", "data": base64.b64encode(encode_audio(samples, "pcm16")).decode()})


async def say(socket, length_ms=200):
    samples = voice(length_ms)
    for at in range(0, len(samples), 320):
        await asyncio.sleep(0.02)
        await socket.send(chunk(samples[at : at + 320]))
    ended_ns = monotonic_ns()
    await socket.send('{"type":"end_speech"}')
    return ended_ns


async def hear_reply(socket):
    """Return (messages, arrival of the first audio) up to the end of the reply."""
    messages, first_ns = [], 0
    async with asyncio.timeout(10):
        while not (messages and messages[-1].get("final")):
            messages.append(json.loads(await socket.recv()))
            if "audio" in messages[-1] and not first_ns:
                first_ns = monotonic_ns()
    return messages, first_ns


@on_uvloop
async def test_a_whole_call_with_an_independent_client():
    async with twin() as (_, url, http):
        session_id = await start_call(http)
        async with connect(socket_url(url, session_id), subprotocols=["call-protocol"]) as socket:
            assert socket.subprotocol == "call-protocol"
            for _turn in range(2):
                ended_ns = await say(socket)
                messages, first_ns = await hear_reply(socket)
                assert messages[0]["type"] == "transcript"
                assert messages[1]["text"].startswith("whatever")
                assert sum("audio" in message for message in messages) == 50
                assert [m["sequence"] for m in messages if "sequence" in m] == list(range(50))
                # Told 100 ms. Never early; late by what a busy machine costs, for which the bound is generous.
                assert 95 * MS <= first_ns - ended_ns <= 1000 * MS
            async with http.get(f"/api/v1/calls/{session_id}/metrics") as answer:
                metrics = await answer.json()
            assert metrics["status"] == "active"
            assert metrics["turns"] == 2
            assert metrics["frames_in"] == 20
            assert metrics["frames_out"] == 100
        await asyncio.sleep(0.05)
        async with http.get(f"/api/v1/calls/{session_id}/metrics") as answer:
            metrics = await answer.json()
        assert (metrics["status"], metrics["outcome"]) == ("ended", "completed")


@on_uvloop
async def test_health_metrics_and_unknown_paths_over_one_kept_connection():
    async with twin() as (_, url, http):
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        for _ in range(3):
            writer.write(b"GET /health HTTP/1.1\r\nHost: t\r\n\r\n")
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
            assert head.startswith(b"HTTP/1.1 200 ")
            length = next(
                int(line.split(b":")[1]) for line in head.splitlines() if line.lower().startswith(b"content-l")
            )
            body = json.loads(await reader.readexactly(length))
            assert body["status"] == "healthy"
            assert body["active_calls"] == 0
            assert body["uptime_s"] >= 0
        writer.close()
        for method, path in (("GET", "/nothing"), ("POST", "/health"), ("GET", "/ws/call/1")):
            async with http.request(method, path) as answer:
                assert answer.status == 404
                assert "error" in await answer.json()
        async with http.post("/api/v1/calls/start", data=b"{") as answer:
            assert answer.status == 400
        async with http.get("/api/v1/calls/none/metrics") as answer:
            assert answer.status == 404


@on_uvloop
async def test_a_websocket_may_be_opened_on_a_connection_that_was_used_for_http():
    async with twin() as (_, _url, http):
        session_id = await start_call(http)  # aiohttp keeps this connection and uses it again here
        async with http.ws_connect(f"/ws/call/{session_id}", protocols=["call-protocol"]) as socket:
            samples = voice(100)
            await socket.send_str(chunk(samples))
            await socket.send_str('{"type":"end_speech"}')
            message = await socket.receive_json(timeout=10)
            assert message["type"] == "transcript"
        async with http.get("/health") as answer:
            assert answer.status == 200


@on_uvloop
async def test_large_posts_and_pieces_of_a_head_are_put_together():
    async with twin() as (_, url, _http):
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        body = json.dumps({"caller_number": "GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n" + "x" * 100_000}).encode()
        request = b"POST /api/v1/calls/start HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        for part in (request[:10], request[10:60], request[60:70_000], request[70_000:]):
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.02)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        assert head.startswith(b"HTTP/1.1 200 ")
        writer.close()


@on_uvloop
async def test_a_head_without_end_is_refused():
    async with twin() as (_, url, _http):
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /health HTTP/1.1\r\nX: " + b"x" * 40_000)
        answer = await asyncio.wait_for(reader.read(), 10)
        assert answer.startswith(b"HTTP/1.1 431 ")
        writer.close()


@pytest.mark.parametrize("path", ["/ws/call/unknown", "/elsewhere"])
@on_uvloop
async def test_unknown_sockets_get_404(path):
    async with twin() as (_, url, _http):
        with pytest.raises(websockets.InvalidStatus) as refused:
            await connect(url.replace("http", "ws") + path).__aenter__()
        assert refused.value.response.status_code == 404


@on_uvloop
async def test_a_second_socket_for_a_call_and_a_call_that_is_over_are_refused():
    async with twin() as (_, url, http):
        session_id = await start_call(http)
        async with connect(socket_url(url, session_id)):
            with pytest.raises(websockets.InvalidStatus) as refused:
                await connect(socket_url(url, session_id)).__aenter__()
            assert refused.value.response.status_code == 409
        await asyncio.sleep(0.05)
        with pytest.raises(websockets.InvalidStatus) as refused:
            await connect(socket_url(url, session_id)).__aenter__()
        assert refused.value.response.status_code == 404


@on_uvloop
async def test_a_broken_handshake_does_not_cost_the_call_its_place():
    async with twin() as (server, url, http):
        session_id = await start_call(http)
        headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
        async with http.get(f"/ws/call/{session_id}", headers=headers) as answer:
            assert answer.status == 400
        assert server.desk.active_calls == 0
        async with connect(socket_url(url, session_id)):
            assert server.desk.active_calls == 1


@on_uvloop
async def test_browsers_connection_header_is_understood():
    async with twin() as (_, url, http):
        session_id = await start_call(http)
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            f"GET /ws/call/{session_id} HTTP/1.1\r\nHost: t\r\nConnection: keep-alive, Upgrade\r\n"
            "Upgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
        writer.close()


def masked(payload, opcode, fin):
    head = bytes([(0x80 if fin else 0) | opcode])
    size = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + struct.pack(">H", len(payload))
    return head + size + b"\0\0\0\0" + payload


@on_uvloop
async def test_frames_right_behind_the_handshake_and_fragments_arrive():
    async with twin() as (server, url, http):
        session_id = await start_call(http)
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        text = chunk(voice(200)).encode()  # 8.5 kB: more than the first read buffer
        writer.write(
            f"GET /ws/call/{session_id} HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
            + masked(text, 1, True)
            + masked(text[:3000], 1, False)
            + masked(b"ping", 9, True)
            + masked(text[3000:5000], 0, False)
            + masked(text[5000:], 0, True)
        )
        await asyncio.wait_for(reader.readuntil(b"\x8a\x04ping"), 10)
        await asyncio.sleep(0.05)
        metrics = server.desk.call_metrics(session_id)
        assert (metrics["frames_in"], metrics["unknown_messages"]) == (2, 0)
        writer.close()
        await asyncio.sleep(0.05)
        assert server.desk.call_metrics(session_id)["outcome"] == "lost"


@on_uvloop
async def test_the_quota_of_connections_answers_503_with_retry_after():
    async with twin({"quotas": {"connections": 1}}) as (_, _url, http):
        await start_call(http, "1")
        async with http.post("/api/v1/calls/start", json={"caller_number": "2"}) as answer:
            assert answer.status == 503
            assert int(answer.headers["Retry-After"]) >= 1
            assert "connections" in (await answer.json())["error"]


@on_uvloop
async def test_the_metrics_can_be_scraped():
    async with twin(QUICK | {"quotas": {"connections": 1}}) as (_, url, http):
        session_id = await start_call(http)
        async with connect(socket_url(url, session_id)) as socket:
            await say(socket)
            await hear_reply(socket)
            async with http.post("/api/v1/calls/start", json={}) as answer:
                assert answer.status == 503
            async with http.get("/metrics") as answer:
                text = await answer.text()
        families = {family.name: family for family in text_string_to_metric_families(text)}
        samples = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in families.values()
            for sample in family.samples
        }
        assert samples["twin_active_calls", ()] == 1
        assert samples["twin_turns_total", ()] == 1
        assert samples["twin_frames_total", (("direction", "in"),)] == 10
        assert samples["twin_frames_total", (("direction", "out"),)] == 50
        assert samples["twin_quota_refusals_total", (("quota", "connections"),)] == 1
        assert samples["twin_calls_total", (("outcome", "rejected"),)] == 1
        assert samples["twin_stage_seconds_sum", (("stage", "llm"),)] == pytest.approx(0.05)
        assert samples["twin_reply_seconds_sum", ()] >= 0.1


@on_uvloop
async def test_a_dropped_call_closes_with_1011():
    async with twin(QUICK | {"faults": {"drop_rate": 1.0}}) as (_, url, http):  # noqa: SIM117
        async with connect(socket_url(url, await start_call(http))) as socket:
            await say(socket)
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await hear_reply(socket)
            assert closed.value.rcvd.code == 1011


@on_uvloop
async def test_a_caller_that_sends_garbage_is_closed_with_1002():
    async with twin() as (_, url, http), connect(socket_url(url, await start_call(http))) as socket:
        await socket.send("{")
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await asyncio.wait_for(socket.recv(), 10)
        assert closed.value.rcvd.code == 1002


@on_uvloop
async def test_a_stop_says_going_away():
    async with twin() as (server, url, http), connect(socket_url(url, await start_call(http))) as socket:
        await server.stop()
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await asyncio.wait_for(socket.recv(), 10)
        assert closed.value.rcvd.code == 1001


@on_uvloop
async def test_many_calls_at_once():
    async with twin(QUICK) as (server, url, http):

        async def call(number):
            session_id = await start_call(http, str(number))
            async with connect(socket_url(url, session_id)) as socket:
                await say(socket, 100)
                messages, _ = await hear_reply(socket)
            return sum("audio" in message for message in messages)

        assert await asyncio.gather(*(call(number) for number in range(40))) == [50] * 40
        await asyncio.sleep(0.1)
        assert server.desk.active_calls == 0
        assert server.desk.connections.in_use == 0
        assert not server.sockets


def test_an_address_in_use_is_told():
    listener, url = listen("127.0.0.1", 0)
    with listener, pytest.raises(RunAbortedError, match="cannot listen"):
        listen("127.0.0.1", int(url.rsplit(":", 1)[1]))
