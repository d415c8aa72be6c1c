"""Judges a run against a baseline: worse by more than the threshold, and surely worse."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import msgspec

from voxload.errors import ExitCode
from voxload.measure.comparison import BaselineReport, Change, ChangeStatus, Improvement, Regression
from voxload.measure.summary import Summary, Verdict
from voxload.model.metric import METRICS, SCALE, is_latency
from voxload.verdict.bootstrap import Figure, Interval
from voxload.verdict.difference import Difference, differences
from voxload.verdict.offered import shortfall
from voxload.verdict.subject import Subject, figures_of

METHOD = (
    "cluster bootstrap over calls, 95 % simultaneous intervals (max-T) over all figures; a change counts when it is "
    "over the threshold and its interval excludes no change"
)
LATENCY_CHANGE_MIN_NS = 2_000_000
"""Smaller changes of a latency never count: the measuring machine's own clock wheel ticks in ms."""
RESOLUTION_MAX = 5
"""An interval whose half is wider than so many thresholds says nothing."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """How much worse is a regression, as shares (0.1 is 10 %)."""

    latency: float = 0.10
    """Of latencies and costs, of the baseline."""
    throughput: float = 0.05
    """Of what is better when it is more (throughput, concurrency, scores), of the baseline."""
    errors: float = 0.02
    """Of ratios, in points."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """For single metrics."""

    def of(self, metric: str) -> float:
        """Return the threshold of a metric."""
        if metric in self.metrics:
            return self.metrics[metric]
        described = METRICS[metric]
        if described.kind == "ratio":
            return self.errors
        return self.throughput if described.better == "higher" else self.latency


class Context(NamedTuple):
    """What a report says of the check itself."""

    baseline: str
    baseline_version: str
    started_at: str
    notes: tuple[str, ...] = ()


def check(
    baseline: Subject, run: Subject, thresholds: Thresholds, context: Context, replicates: int = 1000
) -> BaselineReport:
    """Return what became better or worse; unknown where the run cannot be trusted or has too little data."""
    figures = [figure for metric in baseline.metrics() for figure in _judged(baseline, run, metric)]
    found = differences(baseline, run, figures, replicates)
    changes: list[Change] = []
    unknown: list[str] = list(run.doubts)
    notes = list(context.notes)
    for metric in dict.fromkeys(figure.metric for figure in figures):
        of_metric = [judge(item, thresholds) for item in found if item.figure.metric == metric]
        never_asked = _shortfall(metric, baseline, run, of_metric)
        if never_asked:
            changes += [msgspec.structs.replace(each, status="unknown", reason=never_asked) for each in of_metric]
            unknown.append(f"{metric}: {never_asked}")
            continue
        kept, doubt, note = _settle(metric, of_metric, [item for item in found if item.figure.metric == metric])
        changes += kept
        unknown += [doubt] if doubt else []
        notes += [note] if note else []
    if run.doubts:
        changes = [_doubted(change) for change in changes]
    if not any(change.status != "unknown" for change in changes) and not unknown:
        unknown.append("nothing can be compared: no figure has enough data on both sides")
    regressions = [change for change in changes if change.status == "regression"]
    status: Literal["passed", "failed", "unknown"] = "failed" if regressions else "unknown" if unknown else "passed"
    return BaselineReport(
        timestamp=context.started_at,
        baseline_version=context.baseline_version,
        test_summary=test_summary(run),
        regressions=[_regression(change) for change in regressions],
        improvements=[_improvement(change) for change in changes if change.status == "improvement"],
        status=status,
        reasons=[*(in_words(change) for change in regressions), *unknown],
        changes=changes,
        notes=notes,
        baseline=context.baseline,
        baseline_runs=len(baseline.by_run),
        run_id=run.name,
        method=METHOD,
    )


def _judged(baseline: Subject, run: Subject, metric: str) -> list[Figure]:
    """Return the figures of a metric that are judged."""
    figures = figures_of(metric)
    if baseline.points:
        return [figure for figure in figures if figure in baseline.points]
    # in an open load these are what was offered, times the success, which is judged by itself
    open_load = "closed" not in {baseline.model, run.model}
    return [] if open_load and METRICS[metric].kind == "level" else figures


def _shortfall(metric: str, baseline: Subject, run: Subject, changes: Sequence[Change]) -> str:
    """Return why a stated level says nothing of the run: its load never came near; empty where it did."""
    if not any(change.status == "regression" for change in changes):
        return ""
    success, level = run.histogram("call_success"), run.levels.get(metric, 0.0)
    failed = success.count - success.total / SCALE
    stated = (value for figure, value in baseline.points.items() if figure.metric == metric)
    return next((words for value in stated if (words := shortfall(metric, level, failed, value))), "")


def _settle(metric: str, changes: Sequence[Change], found: Sequence[Difference]) -> tuple[list[Change], str, str]:
    """Return (the figures of a metric that are shown, why it is unknown, what to mind)."""
    if any(change.status in {"regression", "improvement"} for change in changes):
        return [change for change in changes if change.status != "unknown"], "", ""
    sharp = [change for change in changes if change.status == "unchanged" and _resolution(change) <= RESOLUTION_MAX]
    if sharp:
        return [change for change in changes if change.status != "unknown"], "", ""
    blurred = [change for change in changes if change.status == "unchanged"]
    if blurred:
        best = min(blurred, key=_resolution)
        seen = max(abs((best.high or 0.0) - (best.change or 0.0)), abs((best.change or 0.0) - (best.low or 0.0)))
        reason = f"{best.figure}: too few calls: a change under {seen:.3g} {best.change_unit} could not be seen"
        return [msgspec.structs.replace(each, status="unknown", reason=reason) for each in blurred], reason, ""
    of_run = [item for item in found if item.lacking == "after"]
    if not of_run:
        return [], "", f"{metric} is not compared: {found[0].reason}"
    return list(changes[:1]), f"{metric}: {of_run[0].reason}", ""


def _doubted(change: Change) -> Change:
    """Return a change of a run that cannot be trusted: it neither clears nor blames."""
    return msgspec.structs.replace(change, status="unknown", reason=change.reason or "the run cannot be trusted")


def _resolution(change: Change) -> float:
    """Return half of a change's interval, in thresholds; a threshold of 0 asks for no resolution."""
    assert change.low is not None
    assert change.high is not None
    return (change.high - change.low) / 2 / change.threshold if change.threshold else 0.0


