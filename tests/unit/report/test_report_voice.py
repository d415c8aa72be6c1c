"""Voice metrics beside their targets: the values are those of the observations, the judgement is the table's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from voxload.measure.histogram import Histogram
from voxload.measure.series import Series
from voxload.measure.summary import Summary
from voxload.model.metric import METRICS, SCALE
from voxload.report import charts, text, voice
from voxload.report.targets import GROUPS, TARGETS, higher_is_better, tone_of

Change = Callable[..., Summary]


def series_of(metric: str, values: list[float], **labels: str) -> Series:
    histogram = Histogram()
    for value in values:
        histogram.record(round(value * SCALE))
    return Series(metric, labels, histogram.to_data())


def rows_of(summary: Summary, metric: str) -> list[voice.VoiceRow]:
    return [row for group in voice.voice_groups(summary) for row in group.rows if row.metric == metric]


def test_every_voice_metric_of_the_run_is_shown_once_in_its_group(run: Any, summary: Summary) -> None:
    groups = voice.voice_groups(summary)
    assert [group.key for group in groups] == ["waiting", "interrupting", "hearing", "whole"]
    shown = {row.metric for group in groups for row in group.rows}
    known = {metric for group in GROUPS for metric in group.metrics}
    assert shown == (set(run.values) & known) | {"cost_per_call"}
    assert len(known) == sum(len(group.metrics) for group in GROUPS)


def test_targets_name_metrics_of_the_catalogue_and_point_the_right_way() -> None:
    for metric, targets in TARGETS.items():
        assert metric in METRICS or metric == "cost_per_call", metric
        for target in targets:
            if target.target is not None and target.critical is not None:
                assert (target.critical < target.target) == higher_is_better(metric), metric


def test_a_ratio_is_a_share_with_its_counts(run: Any, summary: Summary) -> None:
    values = [value for _, _, value in run.values["yield_rate"]]
    (row,) = rows_of(summary, "yield_rate")
    yielded = sum(value == SCALE for value in values)
    assert row.value == text.percent(yielded / len(values))
    assert row.detail == f"{yielded} of {len(values)}"
    assert (row.target, row.critical) == ("≥ 90.00 %", "< 75.00 %")


def test_few_observations_are_counts_without_a_judgement(change: Change, summary: Summary) -> None:
    few = series_of("yield_rate", [1, 1, 0, 1])
    (row,) = rows_of(change(series=[few]), "yield_rate")
    assert row.value == "3 of 4"
    assert row.sign is not None
    assert (row.sign.word, row.sign.tone, row.bullet) == ("too few", "", None)


@pytest.mark.parametrize(
    ("metric", "values", "shown", "words"),
    [
        ("turn_latency", [1.0] * 90 + [4.0] * 10, ["1.00 s", "4.00 s"], ["on target", "off target"]),
        ("turn_latency", [2.0] * 90 + [6.0] * 10, ["2.00 s", "6.00 s"], ["off target", "critical"]),
        ("mos", [4.5] * 5 + [3.0] * 15, ["3.38 MOS"], ["critical"]),
        ("mos", [4.2] * 20, ["4.20 MOS"], ["on target"]),
        ("yield_rate", [1] * 8 + [0] * 2, ["80.00 %"], ["off target"]),
        ("missed_response", [0] * 20, ["0 %"], ["on target"]),
        ("underruns", [0] * 19 + [2], ["0.10 a call"], ["off target"]),
        ("talk_ratio", [0.25, 0.75] * 10, ["50.00 %"], [""]),
        ("stt", [0.2] * 20, ["200 ms"], [""]),
    ],
)
def test_values_are_judged_by_their_targets(
    change: Change, metric: str, values: list[float], shown: list[str], words: list[str]
) -> None:
    rows = rows_of(change(series=[series_of(metric, values)]), metric)
    assert [row.value for row in rows] == shown
    assert [row.sign.word if row.sign else "" for row in rows] == words
    for row in rows:
        if row.bullet is not None:
            assert 0 <= row.bullet.at <= 100
            assert sum(width for _, width, _ in row.bullet.zones) == pytest.approx(100, abs=0.1)
            assert row.sign is not None
            under = [
                tone for left, width, tone in row.bullet.zones if left - 0.01 <= row.bullet.at <= left + width + 0.01
            ]
            assert row.sign.tone in under


def test_the_scale_of_a_score_is_named(summary: Summary) -> None:
    (row,) = rows_of(summary, "mos")
    assert row.detail.startswith("scale: wideband; ")


def test_labels_are_shown_where_there_are_several(summary: Summary) -> None:
    hearing = next(group for group in voice.voice_groups(summary) if group.key == "hearing")
    assert hearing.labels == ("turn", "persona", "phase", "call")
    labels = {row.label for row in hearing.parts if row.metric == "intent_accuracy"}
    assert {"persona: calm", "turn: confirm", "phase: hold"} <= labels
    assert not any(row.label.startswith("scale") for row in hearing.parts)
    for metric in ("intent_accuracy", "missed_response"):
        whole = int(rows_of(summary, metric)[0].observations)
        parts = [row for row in hearing.parts if row.metric == metric and row.label.startswith("persona: ")]
        assert sum(int(row.observations) for row in parts) == whole


def test_ratios_of_no_group_are_shown_too(change: Change, summary: Summary) -> None:
    groups = voice.voice_groups(change(series=[*summary.series, series_of("http_success", [1] * 19 + [0])]))
    assert groups[-1].key == "other"
    assert groups[-1].rows[0].value == "95.00 %"


def test_a_value_at_its_target_is_good() -> None:
    for metric, targets in TARGETS.items():
        for target in targets:
            assert target.target is not None
            assert tone_of(metric, target.target, target) == "good"


def test_cost_adds_up(summary: Summary) -> None:
    rows = voice.cost_rows(summary)
    total = sum(summary.cost.values())
    assert rows[-1].item == "Total"
    assert rows[-1].amount == text.money(total) == "$8.21"
    assert rows[-1].per_call == text.money(total / summary.totals.outcomes["completed"])
    assert [row.width for row in rows][:1] == [100]
    assert voice.cost_rows(msgspec.structs.replace(summary, cost={})) == []


@pytest.mark.parametrize(
    ("amount", "shown"),
    [(0.1, "$0.100"), (0.0437, "$0.0437"), (0.00012345, "$0.000123"), (1234.5, "$1,234.50"), (0, "$0.00")],
)
def test_money(amount: float, shown: str) -> None:
    assert text.money(amount) == shown


def test_the_time_chart_offers_ratios_and_scores(change: Change, summary: Summary) -> None:
    data = charts.chart_data(summary)
    names = charts.series_metrics(summary)
    assert names[0] == "turn_latency"
    assert {"mos", "intent_accuracy", "yield_rate"} <= set(names)
    assert data["units"]["mos"] == "MOS"
    assert data["units"]["intent_accuracy"] == data["units"]["talk_ratio"] == "%"
    for name, column in data["time"]["means"].items():
        expected = [point.means.get(name) for point in summary.timeline]
        assert column == [value if value is None else pytest.approx(value, rel=1e-3) for value in expected]
    assert data["meanLimits"] == {"call_success": [{"value": 0.9, "label": "call_success > 90%", "status": "pass"}]}
