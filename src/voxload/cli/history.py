"""`voxload history`: the runs so far, how their figures went, and where one moved."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from voxload.cli.command import CheckedCommand, Command, with_options
from voxload.cli.trends import nothing, read_history, trends_of, trusted
from voxload.clock import utc_ago
from voxload.errors import BadInputError, Problem
from voxload.measure.summary import read_summary
from voxload.report import text
from voxload.report.history import render_history, sparkline
from voxload.runners.history import HISTORY_FILE, Choice, History, HistoryFigure
from voxload.runners.results import write_atomically
from voxload.verdict.changepoint import ALPHA, RUNS_MIN

_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*(h|d|w)")
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:T\d\d:\d\d(?::\d\d)?)?")
_SECONDS = {"h": 3600, "d": 86_400, "w": 7 * 86_400}
EPILOG = """\b
Examples:
  voxload history
  voxload history --scenario demo --branch main --since 30d
  voxload history trend --figure "p95(turn_latency)" --html trend.html
  voxload history changes --scenario demo
  voxload history import results/*
  voxload history prune --older-than 180d
"""


class _ListByDefault(click.Group):
    """A group whose `list` may be left out."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `list` in front where no command is named."""
        if not args or (args[0] not in self.commands and args[0] not in {"--help", "-h"} and args[0].startswith("-")):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group("history", cls=_ListByDefault, epilog=EPILOG)
def history_command() -> None:
    """List past runs, plot how their figures went, and find where one moved."""


def choice_options(command: Command) -> Command:
    """Add the file, and the options that choose runs."""
    return with_options(
        command,
        click.option("--json", "as_json", is_flag=True, help="Print as JSON, nothing else."),
        click.option("--since", default="", help="Runs of the last 30d, 12w or 6h, or from a date (2026-01-31)."),
        click.option("--branch", default="", help="Runs of this git branch."),
        click.option("--scenario", default="", help="Runs of this scenario."),
        click.option(
            "--file",
            type=click.Path(path_type=Path),
            default=Path("results") / HISTORY_FILE,
            show_default=True,
            help="The history.",
        ),
    )


@history_command.command("list", cls=CheckedCommand, epilog=EPILOG)
@choice_options
@click.option("--limit", type=click.IntRange(1), default=30, show_default=True, help="The latest so many runs.")
def list_command(file: Path, scenario: str, branch: str, since: str, as_json: bool, limit: int) -> int:
    """List the runs, the latest last."""
    runs, figures = read_history(file, Choice(scenario, branch, _instant(since, "--since")))
    runs = runs[-limit:]
    by_run: dict[str, dict[str, HistoryFigure]] = {}
    for item in figures:
        by_run.setdefault(item.run_id, {})[item.figure] = item
    if as_json:
        rows = [
            {**run._asdict(), "figures": {name: item.value for name, item in by_run.get(run.run_id, {}).items()}}
            for run in runs
        ]
        click.echo(msgspec.json.format(msgspec.json.encode(rows), indent=2).decode())
        return 0
    table = Table(box=None)
    for name in ("run", "scenario", "branch", "commit", "verdict", "calls", "success", "turn p95"):
        table.add_column(name, justify="right" if name in {"calls", "success", "turn p95"} else "left", overflow="fold")
    for run in runs:
        own = by_run.get(run.run_id, {})
        shown = [own.get(name) for name in ("call_success", "p95(turn_latency)")]
        cells = [text.MISSING if item is None else text.with_unit(item.value, item.unit) for item in shown]
        names = (run.run_id, run.scenario, run.git_branch, run.git_commit[:10], run.verdict)
        table.add_row(*(Text(text.clean(name)) for name in names), text.number(run.calls), *cells)
    Console().print(table)
    return 0


@history_command.command("trend", cls=CheckedCommand, epilog=EPILOG)
@choice_options
@click.option("--figure", "names", multiple=True, help='A figure or a metric: "p95(turn_latency)", call_setup.')
@click.option("--html", "page", type=click.Path(path_type=Path), help="Write a page of drawings.")
def trend_command(names: tuple[str, ...], page: Path | None, as_json: bool, **choice: Any) -> int:
    """Plot how figures went from run to run, by scenario."""
    trends = trends_of(_choose(choice), choice["file"], names)
    if page is not None:
        notes = ["places where a figure moved are looked for in runs that passed or failed, not in others"]
        write_atomically(page, render_history("History of runs", trends, notes))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(trends), indent=2).decode())
        return 0
    console = Console(highlight=False)
    title = ""
    width = max((len(trend.figure) for trend in trends), default=0)
    for trend in trends:
        if trend.title != title:
            title = trend.title
            console.print(Text(f"{text.clean(title)} ({text.counted(len(trend.points), 'run')})", "bold"))
        values = [point.value for point in trend.points]
        latest = text.with_unit(values[-1], trend.unit)
        span = f"{text.with_unit(min(values), trend.unit)} … {text.with_unit(max(values), trend.unit)}"
        console.print(Text(f"  {trend.figure:<{width}} {sparkline(values)}  {latest}  ({span})"), soft_wrap=True)
        for change in trend.changes:
            console.print(Text(f"    moved: {change.words}", "yellow"), soft_wrap=True)
    if page is not None:
        console.print(f"Page: {page}", markup=False)
    return 0


@history_command.command("changes", cls=CheckedCommand, epilog=EPILOG)
@choice_options
@click.option("--figure", "names", multiple=True, help='A figure or a metric: "p95(turn_latency)", call_setup.')
@click.option(
    "--least", type=click.FloatRange(0, 100), default=3.0, show_default=True, help="Smaller changes, %, are left out."
)
@click.option(
    "--alpha", type=click.FloatRange(0.0005, 0.2), default=ALPHA, show_default=True, help="Chance of a false alarm."
)
def changes_command(names: tuple[str, ...], least: float, alpha: float, as_json: bool, **choice: Any) -> int:
    """Find the runs, and so the commits, between which a figure moved."""
    trends = trends_of(_choose(choice), choice["file"], names, least / 100, alpha)
    moved = [trend for trend in trends if trend.changes]
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(moved), indent=2).decode())
        return 0
    console = Console(highlight=False)
    short = [trend for trend in trends if len(trusted(trend.points)) < RUNS_MIN]
    for trend in moved:
        for change in trend.changes:
            console.print(Text(f"{trend.figure}  {text.clean(trend.title)}: {change.words}"), soft_wrap=True)
    if not moved:
        console.print("No figure has moved.")
    if short:
        console.print(f"{text.counted(len(short), 'figure')} with fewer than {RUNS_MIN} runs: a change cannot be told.")
    return 0


@history_command.command("import", cls=CheckedCommand, epilog=EPILOG)
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--file",
    type=click.Path(path_type=Path),
    default=Path("results") / HISTORY_FILE,
    show_default=True,
    help="The history.",
)
def import_command(folders: tuple[Path, ...], file: Path) -> int:
    """Take in runs that are not in the history: their FOLDERS; what holds no summary.json is passed over."""
    history, added, known = History(file), 0, 0
    problems: list[Problem] = []
    found = [path for path in folders if path.suffix == ".json" or (path / "summary.json").is_file()]
    for path in found:
        try:
            summary = read_summary(path)
        except BadInputError as error:
            problems += error.problems
            continue
        new = history.add(summary, str(path if path.is_dir() else path.parent))
        added, known = added + new, known + (not new)
    passed_over = len(folders) - len(found)
    others = f", {text.counted(passed_over, 'folder')} without a summary passed over" if passed_over else ""
    click.echo(f"{file}: {text.counted(added, 'run')} added, {known} known already{others}")
    if not found:
        problems.append(Problem("no summary.json in any of them", str(folders[0]), 0, "give folders under results/"))
    if problems:
        raise BadInputError(problems)
    return 0


@history_command.command("prune", cls=CheckedCommand, epilog=EPILOG)
@click.option("--older-than", "age", required=True, help="180d, 26w, 12h, or a date.")
@click.option(
    "--file",
    type=click.Path(path_type=Path),
    default=Path("results") / HISTORY_FILE,
    show_default=True,
    help="The history.",
)
def prune_command(age: str, file: Path) -> int:
    """Forget old runs; their folders stay."""
    if not file.exists():
        raise BadInputError([nothing(file)])
    click.echo(f"{file}: {text.counted(History(file).prune(_instant(age, '--older-than')), 'run')} forgotten")
    return 0


def _choose(options: dict[str, Any]) -> Choice:
    return Choice(options["scenario"], options["branch"], _instant(options["since"], "--since"))


def _instant(value: str, option: str) -> str:
    """Return an age or a date as ISO 8601 in UTC; empty for an empty text."""
    if not value:
        return ""
    age = _AGE.fullmatch(value.strip().lower())
    if age:
        return utc_ago(float(age[1]) * _SECONDS[age[2]]).isoformat(timespec="seconds")
    if _DATE.fullmatch(value.strip()):
        return value.strip()
    raise BadInputError([Problem(f"{option}: {value!r}", suggestion="write 30d, 12w, 6h or 2026-01-31")])
