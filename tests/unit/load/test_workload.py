from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxload.audio.corpus import load_corpus
from voxload.load.workload import Workload
from voxload.model.plan import Plan
from voxload.model.template import expand, template_names


def make_plan(**changes: Any) -> Plan:
    scenario = {
        "name": "w",
        "target": "http://agent.example",
        "load": {"shape": "poisson", "arrival_rate": 20, "duration": "10s"},
        "calls": [
            {"name": "often", "weight": 3, "script": ["hang_up"]},
            {"name": "seldom", "weight": 1, "script": ["hang_up"]},
        ],
        "variables": {
            "plain": "same",
            "phone": {"random_phone": {"prefix": "+49", "digits": 4}},
            "row": {"csv": {"file": "x.csv", "column": "a"}},
            "drawn": {"csv": {"file": "x.csv", "column": "a", "pick": "random"}},
            "choice": {"choice": ["x", "y"]},
            "token": {"env": "TOKEN"},
        },
        "dialect": {"name": "rtmed", "agent_type": "${choice}-${plain}", "message_rate": 10},
        "headers": {"Authorization": "Bearer ${token}", "X-Price": "$$5"},
        "seed": 5,
    }
    return Plan(
        "run-1",
        {**scenario, **changes},
        "http://agent.example",
        {"plain": "same", "token": "hush-hush"},
        ("token",),
        {"row": ("r0", "r1", "r2"), "drawn": ("r0", "r1", "r2")},
    )


def facts(workload: Workload, index: int) -> tuple[Any, ...]:
    call = workload.call(index, "p")
    return call.index, call.call_id, call.call_type.name, call.values, call.rng.random()


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=20))
@settings(max_examples=20, deadline=None)
def test_a_call_depends_on_seed_and_index_alone(order):
    one, other = Workload(make_plan()), Workload(make_plan())
    expected = {index: facts(one, index) for index in sorted(set(order))}
    assert [facts(other, index) for index in order] == [expected[index] for index in order]


def test_other_seeds_give_other_calls():
    one, other = Workload(make_plan()), Workload(make_plan(seed=6))
    assert [facts(one, n)[2:] for n in range(20)] != [facts(other, n)[2:] for n in range(20)]


def test_values_come_from_their_sources():
    workload = Workload(make_plan())
    calls = [workload.call(index, "p") for index in range(300)]
    assert [call.values["row"] for call in calls[:4]] == ["r0", "r1", "r2", "r0"]
    assert {call.values["drawn"] for call in calls} == {"r0", "r1", "r2"}
    assert {call.values["choice"] for call in calls} == {"x", "y"}
    assert {call.values["plain"] for call in calls} == {"same"}
    assert {call.values["call_id"] for call in calls} == {f"run-1-{index}" for index in range(300)}
    assert all(call.values["agent_type"] == call.values["choice"] + "-same" for call in calls)
    assert all(re.fullmatch(r"\+49\d{4}", call.values["phone"]) for call in calls)
    assert all(re.fullmatch(r"\+1555\d{7}", call.values["caller_number"]) for call in calls)


@pytest.mark.parametrize("seed", range(5))
def test_phone_numbers_do_not_repeat(seed):
    workload = Workload(make_plan(seed=seed))
    numbers = [workload.call(index, "p").values["phone"] for index in range(10_000)]
    assert len(set(numbers)) == 10_000


def test_kinds_of_calls_have_their_shares():
    workload = Workload(make_plan())
    often = sum(workload.call(index, "p").call_type.name == "often" for index in range(4000))
    assert often / 4000 == pytest.approx(0.75, abs=0.03)  # four standard deviations


@pytest.mark.parametrize("shards", [1, 3])
def test_load_is_the_same_for_any_number_of_shards(shards):
    workload = Workload(make_plan())
    merged = itertools.chain(*(Workload(make_plan()).arrivals(shard, shards) for shard in range(shards)))
    assert sorted(merged, key=lambda arrival: arrival.index) == list(workload.arrivals(0, 1))


def test_a_closed_load_has_no_arrivals():
    workload = Workload(make_plan(load={"shape": "concurrency", "concurrency": 3, "duration": "5s"}))
    assert list(workload.arrivals(0, 1)) == []


def test_headers_and_redaction():
    workload = Workload(make_plan())
    assert workload.headers() == {"Authorization": "Bearer hush-hush", "X-Price": "$5"}
    assert workload.redact("401 for Bearer hush-hush") == "401 for Bearer ***"


def test_utterances_come_from_the_corpus():
    workload = Workload(make_plan())
    assert workload.utterances("book_appointment") == load_corpus().find("book_appointment")
    assert len(workload.utterances("book_appointment")) > 1


def test_templates():
    assert expand("a ${x} $$ b", {"x": "1"}) == "a 1 $ b"
    assert expand("plain", {}) == "plain"
    assert template_names("${a}/${b}/${a}$$") == ["a", "b"]
    with pytest.raises(KeyError):
        expand("${missing}", {})
    for broken in ("5 $", "${}", "${a b}", "$5"):
        with pytest.raises(ValueError, match=r"\$\$"):
            template_names(broken)
