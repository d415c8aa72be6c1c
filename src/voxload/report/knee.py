"""The page of a capacity search: throughput and latency against load, as a drawing without scripts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from voxload.report.html import environment

WIDTH, HEIGHT, MARGIN = 900, 320, 60


class KneePoint(NamedTuple):
    """One probe of the search."""

    load: float
    status: str
    """`passed`, `failed` or `unknown`."""
    throughput_per_s: float | None
    latency_p95_ms: float | None
    reasons: tuple[str, ...]


class Dot(NamedTuple):
    """A point of a plot, in pixels, with the words that a mouse over it shows."""

    x: float
    y: float
    status: str
    title: str


class Tick(NamedTuple):
    """A mark on an axis: where, in pixels, and what stands there."""

    at: float
    label: str


class Plot(NamedTuple):
    """A drawing ready for the template."""

    title: str
    dots: list[Dot]
    line: str
    """The means at each load, as SVG points."""
    x_ticks: list[Tick]
    y_ticks: list[Tick]


def render_knee(title: str, unit: str, answer: str, points: Sequence[KneePoint], latency: str) -> str:
    """Return the page as HTML that needs nothing from elsewhere; `latency` names the one that the points hold."""
    plots = [
        _plot("Completed calls a second", unit, [(point, point.throughput_per_s) for point in points]),
        _plot(f"p95 of {latency}, ms", unit, [(point, point.latency_p95_ms) for point in points]),
    ]
    template = environment().get_template("knee.html.j2")
    return template.render(
        title=title, unit=unit, answer=answer, points=points, plots=plots, width=WIDTH, height=HEIGHT, margin=MARGIN
    )


def _plot(title: str, unit: str, values: Sequence[tuple[KneePoint, float | None]]) -> Plot:
    known = [(point, value) for point, value in values if value is not None]
    x_max = max((point.load for point, _ in known), default=1.0)
    y_max = max((value for _, value in known), default=1.0) or 1.0

    def x_of(load: float) -> float:
        return round(MARGIN + load / x_max * (WIDTH - 2 * MARGIN), 1)

    def y_of(value: float) -> float:
        return round(HEIGHT - MARGIN - value / y_max * (HEIGHT - 2 * MARGIN), 1)

    dots = [
        Dot(x_of(point.load), y_of(value), point.status, f"{point.load:g} {unit}: {value:.4g} ({point.status})")
        for point, value in known
    ]
    means = []
    for load in sorted({point.load for point, _ in known}):
        same = [value for point, value in known if point.load == load and point.status != "unknown"]
        if not same:  # nothing that can be trusted
            continue
        means.append(f"{x_of(load)},{y_of(sum(same) / len(same))}")
    return Plot(
        title,
        dots,
        " ".join(means),
        [Tick(x_of(value), f"{value:g}") for value in _ticks(x_max)],
        [Tick(y_of(value), f"{value:g}") for value in _ticks(y_max)],
    )


def _ticks(top: float) -> list[float]:
    """Return about five round numbers from 0 to `top`."""
    raw = top / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw)
    return [round(step * number, 10) for number in range(int(top / step + 1e-9) + 1)]
