"""The page of services side by side: the latency of each against the calls, where each gives way, and the table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from voxload.report.html import environment
from voxload.report.knee import Tick

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 900, 380, 72, 190, 20, 50


class ServiceLine(NamedTuple):
    """One service: (calls, p95 in ms or None, status, words) of each step."""

    name: str
    points: Sequence[tuple[float, float | None, str, str]]


class Mark(NamedTuple):
    """A step of a service in the drawing, in pixels."""

    x: float
    y: float
    status: str
    title: str


class Drawn(NamedTuple):
    """A line ready for the template."""

    name: str
    colour: int
    points: str
    marks: list[Mark]
    label_y: float


def render_side_by_side(title: str, answer: str, lines: Sequence[ServiceLine], tables: Sequence[Any]) -> str:
    """Return the page as HTML that needs nothing from elsewhere; `tables` are (title, columns, rows of texts)."""
    known = [(calls, p95) for line in lines for calls, p95, _, _ in line.points if p95]
    most = max((calls for line in lines for calls, *_ in line.points), default=1.0)
    low = math.floor(math.log10(min((p95 for _, p95 in known), default=1.0)))
    high = max(math.ceil(math.log10(max((p95 for _, p95 in known), default=10.0))), low + 1)

    def x_of(calls: float) -> float:
        return round(LEFT + calls / most * (WIDTH - LEFT - RIGHT), 1)

    def y_of(value_ms: float) -> float:
        return round(HEIGHT - BOTTOM - (math.log10(value_ms) - low) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)

    drawn = []
    for number, line in enumerate(lines):
        marks = [
            Mark(x_of(calls), y_of(p95), status.replace(" ", "-"), words)
            for calls, p95, status, words in line.points
            if p95
        ]
        points = " ".join(f"{mark.x},{mark.y}" for mark in marks)
        drawn.append(Drawn(line.name, number, points, marks, TOP + 14 + 22 * number))
    steps = sorted({calls for line in lines for calls, *_ in line.points})
    return (
        environment()
        .get_template("side_by_side.html.j2")
        .render(
            title=title,
            answer=answer,
            lines=drawn,
            x_ticks=[Tick(x_of(calls), f"{calls:g}") for calls in steps],
            y_ticks=[Tick(y_of(10.0**power), _ms(10.0**power)) for power in range(low, high + 1)],
            tables=tables,
            width=WIDTH,
            height=HEIGHT,
            left=LEFT,
            right=WIDTH - RIGHT,
            bottom=HEIGHT - BOTTOM,
        )
    )


def _ms(value_ms: float) -> str:
    return f"{value_ms:g} ms" if value_ms < 1000 else f"{value_ms / 1000:g} s"
