"""What a reply cost, from the agent's last message to the caller's event."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twin_bench import Bench

from voxload.dialects.base import CallIdentity, ReplyEnded, Usage
from voxload.dialects.rtmed import RtmedDialect, RtmedOptions

CALLER = RtmedDialect("http://twin", RtmedOptions()).caller(CallIdentity(0, "x"))


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_usage_travels_with_the_end_of_the_reply(input_tokens, output_tokens):
    agent = RtmedDialect("http://twin", RtmedOptions()).agent("x")
    agent.note_usage(Usage(input_tokens, output_tokens))
    assert list(CALLER.decode(*agent.reply_ended()[0])) == [Usage(input_tokens, output_tokens), ReplyEnded()]
    assert list(CALLER.decode(*agent.reply_ended()[0])) == [ReplyEnded()]  # told once


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ("null", []),
        ('"many"', []),
        ("7", []),
        ('{"input_tokens":5}', [Usage(5, 0)]),
        ('{"input_tokens":"5","output_tokens":3,"model":"x"}', [Usage(0, 3)]),
        ('{"input_tokens":-5,"output_tokens":true}', [Usage(0, 0)]),
    ],
)
def test_a_usage_of_another_shape_ends_no_call(usage, expected):
    events = list(CALLER.decode(f'{{"type":"agent_response","final":true,"usage":{usage}}}'.encode(), True))
    assert events == [*expected, ReplyEnded()]


def test_the_tokens_of_a_turn_are_those_of_the_quota():
    bench = Bench({"greeting": False, "latency": {"turn": "100ms"}, "quotas": {"tokens_per_turn": 100}})
    call = bench.call()
    call.turn()
    bench.run(2000)
    [usage] = [message["usage"] for _, message in call.messages("agent_response") if "usage" in message]
    assert usage["input_tokens"] + usage["output_tokens"] == 100
    assert usage["output_tokens"] >= 1


def test_a_greeting_costs_nothing():
    bench = Bench()
    call = bench.call()
    bench.run(2000)
    assert call.messages("agent_response")[-1][1] == {"type": "agent_response", "final": True}
