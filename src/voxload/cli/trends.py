"""Figures of past runs as series, with the places where they moved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from voxload.errors import BadInputError, Problem
from voxload.report import text
from voxload.report.history import Trend, TrendChange, TrendPoint
from voxload.runners.history import Choice, History, HistoryFigure, HistoryRun
from voxload.verdict.changepoint import ALPHA, change_points, relative

MAIN_FIGURES = (
    "call_success", "p95(call_setup)", "p50(turn_latency)", "p95(turn_latency)", "p95(voice_response)",
    "p95(message_rtt)", "mean(mos)", "concurrent_calls", "throughput", "cost_per_call",
)  # fmt: skip
"""Shown when no figure is named, and the next ones of each probe."""
PROBE_FIGURES = ("operation_success{", "p95(operation_latency{")


def read_history(file: Path, choice: Choice) -> tuple[list[HistoryRun], list[HistoryFigure]]:
    """Return the chosen runs and their figures.

    Raises:
        BadInputError: there is no history, or no run fits.
    """
    history = History(file)
    runs = history.runs(choice)
    if not runs:
        raise BadInputError([nothing(file, choice)])
    return runs, history.figures(choice)


def nothing(file: Path, choice: Choice = Choice()) -> Problem:  # noqa: B008  # an immutable tuple
    """Return what is wrong when there is no run to show."""
    asked = any(choice) and file.exists()
    message = "no run fits --scenario, --branch and --since" if asked else "the history is empty"
    return Problem(message, str(file), 0, "voxload run writes to it; voxload history import results/* takes in others")


def trends_of(
    choice: Choice, file: Path, names: Sequence[str], least: float = 0.03, alpha: float = ALPHA
) -> list[Trend]:
    """Return the figures over the runs of each series: runs of one scenario in one form."""
    runs, figures = read_history(file, choice)
    wanted = _wanted(names, {item.figure for item in figures})
    by_id = {run.run_id: run for run in runs}
    titles = _titles(runs)
    series: dict[tuple[str, str], list[HistoryFigure]] = {}
    for item in figures:
        if item.figure in wanted:
            run = by_id[item.run_id]
            series.setdefault((titles[run.scenario, run.fingerprint], item.figure), []).append(item)
    trends = []
    for title in dict.fromkeys(titles.values()):
        for name in wanted:
            items = series.get((title, name), [])
            if items:
                points = [_point(by_id[item.run_id], item.value) for item in items]
                changes = _changes(points, items[0].unit, least, alpha)
                trends.append(Trend(title, name, items[0].unit, points, changes))
    return trends


def _wanted(names: Sequence[str], present: set[str]) -> list[str]:
    """Return the figures that the names mean.

    Raises:
        BadInputError: a name means none.
    """
    if not names:
        probed = [figure for figure in sorted(present) if figure.startswith(PROBE_FIGURES)]
        return [*(name for name in MAIN_FIGURES if name in present), *probed]
    wanted: list[str] = []
    problems = []
    for name in names:
        plain = name.replace(" ", "")
        meant = [figure for figure in sorted(present) if _means(plain, figure.replace(" ", ""))]
        if not meant:
            problems.append(
                Problem(f"--figure: no run has {name!r}", suggestion=f"there are {', '.join(sorted(present))}")
            )
        wanted += meant
    if problems:
        raise BadInputError(problems)
    return wanted


def _means(name: str, figure: str) -> bool:
    """Return whether a name means a figure: that very one, or the metric that it is of, with or without labels."""
    metric = figure.partition("(")[2][:-1] or figure
    return name in {figure, metric, metric.partition("{")[0]}


def _titles(runs: Sequence[HistoryRun]) -> dict[tuple[str, str], str]:
    """Return what each series is called: its scenario, with a number where that has come in several forms."""
    forms: dict[str, list[str]] = {}
    for run in runs:
        of_scenario = forms.setdefault(run.scenario, [])
        if run.fingerprint not in of_scenario:
            of_scenario.append(run.fingerprint)
    return {
        (name, form): name if len(each) == 1 else f"{name} (form {number})"
        for name, each in forms.items()
        for number, form in enumerate(each, 1)
    }


def _point(run: HistoryRun, value: float) -> TrendPoint:
    return TrendPoint(run.run_id, run.started_at, run.git_commit, run.verdict, value)


def trusted(points: Sequence[TrendPoint]) -> list[int]:
    """Return the places of the runs whose numbers can be trusted."""
    return [place for place, point in enumerate(points) if point.verdict in {"passed", "failed"}]


def _changes(points: Sequence[TrendPoint], unit: str, least: float, alpha: float) -> list[TrendChange]:
    places = trusted(points)
    found = []
    for change in change_points([points[place].value for place in places], alpha, least):
        last, new = points[places[change.at - 1]], points[places[change.at]]
        earliest, latest = points[places[change.earliest - 1]], points[places[change.latest]]
        moved = relative(change.before, change.after)
        words = (
            f"{text.with_unit(change.before, unit)} → {text.with_unit(change.after, unit)} ({moved:+.1%}), "
            f"first seen in {text.clean(new.run_id)}: between {_place(last)} and {_place(new)} "
            f"(95 %: {_place(earliest)} … {_place(latest)}), p = {change.p_value:.2g}"
        )
        found.append(
            TrendChange(
                places[change.at], places[change.earliest], places[change.latest], change.before, change.after, words
            )
        )
    return found


def _place(point: TrendPoint) -> str:
    return f"commit {text.clean(point.commit, 14)}" if point.commit else text.clean(point.run_id)
