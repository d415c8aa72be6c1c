"""A Twilio backend as people write them, with Twilio's own library and FastAPI, called by voxload in Twilio's place."""

import asyncio
import base64
import gc
import json
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

import numpy as np
import pytest
import uvicorn
import uvloop
from conftest import scenario_with
from fastapi import FastAPI, Request, Response, WebSocket
from twilio.request_validator import RequestValidator
from twilio.twiml.voice_response import Connect, VoiceResponse

from voxload.audio.codec import decode_pcm, encode_audio, peak
from voxload.clock import monotonic_ns
from voxload.engine.shard import Shard
from voxload.measure.collector import Collector
from voxload.model.plan import Plan
from voxload.serving import listen

TOKEN = "the account's secret"
MS = 1_000_000
TONE = encode_audio((8000 * np.sin(2 * np.pi * 440 * np.arange(8000) / 8000)).astype(np.int16), "mulaw")
"""One second."""
LOUD, QUIET_MS = 1500, 400


@dataclass
class Heard:
    """What the backend has noticed of one call."""

    start: dict = field(default_factory=dict)
    form: dict = field(default_factory=dict)
    keys: str = ""
    chunks: list = field(default_factory=list)
    marks: list = field(default_factory=list)
    cleared_ns: int = 0
    stopped: bool = False


class Talk:
    """One media stream: answers after a pause with a tone sent in one go, and clears it when the caller speaks."""

    def __init__(self, socket, heard):
        self.socket = socket
        self.heard = heard
        self.sid = ""
        self.spoke = False
        self.quiet_ms = 0
        self.playing = ""
        self.replies = 0
        self.sent_ns = {}

    async def take(self, message):
        match message["event"]:
            case "start":
                self.sid = message["start"]["streamSid"]
                self.heard.start = message["start"]
                await self.say()
            case "media":
                self.heard.chunks.append(int(message["media"]["chunk"]))
                await self.listen(base64.b64decode(message["media"]["payload"]))
            case "mark":
                name = message["mark"]["name"]
                self.heard.marks.append((name, monotonic_ns() - self.sent_ns[name]))
                self.playing = "" if name == self.playing else self.playing
            case "dtmf":
                self.heard.keys += message["dtmf"]["digit"]
            case "stop":
                self.heard.stopped = True

    async def listen(self, audio):
        if peak(decode_pcm(audio, "mulaw"), 2) > LOUD:
            self.spoke, self.quiet_ms = True, 0
            if self.playing:
                self.heard.cleared_ns = monotonic_ns()
                await self.socket.send_json({"event": "clear", "streamSid": self.sid})
        elif self.spoke:
            self.quiet_ms += 20
            if self.quiet_ms >= QUIET_MS:
                self.spoke = False
                await self.say()

    async def say(self):
        self.replies += 1
        self.playing = f"reply {self.replies}"
        media = {"payload": base64.b64encode(TONE).decode()}
        await self.socket.send_json({"event": "media", "streamSid": self.sid, "media": media})
        await self.socket.send_json({"event": "mark", "streamSid": self.sid, "mark": {"name": self.playing}})
        self.sent_ns[self.playing] = monotonic_ns()


def backend(url, calls):
    app = FastAPI()

    @app.post("/incoming-call")
    async def incoming(request: Request):
        form = dict(parse_qsl((await request.body()).decode()))
        signature = request.headers.get("x-twilio-signature", "")
        if not RequestValidator(TOKEN).validate(f"{url}/incoming-call", form, signature):
            return Response(status_code=403)
        calls[form["CallSid"]] = Heard(form=form)
        response = VoiceResponse()
        response.say("Please wait while we connect you.")
        connect = Connect()
        stream = connect.stream(url=f"{url.replace('http', 'ws')}/media-stream")
        stream.parameter(name="from", value=form["From"])
        response.append(connect)
        return Response(str(response), media_type="text/xml")

    @app.websocket("/media-stream")
    async def media_stream(socket: WebSocket):
        await socket.accept()
        talk = Talk(socket, Heard())
        async for text in socket.iter_text():
            message = json.loads(text)
            if message["event"] == "start":
                talk.heard = calls[message["start"]["callSid"]]
            await talk.take(message)

    return app


async def place_calls(script, token=TOKEN):
    """Three calls to the backend; returns what it heard and what voxload measured."""
    listener, url = listen("127.0.0.1", 0)
    calls = {}
    server = uvicorn.Server(uvicorn.Config(backend(url, calls), log_level="warning", ws_max_queue=1000))
    serving = asyncio.create_task(server.serve([listener]))
    written = scenario_with(
        dialect={"name": "twilio", "webhook": "/incoming-call", "auth_token": token},
        load={"shape": "constant", "arrival_rate": 10, "duration": "300ms"},
        calls=[{"name": "talk", "script": script}],
        target=url,
    )
    collector = Collector()
    try:
        async with asyncio.timeout(30):
            await Shard(Plan("twilio", written, url), 0, 1, collector.add).run(monotonic_ns() + 500 * MS)
    finally:
        server.should_exit = True
        await serving
        gc.unfreeze()
    return list(calls.values()), collector


def test_a_whole_conversation():
    script = [
        "wait_for_agent",
        {"say": "opening_hours"},
        {"barge_in": {"utterance": "cancel_appointment", "after": "300ms"}},
        "wait_for_agent",
        {"dtmf": "4#"},
        {"listen": "200ms"},
    ]
    calls, collector = uvloop.run(place_calls(script))
    assert collector.outcomes == {"completed": 3}, collector.errors()
    totals = collector.totals()
    assert not totals.peer_errors and not totals.unknown_messages
    assert len(calls) == 3
    for heard in calls:
        assert heard.start["customParameters"] == {"from": heard.form["From"]}
        assert heard.start["callSid"] == heard.form["CallSid"]
        assert heard.keys == "4#"
        assert heard.stopped
        assert heard.chunks == list(range(1, len(heard.chunks) + 1)), "every frame in its order"
        marks = dict(heard.marks)
        assert [name for name, _ in heard.marks] == ["reply 1", "reply 2", "reply 3"]
        assert 950 < marks["reply 1"] / MS < 1300, "played to its end, though it came in one go"
        assert 300 <= marks["reply 2"] / MS < 900, "cleared in the middle"
    assert collector.histogram("turn_latency").count == 6
    latency_ms = collector.histogram("turn_latency").quantile(0.5) / MS
    assert latency_ms == pytest.approx(QUIET_MS, abs=100), "the backend waits for its pause, counted in whole frames"
    assert collector.histogram("dropped_audio").count == 3


def test_a_wrong_token_is_refused_by_the_backends_own_check():
    calls, collector = uvloop.run(place_calls(["wait_for_agent"], token="wrong"))
    assert not calls
    assert collector.outcomes == {"rejected": 3}
    (error,) = collector.errors()
    assert error.text == "the webhook /incoming-call answered 403"
