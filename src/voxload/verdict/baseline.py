"""Baseline files: what one or several runs measured, small enough to be committed, enough to compare a run with."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from voxload.errors import BadInputError, Problem
from voxload.measure.evidence import Evidence
from voxload.measure.histogram import Histogram
from voxload.measure.packing import join_evidence, pack_evidence, pack_series, unpack_evidence, unpack_series
from voxload.measure.series import Series
from voxload.measure.summary import Summary
from voxload.model.fingerprint import differing
from voxload.model.metric import METRICS
from voxload.model.source import read_source
from voxload.verdict.bootstrap import Figure
from voxload.verdict.regression import display
from voxload.verdict.subject import LEVELS, NOT_COMPARED, Subject, figures_of, subject_of_run

BASELINE_VERSION = 1
KIND = "voxload-baseline"
LABELS = ("call", "phase")
"""Labels by which a baseline keeps its histograms and calls."""
_TIME_UNITS = {"s": 1e9, "ms": 1e6, "us": 1e3}
_SAME = 1e-6


class PooledRun(msgspec.Struct, frozen=True, omit_defaults=True):
    """A run that is part of a baseline."""

    run_id: str
    started_at: str
    calls: int
    duration_s: float
    voxload_version: str
    git_commit: str = ""
    environment: dict[str, str] = {}
    figures: dict[str, float] = {}
    """Its own figures, in ns, shares of 1 or plain numbers: how far runs are apart."""


class Baseline(msgspec.Struct, frozen=True):
    """The file. Without `runs` its `metrics` are points that somebody states, without an interval of their own."""

    kind: str
    version: int
    baseline_version: str
    scenario: str = ""
    description: str = ""
    created_at: str = ""
    model: Literal["open", "closed", ""] = ""
    fingerprint: dict[str, str] = {}
    runs: list[PooledRun] = []
    metrics: dict[str, dict[str, float | str]] = {}
    """By metric `unit` and `p50`, `p95`, `p99` or `value`; `count` where it was measured."""
    histograms: str = ""
    calls: str = ""


def pool(measured: Sequence[tuple[Summary, Evidence]], previous: Baseline | None, file: str, **named: str) -> Baseline:
    """Return a baseline of runs, and of those that `previous` holds; `named` are fields such as `baseline_version`.

    Raises:
        BadInputError: a run cannot be trusted, is in it already, or is one of another scenario.
    """
    summaries = [summary for summary, _ in measured]
    _check_runs(measured, previous, file)
    first = summaries[0]
    series = [unpack_series(previous.histograms)] if previous is not None else []
    evidence = [unpack_evidence(previous.calls)] if previous is not None else []
    merged = _merge([*series, *(summary.series for summary in summaries)])
    runs = [*(previous.runs if previous is not None else []), *map(_pooled, summaries)]
    whole = join_evidence([*evidence, *(each for _, each in measured)])
    levels = _levels(runs)
    subject = Subject("", first.plan.model, merged, levels)
    return Baseline(
        kind=KIND,
        version=BASELINE_VERSION,
        scenario=first.run.scenario,
        model=first.plan.model,
        fingerprint=first.plan.fingerprint,
        runs=runs,
        metrics=_shown(subject),
        histograms=pack_series(merged),
        calls=pack_evidence(whole),
        **named,
    )


def _check_runs(measured: Sequence[tuple[Summary, Evidence]], previous: Baseline | None, file: str) -> None:
    problems, first = [], measured[0][0]
    seen = {run.run_id for run in previous.runs} if previous is not None else set()
    scenario = previous.scenario if previous is not None else first.run.scenario
    fingerprint = previous.fingerprint if previous is not None else first.plan.fingerprint
    if previous is not None and not previous.runs:
        problems.append(
            Problem("its figures are stated, not measured: no run can be added", file, 0, "use another file")
        )
    for summary, evidence in measured:
        run = summary.run.run_id
        doubts = subject_of_run(summary, evidence).doubts
        problems += [Problem(f"{run} cannot be trusted, so it is no baseline: {doubt}") for doubt in doubts]
        if run in seen:
            problems.append(Problem(f"{run} is in the baseline already", file))
        seen.add(run)
        problems += other_scenario(scenario, fingerprint, summary, file)
    if problems:
        raise BadInputError(problems)


def other_scenario(scenario: str, fingerprint: Mapping[str, str], summary: Summary, file: str) -> list[Problem]:
    """Return what is wrong when a run is not one of the baseline's scenario; nothing when it is."""
    return mismatch(scenario, fingerprint, summary.run.scenario, summary.plan.fingerprint, file)


