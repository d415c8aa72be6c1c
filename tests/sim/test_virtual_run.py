"""Runs on the virtual clock: exact latencies, an hour in seconds, the same numbers every time."""

import time
from typing import Any

import pytest

from voxload.measure.collector import Collector
from voxload.model.plan import Plan
from voxload.testing.virtual import VirtualWorld

MS = 1e6
SLOTS_MS = 3.5  # two trips and the reply itself each wait for the end of a 1 ms slot


def scenario(**changes: Any) -> dict[str, Any]:
    return {
        "name": "sim",
        "target": "http://agent.example",
        "seed": 3,
        "load": {"shape": "constant", "arrival_rate": 5, "duration": "20s"},
        "calls": [
            {
                "name": "booking",
                "script": ["wait_for_agent", {"say": "book_appointment"}, "wait_for_agent", {"think": "500ms..1s"}],
            }
        ],
        "twin": {"latency": {"turn": "700ms"}},
    } | changes


def play(delay_ms: float = 0, limit_s: float = 86_400, **changes: Any) -> Collector:
    plan = Plan("sim", scenario(**changes), "http://agent.example")
    return VirtualWorld(plan, delay_ns=round(delay_ms * MS)).run(limit_s)


def at(collector: Collector, metric: str, fraction: float) -> float:
    value = collector.histogram(metric).quantile(fraction)
    assert value is not None, metric
    return value / MS


def test_latencies_are_exact_to_the_slot():
    collector = play()
    assert collector.outcomes == {"completed": 100}
    for fraction in (0.0, 0.5, 0.99, 1.0):
        assert at(collector, "turn_latency", fraction) == pytest.approx(700, abs=SLOTS_MS)
        assert at(collector, "first_packet", fraction) == pytest.approx(700, abs=SLOTS_MS)


@pytest.mark.parametrize("delay_ms", [10, 40])
def test_the_link_adds_its_delay_both_ways(delay_ms):
    collector = play(delay_ms)
    assert at(collector, "turn_latency", 0.5) == pytest.approx(700 + 2 * delay_ms, abs=5)
    assert at(collector, "message_rtt", 0.5) == pytest.approx(2 * delay_ms, abs=2)
    assert at(collector, "call_setup", 0.5) == pytest.approx(4 * delay_ms, abs=6)


def test_the_same_seed_gives_the_same_numbers_and_another_does_not():
    load = {"shape": "poisson", "arrival_rate": 4, "duration": "20s"}
    twin = {"latency": {"turn": {"lognormal": {"median": "600ms", "p95": "1200ms"}}}}

    def numbers(seed):
        collector = play(load=load, twin=twin, seed=seed)
        return [(series.metric, series.labels, series.histogram) for series in collector.series()]

    assert numbers(3) == numbers(3)
    assert numbers(3) != numbers(4)


def test_an_hour_is_over_in_seconds():
    started = time.monotonic()
    collector = play(
        load={"shape": "constant", "arrival_rate": "2/min", "duration": "1h"},
        calls=[
            {
                "name": "long",
                "script": [
                    "wait_for_agent",
                    {"repeat": {"until": "30s", "steps": [{"say": "test_results"}, "wait_for_agent", {"think": "2s"}]}},
                ],
            }
        ],
    )
    assert collector.outcomes == {"completed": 120}
    assert len(collector.levels()) >= 3600
    assert collector.histogram("turn_latency").count >= 120 * 3
    assert at(collector, "turn_latency", 0.999) == pytest.approx(700, abs=SLOTS_MS)
    assert time.monotonic() - started < 90


def test_a_silent_agent_is_noticed_when_the_time_is_up():
    collector = play(
        twin={"faults": {"silent_rate": 1.0}, "greeting": False},
        calls=[{"name": "c", "script": [{"say": "test_results"}, "wait_for_agent"]}],
        timeouts={"agent_reply": "4s"},
    )
    assert collector.outcomes == {"agent_silent": 100}
    assert {error.text for error in collector.errors()} == {"no reply to the turn 'test_results' within 4 s"}


def test_a_dropped_call_is_the_targets():
    turn = [{"say": "test_results"}, "wait_for_agent"]
    collector = play(
        twin={"faults": {"drop_rate": 1.0}, "greeting": False}, calls=[{"name": "c", "script": [*turn, *turn]}]
    )
    assert collector.outcomes == {"dropped_by_target": 100}


def test_barge_in_stops_the_agent_and_the_next_reply_is_measured():
    collector = play(
        calls=[
            {
                "name": "impatient",
                "script": [
                    "wait_for_agent",
                    {"say": {"utterance": "opening_hours", "turn": "first"}},
                    {"barge_in": {"utterance": "book_appointment", "after": "600ms", "turn": "second"}},
                    "wait_for_agent",
                ],
            }
        ]
    )
    assert collector.outcomes == {"completed": 100}
    turns = {
        series.labels["turn"]: series.histogram for series in collector.series() if series.metric == "turn_latency"
    }
    assert {name: data.count for name, data in turns.items()} == {"first": 100, "second": 100}
    assert turns["second"].minimum / MS == pytest.approx(700, abs=SLOTS_MS)
    assert turns["second"].maximum / MS == pytest.approx(700, abs=SLOTS_MS)


def test_keys_are_pressed():
    collector = play(calls=[{"name": "c", "script": ["wait_for_agent", {"dtmf": "12#"}, {"listen": "1s"}, "hang_up"]}])
    assert collector.outcomes == {"completed": 100}


def test_calls_over_the_limit_are_shed():
    collector = play(
        measurement={"calls_max": 10}, calls=[{"name": "c", "script": [{"listen": "60s"}]}], twin={"greeting": False}
    )
    assert collector.outcomes == {"completed": 10, "shed": 90}
    assert max(collector.levels()) == 10


def test_concurrency_follows_littles_law():
    collector = play(
        load={"shape": "constant", "arrival_rate": 10, "duration": "60s"},
        calls=[{"name": "c", "script": [{"listen": "10s"}]}],
        twin={"greeting": False},
    )
    assert collector.sustained_level() == pytest.approx(100, abs=1)


def test_a_closed_load_keeps_its_callers():
    collector = play(
        load={"shape": "concurrency", "concurrency": 7, "duration": "60s", "ramp_up": "6s", "pause": "500ms"},
        calls=[{"name": "c", "script": [{"listen": "3s"}]}],
        twin={"greeting": False},
    )
    assert max(collector.levels()) == 7
    assert set(collector.outcomes) == {"completed"}
    assert sum(collector.outcomes.values()) == pytest.approx(7 * 60 / 3.5, rel=0.1)


def test_memory_of_the_wheel_is_given_back():
    plan = Plan("sim", scenario(), "http://agent.example")
    world = VirtualWorld(plan)
    world.run()
    assert len(world.placer._calls) == 0
    assert world.desk.active_calls == 0


def test_there_is_no_exchange_in_a_virtual_world():
    collector = play(dialect={"name": "acs", "exchange": "http://127.0.0.1:1"})
    assert collector.outcomes == {"internal_error": 100}
    assert "no trunk" in collector.errors()[0].text
