"""Judging: each verdict with its exit code, and no pass without data or trust."""

import msgspec
import pytest

from voxload.measure.histogram import Histogram
from voxload.measure.probe import ProbeResult
from voxload.measure.series import Series
from voxload.measure.summary import PlanFacts, RunFacts, ShardHealth, Summary, Totals, Verdict
from voxload.verdict.expression import parse_gate
from voxload.verdict.gate import evaluate, judge

MS = 1_000_000


def series(metric, values_ms, **labels):
    histogram = Histogram()
    for value in values_ms:
        histogram.record(round(value * MS))
    return Series(metric, labels, histogram.to_data())


def make_summary(*, latencies=(), lateness_ms=1.0, outcomes=None, cut_short="", lost="", cpu=50.0, levels=None):
    outcomes = {"completed": 100} if outcomes is None else outcomes
    attempted = sum(n for name, n in outcomes.items() if name not in {"shed", "cancelled", "internal_error"})
    successes = [outcomes.get("completed", 0) > number for number in range(attempted)]
    return Summary(
        version=1,
        run=RunFacts("r", "s", "", "2026-01-01T00:00:00Z", 10, "t", "rtmed", 1, "0", cut_short),
        plan=PlanFacts("open", [], 100, 10, {}, 20, 1),
        totals=Totals(attempted, outcomes, 0, 0, 0, 0, 0, {}, {}, {}),
        levels=levels or {},
        series=[
            *latencies,
            series("frame_lateness", [lateness_ms] * 1000),
            series("call_success", [1000 * success for success in successes], call="booking"),
        ],
        timeline=[],
        shards=[ShardHealth(0, 100, cpu, cpu, 50, lateness_ms, lateness_ms, lateness_ms, lost)],
        errors=[],
        worst_calls=[],
        gates=[],
        verdict=Verdict("unknown", 4, []),
    )


def verdict_of(summary, *gates):
    judged = judge(summary, [("", parse_gate(gate)) for gate in gates])
    return judged.verdict.status, judged.verdict.exit_code, judged.verdict.reasons


TURNS = series("turn_latency", range(1, 1001), turn="booking", phase="hold")


def test_passed():
    assert verdict_of(make_summary(latencies=[TURNS]), "p95(turn_latency) < 1s", "call_success >= 99.5%") == (
        "passed",
        0,
        [],
    )


def test_failed_says_what_was_measured():
    status, code, reasons = verdict_of(make_summary(latencies=[TURNS]), "p95(turn_latency) < 900ms")
    assert (status, code) == ("failed", 1)
    assert reasons == ["p95(turn_latency) < 900ms: measured 949 ms"] or "measured 95" in reasons[0]


def test_no_data_is_unknown_never_passed():
    status, code, reasons = verdict_of(make_summary(), "p95(turn_latency) < 900ms")
    assert (status, code) == ("unknown", 4)
    assert "no data" in reasons[0]


def test_a_target_that_nothing_measured_is_unknown():
    status, _, reasons = verdict_of(make_summary(), "max(target_cpu) < 70%")
    assert status == "unknown"
    assert "resources: in the file" in reasons[0]
    used = Series("target_cpu", {"resource": "agent"}, series("x", [69_000, 71_000]).histogram)  # 69 and 71 percent
    assert verdict_of(make_summary(latencies=[used]), "max(target_cpu) < 72%", "p50(target_cpu) < 70 percent") == (
        "passed",
        0,
        [],
    )
    assert verdict_of(make_summary(latencies=[used]), "max(target_cpu) < 70%")[0] == "failed"


def test_a_label_without_data_is_unknown():
    status, _, reasons = verdict_of(make_summary(latencies=[TURNS]), 'p95(turn_latency{turn="refund"}) < 2s')
    assert status == "unknown"
    assert "no data under these labels" in reasons[0]


def test_a_late_generator_is_unknown_even_where_gates_fail_or_pass():
    late = make_summary(latencies=[TURNS], lateness_ms=5.2)
    assert verdict_of(late, "p95(turn_latency) < 2s")[:2] == ("unknown", 4)
    assert verdict_of(late, "p95(turn_latency) < 2ms")[:2] == ("unknown", 4)
    assert "fell behind" in verdict_of(late)[2][0]


def test_lateness_just_under_the_limit_is_trusted():
    assert verdict_of(make_summary(lateness_ms=4.9))[:2] == ("passed", 0)