def mismatch(
    scenario: str, fingerprint: Mapping[str, str], other: str, of_other: Mapping[str, str], file: str
) -> list[Problem]:
    """Return what is wrong when a scenario, by name and fingerprint, is not the baseline's; nothing when it is."""
    if not fingerprint:
        return []
    parts = differing(fingerprint, of_other)
    if not of_other and other != scenario:
        parts = ["name"]
    if not parts:
        return []
    whose = f"scenario {scenario!r}" if other != scenario else f"another form of scenario {scenario!r}"
    message = f"a baseline of {whose}: {other!r} differs in {', '.join(parts)}"
    return [Problem(message, file, 0, "compare like with like, or save a new baseline")]


def _pooled(summary: Summary) -> PooledRun:
    run, subject = summary.run, subject_of_run(summary, None)
    figures = [figure for metric in subject.metrics() for figure in figures_of(metric)]
    values = {str(figure): value for figure, (value, _) in subject.values(figures).items() if value is not None}
    return PooledRun(
        run_id=run.run_id,
        started_at=run.started_at,
        calls=summary.totals.attempted,
        duration_s=run.duration_s,
        voxload_version=run.voxload_version,
        git_commit=run.environment.get("git_commit", ""),
        environment=run.environment,
        figures=values,
    )


def _levels(runs: Sequence[PooledRun]) -> dict[str, float]:
    """Return the levels of several runs: their means."""
    found = {name: [run.figures[name] for run in runs if name in run.figures] for name in LEVELS}
    return {name: math.fsum(values) / len(values) for name, values in found.items() if values}


def _merge(parts: Sequence[Sequence[Series]]) -> list[Series]:
    """Return the histograms of all parts by metric and the labels that a baseline keeps."""
    found: dict[tuple[str, tuple[tuple[str, str], ...]], Histogram] = {}
    for series in (each for part in parts for each in part):
        if series.metric not in NOT_COMPARED:
            kept = tuple((name, series.labels[name]) for name in LABELS if name in series.labels)
            found.setdefault((series.metric, kept), Histogram()).merge(Histogram.from_data(series.histogram))
    return [Series(metric, dict(labels), histogram.to_data()) for (metric, labels), histogram in sorted(found.items())]


def _shown(subject: Subject) -> dict[str, dict[str, float | str]]:
    """Return the figures as people read them."""
    shown: dict[str, dict[str, float | str]] = {}
    for metric in subject.metrics():
        factor, unit = display(metric)
        entry: dict[str, float | str] = {"unit": unit}
        for figure, (value, count) in subject.values(figures_of(metric)).items():
            if value is not None:
                entry[_key(figure)] = float(f"{value * factor:.6g}")
                entry["count"] = count
        shown[metric] = entry
    return shown


def _key(figure: Figure) -> str:
    return figure.aggregate or "value"


def encode_baseline(baseline: Baseline) -> bytes:
    """Return the file."""
    return msgspec.json.format(msgspec.json.encode(baseline), indent=2) + b"\n"


