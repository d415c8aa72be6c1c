"""Messages beside the protocol, on the virtual clock: what the agent tells at known times is what the run reports."""

from typing import Any

import pytest

from voxload.dialects.registry import build_dialect, dialect_names
from voxload.errors import BadInputError
from voxload.measure.collector import Collector
from voxload.measure.snapshot import Snapshot
from voxload.model.plan import Plan
from voxload.testing.virtual import VirtualWorld

MS = 1e6
SLOTS_MS = 3.5


def play(messages: Any, envelopes: Any, **changes: Any) -> tuple[Collector, list[Any]]:
    """The run's numbers and its calls."""
    scenario = {
        "name": "side",
        "target": "http://agent.example",
        "load": {"shape": "constant", "arrival_rate": 5, "duration": "4s"},
        "calls": [{"name": "c", "script": [{"say": "book_appointment"}, "wait_for_agent"]}],
        "twin": {"greeting": False, "latency": {"turn": "700ms"}, "envelopes": envelopes},
        "messages": messages,
        "timeouts": {"agent_reply": "3s"},
    } | changes
    world = VirtualWorld(Plan("side", scenario, "http://agent.example"))
    calls: list[Any] = []
    add = world.collector.add

    def keep(snapshot: Snapshot) -> None:
        calls.extend(snapshot.calls)
        add(snapshot)

    world.collector.add = keep  # type: ignore[method-assign]
    return world.run(), calls


def event(kind: str, after_ms: int, moment: str = "speech_end", **payload: Any) -> dict[str, Any]:
    return {"moment": moment, "after": f"{after_ms}ms", "send": {"type": "event", "payload": {"kind": kind, **payload}}}


def stage_ms(collector: Collector, name: str) -> list[float]:
    found = [s.histogram for s in collector.series() if s.metric == "stage" and s.labels["stage"] == name]
    assert found, name
    return [found[0].count, found[0].minimum / MS, found[0].maximum / MS]


def test_a_stage_told_at_a_known_time_is_reported_at_that_time():
    rules = [
        {"when": {"type": "event", "payload.kind": "llm_first_token"}, "stage": "llm_first_token"},
        {"when": {"type": "event", "payload.kind": ["tts_a", "tts_b"]}, "stage": "$.payload.kind"},
    ]
    told = [event("llm_first_token", 350), event("llm_first_token", 450), event("tts_a", 520), event("tts_b", 610)]
    collector, calls = play(rules, told)
    assert collector.outcomes == {"completed": 20}
    for name, at_ms in (("llm_first_token", 350), ("tts_a", 520), ("tts_b", 610)):
        within = pytest.approx(at_ms, abs=SLOTS_MS)
        assert stage_ms(collector, name) == [20, within, within]  # told twice in a turn, it counts once
        assert [call.turns[0].stages_at_ms[name] for call in calls] == [within] * 20
    assert collector.totals().unknown_messages == {}


def test_transcripts_intents_usage_and_errors_come_from_side_messages():
    rules = [
        {"when": {"type": "event", "payload.kind": "stt"}, "transcript": "$.payload.text", "final": "$.payload.final"},
        {"when": {"payload.kind": "say"}, "transcript": "$.payload.text", "speaker": "agent"},
        {"when": {"payload.kind": "nlu"}, "intent": "$.payload.intent", "error": "$.payload.code"},
        {"when": "$.payload.tokens", "usage": {"input_tokens": "$.payload.tokens[0]", "output_tokens": "$..out"}},
    ]
    told = [
        event("stt", 100, text="not yet", final=False),
        event("stt", 260, text="nothing that anybody said", final=True),
        event("say", 400, text="${reply}"),
        event("nlu", 300, intent="${intent}", code=42),
        event("cost", 500, tokens=[70], more={"out": 9}),
    ]
    cost = {"llm": "gpt-4o-mini"}
    # of changed audio the twin itself says nothing, so that all words come from the envelopes
    collector, calls = play(rules, told, personas=[{"name": "quiet", "level_db": -6}], cost=cost)
    assert collector.outcomes == {"completed": 20}
    assert collector.totals().peer_errors == {"42": 20}
    turn = calls[0].turns[0]
    assert turn.heard.strip() == "nothing that anybody said"
    assert turn.reply
    assert collector.costs["llm_input"] > 0  # reported, not estimated
    assert collector.histogram("word_error_rate").mean > 0.5e9


@pytest.mark.parametrize("moment", ["connected", "speech_end"])
def test_a_side_message_ends_the_call(moment):
    rules = [{"when": {"type": "busy"}, "outcome": "rejected", "reason": "$.detail"}]
    told = [{"moment": moment, "after": "200ms", "share": 0.5, "send": {"type": "busy", "detail": "no lines free"}}]
    collector, _ = play(rules, told)
    assert set(collector.outcomes) == {"completed", "rejected"}
    assert 3 <= collector.outcomes["rejected"] <= 17
    assert {(error.outcome, error.text) for error in collector.errors()} == {("rejected", "no lines free")}


