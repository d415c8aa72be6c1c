"""Trends over runs: sparklines for terminals, and a page of drawings without scripts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from markupsafe import Markup

from voxload.report import text
from voxload.report.html import asset, environment

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 1060, 190, 76, 26, 14
SPARK_WIDTH_MAX = 40
_BARS = "▁▂▃▄▅▆▇█"
_TONES = {"passed": "good", "failed": "bad"}


class TrendPoint(msgspec.Struct, frozen=True):
    """A figure of one run."""

    run_id: str
    started_at: str
    commit: str
    verdict: str
    value: float


class TrendChange(msgspec.Struct, frozen=True):
    """A place where the figure moved: between run `at - 1` and run `at` of the series (`earliest` to `latest`)."""

    at: int
    earliest: int
    latest: int
    before: float
    after: float
    words: str


class Trend(msgspec.Struct, frozen=True):
    """A figure over the runs of one series, the oldest first."""

    title: str
    figure: str
    unit: str
    points: Sequence[TrendPoint]
    changes: Sequence[TrendChange]


class Dot(NamedTuple):
    """A run in a drawing, in pixels."""

    x: float
    y: float
    tone: str
    title: str


class Drawing(NamedTuple):
    """A trend ready for the template; all places in pixels."""

    trend: Trend
    latest: str
    line: str
    dots: list[Dot]
    bands: list[tuple[float, float, str]]
    """Where a change may lie: left, width, words."""
    steps: list[tuple[float, float, float]]
    """Medians of the parts: from, to, height."""
    ticks: list[tuple[float, str]]
    dates: list[tuple[float, str, str]]
    """Place, text, anchor."""


def sparkline(values: Sequence[float], width: int = SPARK_WIDTH_MAX) -> str:
    """Return values as a line of bars, scaled from their least to their greatest; of many only the last are shown."""
    shown = values[-width:]
    low, high = min(shown, default=0.0), max(shown, default=0.0)
    if high == low:
        return _BARS[3] * len(shown)
    return "".join(_BARS[min(int((value - low) / (high - low) * len(_BARS)), len(_BARS) - 1)] for value in shown)


def render_history(title: str, trends: Sequence[Trend], notes: Sequence[str]) -> str:
    """Return the page."""
    return (
        environment()
        .get_template("history.html.j2")
        .render(
            title=title,
            drawings=[_drawing(trend) for trend in trends],
            notes=notes,
            text=text,
            size=(WIDTH, HEIGHT, LEFT, BOTTOM, TOP),
            styles=Markup(asset("templates/report.css")),  # noqa: S704 - a file of this package
        )
    )


def _drawing(trend: Trend) -> Drawing:
    values = [point.value for point in trend.points]
    low, high = min(values), max(values)
    margin = (high - low) * 0.08 or abs(high) * 0.05 or 1.0
    low, high = max(low - margin, 0.0) if low >= 0 else low - margin, high + margin
    if trend.unit == "%" and low < 100:
        high = min(high, 100.0)
    count = len(values)

    def x_of(place: float) -> float:
        return round(LEFT + (place + 0.5) / count * (WIDTH - LEFT - 10), 1)

    def y_of(value: float) -> float:
        return round(TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)

    edges = [0, *(change.at for change in trend.changes), count]
    medians = [trend.changes[0].before, *(change.after for change in trend.changes)] if trend.changes else []
    return Drawing(
        trend,
        text.with_unit(values[-1], trend.unit),
        " ".join(f"{x_of(place)},{y_of(value)}" for place, value in enumerate(values)),
        [_dot(point, x_of(place), y_of(point.value), trend.unit) for place, point in enumerate(trend.points)],
        [
            (x_of(change.earliest - 1), max(x_of(change.latest) - x_of(change.earliest - 1), 2.0), change.words)
            for change in trend.changes
        ],
        [
            (x_of(start - 0.5), x_of(end - 0.5), y_of(median))
            for start, end, median in zip(edges[:-1], edges[1:], medians, strict=False)
        ],
        [(y_of(value), text.with_unit(value, trend.unit)) for value in _ticks(low, high)],
        _dates(trend.points, x_of(0), x_of(count - 1)),
    )


def _dot(point: TrendPoint, x: float, y: float, unit: str) -> Dot:
    commit = f", commit {text.clean(point.commit, 14)}" if point.commit else ""
    words = f"{text.with_unit(point.value, unit)}: {text.clean(point.run_id)}{commit} ({point.verdict})"
    return Dot(x, y, _TONES.get(point.verdict, "unsure"), words)


def _dates(points: Sequence[TrendPoint], first: float, last: float) -> list[tuple[float, str, str]]:
    start, end = points[0].started_at[:10], points[-1].started_at[:10]
    return [(first, start, "start")] if len(points) == 1 else [(first, start, "start"), (last, end, "end")]


def _ticks(low: float, high: float) -> list[float]:
    """Return a few round numbers between `low` and `high`."""
    raw = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw)
    first = math.ceil(low / step - 1e-9)
    return [round(step * number, 10) for number in range(first, int(high / step + 1e-9) + 1)]
