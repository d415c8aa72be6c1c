"""The check against a baseline as every report shows it."""

from __future__ import annotations

from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from voxload.measure.comparison import BaselineReport, Change
from voxload.report import text
from voxload.report.view import Sign

SIGNS = {
    "regression": Sign("✗", "worse", "bad"),
    "improvement": Sign("✓", "better", "good"),
    "unchanged": Sign("=", "same", "info"),
    "unknown": Sign("?", "unknown", "unsure"),
}
_STYLES = {"good": "green", "bad": "red", "unsure": "yellow", "info": ""}
_ORDER = ("regression", "unknown", "improvement", "unchanged")


class ChangeRow(NamedTuple):
    """One figure beside its baseline, ready to show."""

    sign: Sign
    figure: str
    before: str
    now: str
    change: str
    interval: str
    threshold: str
    sample_size: str
    reason: str


def change_rows(report: BaselineReport | None) -> list[ChangeRow]:
    """Return the figures, regressions first, then unknown ones, improvements, and those without a change."""
    if report is None:
        return []
    return [_row(change) for change in sorted(report.changes, key=lambda change: _ORDER.index(change.status))]


def _row(change: Change) -> ChangeRow:
    unit = " %" if change.change_unit == "%" else " points"
    interval = "" if change.low is None or change.high is None else f"{change.low:+.1f} … {change.high:+.1f}"
    return ChangeRow(
        SIGNS[change.status],
        change.figure,
        text.with_unit(change.baseline, change.unit),
        text.with_unit(change.actual, change.unit),
        text.MISSING if change.change is None else f"{change.change:+.1f}{unit}",
        interval,
        f"{change.threshold:g}{unit}",
        text.number(change.sample_size),
        text.clean(change.reason),
    )


def sentence(report: BaselineReport) -> str:
    """Return the outcome of the check in one sentence."""
    worse, better = len(report.regressions), len(report.improvements)
    also = f", {text.counted(better, 'improvement')}" if better else ""
    if worse:
        return f"Worse than the baseline: {text.counted(worse, 'regression')}{also}."
    if report.status == "unknown":
        return f"No word on regressions: the check is unknown{also}."
    return f"No regression against the baseline{also}."


def print_changes(console: Console, report: BaselineReport) -> None:
    """Print the check: its outcome, the reasons, the table and what to mind."""
    tone = {"passed": "good", "failed": "bad", "unknown": "unsure"}[report.status]
    of = f"{text.clean(report.baseline)}, version {text.clean(report.baseline_version)}"
    console.print(Text(f"{sentence(report)} ({of})", f"bold {_STYLES[tone]}"), soft_wrap=True)
    for reason in report.reasons:
        console.print(Text(f"  {text.clean(reason)}"), soft_wrap=True)
    console.print(changes_table(report))
    for note in report.notes:
        console.print(Text(f"Note: {text.clean(note)}.", "dim"), soft_wrap=True)


def changes_table(report: BaselineReport) -> Table:
    """Return the figures as a table."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for name in ("Figure", "State", "Before", "Now", "Change", "Interval"):
        table.add_column(name, justify="left" if name in {"Figure", "State"} else "right", overflow="fold")
    for row in change_rows(report):
        sign = Text(f"{row.sign.icon} {row.sign.word}", _STYLES[row.sign.tone])
        table.add_row(Text(row.figure), sign, row.before, row.now, row.change.replace(" points", " pt"), row.interval)
    return table
