"""What follows a run: the check against a baseline, and a line in the history."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click
from rich.console import Console

from voxload.cli.baseline import check_run, fits
from voxload.cli.subjects import read_evidence, read_thresholds, threshold_options
from voxload.errors import BadInputError
from voxload.measure.summary import Summary
from voxload.model.scenario import Scenario
from voxload.runners.history import HISTORY_FILE, History
from voxload.verdict.regression import Thresholds, with_baseline

Command = TypeVar("Command", bound=Callable[..., Any])


class AfterRun(NamedTuple):
    """What the user wants done after the run."""

    baseline: Path | None
    thresholds: Thresholds
    history: bool


def after_options(command: Command) -> Command:
    """Add `--baseline`, the thresholds, and `--no-history`."""
    command = threshold_options(command)
    for option in (
        click.option("--no-history", "no_history", is_flag=True, help="Do not add the run to results/history.db."),
        click.option(
            "--baseline", "baseline_file", type=click.Path(path_type=Path), help="Check the run against a baseline."
        ),
    ):
        command = option(command)
    return command


def after_run(scenario: Scenario, options: dict[str, Any]) -> AfterRun:
    """Take our options out of the command's and check them, so that nothing is found wrong after the calls.

    Raises:
        BadInputError: a threshold is no percentage; the baseline is damaged, or one of another scenario.
    """
    file, no_history = options.pop("baseline_file"), options.pop("no_history")
    own = {name: options.pop(name) for name in ("latency", "throughput", "errors", "single")}
    thresholds = read_thresholds(**own)
    if file is not None:
        fits(file, scenario)
    return AfterRun(file, thresholds, not no_history)


def checked(summary: Summary, folder: Path, wanted: AfterRun) -> Summary:
    """Return the summary with the check against the baseline in it, where one was wanted."""
    if wanted.baseline is None:
        return summary
    evidence = read_evidence(summary.run.run_id, folder)
    return with_baseline(summary, check_run(summary, evidence, wanted.baseline, wanted.thresholds))


def remember(summary: Summary, folder: Path, wanted: AfterRun, console: Console) -> None:
    """Add the run to the history beside its folder; a history that cannot be written does not spoil the run."""
    if not wanted.history:
        return
    try:
        History(folder.parent / HISTORY_FILE).add(summary, str(folder))
    except BadInputError as error:
        for problem in error.problems:
            console.print(f"[yellow]warning:[/] {problem}", highlight=False)
