"""The page of a capacity plan: the share of each limit that is used, against the calls, and the tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from voxload.report.html import environment

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 900, 420, 64, 210, 20, 50
SHARE_MIN, SHARE_MAX = 0.01, 10.0


class LimitLine(NamedTuple):
    """One limit: the share of it that one call uses, and where it breaks."""

    name: str
    share_per_call: float
    breaks_at_calls: float | None


class Line(NamedTuple):
    """A line ready for the template, in pixels."""

    name: str
    points: str
    label_y: float
    colour: int
    break_x: float | None
    break_words: str


class Tick(NamedTuple):
    """A mark on an axis: where, in pixels, and what stands there."""

    at: float
    label: str


def render_plan(title: str, answer: str, calls: float, lines: Sequence[LimitLine], tables: Sequence[Any]) -> str:
    """Return the page as HTML that needs nothing from elsewhere; `tables` are (title, columns, rows of texts)."""
    low, high = _span(calls, lines)

    def x_of(load: float) -> float:
        return round(LEFT + (math.log10(load) - low) / (high - low) * (WIDTH - LEFT - RIGHT), 1)

    def y_of(share: float) -> float:
        part = math.log10(share / SHARE_MIN) / math.log10(SHARE_MAX / SHARE_MIN)
        return round(HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM), 1)

    drawn = []
    for number, line in enumerate(line for line in lines if line.share_per_call > 0):
        start = max(10.0**low, SHARE_MIN / line.share_per_call)
        end = min(10.0**high, SHARE_MAX / line.share_per_call)
        if start >= end:
            continue
        points = " ".join(f"{x_of(load)},{y_of(load * line.share_per_call)}" for load in (start, end))
        at = line.breaks_at_calls
        inside = at is not None and 10.0**low <= at <= 10.0**high
        words = f"{line.name}: {at:,.0f} calls" if at is not None else ""
        drawn.append(Line(line.name, points, 0.0, number, x_of(at) if inside and at else None, words))
    labelled = [
        line._replace(label_y=TOP + 14 + 20 * number)
        for number, line in enumerate(sorted(drawn, key=lambda line: line.break_x or math.inf))
    ]
    x_ticks = [Tick(x_of(10.0**power), f"{10**power:,}") for power in range(math.ceil(low), math.floor(high) + 1)]
    y_ticks = [Tick(y_of(share), f"{share:.0%}") for share in (0.01, 0.1, 1.0, 10.0)]
    frame = {
        "width": WIDTH,
        "height": HEIGHT,
        "left": LEFT,
        "right": WIDTH - RIGHT,
        "top": TOP,
        "bottom": HEIGHT - BOTTOM,
    }
    return (
        environment()
        .get_template("plan.html.j2")
        .render(
            title=title,
            answer=answer,
            lines=labelled,
            x_ticks=x_ticks,
            y_ticks=y_ticks,
            full_y=y_of(1.0),
            calls_x=x_of(max(calls, 10.0**low)),
            calls=f"{calls:,.0f}",
            tables=tables,
            **frame,
        )
    )


def _span(calls: float, lines: Sequence[LimitLine]) -> tuple[float, float]:
    """Return the ends of the axis of calls as powers of ten, around the plan and every breaking point."""
    known = [line.breaks_at_calls for line in lines if line.breaks_at_calls] + [max(calls, 1.0)]
    low, high = math.floor(math.log10(min(known)) - 0.3), math.ceil(math.log10(max(known)) + 0.1)
    return max(low, 0), max(high, max(low, 0) + 1)
