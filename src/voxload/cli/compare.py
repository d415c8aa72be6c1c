"""`voxload compare`: runs and baselines side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click
import msgspec
from rich.console import Console

from voxload.cli.command import CheckedCommand
from voxload.cli.subjects import read_run
from voxload.errors import BadInputError, Problem
from voxload.measure.comparison import Comparison, SideFacts
from voxload.measure.histogram import Histogram
from voxload.model.fingerprint import differing
from voxload.model.metric import is_latency
from voxload.report.compare import print_comparison, render_comparison
from voxload.runners.results import write_atomically
from voxload.verdict.baseline import KIND, read_baseline, subject_of_baseline
from voxload.verdict.compare import compare
from voxload.verdict.subject import Subject, subject_of_run

LETTERS = "ABCDEF"

EPILOG = """\b
Examples:
  voxload compare results/20261123-101500-demo results/20261124-091200-demo
  voxload compare baselines/demo.json results/RUN --by call,phase --html compare.html
  voxload compare results/A results/B results/C --metric turn_latency --json

\b
A and the others are folders of runs, their summary.json, or baselines. A is the one that the others are compared with.
"""


@click.command("compare", cls=CheckedCommand, epilog=EPILOG)
@click.argument("sides", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--by", default="", help="Also by these labels: call,phase,persona,turn,…")
@click.option("--metric", "metrics", multiple=True, help="Only this metric; may be given several times.")
@click.option("--html", "page", type=click.Path(path_type=Path), help="Write a page with overlaid distributions.")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON, nothing else.")
def compare_command(
    sides: tuple[Path, ...], by: str, metrics: tuple[str, ...], page: Path | None, as_json: bool
) -> int:
    """Compare A with B (and C …): percentiles, their differences and intervals, and whole distributions."""
    if not 2 <= len(sides) <= len(LETTERS):
        message = f"give 2 to {len(LETTERS)} runs or baselines, not {len(sides)}"
        raise BadInputError([Problem(message, suggestion="voxload compare results/A results/B")])
    found: list[tuple[Subject, SideFacts, dict[str, str]]] = []
    problems: list[Problem] = []
    for letter, path in zip(LETTERS, sides, strict=False):
        try:
            found.append(_side(letter, path))
        except BadInputError as error:
            problems += error.problems
    if problems:
        raise BadInputError(problems)
    subjects = [replace(subject, name=side.letter) for subject, side, _ in found]
    facts = [side for _, side, _ in found]
    labels = [label.strip() for label in by.split(",") if label.strip()]
    comparison = compare(subjects, facts, labels, metrics, _notes(subjects, facts, [each for _, _, each in found]))
    if page is not None:
        write_atomically(page, render_comparison(comparison, _distributions(subjects, comparison)))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(comparison), indent=2).decode())
    else:
        console = Console()
        print_comparison(console, comparison)
        if page is not None:
            console.print(f"Page: {page}", highlight=False, markup=False)
    return 0


def _side(letter: str, path: Path) -> tuple[Subject, SideFacts, dict[str, str]]:
    """Return (what to compare, its facts, its fingerprint)."""
    if path.is_file() and KIND.encode() in path.read_bytes()[:200]:
        baseline = read_baseline(path)
        facts = SideFacts(
            letter,
            str(path),
            "baseline",
            baseline.scenario,
            baseline.created_at,
            sum(run.calls for run in baseline.runs),
            baseline.baseline_version,
        )
        return subject_of_baseline(baseline, path), facts, baseline.fingerprint
    summary, evidence = read_run(path)
    run = summary.run
    commit = run.environment.get("git_commit", "")
    facts = SideFacts(
        letter,
        run.run_id,
        "run",
        run.scenario,
        run.started_at,
        summary.totals.attempted,
        commit,
        run.target,
        summary.verdict.status,
    )
    return subject_of_run(summary, evidence), facts, summary.plan.fingerprint


def _notes(subjects: Sequence[Subject], facts: Sequence[SideFacts], prints: Sequence[dict[str, str]]) -> list[str]:
    notes = []
    for subject, side, fingerprint in zip(subjects, facts, prints, strict=True):
        parts = differing(prints[0], fingerprint)
        if parts:
            notes.append(f"{side.letter} is of another scenario than A: it differs in {', '.join(parts)}")
        notes += [f"{side.letter}: {doubt}" for doubt in (*subject.doubts, *subject.probe_doubts.values())]
        if subject.evidence is None and not subject.points:
            notes.append(f"{side.letter} has no calls.jsonl.zst beside it, so there are no intervals")
    return notes


def _distributions(subjects: Sequence[Subject], comparison: Comparison) -> dict[tuple[str, str], list[Histogram]]:
    """Return the histograms of all sides by (metric, label text) for each latency that is shown."""
    found = {}
    for row in comparison.rows:
        label = ", ".join(f"{name}: {value}" for name, value in row.labels.items())
        if is_latency(row.metric) and (row.metric, label) not in found:
            found[row.metric, label] = [subject.histogram(row.metric, row.labels) for subject in subjects]
    return found
