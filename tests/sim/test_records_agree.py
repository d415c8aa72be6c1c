"""What stands in the records of calls is what the histograms of the run hold, value by value; on the virtual clock."""

import pytest
from test_virtual_run import play

from voxload.measure.evidence import evidence_of
from voxload.measure.histogram import RELATIVE_ERROR, Histogram, bucket_bounds
from voxload.model.metric import SCALE
from voxload.model.outcome import Outcome

TURN = [{"say": "opening_hours"}, "wait_for_agent"]
CALLS = 24  # all of which the collector keeps
SCRIPTS = {
    "polite": ["wait_for_agent", *TURN, *TURN],
    "hasty": [
        {"say": "opening_hours"},
        {"barge_in": {"utterance": "billing_question", "after": "400ms"}},
        "wait_for_agent",
    ],
    "murmurs": [
        {"say": "billing_question"},
        {"backchannel": {"utterance": "backchannel", "after": "300ms"}},
        "wait_for_agent",
    ],
    "deaf": [{"say": "opening_hours"}, {"listen": "5s"}, {"say": "billing_question"}, {"listen": "5s"}],
    "curt": [{"say": "opening_hours"}, {"listen": "1s"}],
}
APART = {"late_frames"}
"""Weighted by the length of the speech, not by frames."""


@pytest.fixture(scope="module")
def run():
    return play(
        30,
        load={"shape": "constant", "arrival_rate": 2, "duration": f"{CALLS // 2}s"},
        calls=[{"name": name, "script": script} for name, script in SCRIPTS.items()],
        timeouts={"agent_reply": "3s"},
        cost={"tts": "neural", "llm": "gpt-4o-mini"},
        twin={
            "latency": {"stt": "100ms", "llm": "300ms", "tts": "50ms"},
            "faults": {"drop_rate": 0.1, "silent_rate": 0.1, "word_error_rate": 0.2, "intent_error_rate": 0.2},
        },
    )


def test_every_value_of_a_record_is_one_of_its_histogram(run):
    calls = run.worst_calls()
    assert len(calls) == sum(run.outcomes.values()) == CALLS
    assert len({call.outcome for call in calls}) > 1
    evidence = evidence_of((("r", call) for call in calls), CALLS)
    for metric, spans in evidence.spans.items():
        found, whole = Histogram(), run.histogram(metric)
        for bucket in spans.bucket.tolist():
            found.record(sum(bucket_bounds(bucket)) // 2)
        assert found.count == whole.count, metric
        for fraction in (0.01, 0.25, 0.5, 0.75, 0.95, 1.0):
            # ms of a record and ns of a histogram may round to neighbouring buckets
            assert found.quantile(fraction) == pytest.approx(whole.quantile(fraction), rel=4 * RELATIVE_ERROR, abs=1000)


def test_every_share_of_the_records_is_that_of_its_histogram(run):
    evidence = evidence_of((("r", call) for call in run.worst_calls()), CALLS)
    for metric, shares in evidence.shares.items():
        whole = run.histogram(metric)
        if whole.count and metric not in APART:
            assert (shares.good.sum(), shares.count.sum()) == (whole.total / SCALE, whole.count), metric


def test_seconds_add_up_to_the_whole(run):
    points = list(run.timeline({}))
    assert sum(point.started for point in points) == run.started == CALLS
    assert sum(point.ended for point in points) == sum(run.outcomes.values())
    for outcome in Outcome:
        assert sum(point.outcomes.get(outcome, 0) for point in points) == run.outcomes[outcome]
    totals = run.totals()
    for name in ("frames_sent", "frames_received", "bytes_sent", "bytes_received"):
        assert sum(getattr(point, name) for point in points) == getattr(totals, name)
    for metric in ("turn_latency", "call_setup", "message_rtt"):
        counts = [point.latencies[metric].count for point in points if metric in point.latencies]
        assert sum(counts) == run.histogram(metric).count
    up_s = sum(call.duration_s for call in run.worst_calls())
    assert sum(run.levels()) == pytest.approx(up_s, abs=CALLS / 2), "a level a second, so half a second off a call"
