"""False alarms and power of the check, by simulation: correlated turns, all metrics at once."""

from dataclasses import replace

import numpy as np
import pytest
from simulated_calls import MEDIANS_MS, buckets_of, simulated_run

from voxload.measure.evidence import Evidence, Spans
from voxload.verdict.bootstrap import student_factor
from voxload.verdict.difference import differences
from voxload.verdict.regression import Context, Thresholds, check
from voxload.verdict.subject import Subject, figures_of

CONTEXT = Context("baseline.json", "v1", "2026-01-01")
REPLICATES = 250
PAIRS = 100
TURNS = ("turn_latency",)


def checked(before, after, **thresholds):
    return check(before, after, Thresholds(**thresholds), CONTEXT, REPLICATES)


def excluded(before, after):
    """The figures whose interval excludes no change."""
    figures = [figure for metric in before.metrics() for figure in figures_of(metric)]
    found = differences(before, after, figures, REPLICATES)
    return [str(item.figure) for item in found if item.interval and not item.interval.low <= 0 <= item.interval.high]


@pytest.fixture
def rng():
    return np.random.default_rng(20260101)


def test_equal_runs_are_not_told_apart(rng):
    alarms = outside = 0
    for _ in range(PAIRS):
        report = checked(simulated_run(rng), simulated_run(rng))
        alarms += report.status == "failed"
        outside += any(not change.low <= 0 <= change.high for change in report.changes)
    assert alarms <= 0.05 * PAIRS
    # without any threshold the intervals of all 12 figures hold together in 95 % of the checks, give or take 2.5 sigma
    assert outside <= 0.05 * PAIRS + 2.5 * (PAIRS * 0.05 * 0.95) ** 0.5


def test_turns_taken_for_independent_would_raise_false_alarms(rng):
    """The same data, every turn a call of its own: the intervals are too narrow by far."""
    pairs = [[simulated_run(rng, calls=150, turns=12, metrics=TURNS) for _ in range(2)] for _ in range(30)]
    outside = sum(bool(excluded(*map(as_single_turns, pair))) for pair in pairs)
    by_call = sum(bool(excluded(*pair)) for pair in pairs)
    assert outside > 0.25 * len(pairs)
    assert by_call <= 0.05 * len(pairs) + 2.5 * (len(pairs) * 0.05 * 0.95) ** 0.5


def as_single_turns(run):
    spans, count = run.evidence.spans["turn_latency"], len(run.evidence.spans["turn_latency"].call)
    nothing = np.zeros(count, int)
    turns = {"turn_latency": Spans(np.arange(count), spans.bucket, nothing)}
    alone = Evidence(count, ("run",), nothing, np.arange(count), ((),), nothing, ("",), turns, {})
    return Subject("run", "open", [each for each in run.series if each.metric == "turn_latency"], {}, alone)


def test_a_shift_of_15_percent_is_found_in_500_calls(rng):
    pairs = 40
    found = dict.fromkeys(MEDIANS_MS, 0)
    failed = 0
    for _ in range(pairs):
        report = checked(simulated_run(rng), simulated_run(rng, shift=1.15))
        failed += report.status == "failed"
        for metric in {item.metric.rpartition("_")[0] for item in report.regressions}:
            found[metric] += 1
    assert failed >= 0.9 * pairs
    for metric in ("turn_latency", "voice_response", "message_rtt"):
        assert found[metric] >= 0.9 * pairs, metric
    assert found["call_setup"] <= 0.05 * pairs


def test_improvements_and_more_errors_are_found(rng):
    report = checked(simulated_run(rng), simulated_run(rng, shift=0.8))
    assert report.status == "passed"
    assert "turn_latency_p50" in {item.metric for item in report.improvements}
    report = checked(simulated_run(rng), simulated_run(rng, success=0.93))
    (worse,) = [item for item in report.regressions if item.metric == "call_success"]
    assert worse.regression_percent == pytest.approx(6.5, abs=2.5)