@pytest.mark.parametrize(
    "change",
    [{"lost": "ended with code -9"}, {"cpu": 99.5}, {"outcomes": {"completed": 90, "shed": 10}},
     {"outcomes": {"completed": 90, "internal_error": 1}}],
)  # fmt: skip
def test_what_cannot_be_trusted_is_unknown(change):
    assert verdict_of(make_summary(**change))[:2] == ("unknown", 4)


def test_cut_short_is_aborted():
    assert verdict_of(make_summary(cut_short="interrupted"), "call_success >= 1%")[:2] == ("aborted", 3)


def test_no_call_at_all_is_unknown():
    assert verdict_of(make_summary(outcomes={}))[:2] == ("unknown", 4)


def test_a_rate_of_few_calls_is_unknown():
    few = make_summary(outcomes={"completed": 9})
    assert verdict_of(few, "call_success >= 99%")[:2] == ("unknown", 4)
    assert verdict_of(make_summary(outcomes={"completed": 10}), "call_success >= 99%")[:2] == ("passed", 0)


def test_ratios_take_labels():
    summary = make_summary(outcomes={"completed": 90, "rejected": 10})
    assert evaluate(summary, parse_gate('call_success{call="booking"} >= 90%')).status == "pass"
    assert evaluate(summary, parse_gate('call_success{call="other"} >= 90%')).status == "unknown"
    assert evaluate(summary, parse_gate("count(call_success) >= 100")).actual == 100


def test_results_carry_units_and_sample_sizes():
    summary = make_summary(latencies=[TURNS], outcomes={"completed": 199, "rejected": 1})
    latency = evaluate(summary, parse_gate('p50(turn_latency{turn="booking"}) < 1s'))
    assert (latency.status, latency.unit, latency.threshold, latency.sample_size) == ("pass", "ms", 1000, 1000)
    assert latency.actual == pytest.approx(500, rel=0.003)
    success = evaluate(summary, parse_gate("call_success >= 99.5%"), "success")
    assert (success.status, success.actual, success.unit, success.name) == ("pass", 99.5, "%", "success")


def test_a_percentile_of_too_few_values_says_so():
    result = evaluate(make_summary(latencies=[series("turn_latency", [1, 2, 3])]), parse_gate("p99(turn_latency) < 1s"))
    assert "only 3 values" in result.reason


def test_the_summary_survives_json():
    from voxload.measure.summary import encode_summary

    judged = judge(make_summary(latencies=[TURNS]), [("", parse_gate("p95(turn_latency) < 1s"))])
    assert msgspec.json.decode(encode_summary(judged), type=Summary) == judged


@pytest.mark.parametrize(("lateness_ms", "expected"), [(19.0, "passed"), (21.0, "unknown")])
def test_a_late_event_loop_makes_a_component_test_unknown(lateness_ms, expected):
    summary = make_summary(lateness_ms=1.0)
    plan = msgspec.structs.replace(summary.plan, component="acs", lateness_limit_ms=20.0)
    values = [series("loop_lateness", [lateness_ms] * 1000), *summary.series[1:]]
    status, code, reasons = verdict_of(
        msgspec.structs.replace(summary, plan=plan, series=values), "call_success >= 99%"
    )
    assert status == expected
    assert code == (4 if expected == "unknown" else 0)
    assert all("event loop lateness p99 21" in reason for reason in reasons)


def probe(name="redis", values_ms=(5,) * 40, lateness_ms=1.0, problem="", **more):
    kept = [
        series("operation_latency", values_ms, component="redis"),
        series("redis_command", values_ms, command="hset"),
        series("redis_command", [1000] * 40, command="del"),
        series("operation_success", [1000] * 40),
        series("loop_lateness", [lateness_ms] * 100),
    ]
    outcomes = {"completed": len(values_ms)}
    return ProbeResult(name, "redis", "", 1.0, ("operation_latency",), 20.0, outcomes, kept, problem=problem, **more)


def of_probes(*gates, probes=(), **parts):
    whole = msgspec.structs.replace(make_summary(latencies=[TURNS], **parts), probes=list(probes))
    return [(gate.status, gate.reason) for gate in judge(whole, [("", gate) for gate in gates]).gates]


