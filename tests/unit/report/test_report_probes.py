"""Probes in reports: a table in words, columns beside the run's own, lanes below a call."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO

import msgspec
import pytest
from rich.console import Console

from voxload.measure.histogram import Histogram
from voxload.measure.probe import ProbePoint, ProbeResult
from voxload.measure.series import ErrorSample, Quantiles, Series
from voxload.measure.summary import CallRecord, GateResult, Summary
from voxload.report.charts import chart_data, series_metrics
from voxload.report.github import render_markdown
from voxload.report.html import render_html
from voxload.report.lanes import call_cards
from voxload.report.probes import probe_rows
from voxload.report.terminal import print_summary

Change = Callable[..., Summary]
OUT_OF_MEMORY = ErrorSample("rejected", "OOM", 2)


def series(metric: str, *values_ms: float, **labels: str) -> Series:
    histogram = Histogram()
    for value in values_ms:
        histogram.record(round(value * 1e6))
    return Series(metric, labels, histogram.to_data())


def point(start_s: float, ms: float, failed: int = 0) -> ProbePoint:
    return ProbePoint(start_s, 1, failed, {"operation_latency": Quantiles(1, ms, ms, ms, ms)} if ms else {})


def probe(name: str = "cache", **more: object) -> ProbeResult:
    made = ProbeResult(
        name,
        "redis",
        "redis://cache:6379",
        1.0,
        ("operation_latency", "redis_command"),
        20.0,
        {"completed": 40},
        [series("operation_latency", *[5.0] * 40), series("loop_lateness", 1.0)],
        [point(0.0, 5.0), point(1.0, 50.0), point(3.0, 0.0, failed=2)],
    )
    return msgspec.structs.replace(made, **more)


@pytest.mark.parametrize(
    ("more", "word", "state"),
    [
        ({}, "up", ""),
        ({"outcomes": {"completed": 38, "rejected": 2}, "errors": [OUT_OF_MEMORY]}, "errors", "2 failed: OOM"),
        ({"outcomes": {"connect_failed": 3}}, "down", "3 failed"),
        ({"outcomes": {}, "problem": "refused"}, "not probed", "refused"),
        ({"problem": "its process ended with code -9"}, "not to be judged", "its process ended with code -9"),
        ({"series": [series("loop_lateness", 30.0)]}, "not to be judged", "could not keep time: lateness p99 30.0 ms"),
        ({"outcomes": {"cancelled": 2}}, "not probed", "nothing was asked"),
    ],
)  # fmt: skip
def test_the_state_of_a_service_in_words(change: Change, more: dict[str, object], word: str, state: str) -> None:
    (row,) = probe_rows(change(probes=[probe(**more)]))
    assert row.sign.word == word
    assert state in row.state
    assert bool(state) == bool(row.state)


def test_probes_stand_in_the_columns_of_the_run(change: Change) -> None:
    gate = 'p95(operation_latency{probe="cache"}) < 100ms'
    gates = [GateResult(gate, "pass", 5.0, 100.0, "ms", 40)]
    gates += [GateResult('max(operation_latency) < 1s [probe="cache"]', "pass", 5.0, 1000.0, "ms", 40)]
    changed = change(probes=[probe(), probe("other", timeline=[])], gates=gates)
    data = chart_data(changed)
    column = data["time"]["latencies"]["cache: operation_latency"]
    assert len(column["p95"]) == len(data["time"]["t"])
    assert column["p95"][:4] == [5, 50, None, None]
    assert data["sideBySide"] == ["turn_latency", "cache: operation_latency"]
    assert data["titles"]["cache: operation_latency"] == "cache: operation latency"
    assert [limit["ms"] for limit in data["limits"]["cache: operation_latency"]] == [100, 1000]
    assert "cache: operation_latency" in series_metrics(changed)
    assert chart_data(change())["sideBySide"] == []


def test_a_long_run_shows_the_worst_of_what_a_point_stands_for(change: Change, summary: Summary) -> None:
    points = [msgspec.structs.replace(summary.timeline[0], start_s=float(second)) for second in range(1200)]
    data = chart_data(change(timeline=points, probes=[probe()]))
    assert data["stretches"] == 2
    assert data["time"]["latencies"]["cache: operation_latency"]["p95"][:3] == [50, None, None]


def test_lanes_stand_below_a_call_at_their_time() -> None:
    call = CallRecord(0, "c", "order", "hold", 0.5, "completed", 4.0, 0.0)
    (card,) = call_cards([call], {}, [probe()], 1.0)
    ((name, looks),) = card.probes
    assert name == "cache"
    assert [(look.left, look.width) for look in looks] == [(0, 12.5), (12.5, 25), (62.5, 25)]
    assert [look.label for look in looks] == ["5.0 ms", "50.0 ms", "✗"]
    assert [look.tone for look in looks] == ["", "bad", "bad"]
    assert "over the run 5.0 ms" in looks[1].told
    assert "2 failed" in looks[2].told
    late = msgspec.structs.replace(call, due_s=100.0)
    assert call_cards([late], {}, [probe()], 1.0)[0].probes == ()


def test_every_report_tells_of_them(change: Change) -> None:
    cache = probe(timeline=[point(float(second), 5.0) for second in range(60)])
    changed = change(probes=[cache, probe("dead", outcomes={}, problem="refused", timeline=[], series=[])])
    page = render_html(changed)
    assert 'id="chart-probes"' in page
    assert page.count("probe-who") > 1
    markdown = render_markdown(changed)
    assert "| dead | ❌ not probed | refused |" in markdown
    output = StringIO()
    print_summary(Console(file=output, width=200), changed, {})
    assert "redis at redis://cache:6379" in output.getvalue()
    assert "✗ not probed" in output.getvalue()
    assert "  Probe dead: refused" in output.getvalue()
    assert 'id="chart-probes"' not in render_html(change())
