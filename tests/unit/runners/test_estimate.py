from __future__ import annotations

import heapq
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from test_prepare import EXAMPLES, ROOT, prepared, scenario

from voxload.audio.corpus import load_corpus
from voxload.dialects.registry import build_dialect
from voxload.load.arrivals import arrivals
from voxload.runners.durations import agent_latency_s
from voxload.runners.estimate import estimate_plan, message_bytes, plan_facts
from voxload.runners.prepare import prepare

ASK = [{"say": "opening_hours-slt-1"}, "wait_for_agent"]


def estimated(folder: Path, **changes: Any) -> Any:
    return estimate_plan(prepared(folder, scenario(**changes)))


def one_call(folder: Path, script: list[Any], **changes: Any) -> Any:
    (call,) = estimated(folder, calls=[{"name": "a", "script": script}], **changes).call_types
    return call


def speech_s() -> float:
    (utterance,) = load_corpus().find("opening_hours-slt-1")
    return utterance.active_end_ns / 1e9


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (["wait_for_agent"], lambda said: 4.15),  # 0.8 s latency, 3 s greeting, 0.35 s of silence
        (["wait_for_agent", *ASK], lambda said: 4.15 + said + 4.15),
        (["wait_for_agent", {"think": "1s..3s"}], lambda said: 6.15),
        ([{"listen": "10s"}, "wait_for_agent"], lambda said: 10.0),
        ([*ASK[:1], {"think": "2s"}, "wait_for_agent"], lambda said: said + 4.15),
        (["wait_for_agent", {"repeat": {"times": 7, "steps": ASK}}], lambda said: 4.15 + 7 * (said + 4.15)),
        (["wait_for_agent", {"repeat": {"until": "60s", "steps": [{"think": "2s"}]}}], lambda said: 60.15),
        ([{"dtmf": "1234"}], lambda said: 0.8),
        ([{"barge_in": {"utterance": "opening_hours-slt-1", "after": "1s"}}], lambda said: 1.8 + said),
        (["hang_up"], lambda said: 0.0),
    ],
)
def test_length_of_a_call(tmp_path, script, expected):
    assert one_call(tmp_path, script).duration_s == pytest.approx(expected(speech_s()))


def test_speech_and_turns_of_a_call(tmp_path):
    call = one_call(tmp_path, ["wait_for_agent", {"repeat": {"times": 100, "steps": ASK}}])
    assert call.turns == 100
    assert call.caller_speech_s == pytest.approx(100 * speech_s())
    assert call.agent_speech_s == pytest.approx(303)
    cut = one_call(tmp_path, [{"barge_in": {"utterance": "opening_hours-slt-1", "after": "1s"}}, "wait_for_agent"])
    assert cut.agent_speech_s == pytest.approx(1 + 3)


def test_no_call_outlasts_its_limit(tmp_path):
    call = one_call(tmp_path, [{"repeat": {"times": 10**9, "steps": ASK}}], timeouts={"call": "90s"})
    assert call.duration_s == 90


def test_the_twin_is_known(tmp_path):
    twin = {"latency": {"turn": "2s"}, "greeting_delay": "1s", "reply_seconds_max": 0.5}
    call = one_call(tmp_path, ["wait_for_agent", *ASK], target="twin", twin=twin)
    assert call.duration_s == pytest.approx(1 + 0.5 + 0.35 + speech_s() + 2 + 0.5 + 0.35)
    silent = one_call(tmp_path, ASK, target="twin", twin={**twin, "greeting": False})
    assert silent.agent_speech_s == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("stage", "mean_s"),
    [
        ("700ms", 0.7),
        ({"gamma": {"mean": "900ms", "shape": 3}}, 0.9),
        ({"empirical": ["1s", "2s", "6s"]}, 3.0),
        ({"lognormal": {"median": "1s", "p95": "1s"}}, 1.0),
        ({"lognormal": {"median": "1s", "p95": "3s"}}, 1.2499),  # exp(sigma²/2) with sigma = ln 3 / 1.64485
    ],
)
def test_mean_latency(tmp_path, stage, mean_s):
    found = prepared(tmp_path, scenario(target="twin", twin={"latency": {"turn": stage}}))
    assert agent_latency_s(found.scenario.twin.latency) == pytest.approx(mean_s, rel=1e-3)