def test_an_interruption_drops_what_was_not_played():
    rules = [{"when": {"type": "stop"}, "interrupted": True}]
    told = [{"moment": "reply", "after": "500ms", "send": {"type": "stop"}}]
    twin = {"delivery": "burst", "greeting": False, "envelopes": told}
    collector, calls = play(rules, told, twin=twin)
    assert collector.histogram("dropped_audio").count == 20
    assert collector.histogram("dropped_audio").minimum > 100 * MS
    assert {moment.kind for call in calls for moment in call.moments} >= {"interrupted"}


def test_what_no_rule_is_for_stays_unknown_and_what_is_missing_is_said():
    rules = [
        {"when": {"type": "event", "payload.kind": "stt"}, "transcript": "$.payload.words"},
        {"when": {"type": "ping"}, "ignore": True},
        {"when": {"n": 1}, "stage": "one"},
    ]
    told = [
        event("stt", 100, text="x"),
        {"moment": "speech_end", "send": {"type": "ping"}},
        {"moment": "speech_end", "send": {"type": "weather"}},
        {"moment": "speech_end", "send": {"type": "flag", "n": True}},
    ]
    collector, _ = play(rules, told)
    assert collector.outcomes == {"completed": 20}
    unknown = collector.totals().unknown_messages
    assert unknown == {"messages[0]: no text at $.payload.words": 20, "weather": 20, "flag": 20}


def test_a_stage_before_the_first_turn_is_a_moment_and_not_measured():
    rules = [{"when": {"type": "warm"}, "stage": "warm"}]
    collector, calls = play(rules, [{"moment": "connected", "after": "50ms", "send": {"type": "warm"}}])
    assert collector.histogram("stage").count == 0
    assert ["warm" for call in calls] == [m.text for call in calls for m in call.moments if m.kind == "stage"]


def test_a_peer_cannot_make_labels_without_end():
    rules = [{"when": {"type": "s"}, "stage": "$.name"}]
    told = [{"moment": "speech_end", "send": {"type": "s", "name": f"${{call_id}}-{number}"}} for number in range(5)]
    collector, _ = play(rules, told)
    names = {series.labels["stage"] for series in collector.series() if series.metric == "stage"}
    assert len(names) == 51
    assert "other" in names


@pytest.mark.parametrize("name", dialect_names())
def test_side_messages_are_read_in_every_dialect(name):
    """Agents that listen for silence know the end of speech only 500 ms later, so the stage comes after that."""
    try:
        if build_dialect(name, "http://agent.example", {}).trunk() is not None:
            pytest.skip("set up by an exchange, which the virtual world does not have; its media is acs_media's")
    except BadInputError as error:
        pytest.skip(str(error))
    rules = [{"when": {"type": "voxload_status", "payload.kind": "llm"}, "stage": "llm"}]
    told = [{"moment": "speech_end", "after": "650ms", "send": {"type": "voxload_status", "payload": {"kind": "llm"}}}]
    twin = {"greeting": False, "latency": {"turn": "800ms"}, "envelopes": told}
    collector, _ = play(rules, told, dialect=name, twin=twin)
    assert collector.outcomes == {"completed": 20}, collector.errors()
    count, lowest_ms, highest_ms = stage_ms(collector, "llm")
    assert (count, lowest_ms, highest_ms) == (20, pytest.approx(650, abs=5), pytest.approx(650, abs=5))
    assert collector.totals().unknown_messages == {}


def test_a_dialect_is_told_the_headers_of_its_call():
    """An exchange that makes requests for a call needs them: the scenario's, and the call's trace context."""
    scenario = {
        "name": "h",
        "target": "http://agent.example",
        "load": {"shape": "constant", "arrival_rate": 3, "duration": "1s"},
        "calls": [{"name": "c", "script": [{"listen": "100ms"}]}],
        "headers": {"X-Tenant": "blue"},
    }
    world = VirtualWorld(Plan("run", scenario, "http://agent.example"))
    told, calls = [], []
    make, add = world.dialect.caller, world.collector.add
    world.dialect.caller = lambda identity: (told.append(identity), make(identity))[1]  # type: ignore[method-assign]
    world.collector.add = lambda snapshot: (calls.extend(snapshot.calls), add(snapshot))[1]  # type: ignore[method-assign]
    world.run()
    assert len(told) == 3
    for identity in told:
        assert identity.headers["X-Tenant"] == "blue"
        assert identity.headers["baggage"] == f"voxload.call_id={identity.call_id}"
    assert {identity.headers["traceparent"].split("-")[1] for identity in told} == {call.trace_id for call in calls}