def test_the_spread_from_run_to_run_widens_the_intervals(rng):
    """Runs differ by 8 % from day to day: a baseline that pools five of them knows that, one run does not."""

    def day():
        return simulated_run(rng, calls=1000, metrics=TURNS, run_factor=float(np.exp(rng.normal(0, 0.08))))

    def median(run):
        return {"p50(turn_latency)": run.histogram("turn_latency").quantile(0.5)}

    one = five = 0
    for _ in range(30):
        days = [day() for _ in range(5)]
        usual = simulated_run(rng, calls=1000, metrics=TURNS)
        pooled = Subject(
            "baseline", "open", usual.series, {}, usual.evidence, by_run=[median(run) for run in days], runs=5
        )
        after = day()
        one += "p50(turn_latency)" in excluded(usual, after)
        five += "p50(turn_latency)" in excluded(pooled, after)
    assert one > 10
    assert five <= 3


def closed_run(rng, factor):
    """60 s with 40 callers who call again and again: calls of 4 s or so, `factor` times as long."""
    calls = round(40 * 60 / (4.0 * factor))
    seconds = 4.0 * factor * np.exp(rng.normal(0, 0.25, calls))
    run = simulated_run(rng, calls=calls, metrics=("call_setup",), success=1.0, model="closed")
    durations = Spans(np.arange(calls), buckets_of(seconds * 1e9), np.zeros(calls, int))
    evidence = replace(run.evidence, spans={**run.evidence.spans, "call_duration": durations})
    noise = 1 + rng.normal(0, 0.25 / calls**0.5)
    return replace(run, evidence=evidence, levels={"throughput": calls * noise / 60, "concurrent_calls": 40.0})


def test_the_throughput_of_a_closed_load(rng):
    alarms = found = 0
    for _ in range(30):
        usual = closed_run(rng, 1.0)
        alarms += "throughput" in {item.metric for item in checked(usual, closed_run(rng, 1.0)).regressions}
        found += "throughput" in {item.metric for item in checked(usual, closed_run(rng, 1.15)).regressions}
    assert alarms <= 1
    assert found >= 27


def test_in_an_open_load_concurrency_is_nobody_s_fault(rng):
    busy = replace(simulated_run(rng), levels={"throughput": 10.0, "concurrent_calls": 100.0})
    quick = replace(simulated_run(rng), levels={"throughput": 10.0, "concurrent_calls": 60.0})
    assert not {"concurrent_calls", "throughput"} & {change.metric for change in checked(busy, quick).changes}


def test_too_few_calls_are_unknown(rng):
    report = checked(simulated_run(rng), simulated_run(rng, calls=20))
    assert report.status == "unknown"
    assert "only 20 calls" in report.reasons[0]
    report = checked(simulated_run(rng, calls=40), simulated_run(rng, calls=40), latency=0.01, errors=0.001)
    assert report.status == "unknown"
    assert "too few calls" in " ".join(report.reasons)


def test_nothing_without_data_passes(rng):
    before = simulated_run(rng)
    silent = Subject(
        "run", "open", [each for each in before.series if each.metric != "turn_latency"], {}, before.evidence
    )
    report = checked(before, silent)
    assert (report.status, report.regressions) == ("unknown", [])
    assert report.reasons == ["turn_latency: no data in run"]


def test_a_run_that_cannot_be_trusted_blames_nobody(rng):
    before, after = simulated_run(rng), simulated_run(rng, shift=2.0)
    doubted = Subject("run", "open", after.series, {}, after.evidence, doubts=("the generator fell behind",))
    report = checked(before, doubted)
    assert (report.status, report.regressions) == ("unknown", [])
    assert report.reasons == ["the generator fell behind"]


def test_a_small_change_in_ms_never_counts(rng):
    before = simulated_run(rng, calls=3000)
    after = simulated_run(rng, calls=3000, shift=1.07)
    assert "message_rtt_p50" in {item.metric for item in checked(before, after, latency=0.0).changes}
    worse = {item.metric for item in checked(before, after, latency=0.0).regressions}
    assert "turn_latency_p50" in worse
    assert "message_rtt_p50" not in worse  # 1.75 ms of 25 ms


def test_the_factor_of_student():
    for degrees, point in ((2, 4.3027), (4, 2.7764), (9, 2.2622), (100, 1.9840)):
        assert student_factor(degrees) * 1.959964 == pytest.approx(point, rel=0.035)
