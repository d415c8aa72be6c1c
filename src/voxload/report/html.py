"""The HTML report: one file that holds its data, charts and styles, and fetches nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from voxload.measure.summary import CallRecord, Summary, TurnRecord
from voxload.report import charts, text, view

WORST_CALLS_MAX = 25
ROWS_MAX = 50
"""Rows of a table of things that the target chose (error texts, message names)."""


class TurnMark(NamedTuple):
    """One turn of a call as drawn: positions and widths in percent of the longest call."""

    left: float
    width: float
    answered: bool


class CallRow(NamedTuple):
    """One of the worst calls, ready to show."""

    call_id: str
    call: str
    phase: str
    due: str
    outcome: str
    tone: str
    setup: str
    worst_turn: str
    error: str
    setup_width: float
    length: float
    marks: tuple[TurnMark, ...]
    told: str


def render_html(summary: Summary) -> str:
    """Return the report of a run as one self-contained HTML page (UTF-8)."""
    template = _environment().get_template("report.html.j2")
    scripts = {"uplot": _asset("vendor/uplot/uPlot.iife.min.js"), "app": _asset("templates/report.js")}
    return template.render(
        summary=summary,
        view=view,
        text=text,
        sign=view.VERDICT_SIGNS[summary.verdict.status],
        captions=charts.captions(summary),
        stretches=charts.stretches_a_point(summary),
        series_metrics=charts.series_metrics(summary),
        curve_metrics=charts.curve_metrics(summary),
        latency_groups=_latency_groups(summary),
        worst_calls=call_rows(summary.worst_calls[:WORST_CALLS_MAX]),
        rows_max=ROWS_MAX,
        data=Markup(script_json(charts.chart_data(summary))),  # noqa: S704 - script_json leaves nothing to escape
        scripts={name: Markup(source) for name, source in scripts.items()},  # noqa: S704 - files of this package
        styles=Markup(_asset("vendor/uplot/uPlot.min.css") + _asset("templates/report.css")),  # noqa: S704
        script_hashes=" ".join(f"'sha256-{_sha256(source)}'" for source in scripts.values()),
    )


def script_json(value: Any) -> str:
    """Return `value` as JSON that is safe inside a script element: no `<`, `>`, `&` and no line separators."""
    encoded = msgspec.json.encode(value).decode()
    for char in "<>&\u2028\u2029":
        encoded = encoded.replace(char, f"\\u{ord(char):04x}")
    return encoded


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("voxload.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )


def _finalize(value: Any) -> Any:
    return text.clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def _asset(name: str) -> str:
    # The hash in the page's security policy is of the text between the tags, so line ends must be plain.
    return resources.files("voxload.report").joinpath(name).read_text(encoding="utf-8").replace("\r\n", "\n")


def _sha256(source: str) -> str:
    return base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()


def _latency_groups(summary: Summary) -> list[list[view.LatencyRow]]:
    """Return the latency rows by metric: the row over all labels first, then those of single labels."""
    groups: list[list[view.LatencyRow]] = []
    for row in view.latency_rows(summary):
        if groups and groups[-1][0].metric == row.metric:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


def call_rows(calls: list[CallRecord]) -> list[CallRow]:
    """Return calls as rows whose drawings share one time scale."""
    longest_s = max((_length_s(call) for call in calls), default=0.0) or 1.0
    return [_call_row(call, lambda seconds: round(100 * min(seconds / longest_s, 1), 2)) for call in calls]


def _length_s(call: CallRecord) -> float:
    answers_s = [turn.speech_end_s + (turn.latency_ms or 0) / 1e3 for turn in call.turns]
    return max([(call.setup_ms or 0) / 1e3 + call.duration_s, *answers_s])


def _answer(turn: TurnRecord) -> str:
    return "no reply" if turn.latency_ms is None else text.milliseconds(turn.latency_ms)


def _call_row(call: CallRecord, scale: Callable[[float], float]) -> CallRow:
    answered_ms = [turn.latency_ms for turn in call.turns if turn.latency_ms is not None]
    length_s = _length_s(call)
    marks = tuple(
        TurnMark(
            scale(turn.speech_end_s),
            scale(turn.latency_ms / 1e3 if turn.latency_ms is not None else length_s - turn.speech_end_s),
            turn.latency_ms is not None,
        )
        for turn in call.turns
    )
    told = "; ".join(f"{text.clean(turn.turn, 40)} {_answer(turn)}" for turn in call.turns)
    return CallRow(
        call.call_id,
        call.call,
        call.phase,
        f"{call.due_s:.1f} s",
        text.title(call.outcome),
        view.outcome_tone(call.outcome),
        text.milliseconds(call.setup_ms),
        text.milliseconds(max(answered_ms)) if answered_ms else text.MISSING,
        text.clean(call.error, 200),
        scale((call.setup_ms or 0) / 1e3),
        scale(length_s),
        marks,
        told or "no turn",
    )
