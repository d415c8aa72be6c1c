"""What follows a run: the check against a baseline, a line in the history, a word to the CI system."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from voxload.cli.baseline import check_run, fits
from voxload.cli.command import Command, with_options
from voxload.cli.subjects import read_evidence, read_thresholds, threshold_options, thresholds_of
from voxload.errors import BadInputError
from voxload.measure.evidence import Evidence
from voxload.measure.summary import Summary
from voxload.model.gates import RegressionThresholds
from voxload.report.ci import STEP_SUMMARY_MAX, azure_lines, github_lines
from voxload.runners.history import HISTORY_FILE, History
from voxload.verdict.regression import Thresholds, with_baseline


def after_options(command: Command) -> Command:
    """Add `--baseline`, the thresholds, and `--no-history`."""
    command = threshold_options(command)
    return with_options(
        command,
        click.option("--no-history", "no_history", is_flag=True, help="Do not add the run to results/history.db."),
        click.option(
            "--baseline", "baseline_file", type=click.Path(path_type=Path), help="Check the run against a baseline."
        ),
    )


@dataclass(frozen=True, slots=True)
class AfterRun:
    """What the user wants done after the run."""

    baseline: Path | None
    thresholds: Thresholds
    history: bool

    @staticmethod
    def options(options: dict[str, Any]) -> dict[str, Any]:
        """Take our options out of the command's."""
        names = ("baseline_file", "no_history", "latency", "throughput", "errors", "single")
        return {name: options.pop(name) for name in names}

    @classmethod
    def of(cls, options: dict[str, Any], base: RegressionThresholds) -> AfterRun:
        """Read our options, over the thresholds of the rules.

        Raises:
            BadInputError: a threshold is no percentage.
        """
        own = {name: options[name] for name in ("latency", "throughput", "errors", "single")}
        thresholds = read_thresholds(**own, base=thresholds_of(base))
        return cls(options["baseline_file"], thresholds, not options["no_history"])

    def check(self, scenario: str, fingerprint: Mapping[str, str]) -> None:
        """See before the calls that the baseline can be read and is this scenario's.

        Raises:
            BadInputError: it cannot, or is not.
        """
        if self.baseline is not None:
            fits(self.baseline, scenario, fingerprint)

    def judged(self, summary: Summary, folder: Path) -> Summary:
        """Return the summary with the check against the baseline in it, where one was wanted."""
        if self.baseline is None:
            return summary
        evidence: Evidence | None = None
        with suppress(BadInputError):  # cut off by a full disk, of which the user is told: then the check is unknown
            evidence = read_evidence(summary.run.run_id, folder)
        return with_baseline(summary, check_run(summary, evidence, self.baseline, self.thresholds))

    def remember(self, summary: Summary, folder: Path, console: Console) -> None:
        """Add the run to the history beside its folder; one that cannot be written does not spoil the run."""
        if not self.history:
            return
        try:
            History(folder.parent / HISTORY_FILE).add(summary, str(folder))
        except BadInputError as error:
            for problem in error.problems:
                console.print(f"warning: {problem}", style="yellow", markup=False, highlight=False, soft_wrap=True)


def tell_ci(summary: Summary, paths: Mapping[str, Path], environ: Mapping[str, str], *, to_stderr: bool) -> None:
    """Tell GitHub Actions or Azure Pipelines, where the command runs there, of the result.

    Both read commands from the log. Where standard output holds JSON they go to standard error, which GitHub reads too.
    """
    lines = []
    if environ.get("GITHUB_ACTIONS") == "true":
        lines += github_lines(summary)
    if environ.get("TF_BUILD", "").lower() == "true":
        lines += azure_lines(summary, paths["junit.xml"], paths["summary.md"])
    for line in lines:
        click.echo(line, err=to_stderr)
    step_summary = environ.get("GITHUB_STEP_SUMMARY")
    if step_summary:
        with suppress(OSError):  # a page that cannot be written does not spoil the run
            _append(Path(step_summary), paths["summary.md"].read_bytes())


def _append(file: Path, content: bytes) -> None:
    written = file.stat().st_size if file.exists() else 0
    if written + len(content) <= STEP_SUMMARY_MAX:
        with file.open("ab") as opened:
            opened.write(content + b"\n")
