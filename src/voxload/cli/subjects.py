"""Runs and baselines as things to compare, read from what a user names; and the options for thresholds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from voxload.cli.command import Command, with_options
from voxload.errors import BadInputError, Problem
from voxload.measure.evidence import CallSampler, Evidence
from voxload.measure.summary import Summary, read_summary
from voxload.model.gates import RegressionThresholds
from voxload.model.metric import METRICS
from voxload.runners.results import CALLS_FILE, read_calls
from voxload.verdict.regression import Thresholds

_PERCENT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%?\s*")


def read_run(path: Path) -> tuple[Summary, Evidence | None]:
    """Return a run's summary and a sample of its calls; None for the latter where the calls are not beside it.

    Raises:
        BadInputError: there is no summary, or the file of calls is damaged.
    """
    summary = read_summary(path)
    folder = path if path.is_dir() else path.parent
    return summary, read_evidence(summary.run.run_id, folder)


def read_evidence(run_id: str, folder: Path) -> Evidence | None:
    """Return a sample of a run's calls, None where they are not in the folder.

    Raises:
        BadInputError: the file of calls is damaged.
    """
    if not (folder / CALLS_FILE).exists():
        return None
    sampler = CallSampler()
    try:
        for record in read_calls(folder):
            sampler.add(run_id, record)
    except (OSError, msgspec.MsgspecError) as error:
        raise BadInputError([Problem(f"damaged: {error}", str(folder / CALLS_FILE))]) from None
    return sampler.evidence(("call", "phase", "persona", "target"))


def slug(name: str) -> str:
    """Return a name that is a valid file name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "baseline"


def threshold_options(command: Command) -> Command:
    """Add the options that say how much worse is a regression."""
    return with_options(
        command,
        click.option(
            "--threshold", "single", multiple=True, help="For one metric: turn_latency=15%; may be given several times."
        ),
        click.option("--errors", "errors", help="Points by which a ratio may be worse (default: 2%)."),
        click.option("--throughput", "throughput", help="Throughput may be less by (default: 5%)."),
        click.option("--latency", "latency", help="Latencies may be more by (default: 10%)."),
    )


def thresholds_of(rules: RegressionThresholds) -> Thresholds:
    """Return the thresholds that a file of gates states, as shares."""
    return Thresholds(
        rules.response_time_degradation / 100, rules.throughput_degradation / 100, rules.error_rate_increase / 100
    )


def read_thresholds(
    latency: str | None,
    throughput: str | None,
    errors: str | None,
    single: Sequence[str],
    base: Thresholds | None = None,
) -> Thresholds:
    """Return the thresholds that the options give, over those of `base`.

    Raises:
        BadInputError: every option that is no percentage, or names no metric.
    """
    base = base or Thresholds()
    problems: list[Problem] = []

    def share(option: str, text: str | None, default: float) -> float:
        if text is None:
            return default
        match = _PERCENT.fullmatch(text)
        if not match:
            problems.append(Problem(f"{option}: {text!r} is no percentage", suggestion="write for example 10%"))
            return default
        return float(match[1]) / 100

    metrics = dict(base.metrics)
    for item in single:
        metric, equals, text = item.partition("=")
        if not equals or metric.strip() not in METRICS:
            problems.append(
                Problem(f"--threshold: {item!r}", suggestion="write METRIC=10%; docs/metrics.md lists them")
            )
        else:
            metrics[metric.strip()] = share("--threshold", text, 0.0)
    found = Thresholds(
        share("--latency", latency, base.latency),
        share("--throughput", throughput, base.throughput),
        share("--errors", errors, base.errors),
        metrics,
    )
    if problems:
        raise BadInputError(problems)
    return found
