"""Trace context: valid, the same wherever a call is placed, and never shared by two runs."""

import re

import pytest

from voxload.dialects.base import Dial, HttpRequest
from voxload.engine.tracing import Tracing, span_id


def trace(index=0, run_id="run-1", seed=1, headers=None):
    return Tracing(run_id, seed, headers or {}).call(index, f"{run_id}-{index}")


def test_every_request_of_a_call_has_the_call_as_its_parent():
    call = trace()
    parents = [call.on(HttpRequest("GET", "http://x")).headers["traceparent"] for _ in range(50)]
    parents.append(call.on(Dial("ws://x", headers={"x": "y"})).headers["traceparent"])
    matches = [re.fullmatch(r"00-([0-9a-f]{32})-([0-9a-f]{16})-01", parent) for parent in parents]
    assert {match[1] for match in matches} == {call.trace_id}
    assert {match[2] for match in matches} == {span_id(call.trace_id)}
    assert len({span_id(call.trace_id, number) for number in range(20)}) == 20


def test_a_dials_own_headers_stay():
    assert trace().on(Dial("ws://x", headers={"x-kind": "media"})).headers["x-kind"] == "media"


def test_a_call_has_the_same_trace_in_every_process_and_another_in_every_run():
    assert trace(7).headers() == trace(7).headers()
    ids = [trace(index, run, seed).trace_id for index in range(100) for run in ("a", "b") for seed in (1, 2)]
    assert len(set(ids)) == len(ids)
    assert trace(11, seed=1).trace_id != trace(1, seed=11).trace_id


@pytest.mark.parametrize("name", ["baggage", "Baggage"])
def test_baggage_of_the_scenario_is_kept(name):
    headers = trace(3, headers={name: "tenant=blue"}).headers()
    assert headers[name] == "tenant=blue,voxload.call_id=run-1-3"
    assert len(headers) == 2
