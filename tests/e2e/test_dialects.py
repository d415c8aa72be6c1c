"""Dialects over real sockets: callers complete turns with the embedded agent and read the stated latency back."""

import asyncio
import contextlib
import gc
import json
import urllib.request

import pytest
import uvloop
from conftest import scenario_with

from voxload.clock import monotonic_ns
from voxload.dialects.registry import build_dialect
from voxload.engine.shard import Shard
from voxload.engine.wire import Snapshot
from voxload.measure.collector import Collector
from voxload.model.plan import Plan
from voxload.model.twin import TwinSettings
from voxload.serving import listen
from voxload.twin.replies import CorpusRepertoire
from voxload.twin.server import TwinServer

MS = 1_000_000
TURN_MS = 800
CALLS = 6
JSON = {
    "name": "json",
    "sample_rate": 8000,
    "encoding": "mulaw",
    "start": {"path": "/calls", "body": {"from": "${caller_number}"}, "take": {"id": "session.id"}},
    "socket": {"path": "/calls/${id}/media?from=${caller_number}"},
    "send": {"audio": {"type": "audio", "seq": "${sequence}", "data": "${audio}"}},
    "receive": {"messages": {"hello": "ready", "audio": {"audio": "data"}, "done": "reply_ended"}},
}
DIALECTS = {
    "rtmed": {"name": "rtmed", "message_rate": 50},
    "twilio": {"name": "twilio", "auth_token": "secret"},
    "twilio-stream": {"name": "twilio", "stream_url": "/media", "parameters": {"number": "${caller_number}"}},
    "browser": {"name": "browser", "agent_sample_rate": 24000, "path": "/ws?caller=${call_id}"},
    "json": JSON,
    "acs_media": {"name": "acs_media", "path": "/media/${caller_number}", "casing": "mixed"},
    "openai_realtime": {"name": "openai_realtime", "greeting": False, "transcription": "whisper-1"},
    "openai_realtime-manual": {"name": "openai_realtime", "greeting": False, "turn_detection": "none"},
    "openai_realtime-beta": {"name": "openai_realtime", "greeting": False, "api": "azure", "format": "g711_ulaw"},
}


def scenario(dialect):
    return scenario_with(
        dialect=dialect,
        load={"shape": "constant", "arrival_rate": 20, "duration": f"{CALLS / 20}s"},
        calls=[{"name": "short", "script": [{"say": "opening_hours-slt-2"}, "wait_for_agent"]}],
        twin={"latency": {"turn": f"{TURN_MS}ms"}, "greeting": False, "reply_seconds_max": 0.4},
    )


@contextlib.asynccontextmanager
async def served(settings, options):
    """The embedded agent on a port of its own in this very loop."""
    listener, url = listen("127.0.0.1", 0)
    dialect = build_dialect(options["name"], url, {key: value for key, value in options.items() if key != "name"})
    server = TwinServer(settings, dialect, CorpusRepertoire(dialect, settings.reply_seconds_max))
    await server.start(listener)
    try:
        yield url
    finally:
        await server.stop()


async def call_agents(names):
    """Call the agents of these dialects at the same time; returns what was measured of each."""
    found = {name: Collector() for name in names}
    async with contextlib.AsyncExitStack() as stack:
        shards = []
        for name in names:
            options = DIALECTS[name]
            written = scenario(options)
            settings = TwinSettings.model_validate(written["twin"])
            url = await stack.enter_async_context(served(settings, options))

            def emit(message, collector=found[name]):
                assert isinstance(message, Snapshot)
                collector.add(message)

            shards.append(Shard(Plan(name, written, url), 0, 1, emit))
        start_ns = monotonic_ns() + 200 * MS
        async with asyncio.timeout(30):
            await asyncio.gather(*(shard.run(start_ns + 5 * MS * number) for number, shard in enumerate(shards)))
    return found


def measured_ms(collector):
    turn = collector.histogram("turn_latency")
    return [turn.quantile(share) / MS for share in (0.5, 1.0)] if turn.count == CALLS else []


@pytest.fixture(scope="module")
def measured():
    """Each five times at most, for other work on the machine may disturb a run; a wrong dialect is wrong every time."""
    collected_at = gc.get_threshold()
    found, again = {}, list(DIALECTS)
    for _ in range(5):
        found |= uvloop.run(call_agents(again))
        gc.unfreeze()
        gc.set_threshold(*collected_at)
        again = [name for name in again if measured_ms(found[name]) != pytest.approx([TURN_MS] * 2, abs=10)]
        if not again:
            break
    return found


@pytest.mark.parametrize("name", DIALECTS)
def test_a_turn_is_measured_in_every_dialect(measured, name):
    collector = measured[name]
    assert collector.outcomes == {"completed": CALLS}, collector.errors()
    assert measured_ms(collector) == pytest.approx([TURN_MS] * 2, abs=10)
    totals = collector.totals()
    assert not totals.unknown_messages
    assert not totals.peer_errors


def test_a_turn_is_measured_by_telephone(voxload):
    """With the processes of a whole run, the exchange among them."""
    dialect = {"name": "acs", "listen": "127.0.0.1:0", "sample_rate": 24000, "casing": "camel"}
    for _ in range(3):
        summary = voxload.run(scenario(dialect), judged=False).summary
        turn = summary.histogram("turn_latency")
        if summary.totals.outcomes == {"completed": CALLS} and turn.quantile(1.0) / MS == pytest.approx(
            TURN_MS, abs=10
        ):
            break
    assert summary.totals.outcomes == {"completed": CALLS}, summary.errors
    assert [turn.quantile(share) / MS for share in (0.5, 1.0)] == pytest.approx([TURN_MS] * 2, abs=10)
    assert not summary.totals.unknown_messages
    assert not summary.totals.peer_errors


def test_the_agent_of_a_scenario_can_be_served_alone(voxload):
    path = voxload.write(scenario_with(dialect=JSON, twin={"latency": {"turn": "300ms"}}))
    process = voxload.start("twin", "--scenario", str(path), "--json")
    try:
        ready = json.loads(process.stdout.readline())
        with urllib.request.urlopen(f"{ready['url']}/health", timeout=10) as answer:
            assert json.load(answer)["dialect"] == "json"
        start = urllib.request.Request(f"{ready['url']}/calls", b"{}", method="POST")
        with urllib.request.urlopen(start, timeout=10) as answer:
            assert json.load(answer)["session"]["id"]
    finally:
        process.terminate()
        voxload.finish(process)


def test_two_descriptions_of_the_agent_are_one_too_many(voxload):
    path = voxload.write(scenario_with(dialect=JSON))
    done = voxload("twin", str(path), "--scenario", str(path))
    assert done.code == 2 and "not both" in done.err
