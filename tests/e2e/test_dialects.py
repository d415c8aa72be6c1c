"""Dialects over real sockets: callers complete turns with the embedded agent and read the stated latency back."""

import json
import urllib.request

import pytest
from conftest import scenario_with

MS = 1e6
TURN_MS = 800
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
    "acs": {"name": "acs", "listen": "127.0.0.1:0", "sample_rate": 24000, "casing": "camel"},
    "acs_media": {"name": "acs_media", "path": "/media/${caller_number}", "casing": "mixed"},
    "twilio": {"name": "twilio", "auth_token": "secret"},
    "browser": {"name": "browser", "agent_sample_rate": 24000},
    "json": JSON,
    "openai_realtime": {"name": "openai_realtime", "greeting": False, "transcription": "whisper-1"},
}


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
def test_a_turn_is_measured_in_every_dialect(voxload, dialect):
    """Within 10 ms at the median and at the worst of ten calls, three times at most: the machine may be disturbed."""
    scenario = scenario_with(
        dialect=dialect,
        load={"shape": "constant", "arrival_rate": 20, "duration": "500ms"},
        calls=[{"name": "short", "script": [{"say": "opening_hours"}, "wait_for_agent"]}],
        twin={"latency": {"turn": f"{TURN_MS}ms"}, "greeting": False, "reply_seconds_max": 0.4},
    )
    for _ in range(3):
        summary = voxload.run(scenario).summary
        turn = summary.histogram("turn_latency")
        measured_ms = [turn.quantile(share) / MS for share in (0.5, 1.0)] if turn.count else []
        if summary.totals.outcomes == {"completed": 10} and measured_ms == pytest.approx([TURN_MS] * 2, abs=10):
            break
    assert summary.totals.outcomes == {"completed": 10}, summary.errors
    assert measured_ms == pytest.approx([TURN_MS, TURN_MS], abs=10)
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