def read_baseline(path: Path) -> Baseline:
    """Read a baseline.

    Raises:
        BadInputError: every problem of the file: it is missing, damaged, of another version, or edited by hand.
    """
    file = str(path)
    try:
        raw: Any = msgspec.json.decode(path.read_bytes())
    except FileNotFoundError:
        hint = f"make one: voxload baseline save results/RUN --to {file}"
        raise BadInputError([Problem("no such baseline", file, 0, hint)]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError([Problem(f"cannot be read: {error}", file)]) from None
    except msgspec.DecodeError as error:
        raise BadInputError([Problem(f"not a baseline: {error}", file)]) from None
    if not isinstance(raw, dict) or raw.get("kind") != KIND:
        raise BadInputError([Problem(f'not a baseline: it does not begin with "kind": "{KIND}"', file)])
    if raw.get("version") != BASELINE_VERSION:
        hint = f"this voxload reads version {BASELINE_VERSION}"
        raise BadInputError([Problem(f"baseline of version {raw.get('version')!r}", file, 0, hint)])
    try:
        baseline = msgspec.convert(raw, Baseline)
    except msgspec.ValidationError as error:
        raise BadInputError([Problem(f"not a baseline: {error}", file)]) from None
    subject_of_baseline(baseline, path)
    return baseline


def subject_of_baseline(baseline: Baseline, path: Path) -> Subject:
    """Return a baseline as something to compare with.

    Raises:
        BadInputError: its data are damaged or its figures make no sense.
    """
    if not baseline.runs:
        return Subject("the baseline", baseline.model, points=_points(baseline, path))
    try:
        series, evidence = unpack_series(baseline.histograms), unpack_evidence(baseline.calls)
    except ValueError as error:
        raise BadInputError([Problem(f"damaged: {error}", str(path), 0, "save it again from its runs")]) from None
    subject = Subject(
        "the baseline",
        baseline.model,
        series,
        _levels(baseline.runs),
        evidence,
        by_run=[run.figures for run in baseline.runs],
        runs=len(baseline.runs),
    )
    _check_figures(baseline, _shown(subject), path)
    return subject


def _check_figures(baseline: Baseline, measured: Mapping[str, Mapping[str, float | str]], path: Path) -> None:
    """Refuse a file whose figures, which people read, are not those of its histograms, which are compared."""
    for metric, entry in measured.items():
        written = baseline.metrics.get(metric, {})
        for key, value in entry.items():
            shown = written.get(key)
            same = shown == value or (
                isinstance(shown, int | float)
                and isinstance(value, float)
                and math.isclose(shown, value, rel_tol=_SAME)
            )
            if not same:
                hint = "it was edited by hand; save it again from its runs"
                message = f"{metric}: {key} is {shown!r}, but its histograms say {value!r}"
                raise BadInputError([Problem(message, str(path), 0, hint)])


def _points(baseline: Baseline, path: Path) -> dict[Figure, float]:
    """Return the stated figures in ns, shares of 1, or plain numbers."""
    points: dict[Figure, float] = {}
    problems: list[tuple[tuple[str, ...], str, str]] = []
    for metric, entry in baseline.metrics.items():
        if metric not in METRICS or metric in NOT_COMPARED:
            close = difflib.get_close_matches(metric, METRICS, 1)
            hint = f"did you mean {close[0]}?" if close else "docs/metrics.md lists them"
            problems.append((("metrics", metric), f"no metric to compare is called {metric!r}", hint))
            continue
        factor = _factor(metric, entry.get("unit"))
        if factor is None:
            units = ", ".join(_TIME_UNITS) if METRICS[metric].kind == "latency" else display(metric)[1] or "none"
            problems.append((("metrics", metric), f"{metric}: unit {entry.get('unit')!r}", f"write {units}"))
            continue
        allowed = {_key(figure): figure for figure in figures_of(metric)}
        for key, value in entry.items():
            if key in {"unit", "count"}:
                continue
            if key not in allowed or not isinstance(value, int | float) or not 0 <= value < math.inf:
                message = f"{metric}: {key}: {value!r} is no figure of it"
                problems.append((("metrics", metric, key), message, f"write {', '.join(allowed)} and a number"))
            else:
                points[allowed[key]] = value * factor
    if not points and not problems:
        problems.append((("metrics",), "it holds no figures", "save one from a run, or state metrics"))
    if problems:
        lines = read_source(path)
        raise BadInputError([Problem(message, str(path), lines.line(at), hint) for at, message, hint in problems])
    return points


def _factor(metric: str, unit: object) -> float | None:
    kind = METRICS[metric].kind
    if kind == "latency":
        return _TIME_UNITS.get(unit) if isinstance(unit, str) else None
    if kind == "ratio":
        return 0.01 if unit == "%" else None
    return 1.0 if unit in {None, "", METRICS[metric].unit} else None