def test_a_gate_on_a_probe_is_about_that_probe_alone():
    gates = [
        parse_gate('p95(operation_latency{probe="redis"}) <= 50ms'),
        parse_gate('p95(redis_command{probe="redis",command="hset"}) < 10ms'),
        parse_gate('p95(redis_command{probe="redis"}) < 10ms'),
        parse_gate('operation_success{probe="redis"} >= 99%'),
        parse_gate('count(operation_latency{probe="slow"}) == 3'),
    ]
    found = of_probes(*gates, probes=[probe(), probe("slow", (900,) * 3)])
    assert [status for status, _ in found] == ["pass", "pass", "fail", "pass", "pass"]


def test_without_the_label_a_gate_is_about_the_calls():
    calls, missing = parse_gate("p95(turn_latency) < 1s"), parse_gate("p95(redis_command) < 1s")
    found = of_probes(calls, missing, probes=[probe()])
    assert found[0][0] == "pass"
    assert found[1] == ("unknown", 'no data; probes have it: redis_command{probe="redis"}')


def test_a_gate_holds_for_each_probe_or_each_label_of_one():
    each = parse_gate("p95(operation_latency) < 50ms")._replace(per="probe")
    probes = [probe(), probe("slow", (900,) * 40), probe("dead", (), problem="refused")]
    probes[2] = msgspec.structs.replace(probes[2], series=[])
    found = of_probes(each, probes=probes)
    assert found == [("unknown", "the probe dead: refused"), ("pass", ""), ("fail", "")]
    commands = parse_gate('max(redis_command{probe="redis"}) < 10ms')._replace(per="command")
    assert [status for status, _ in of_probes(commands, probes=probes)] == ["fail", "pass"]
    assert [status for status, _ in of_probes(each)] == ["unknown"]


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ({"problem": "its process ended with code 1"}, "the probe redis: its process ended"),
        ({"lateness_ms": 25.0}, "the probe redis could not keep time: lateness p99 25.0 ms is over 20 ms"),
        ({"name": "other"}, "no probe of this run is called 'redis'"),
    ],
)
def test_what_a_probe_cannot_vouch_for_is_unknown(made, words):
    gate = parse_gate('p95(operation_latency{probe="redis"}) <= 50ms')
    ((status, reason),) = of_probes(gate, probes=[probe(**made)])
    assert status == "unknown"
    assert words in reason


@pytest.mark.parametrize(
    ("gate", "completed", "failed"),
    [
        ("call_success >= 99.9%", 999, 1),
        ("call_success >= 99.8%", 998, 2),
        ("call_success == 99.9%", 999, 1),
        ("error_rate <= 5%", 95, 5),
        ("error_rate <= 1%", 99, 1),
        ("error_rate == 0.1%", 999, 1),
    ],
)
def test_a_share_that_is_just_the_threshold_is_no_matter_of_floats(gate, completed, failed):
    summary = make_summary(outcomes={"completed": completed, "dropped_by_target": failed})
    assert evaluate(summary, parse_gate(gate)).status == "pass"


def test_a_percentile_that_is_the_maximum_is_called_so():
    for count, noted in ((33, True), (34, False)):
        found = evaluate(
            make_summary(latencies=[series("turn_latency", range(1, count + 1))]),
            parse_gate("p97(turn_latency) < 1s"),
        )
        assert (found.actual == count) is noted
        assert bool(found.reason) is noted


def test_p99_9_of_a_thousand_values_is_not_their_maximum():
    values = series("turn_latency", [100] * 999 + [9000])
    assert evaluate(make_summary(latencies=[values]), parse_gate("p99.9(turn_latency) < 1s")).status == "pass"


def test_a_level_that_the_load_never_offered_is_unknown_and_one_that_calls_failed_at_is_failed():
    gate = "concurrent_calls >= 1000"
    idle = make_summary(outcomes={"completed": 100}, levels={"concurrent_calls": 60.0})
    status, code, reasons = verdict_of(idle, gate)
    assert (status, code) == ("unknown", 4)
    assert reasons == [f"{gate}: the load offered no more than 60 calls at once, held for 5 s"]
    peak = make_summary(outcomes={"completed": 100}, levels={"peak_calls": 99.0})
    assert verdict_of(peak, "peak_calls > 100")[2] == [
        "peak_calls > 100: the load offered no more than 99 calls at once"
    ]
    refused = make_summary(outcomes={"completed": 900, "rejected": 400}, levels={"concurrent_calls": 700.0})
    assert verdict_of(refused, gate)[:2] == ("failed", 1)
    assert verdict_of(idle, "concurrent_calls >= 60", "concurrent_calls < 61")[0] == "passed"
    assert verdict_of(idle, "concurrent_calls < 50")[:2] == ("failed", 1)