@pytest.mark.parametrize(
    "load",
    [
        {"shape": "constant", "arrival_rate": 10, "duration": "60s"},
        {"shape": "ramp", "ramp_to": 20, "duration": "60s"},
        {"shape": "ramp", "arrival_rate": 20, "ramp_to": 0, "duration": "60s"},
        {"shape": "spike", "arrival_rate": 2, "spike_rate": 40, "spike_at": "20s", "spike_duration": "3s",
         "duration": "60s"},
        {"shape": "stages", "stages": [{"duration": "5s", "arrival_rate": 40}, {"duration": "30s", "arrival_rate": 0}]},
    ],
    ids=lambda load: load["shape"],
)  # fmt: skip
def test_peak_is_that_of_the_arrivals_played_out(tmp_path, load):
    calls = [
        {"name": "long", "weight": 1, "script": [{"listen": "12s"}]},
        {"name": "short", "weight": 3, "script": [{"listen": "4s"}]},
    ]
    found = prepared(tmp_path, scenario(load=load, calls=calls))
    peak, ends, highest = 0.0, [], 0.0
    for arrival in arrivals(found.scenario.load.phases(), "even", 1):
        for share, length_s in ((0.25, 12), (0.75, 4)):
            heapq.heappush(ends, (arrival.due_ns + length_s * 10**9, share))
            peak += share
        while ends[0][0] <= arrival.due_ns:
            peak -= heapq.heappop(ends)[1]
        highest = max(highest, peak)
    assert estimate_plan(found).peak_calls == pytest.approx(highest, abs=1.5)


def test_frames_data_and_cpu(tmp_path):
    found = estimated(
        tmp_path,
        load={"shape": "constant", "arrival_rate": 10, "duration": "100s"},
        calls=[{"name": "a", "script": ["wait_for_agent", {"listen": "15.85s"}]}],
        dialect={"name": "rtmed", "message_rate": 50},
        side_traffic={"interval": "1s..3s", "voice_weight": 3, "requests": [{"get": "/a"}, {"get": "/b"}]},
    )
    assert found.mean_call_s == pytest.approx(20)
    assert found.peak_calls == pytest.approx(200)
    assert found.frames_up_per_s == pytest.approx(200 * 50)
    assert found.frames_down_per_s == pytest.approx(200 * 50 * 3 / 20)
    assert found.cpu_cores == pytest.approx((10_000 * 15 + 1_500 * 5) / 1e6)
    assert found.processes == 1
    assert found.side_requests_per_s == pytest.approx(200 * 2 / 5 / 2)
    assert found.run_duration_s == pytest.approx(120)
    assert (found.calls, [phase.calls for phase in found.phases]) == (1000, [1000])


def test_size_of_a_message():
    dialect = build_dialect("rtmed", "http://x", {"message_rate": 50})
    up, down = message_bytes(dialect)
    base64 = 856  # 640 bytes
    assert up == len('{"type":"audio_chunk","data":"","timestamp":1700000000.000}') + base64 + 4 + 4
    assert down == len('{"type":"agent_response","audio":"","sequence":0}') + base64 + 4


def test_processes_leave_room_on_a_core(tmp_path):
    found = estimated(
        tmp_path,
        load={"shape": "constant", "arrival_rate": 100, "duration": "100s"},
        calls=[{"name": "a", "script": [{"listen": "40s"}]}],
        dialect={"name": "rtmed", "message_rate": 50},
    )
    assert found.cpu_cores == pytest.approx(4000 * 50 * 15e-6 + 4000 * 50 * 3 / 40 * 5e-6)
    assert found.processes == 5


def test_a_closed_load(tmp_path):
    found = prepared(
        tmp_path,
        scenario(
            load={"shape": "concurrency", "concurrency": 10, "duration": "100s", "ramp_up": "20s", "pause": "5s"},
            calls=[{"name": "a", "script": [{"listen": "10s"}]}],
        ),
    )
    estimate, facts = estimate_plan(found), plan_facts(found, 3)
    assert (estimate.model, estimate.peak_calls, estimate.calls) == ("closed", 10, 60)
    assert (facts.model, facts.calls, facts.processes, facts.load_duration_s) == ("closed", 0, 3, 100)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_facts_agree_with_the_estimate(path):
    found = prepare(path, environ={})
    estimate, facts = estimate_plan(found), plan_facts(found, 2)
    assert facts.phases == estimate.phases
    assert facts.calls == (estimate.calls if estimate.model == "open" else 0)
    assert facts.call_types == {call.name: call.share for call in estimate.call_types}
    assert sum(facts.call_types.values()) == pytest.approx(1)
    dialect = found.scenario.dialect
    assert facts.frame_ms == build_dialect(dialect.name, "http://x", dialect.options).caller_format.frame_ms


def test_the_demo_holds_its_calls_together():
    estimate = estimate_plan(prepare(ROOT / "examples/demo.yaml", environ={}))
    assert estimate.calls == 200
    assert estimate.peak_calls == pytest.approx(200)
    assert all(25 <= call.duration_s <= 30 for call in estimate.call_types)
    assert fmean(call.turns for call in estimate.call_types) >= 2


def test_the_specification_in_numbers():
    estimate = estimate_plan(prepare(ROOT / "examples/specification.yaml", environ={}))
    assert [phase.calls for phase in estimate.phases] == [15_000, 60_000]
    assert estimate.peak_calls > 10_000
    assert [call.turns for call in estimate.call_types] == [10]
