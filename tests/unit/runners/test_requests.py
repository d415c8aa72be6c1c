"""A run as requests: names, totals, errors, the verdict, and a reader who leaves."""

from __future__ import annotations

import json
import os

from voxload.measure.histogram import Histogram
from voxload.measure.series import Series
from voxload.measure.snapshot import Counters, Snapshot
from voxload.measure.summary import CallRecord, Verdict
from voxload.runners.requests import RequestLog, requests_of


def snapshot():
    histogram = Histogram()
    for latency_ms in (400, 400, 900):
        histogram.record(latency_ms * 1_000_000)
    data = histogram.to_data()
    series = [Series("turn_latency", {"turn": "hours", "call": "a"}, data), Series("mos", {}, data)]
    outcomes = [("completed", ""), ("dropped_by_target", "1006"), ("shed", "")]
    calls = [
        CallRecord(number, f"c{number}", "a", "hold", 0.0, outcome, 2.0, error=error)
        for number, (outcome, error) in enumerate(outcomes)
    ]
    return Snapshot(0, 0, 1, 0, 0.0, 0.0, series, Counters(), calls)


def test_latencies_by_turn_and_calls_by_kind():
    found = list(requests_of(snapshot()))
    turns = [item for item in found if item.type == "VOICE"]
    assert [(item.name, item.times) for item in turns] == [("turn_latency hours", 2), ("turn_latency hours", 1)]
    assert all(abs(item.latency_ms / expected - 1) < 0.008 for item, expected in zip(turns, (400, 900), strict=True))
    calls = [(item.name, item.error) for item in found if item.type == "CALL"]
    assert calls == [("a", ""), ("a", "dropped_by_target: 1006")]  # one that we did not place is none of the target's


def test_totals_come_under_one_name():
    found = list(requests_of(snapshot(), totals=True))
    assert sum(item.times for item in found if item.name == "turn_latency") == 3
    assert [bool(item.error) for item in found if item.name == "call"] == [False, True]


def test_lines_of_json_end_with_the_verdict(tmp_path):
    log = RequestLog(str(tmp_path / "requests.jsonl"), frozenset())
    log.take(snapshot())
    log.close(Verdict("unknown", 4, ["no data"]))
    lines = [json.loads(line) for line in (tmp_path / "requests.jsonl").read_text().splitlines()]
    assert set(lines[0]) == {"type", "name", "ms", "count", "error"}
    assert (lines[-1]["name"], lines[-1]["error"]) == ("voxload_verdict", "unknown: no data")


def test_a_reader_who_leaves_does_not_end_the_run():
    reading, writing = os.pipe()
    log = RequestLog(f"/dev/fd/{writing}", frozenset())
    os.close(writing)
    os.close(reading)
    log.take(snapshot())
    log.close(Verdict("passed", 0, []))
    assert not log.write_error
