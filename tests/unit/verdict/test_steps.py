"""Services at growing steps: what is giving way, what is only unknown, and who was first."""

import pytest

from voxload.measure.histogram import Histogram
from voxload.verdict.expression import parse_gate
from voxload.verdict.steps import (
    ServiceResult,
    StepResult,
    default_gates,
    first_to_break,
    generator_doubt,
    judge_step,
)

LATENCY = "operation_latency"


def histogram(values):
    found = Histogram()
    for value in values:
        found.record(round(value * 1e6))
    return found


def judged(*, latency_ms=(5,) * 50, success=(1,) * 50, throttled=(), gates=(), first_ms=5.0, slowdown=5.0, doubt=""):
    shares = {"operation_success": success, "throttled": throttled}
    kept = {name: histogram(1000 * value for value in values) for name, values in shares.items()} | {
        LATENCY: histogram(latency_ms)
    }
    wanted = [parse_gate(gate) for gate in gates]
    wanted += default_gates("operation_success", wanted)
    return judge_step(wanted, lambda name, _: kept.get(name, Histogram()), doubt, first_ms, slowdown, LATENCY)


def test_a_service_that_does_its_work_holds():
    assert judged() == ("holds", [])
    assert judged(throttled=(0,) * 50) == ("holds", [])


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ({"success": (1,) * 49 + (0,)}, "operation_success >= 99%: measured 98 %"),
        ({"throttled": (0,) * 40 + (1,) * 10}, "throttled < 1%: measured 20 %"),
        ({"latency_ms": (80,) * 50}, "p95(operation_latency): 80 ms, 16.0 times that of the first step"),
        ({"gates": ["p95(operation_latency) < 4ms"]}, "p95(operation_latency) < 4ms: measured 5 ms"),
    ],
)
def test_what_is_giving_way(what, words):
    status, reasons = judged(**what)
    assert status == "breaks"
    assert reasons == [words]


@pytest.mark.parametrize(
    "what",
    [
        {"latency_ms": (54,) * 50},  # ten times slower, by less than 50 ms
        {"latency_ms": (500,) * 9},  # a p95 of nine values
        {"latency_ms": (500,) * 50, "slowdown": 0.0},
        {"latency_ms": (500,) * 50, "first_ms": None},
        {"success": (1,) * 40 + (0,) * 10, "gates": ["operation_success >= 75%"]},
    ],
)
def test_what_is_not(what):
    assert judged(**what) == ("holds", [])


def test_what_is_not_known():
    assert judged(success=(1,) * 9)[0] == "unknown"
    assert judged(gates=["p95(redis_command) < 4ms"]) == ("unknown", ["p95(redis_command) < 4ms: no data"])
    assert judged(success=(0,) * 50, doubt="busy") == ("unknown", ["busy"])


def test_a_generator_that_cannot_keep_up_is_told():
    assert "lateness p99 30 ms is over 20 ms" in generator_doubt(histogram([30] * 10), 20.0, 50.0)
    assert "saturated" in generator_doubt(histogram([1] * 10), 20.0, 99.0)
    assert generator_doubt(histogram([1] * 10), 20.0, 50.0) == ""
    assert generator_doubt(Histogram(), 20.0, 0.0) == ""


def service(name, *statuses):
    steps = [StepResult(100.0 * (number + 1), 1.0, status) for number, status in enumerate(statuses)]
    return ServiceResult(name, "redis", "", LATENCY, 1.0, steps)


def test_the_first_is_the_one_at_the_fewest_calls():
    a, b = service("a", "holds", "holds", "breaks"), service("b", "holds", "breaks", "left alone")
    c, d = service("c", "holds", "holds", "holds"), service("d", "unknown", "breaks", "left alone")
    assert first_to_break([a, b, c]) == [b]
    assert first_to_break([a, b, c, d]) == [b, d]
    assert first_to_break([c]) == []
    assert [each.holds_calls for each in (a, b, c, d)] == [200, 100, 300, None]


def test_a_step_with_too_little_work_is_covered_by_a_later_one_that_holds():
    late, early = service("late", "holds", "unknown", "left alone"), service("early", "unknown", "holds", "holds")
    assert (early.holds_calls, early.unknown) == (300, None)
    assert late.holds_calls == 100
    assert late.unknown is not None and late.unknown.calls == 200
