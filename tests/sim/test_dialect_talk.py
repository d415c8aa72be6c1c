"""What a conversation is in every dialect, on the virtual clock: exact latencies, interruptions, keys, the hang-up."""

import pytest
from test_virtual_run import SLOTS_MS, at, scenario
from test_voice_metrics import mean

from voxload.dialects.base import Respond
from voxload.dialects.openai_realtime_agent import OpenaiRealtimeAgent
from voxload.dialects.registry import build_dialect
from voxload.model.plan import Plan
from voxload.testing.virtual import VirtualWorld

DIALECTS = {
    "rtmed": "rtmed",
    "twilio": {"name": "twilio", "auth_token": "secret"},
    "twilio-stream": {"name": "twilio", "stream_url": "/media"},
    "openai": {"name": "openai_realtime", "transcription": "whisper-1"},
    "openai-manual": {"name": "openai_realtime", "turn_detection": "none", "transcription": "whisper-1"},
    "openai-beta": {"name": "openai_realtime", "names": "beta", "transcription": "whisper-1"},
    "openai-ulaw": {"name": "openai_realtime", "format": "g711_ulaw", "frame_ms": 100},
    "azure": {"name": "openai_realtime", "api": "azure", "model": "gpt-4o-realtime-preview"},
}
JSON = {
    "name": "json",
    "start": {"path": "/calls", "body": {"from": "${caller_number}"}, "take": {"id": "session.id"}},
    "socket": {"path": "/calls/${id}/media"},
    "send": {
        "connect": [{"type": "hello"}],
        "audio": {"type": "audio", "seq": "${sequence}", "data": "${audio}"},
        "dtmf": {"type": "key", "digit": "${digit}"},
        "mark": {"type": "mark", "name": "${mark}"},
        "hang_up": {"type": "bye"},
    },
    "receive": {
        "messages": {
            "hello": "ready",
            "audio": {"audio": "data"},
            "mark": {"mark": "name"},
            "clear": "interrupted",
        }
    },
}
DIALECTS |= {
    "json": JSON,
    "json-words": {**JSON, "send": JSON["send"] | {"end_of_speech": {"type": "end"}}},
    "browser": {"name": "browser"},
    "browser-24k": {
        "name": "browser",
        "sample_rate": 24000,
        "path": "/voice?id=${call_id}",
        "interrupt_type": "barge_in",
        "end_of_speech_type": "end",
    },
    "browser-binary": {"name": "browser", "agent_audio": "binary", "agent_sample_rate": 48000, "frame_ms": 40},
}
TALK = [
    "wait_for_agent",
    {"say": "book_appointment"},
    {"barge_in": {"utterance": "opening_hours", "after": "600ms"}},
    "wait_for_agent",
    {"dtmf": "1#"},
]


@pytest.fixture(params=DIALECTS.values(), ids=DIALECTS)
def dialect(request):
    return request.param


def play(dialect, script, twin=(), delay_ms=5):
    """Five calls in a second; returns the collector and the agent's desk."""
    plan = scenario(
        dialect=dialect,
        load={"shape": "constant", "arrival_rate": 5, "duration": "1s"},
        calls=[{"name": "talk", "script": script}],
        twin={"latency": {"turn": "800ms"}, "barge_in_delay": "200ms", **dict(twin)},
    )
    world = VirtualWorld(Plan("sim", plan, "http://agent.example"), delay_ns=round(delay_ms * 1e6))
    collector = world.run(600)
    assert collector.outcomes == {"completed": 5}, collector.errors()
    assert not collector.totals().unknown_messages
    assert not collector.totals().peer_errors
    return collector, world.desk


def test_latencies_are_exact(dialect):
    collector, _ = play(dialect, ["wait_for_agent", {"say": "book_appointment"}, "wait_for_agent"], delay_ms=0)
    assert collector.histogram("turn_latency").count == 5
    for fraction in (0.0, 0.5, 1.0):
        assert at(collector, "turn_latency", fraction) == pytest.approx(800, abs=SLOTS_MS)
    assert at(collector, "greeting", 0.5) == pytest.approx(200, abs=SLOTS_MS)


