"""A comparison as a table for terminals and as an HTML page with overlaid distributions."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from voxload.measure.comparison import ComparedFigure, Comparison, SideChange
from voxload.measure.histogram import Histogram
from voxload.report import text
from voxload.report.changes import SIGNS
from voxload.report.charts import curve
from voxload.report.html import asset, environment, script_json
from voxload.report.view import Sign

PLOT_WIDTH, PLOT_HEIGHT = 200, 16
PLOT_LEAST = 5.0
"""Percent (or points) that half of an interval plot spans at least."""
PLOT_MOST = 200.0
_SIGNS = {"worse": SIGNS["regression"], "better": SIGNS["improvement"], "same": SIGNS["unchanged"]}
_STYLES = {"bad": "red", "good": "green", "info": "", "unsure": "yellow"}


class Bar(NamedTuple):
    """An interval as a drawing, in pixels from the left of `PLOT_WIDTH`."""

    low: float
    high: float
    middle: float
    zero: float
    tone: str


class Cell(NamedTuple):
    """A side's figure and its difference from the first side's."""

    value: str
    change: str
    interval: str
    sign: Sign
    bar: Bar | None
    reason: str
    observations: str


class Line(NamedTuple):
    """One figure of all sides, ready to show."""

    title: str
    label: str
    first: str
    cells: list[Cell]


class Group(NamedTuple):
    """A metric, of the calls or of one probe: its figures over all labels, then those by label."""

    title: str
    meaning: str
    span: str
    """What half of the interval plot stands for."""
    whole: list[Line]
    parts: list[Line]


def sentence(comparison: Comparison) -> str:
    """Return in a sentence how many figures differ, over all labels."""
    whole = [row for row in comparison.rows if not row.labels]
    words = []
    for number, side in enumerate(comparison.sides[1:]):
        found = [row.changes[number].word for row in whole]
        judged = len(found) - found.count("unknown")
        words.append(
            f"{side.letter} differs from A in {found.count('worse') + found.count('better')} of {judged} figures: "
            f"{found.count('worse')} worse, {found.count('better')} better"
        )
    return "; ".join(words) + "."


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Print the sides, the sentence and the table."""
    for side in comparison.sides:
        commit = f"  commit {side.commit}" if side.commit else ""
        facts = f"{side.scenario or 'any scenario'}  {text.counted(side.calls, 'call')}{commit}"
        console.print(Text(f"{side.letter}  {text.clean(side.name)}  {text.clean(facts)}"), soft_wrap=True)
    console.print(Text(sentence(comparison), "bold"), soft_wrap=True)
    for number, side in enumerate(comparison.sides[1:]):
        table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
        table.add_column("Figure", overflow="fold")
        for name in ("A", side.letter, "Change", "Interval"):
            table.add_column(name, justify="right")
        for row in comparison.rows:
            cell = _cells(row, 1.0)[number]
            change = Text(cell.change, _STYLES[cell.sign.tone])
            before = text.with_unit(row.values[0], row.unit)
            table.add_row(Text(row.figure), before, cell.value, change, cell.interval)
        console.print(table)
    for note in comparison.notes:
        console.print(Text(f"Note: {text.clean(note)}.", "dim"), soft_wrap=True)


def render_comparison(comparison: Comparison, distributions: Mapping[tuple[str, str], Sequence[Histogram]]) -> str:
    """Return the comparison as one self-contained HTML page.

    `distributions` holds the histograms of all sides by (metric, label text); the label text is empty for the whole.
    """
    curves = {
        f"{metric}\n{label}": [curve(each) for each in histograms]
        for (metric, label), histograms in distributions.items()
        if any(each.count for each in histograms)
    }
    metrics = sorted(dict.fromkeys(key.split("\n")[0] for key in curves), key=lambda name: name != "turn_latency")
    labels = list(dict.fromkeys(key.split("\n", 1)[1] for key in curves))
    data = {
        "curves": curves,
        "letters": [side.letter for side in comparison.sides],
        "titles": {metric: text.title(metric) for metric in metrics},
    }
    scripts = {"uplot": asset("vendor/uplot/uPlot.iife.min.js"), "app": asset("templates/compare.js")}
    hashes = (base64.b64encode(hashlib.sha256(source.encode()).digest()).decode() for source in scripts.values())
    return (
        environment()
        .get_template("compare.html.j2")
        .render(
            comparison=comparison,
            sentence=sentence(comparison),
            groups=groups(comparison),
            metrics=metrics,
            labels=labels,
            text=text,
            plot=(PLOT_WIDTH, PLOT_HEIGHT),
            data=Markup(script_json(data)),  # noqa: S704 - script_json leaves nothing to escape
            scripts={name: Markup(source) for name, source in scripts.items()},  # noqa: S704 - files of this package
            styles=Markup(asset("vendor/uplot/uPlot.min.css") + asset("templates/report.css")),  # noqa: S704
            script_hashes=" ".join(f"'sha256-{each}'" for each in hashes),
        )
    )


def groups(comparison: Comparison) -> list[Group]:
    """Return the figures by metric, those of the calls first, then those of each probe."""
    result = []
    for probe, metric in dict.fromkeys((row.labels.get("probe", ""), row.metric) for row in comparison.rows):
        rows = [row for row in comparison.rows if (row.labels.get("probe", ""), row.metric) == (probe, metric)]
        reach = _reach([change for row in rows for change in row.changes])
        unit = "%" if rows[0].changes[0].unit == "%" else "points"
        whole = [_line(row, reach) for row in rows if probe or not row.labels]
        parts = [_line(row, reach) for row in rows if row.labels and not probe]
        title = f"{text.clean(probe, 60)}: {text.title(metric)}" if probe else text.title(metric)
        result.append(Group(title, text.meaning(metric), f"± {reach:.3g} {unit}", whole, parts))
    return result


def _reach(changes: Sequence[SideChange]) -> float:
    """Return how far the interval plots of a metric reach on each side."""
    ends = [abs(end) for change in changes for end in (change.low, change.high) if end is not None]
    return min(max([*ends, PLOT_LEAST]), PLOT_MOST)


def _line(row: ComparedFigure, reach: float) -> Line:
    label = ", ".join(f"{name}: {text.clean(value, 60)}" for name, value in row.labels.items())
    title = row.aggregate or ("share" if row.unit == "%" else "value")
    return Line(title, label, text.with_unit(row.values[0], row.unit), _cells(row, reach))


def _cells(row: ComparedFigure, reach: float) -> list[Cell]:
    cells = []
    for value, count, change in zip(row.values[1:], row.counts[1:], row.changes, strict=True):
        sign = _SIGNS.get(change.word, SIGNS["unknown"])
        unit = " %" if change.unit == "%" else " pt"
        shown = text.MISSING if change.change is None else f"{change.change:+.1f}{unit}"
        interval = "" if change.low is None or change.high is None else f"{change.low:+.1f} … {change.high:+.1f}"
        counts = f"{text.number(row.counts[0])} / {text.number(count)}"
        bar, reason = _bar(change, reach, sign.tone), text.clean(change.reason)
        cells.append(Cell(text.with_unit(value, row.unit), shown, interval, sign, bar, reason, counts))
    return cells


def _bar(change: SideChange, reach: float, tone: str) -> Bar | None:
    if change.change is None or change.low is None or change.high is None:
        return None

    def at(value: float) -> float:
        return round((min(max(value / reach, -1), 1) + 1) / 2 * PLOT_WIDTH, 1)

    return Bar(at(change.low), at(change.high), at(change.change), at(0.0), tone)
