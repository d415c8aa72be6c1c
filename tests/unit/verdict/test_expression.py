"""The language of gates: what parses, and what each mistake is told."""

import pytest

from voxload.verdict.expression import parse_gate


@pytest.mark.parametrize(
    ("text", "aggregate", "metric", "compare", "threshold"),
    [
        ("p95(turn_latency) < 800ms", "p95", "turn_latency", "<", 800e6),
        ("p99.9( turn_latency ) <= 1.5 s", "p99.9", "turn_latency", "<=", 1.5e9),
        ("max(call_setup)<5s", "max", "call_setup", "<", 5e9),
        ("mean(message_rtt) < 500us", "mean", "message_rtt", "<", 500e3),
        ("count(turn_latency) >= 100", "count", "turn_latency", ">=", 100),
        ("call_success >= 99.5%", "", "call_success", ">=", 0.995),
        ("call_success >= 0.995", "", "call_success", ">=", 0.995),
        ("concurrent_calls >= 1000", "", "concurrent_calls", ">=", 1000),
    ],
)
def test_good_gates(text, aggregate, metric, compare, threshold):
    gate = parse_gate(text)
    assert (gate.aggregate, gate.metric.name, gate.compare) == (aggregate, metric, compare)
    assert gate.threshold == pytest.approx(threshold)


def test_labels():
    gate = parse_gate('p95(turn_latency{turn="booking", phase="hold"}) < 1s')
    assert gate.labels == (("turn", "booking"), ("phase", "hold"))
    assert gate.fraction == 0.95


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("turn_latency < 800ms", r"distribution; write for example p95\(turn_latency\)"),
        ("p95(turn_latency) < 800", "needs a unit, such as 800ms"),
        ("p95(turn_latency) < 800 parsecs", "not a duration"),
        ("p95(turn_latncy) < 800ms", "did you mean turn_latency"),
        ("p95(turn_latency < 800ms", "is not a gate"),
        ("q95(turn_latency) < 800ms", "'q95' is unknown"),
        ("p100(turn_latency) < 800ms", "'p100' is unknown"),
        ("p95(call_success) > 99%", "is one number"),
        ("call_success >= 99.5", "write it in percent"),
        ("call_success >= 101%", "over 100"),
        ("call_success >= 99ms", "is a share"),
        ("concurrent_calls >= 10s", "does not fit"),
        ('concurrent_calls{turn="x"} >= 10', "has no labels"),
        ("count(turn_latency) >= 10ms", "a count has no unit"),
        ("p95(turn_latency{turn=x}) < 1s", "labels are written"),
        ("", "is not a gate"),
        ("p95(turn_latency) ~ 5ms", "is not a gate"),
    ],
)
def test_mistakes_are_explained(text, message):
    with pytest.raises(ValueError, match=message):
        parse_gate(text)
