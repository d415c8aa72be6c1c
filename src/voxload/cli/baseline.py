"""`voxload baseline`: keep what runs measured, and tell whether a new run is worse."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from voxload.cli.command import CheckedCommand
from voxload.cli.subjects import read_run, read_thresholds, slug, threshold_options, thresholds_of
from voxload.clock import utc_now
from voxload.errors import BadInputError, ExitCode, Problem
from voxload.measure.comparison import BaselineReport
from voxload.measure.evidence import Evidence
from voxload.measure.summary import Summary
from voxload.report import text
from voxload.report.changes import print_changes
from voxload.runners.results import write_atomically
from voxload.verdict.baseline import (
    Baseline,
    encode_baseline,
    mismatch,
    other_scenario,
    pool,
    read_baseline,
    subject_of_baseline,
)
from voxload.verdict.difference import RUNS_MIN
from voxload.verdict.regression import Context, Thresholds, check
from voxload.verdict.rules import read_rules
from voxload.verdict.subject import subject_of_run

FOLDER = Path("baselines")
EXIT_CODES = {"passed": ExitCode.PASSED, "failed": ExitCode.GATE_FAILED, "unknown": ExitCode.UNKNOWN}

EPILOG = """\b
Examples:
  voxload baseline save results/20261123-101500-demo
  voxload baseline save results/*-demo-* --to baselines/demo.json --label v1.4
  voxload baseline check results/20261124-091200-demo --baseline baselines/demo.json
  voxload run scenario.yaml --baseline baselines/demo.json
  voxload baseline list
  voxload baseline show baselines/demo.json

\b
Exit codes of check: 0 no regression; 1 a regression; 2 bad input; 4 unknown (too few calls, or an untrusted run).
"""


@click.group("baseline", epilog=EPILOG)
def baseline_command() -> None:
    """Save what runs measured in a file to commit, and check new runs against it."""


@baseline_command.command("save", cls=CheckedCommand, epilog=EPILOG)
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--to", "file", type=click.Path(path_type=Path), help="File (default: baselines/SCENARIO.json).")
@click.option("--add", is_flag=True, help="Add the runs to those that the file holds.")
@click.option("--replace", is_flag=True, help="Write over the file.")
@click.option("--label", "version", default="", help="Version of the baseline (default: the latest run's git commit).")
@click.option("--description", default="", help="A sentence on what it stands for.")
@click.option("--json", "as_json", is_flag=True, help="Print the baseline as JSON, nothing else.")
def save_command(
    runs: tuple[Path, ...],
    file: Path | None,
    add: bool,
    replace: bool,
    version: str,
    description: str,
    as_json: bool,
) -> int:
    """Pool RUNS (folders under results/) into one baseline."""
    measured = [_with_calls(path) for path in runs]
    path = file or FOLDER / f"{slug(measured[0][0].run.scenario)}.json"
    previous = read_baseline(path) if add and path.exists() else None
    if path.exists() and not add and not replace:
        hint = "--add pools the runs with those that it holds, --replace writes over it"
        raise BadInputError([Problem("the baseline exists already", str(path), 0, hint)])
    latest = max((summary.run for summary, _ in measured), key=lambda run: run.started_at)
    baseline = pool(
        measured,
        previous,
        str(path),
        baseline_version=version or latest.environment.get("git_commit") or latest.started_at[:10],
        description=description or (previous.description if previous is not None else ""),
        created_at=utc_now().isoformat(timespec="seconds"),
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInputError([Problem(f"cannot be made: {error.strerror}", str(path.parent))]) from None
    content = encode_baseline(baseline)
    write_atomically(path, content)
    if as_json:
        click.echo(content.decode(), nl=False)
        return ExitCode.PASSED
    console = Console(highlight=False)
    calls = sum(run.calls for run in baseline.runs)
    size = text.size(len(content))
    console.print(f"{path}: {text.counted(len(baseline.runs), 'run')}, {text.counted(calls, 'call')}, {size}")
    if len(baseline.runs) < RUNS_MIN:
        console.print(f"Pool at least {RUNS_MIN} runs (--add), so that the spread from run to run is known too.")
    return ExitCode.PASSED


def _with_calls(path: Path) -> tuple[Summary, Evidence]:
    summary, evidence = read_run(path)
    if evidence is None:
        hint = "give the run's folder: a baseline keeps a sample of its calls"
        raise BadInputError([Problem("no calls.jsonl.zst beside the summary", str(path), 0, hint)])
    return summary, evidence


@baseline_command.command("check", cls=CheckedCommand, epilog=EPILOG)
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--baseline", "file", type=click.Path(path_type=Path), help="File (default: baselines/SCENARIO.json).")
@click.option("--gates", type=click.Path(path_type=Path), help="File whose regression_thresholds are taken.")
@threshold_options
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON, nothing else.")
def check_command(run: Path, file: Path | None, gates: Path | None, as_json: bool, **options: Any) -> int:
    """Tell what has become worse or better in RUN (a folder under results/)."""
    base = thresholds_of(read_rules(str(gates))[0].thresholds()) if gates is not None else None
    thresholds = read_thresholds(**options, base=base)
    summary, evidence = read_run(run)
    path = file or FOLDER / f"{slug(summary.run.scenario)}.json"
    report = check_run(summary, evidence, path, thresholds)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
    else:
        print_changes(Console(), report)
    return EXIT_CODES[report.status]


def fits(path: Path, scenario: str, fingerprint: Mapping[str, str]) -> None:
    """See that a baseline can be read and is one of this scenario, by name and fingerprint, before its calls.

    Raises:
        BadInputError: it cannot, or is not.
    """
    baseline = read_baseline(path)
    problems = mismatch(baseline.scenario, baseline.fingerprint, scenario, fingerprint, str(path))
    if problems:
        raise BadInputError(problems)


def check_run(summary: Summary, evidence: Evidence | None, path: Path, thresholds: Thresholds) -> BaselineReport:
    """Return the check of a run against a baseline file.

    Raises:
        BadInputError: the file is no baseline, or one of another scenario.
    """
    baseline = read_baseline(path)
    problems = other_scenario(baseline.scenario, baseline.fingerprint, summary, str(path))
    if problems:
        raise BadInputError(problems)
    context = Context(str(path), baseline.baseline_version, summary.run.started_at, tuple(_notes(baseline, summary)))
    return check(subject_of_baseline(baseline, path), subject_of_run(summary, evidence), thresholds, context)


def _notes(baseline: Baseline, summary: Summary) -> list[str]:
    """Return what a reader should mind about the two sides."""
    notes = []
    if summary.run.run_id in {run.run_id for run in baseline.runs}:
        notes.append("the run is part of the baseline, so it is compared with itself")
    if not baseline.runs:
        notes.append("the baseline's figures are stated, not measured: only the run's own chance is in the intervals")
    elif len(baseline.runs) < RUNS_MIN:
        notes.append(
            f"the baseline pools {text.counted(len(baseline.runs), 'run')}: the intervals do not hold the spread from "
            f"run to run ({RUNS_MIN} runs or more do)"
        )
    environment = summary.run.environment
    for name in ("host", "cpu", "cores"):
        others = {run.environment[name] for run in baseline.runs if name in run.environment}
        if environment.get(name) and others - {environment[name]}:
            notes.append(f"the baseline was measured on another machine ({name} {', '.join(sorted(others))})")
            break
    return notes


@baseline_command.command("list", cls=CheckedCommand, epilog=EPILOG)
@click.argument("folder", type=click.Path(path_type=Path), default=FOLDER)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON, nothing else.")
def list_command(folder: Path, as_json: bool) -> int:
    """List the baselines in FOLDER (default: baselines/)."""
    files = sorted(folder.glob("*.json")) if folder.is_dir() else []
    if not files:
        hint = "make one: voxload baseline save results/RUN"
        raise BadInputError([Problem("no baselines here", str(folder), 0, hint)])
    problems: list[Problem] = []
    rows: list[dict[str, Any]] = []
    for path in files:
        try:
            baseline = read_baseline(path)
        except BadInputError as error:
            problems += error.problems
            continue
        rows.append(
            {
                "file": str(path),
                "scenario": baseline.scenario,
                "baseline_version": baseline.baseline_version,
                "runs": len(baseline.runs),
                "calls": sum(run.calls for run in baseline.runs),
                "created_at": baseline.created_at,
            }
        )
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(rows), indent=2).decode())
    elif rows:
        table = Table(box=None)
        for name in rows[0]:
            table.add_column(name.replace("_", " "), justify="right" if name in {"runs", "calls"} else "left")
        for row in rows:
            table.add_row(*(f"{value:,}" if isinstance(value, int) else text.clean(value) for value in row.values()))
        Console().print(table)
    if problems:
        raise BadInputError(problems)
    return ExitCode.PASSED


@baseline_command.command("show", cls=CheckedCommand, epilog=EPILOG)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print without the packed data, as JSON.")
def show_command(file: Path, as_json: bool) -> int:
    """Print what a baseline holds."""
    baseline = read_baseline(file)
    if as_json:
        plain = msgspec.structs.replace(baseline, histograms="", calls="")
        click.echo(msgspec.json.format(msgspec.json.encode(plain), indent=2).decode())
        return ExitCode.PASSED
    console = Console(highlight=False)
    version, scenario = text.clean(baseline.baseline_version), text.clean(baseline.scenario or "any scenario")
    console.print(f"{scenario}, version {version}  {text.clean(baseline.description)}".rstrip(), markup=False)
    table = Table(box=None)
    for name in ("metric", "unit", "count", "p50", "p95", "p99", "value"):
        table.add_column(name, justify="left" if name in {"metric", "unit"} else "right")
    for metric, entry in baseline.metrics.items():
        value = entry.get("value", entry.get("mean"))
        cells = [entry.get("count"), *(entry.get(name) for name in ("p50", "p95", "p99")), value]
        shown = ["" if cell is None else text.number(float(cell)) for cell in cells]
        table.add_row(metric, str(entry.get("unit", "")), *shown)
    console.print(table)
    for run in baseline.runs:
        commit = f"  commit {run.git_commit}" if run.git_commit else ""
        console.print(f"{run.run_id}  {text.counted(run.calls, 'call')}{commit}", markup=False)
    return ExitCode.PASSED
