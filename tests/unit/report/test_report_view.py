"""What reports show of a summary."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from voxload.measure.histogram import RELATIVE_ERROR
from voxload.measure.summary import GateResult, Summary, Verdict
from voxload.report import charts, view
from voxload.report.github import render_markdown
from voxload.report.html import render_html

Change = Callable[..., Summary]


def figures(summary: Summary) -> dict[str, view.Figure]:
    return {figure.key: figure for figure in view.headline(summary)}


def test_headline_percentiles_are_those_of_the_values(run: Any, summary: Summary) -> None:
    values = sorted(value_ns for _, _, value_ns in run.values["turn_latency"])
    for key, share in (("turn_p50", 0.5), ("turn_p95", 0.95), ("turn_p99", 0.99)):
        exact_s = values[math.ceil(share * len(values)) - 1] / 1e9
        number, unit = figures(summary)[key].value.split()
        shown_s = float(number) / (1 if unit == "s" else 1000)
        assert abs(shown_s - exact_s) <= exact_s * RELATIVE_ERROR + 0.006
        assert figures(summary)[key].detail == f"{len(values)} turns"


def test_headline_counts(run: Any, summary: Summary) -> None:
    completed = sum(call.outcome == "completed" for call in run.calls)
    assert figures(summary)["calls"].value == "200"
    assert figures(summary)["call_success"].value == f"{completed / 2:.2f} %"
    assert figures(summary)["call_success"].detail == f"{completed} of 200 completed"


def test_labels_sum_up_to_the_whole(summary: Summary) -> None:
    rows = [row for row in view.latency_rows(summary) if row.metric == "turn_latency"]
    whole = next(row.observations for row in rows if not row.label)
    for key in ("call", "phase", "turn"):
        parts = [row.observations for row in rows if row.label.startswith(f"{key}: ")]
        assert len(parts) > 1
        assert sum(parts) == whole


def test_percentiles_without_enough_observations_are_marked(summary: Summary) -> None:
    for row in view.latency_rows(summary):
        shares = dict(zip(view.LATENCY_COLUMNS, zip(row.cells, row.weak, strict=True), strict=True))
        assert shares["p99.9"][1] == (row.observations < 1000)
        if shares["p99"][1]:
            assert shares["p99"][0] == shares["max"][0]


def test_gates_show_the_failed_first(summary: Summary) -> None:
    assert [row.sign.word for row in view.gate_rows(summary)] == ["fail", "unknown", "pass", "pass"]


@pytest.mark.parametrize(
    ("status", "gates", "said"),
    [
        ("failed", None, "1 of 4 gates failed"),
        ("unknown", None, "1 of 4 gates could not be judged"),
        ("unknown", [], "cannot be trusted"),
        ("passed", [], "no gate was set"),
        ("passed", [GateResult("calls > 1", "pass", 200, 1, "calls", 200)], "the gate passed"),
        ("aborted", None, "cut short"),
    ],
)
def test_verdict_in_plain_words(change: Change, status: Any, gates: list[GateResult] | None, said: str) -> None:
    parts: dict[str, Any] = {"verdict": Verdict(status, 0, [])}
    summary = change(**parts) if gates is None else change(**parts, gates=gates)
    assert said in view.verdict_sentence(summary)


def component_run(change: Change, summary: Summary) -> Summary:
    renamed = {"turn_latency": "recognize", "frame_lateness": "loop_lateness"}
    plan = {"component": "acs", "headline": ("recognize", "call_setup"), "lateness_limit_ms": 20.0, "frame_ms": 0}
    series = [msgspec.structs.replace(item, metric=renamed.get(item.metric, item.metric)) for item in summary.series]
    timeline = [
        msgspec.structs.replace(
            point, latencies={renamed.get(name, name): value for name, value in point.latencies.items()}
        )
        for point in summary.timeline
    ]
    facts = {"429 answers": "7"}
    return change(plan=plan, series=series, timeline=timeline, facts=facts, verdict=Verdict("failed", 1, []))


def test_a_component_test_speaks_of_its_service_and_its_own_latencies(change: Change, summary: Summary) -> None:
    changed = component_run(change, summary)
    assert view.verdict_sentence(changed).startswith("The service is not good enough")
    shown = figures(changed)
    assert shown["recognize_p95"].value == figures(summary)["turn_p95"].value
    assert "call_setup_p95" in shown and "call_setup_p50" not in shown
    assert shown["lateness_p99"].detail == "limit 20 ms, kept"
    assert charts.series_metrics(changed)[0] == charts.curve_metrics(changed)[0] == "recognize"
    assert charts.captions(changed)["latency"].startswith("Recognize p95 was worst")
    assert "timers ran" in charts.captions(changed)["lateness"]
    assert charts.chart_data(changed)["latenessLimit"] == 20.0
    for page in (render_html(changed), render_markdown(changed)):
        assert "429 answers" in page
        assert "agent is" not in page


def test_a_sound_open_run_has_no_notices(summary: Summary) -> None:
    assert view.notices(summary) == []


def test_everything_that_limits_the_numbers_is_noticed(change: Change, summary: Summary) -> None:
    outcomes = {**summary.totals.outcomes, "shed": 3, "internal_error": 1}
    late = msgspec.structs.replace(summary.shards[0], lateness_p99_ms=9.0, lost="killed by signal 9")
    changed = change(
        run={"cut_short": "Ctrl-C"},
        plan={"model": "closed"},
        totals={"outcomes": outcomes, "frames_dropped": 7},
        shards=[late],
        series=[series for series in summary.series if series.metric != "frame_lateness"],
    )
    told = {notice.title: notice.body for notice in view.notices(changed)}
    assert list(told) == [
        "The run was cut short",
        "A generator process was lost",
        "The generator did not keep time",
        "Calls were shed",
        "Internal errors",
        "Frames were dropped",
        "Closed load",
    ]
    assert "Ctrl-C" in told["The run was cut short"]
    assert "killed by signal 9" in told["A generator process was lost"]
    assert "9.0 ms" in told["The generator did not keep time"]
    assert "coordinated omission" in told["Closed load"]
    assert figures(changed)["lateness_p99"].tone == "unsure"


def test_an_empty_run_has_no_figures(empty_summary: Summary) -> None:
    shown = figures(empty_summary)
    assert shown.pop("calls").value == "0"
    assert {figure.value for figure in shown.values()} == {"—"}
    assert view.outcome_rows(empty_summary) == view.latency_rows(empty_summary) == []


def test_unknown_outcomes_and_metrics_are_shown_too(change: Change, summary: Summary) -> None:
    odd = msgspec.structs.replace(summary.series[0], metric="new_metric")
    changed = change(totals={"outcomes": {"new_outcome": 4, "completed": 196}}, series=[*summary.series, odd])
    assert [row.title for row in view.outcome_rows(changed)] == ["Completed", "New outcome"]
    assert view.latency_rows(changed)[-1].metric == "new_metric"


def test_chart_columns_hold_the_timeline(summary: Summary) -> None:
    time = charts.chart_data(summary)["time"]
    assert time["active"] == [point.active for point in summary.timeline]
    assert sum(time["started"]) == pytest.approx(200)
    ended = {name: sum(rates) for name, rates in time["outcomes"].items()}
    assert ended == pytest.approx(summary.totals.outcomes)
    assert time["latencies"]["turn_latency"]["n"] == [
        point.latencies["turn_latency"].count if "turn_latency" in point.latencies else 0 for point in summary.timeline
    ]


def test_long_runs_are_thinned_without_losing_peaks_or_counts(change: Change, summary: Summary) -> None:
    timeline = [
        msgspec.structs.replace(point, start_s=float(hour * 60 + second))
        for hour in range(60)
        for second, point in enumerate(summary.timeline)
    ]
    data = charts.chart_data(change(timeline=timeline))
    time = data["time"]
    assert data["stretches"] == math.ceil(len(timeline) / charts.POINTS_MAX) > 1
    assert len(time["t"]) <= charts.POINTS_MAX
    assert {len(time[name]) for name in ("active", "planned", "started", "cpu")} == {len(time["t"])}
    assert max(time["active"]) == max(point.active for point in timeline)
    worst = max(point.latencies["turn_latency"].p99_ms for point in timeline if "turn_latency" in point.latencies)
    assert max(filter(None, time["latencies"]["turn_latency"]["p99"])) == pytest.approx(worst, rel=1e-3)
    assert sum(time["latencies"]["turn_latency"]["n"]) == 60 * summary.histogram("turn_latency").count


def test_distribution_curves_rise_to_all_values(summary: Summary) -> None:
    for curves in charts.chart_data(summary)["curves"].values():
        for milliseconds, shares in curves.values():
            assert len(milliseconds) == len(shares) <= charts.CURVE_POINTS_MAX + 3
            assert milliseconds == sorted(milliseconds)
            assert shares == sorted(shares)
            assert (shares[0], shares[-1]) == (0, 100)
    curve = charts.chart_data(summary)["curves"]["turn_latency"]
    assert set(curve) == {"corrected", "uncorrected"}
    p95_ms = (summary.histogram("turn_latency").quantile(0.95) or 0) / 1e6
    share = max(y for x, y in zip(*curve["corrected"], strict=True) if x <= p95_ms * 1.004)
    assert share == pytest.approx(95, abs=1)


def test_gates_on_a_whole_metric_are_lines_in_its_charts(change: Change) -> None:
    gates = [
        GateResult("p95(turn_latency) < 1.5s", "fail", 2.0, 1.5, "s", 100),
        GateResult("p95(turn_latency{turn=greet}) < 1s", "pass", 0.5, 1, "s", 100),
        GateResult("call_success > 90%", "pass", 0.94, 0.9, "ratio", 100),
    ]
    limits = charts.chart_data(change(gates=gates))["limits"]
    assert limits == {"turn_latency": [{"ms": 1500, "label": "p95(turn_latency) < 1.5s", "status": "fail"}]}


@pytest.mark.parametrize(("component", "title"), [("", "Calls"), ("acs", "Calls"), ("redis", "Units of work")])
def test_a_component_test_speaks_of_no_script(change: Change, component: str, title: str) -> None:
    changed = change(plan={"component": component})
    assert figures(changed)["calls"].label == title
    completed = next(row for row in view.outcome_rows(changed) if row.title == "Completed")
    assert ("script" in completed.meaning) is (not component)