def judge(item: Difference, thresholds: Thresholds) -> Change:
    """Return one figure as judged."""
    figure, threshold = item.figure, thresholds.of(item.figure.metric)
    factor, unit = display(figure.metric)
    interval = item.interval
    status: ChangeStatus = "unknown"
    if interval is not None:
        status = _status(item, interval, threshold)
    shown = [None if interval is None else percent(figure, value) for value in interval or (None, None, None)]
    return Change(
        figure=str(figure),
        metric=f"{figure.metric}_{figure.aggregate}" if figure.fraction else figure.metric,
        status=status,
        baseline=None if item.before is None else item.before * factor,
        actual=None if item.after is None else item.after * factor,
        unit=unit,
        change=shown[0],
        low=shown[1],
        high=shown[2],
        change_unit="%" if figure.logarithmic else "points",
        threshold=threshold * 100,
        sample_size=item.count_after,
        reason=item.reason,
    )


def _status(item: Difference, interval: Interval, threshold: float) -> ChangeStatus:
    assert item.before is not None
    assert item.after is not None
    figure = item.figure
    size = math.expm1(interval.change) if figure.logarithmic else interval.change
    small = is_latency(figure.metric) and abs(item.after - item.before) < LATENCY_CHANGE_MIN_NS
    if small or abs(size) <= threshold or interval.low <= 0 <= interval.high:
        return "unchanged"
    worse = (size > 0) == (METRICS[figure.metric].better == "lower")
    return "regression" if worse else "improvement"


def percent(figure: Figure, change: float | None) -> float | None:
    """Return a change on its figure's scale in percent, or for shares in points."""
    if change is None:
        return None
    return 100 * (math.expm1(change) if figure.logarithmic else change)


def display(metric: str) -> tuple[float, str]:
    """Return the factor from ns, shares of 1 or plain numbers to the unit in which a metric is shown, and that unit."""
    kind = METRICS[metric].kind
    return (1e-6, "ms") if kind == "latency" else (100.0, "%") if kind == "ratio" else (1.0, METRICS[metric].unit)


def test_summary(run: Subject) -> dict[str, float]:
    """Return the specification's figures of a run: percentiles of the response time in ms, success in percent."""
    metric = next((name for name in ("voice_response", "turn_latency") if run.histogram(name).count), "turn_latency")
    histogram = run.histogram(metric)
    found = {name: histogram.quantile(share) for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))}
    summary = {name: value / 1e6 for name, value in found.items() if value is not None}
    success = run.histogram("call_success")
    if success.count:
        summary["success_rate"] = (success.mean or 0.0) / 1e7
        summary["calls"] = float(success.count)
    return summary


def in_words(change: Change) -> str:
    """Return a change in one line."""
    assert change.change is not None
    return (
        f"{change.figure}: {change.actual:.4g} {change.unit} against {change.baseline:.4g} {change.unit} "
        f"({change.change:+.3g} {change.change_unit}, interval {change.low:+.3g} to {change.high:+.3g}, "
        f"threshold {change.threshold:g})"
    )


def _regression(change: Change) -> Regression:
    return Regression(**_finding(change), regression_percent=abs(change.change or 0.0))


def _improvement(change: Change) -> Improvement:
    return Improvement(**_finding(change), improvement_percent=abs(change.change or 0.0))


def _finding(change: Change) -> dict[str, Any]:
    names = ("metric", "baseline", "actual", "unit", "low", "high", "change_unit")
    return {name: getattr(change, name) for name in names}


def with_baseline(summary: Summary, report: BaselineReport) -> Summary:
    """Return the summary with the check in it, its verdict no better than the check's."""
    verdict = summary.verdict
    reasons = [*verdict.reasons, *(f"baseline: {reason}" for reason in report.reasons)]
    if report.status == "failed":  # which it is only where the run can be trusted
        verdict = Verdict("failed", ExitCode.GATE_FAILED, reasons)
    elif report.status == "unknown" and verdict.status == "passed":
        verdict = Verdict("unknown", ExitCode.UNKNOWN, reasons)
    elif report.status == "unknown" and not set(report.reasons) <= set(verdict.reasons):
        verdict = Verdict(verdict.status, verdict.exit_code, reasons)
    return msgspec.structs.replace(summary, baseline=report, verdict=verdict)