def test_a_realtime_model_is_charged_by_what_it_reports():
    plan = scenario(
        dialect={"name": "openai_realtime"},
        load={"shape": "constant", "arrival_rate": 5, "duration": "1s"},
        calls=[{"name": "talk", "script": [*TALK[:2], "wait_for_agent"]}],
        twin={"latency": {"turn": "800ms"}, "reply_seconds_max": 1, "quotas": {"tokens_per_turn": 600}},
        cost={"realtime": "gpt-realtime"},
    )
    collector = VirtualWorld(Plan("sim", plan, "http://agent.example")).run(60)
    items = collector.costs
    spoken = 2 * 20  # the greeting and one reply of 1 s, 20 tokens a second
    assert items["realtime_output"] == pytest.approx(5 * spoken * 64 / 1e6)
    spoken_s = sum(record.caller_speech_s for record in collector.worst_calls())
    beside_s = 5 * (0.3 + 0.5)  # before the speech, and the silence that ends it
    assert items["realtime_input"] == pytest.approx((spoken_s + beside_s) * 10 * 32 / 1e6, rel=0.1)
    assert items["realtime_text_input"] + items["realtime_text_output"] * 4 / 16 == pytest.approx(5 * 600 * 4 / 1e6)


@pytest.mark.parametrize("delivery", ["paced", "burst"])
def test_an_interrupted_agent_stops_and_answers(dialect, delivery):
    collector, desk = play(dialect, TALK, {"delivery": delivery})
    assert collector.histogram("turn_latency").count == 10
    assert mean(collector, "yield_rate") == 1
    assert at(collector, "barge_in_stop", 1.0) <= 300
    interruptions = sum(record.interruptions for record in desk._ended.values())
    assert interruptions == 5, "the agent was stopped once in each call"
    dropped = collector.histogram("dropped_audio")
    # a caller that stops the agent itself hears what was still under way, and drops it when the agent says so
    assert dropped.count == (10 if "interrupt_type" in dialect and delivery == "paced" else 5)
    if delivery == "burst":
        assert at(collector, "dropped_audio", 0.0) > 500, "what had been sent ahead was not played"
    assert all(record.outcome == "completed" and not record.unknown for record in desk._ended.values())


def refused(dialect, agent):
    """Five calls to an agent whose side of the dialect is another one; returns the outcomes and the first reason."""
    plan = scenario(dialect=dialect, load={"shape": "constant", "arrival_rate": 5, "duration": "1s"})
    world = VirtualWorld(Plan("sim", plan, "http://agent.example"))
    world.dialect.agent = agent
    collector = world.run(600)
    return collector.outcomes, collector.errors()[0].text


def test_a_session_that_is_refused_is_a_rejected_call_with_the_reason():
    class Refusing(OpenaiRealtimeAgent):
        def _update(self, event):
            return (self._invalid("Invalid value: 'nobody'.", event, "session.audio.output.voice"),)

    outcomes, reason = refused("openai_realtime", lambda call_id: Refusing("pcm16", "server_vad", call_id))
    assert outcomes == {"rejected": 5}
    assert "invalid_value: Invalid value: 'nobody'." in reason


def test_an_agent_in_another_format_is_a_protocol_error_with_the_reason():
    class Other(OpenaiRealtimeAgent):
        def _update(self, event):
            session = {"type": "realtime", "audio": {"output": {"format": {"type": "audio/pcmu"}}}}
            return (Respond(self._say("session.updated", session=session)),)

    outcomes, reason = refused("openai_realtime", lambda call_id: Other("pcm16", "server_vad", call_id))
    assert outcomes == {"protocol_error": 5}
    assert reason == "the session's audio is audio/pcmu, not audio/pcm as asked for"


def test_an_agent_that_never_is_ready_is_named_by_what_was_awaited():
    silent = build_dialect("json", "http://x", {key: value for key, value in JSON.items() if key != "name"}).agent("x")
    silent.on_connected = lambda: ()
    outcomes, reason = refused(JSON, lambda call_id: silent)
    assert outcomes == {"setup_timeout": 5}
    assert reason.endswith("waited for the message that means ready")
