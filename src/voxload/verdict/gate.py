"""Judges a run: every gate on its summary, and whether the run can be trusted at all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import msgspec

from voxload.errors import ExitCode
from voxload.measure.histogram import Histogram, rank_of
from voxload.measure.probe import ProbeResult
from voxload.measure.recovery import RECOVERY_METRICS, never_recovered
from voxload.measure.summary import GateResult, Summary, Verdict
from voxload.model.metric import SCALE
from voxload.model.outcome import Outcome
from voxload.verdict.expression import OPERATORS, Gate
from voxload.verdict.offered import shortfall

_GOOD_SIDE = {"<": 1, "<=": 1, ">": -1, ">=": -1}
"""The sign of threshold less actual on the good side of a comparison."""
PROBE = "probe"
"""The label of a gate on a probe: without it a gate is about the calls alone."""
RATE_OBSERVATIONS_MIN = 10
"""A rate of fewer observations is a count, not a rate (reference: metrics)."""
SATURATED_CPU_PERCENT = 98.0
_UNMEASURED = dict.fromkeys(
    ("target_cpu", "target_memory"), "nothing measured the target's resources in this run (resources: in the file)"
)


def judge(summary: Summary, gates: Sequence[tuple[str, Gate]]) -> Summary:
    """Return the summary with its gates' results and the verdict; `gates` are (name or "", gate) pairs."""
    results = [evaluate(summary, each, name) for name, gate in gates for each in _each(summary, gate)]
    return msgspec.structs.replace(summary, gates=results, verdict=decide(summary, results))


def _each(summary: Summary, gate: Gate) -> list[Gate]:
    """Return the gate once for each value of the label that it is per, as far as the run has values of it."""
    if not gate.per:
        return [gate]
    metric, labels = gate.metric.complement_of or gate.metric.name, dict(gate.labels)
    if gate.per == PROBE:
        values = sorted(probe.name for probe in summary.probes if _might_have(probe, metric))
    else:
        source = summary.probe(labels.pop(PROBE)) if PROBE in labels else summary
        values = sorted(
            {
                series.labels[gate.per]
                for series in (source.series if source is not None else ())
                if series.metric == metric and gate.per in series.labels and labels.items() <= series.labels.items()
            }
        )
    if not values:
        return [gate._replace(labels=(*gate.labels, (gate.per, "")))]
    return [
        gate._replace(expression=f'{gate.expression} [{gate.per}="{value}"]', labels=(*gate.labels, (gate.per, value)))
        for value in values
    ]


def _might_have(probe: ProbeResult, metric: str) -> bool:
    """Return whether a probe has values of a metric, or has none at all: then nobody knows."""
    return not probe.series or any(series.metric == metric for series in probe.series)


def evaluate(summary: Summary, gate: Gate, name: str = "") -> GateResult:
    """Return what becomes of one gate: without data it is unknown, never passed."""
    return _result(gate, *_actual(summary, gate), name)


def evaluate_values(gate: Gate, values: Histogram) -> GateResult:
    """Return what becomes of a gate on these values alone, whatever its labels; its metric is no level."""
    return _result(gate, *_measured(gate, values, "no data"), "")


def _result(gate: Gate, actual: float | None, sample_size: int, reason: str, name: str) -> GateResult:
    scale, unit = _display(gate)
    status: Literal["pass", "fail", "unknown"] = "unknown"
    if actual is not None:
        status = "pass" if OPERATORS[gate.compare](actual, gate.threshold) else "fail"
    shown = None if actual is None or actual == math.inf else actual * scale
    threshold = gate.threshold * scale
    margin = None if shown is None or gate.compare not in _GOOD_SIDE else _GOOD_SIDE[gate.compare] * (threshold - shown)
    return GateResult(gate.expression, status, shown, threshold, unit, sample_size, reason, name, gate.severity, margin)


def _display(gate: Gate) -> tuple[float, str]:
    """Return the factor to the unit in which the gate's numbers are shown, and that unit."""
    if gate.aggregate == "count":
        return 1.0, ""
    match gate.metric.kind:
        case "latency":
            return 1e-6, "ms"
        case "ratio":
            return 100.0, "%"
        case _:
            return 1.0, gate.metric.unit


def _actual(summary: Summary, gate: Gate) -> tuple[float | None, int, str]:
    """Return (value in the gate's own unit or None, sample size, why there is none or what to mind)."""
    metric = gate.metric
    if metric.kind == "level":
        value = summary.levels.get(metric.name)
        size = len(summary.timeline) if metric.name.endswith("_calls") else summary.totals.attempted
        if metric.name in RECOVERY_METRICS and summary.recovery is not None:
            timed = metric.name == "recovery_time"
            size = len(summary.recovery.probes if timed else summary.recovery.looks)
            never = never_recovered(summary.recovery) if timed else ""
            if never:
                return math.inf, size, never
        if value is None:
            return None, 0, "no data"
        never_asked = ""
        if gate.compare in {">", ">="}:
            failed = summary.totals.attempted - summary.totals.outcomes.get(Outcome.COMPLETED, 0)
            never_asked = shortfall(metric.name, value, failed, gate.threshold)
        return (None, size, never_asked) if never_asked else (value, size, "")
    histogram, doubt = _values(summary, gate)
    if doubt:
        return None, histogram.count, doubt
    return _measured(gate, histogram, _why_no_data(summary, gate))


def _measured(gate: Gate, histogram: Histogram, why_no_data: str) -> tuple[float | None, int, str]:
    """Return the same, of values that are there."""
    metric, count = gate.metric, histogram.count
    if gate.aggregate == "count":
        return float(count), count, ""
    if not count:
        return None, 0, why_no_data
    if metric.kind == "ratio":
        if count < RATE_OBSERVATIONS_MIN:
            return None, count, f"only {count} observations; a rate needs {RATE_OBSERVATIONS_MIN}"
        return ratio(gate, histogram), count, ""
    value, note = _aggregate(histogram, gate)
    return value if metric.kind == "latency" else value / SCALE, count, note


def ratio(gate: Gate, histogram: Histogram) -> float:
    """Return the share that a gate is about, of observations that are there; a complement is counted, not taken from 1.

    In floats 1 - 0.95 is more than 0.05.
    """
    count = histogram.count
    yes = count * SCALE - histogram.total if gate.metric.complement_of else histogram.total
    return yes / count / SCALE


def _values(summary: Summary, gate: Gate) -> tuple[Histogram, str]:
    """Return (the values that a gate is about, why they cannot be judged); of a probe where a label names it."""
    metric, labels = gate.metric.complement_of or gate.metric.name, dict(gate.labels)
    if PROBE not in labels:
        return summary.histogram(metric, labels), ""
    name = labels.pop(PROBE)
    probe = summary.probe(name)
    if probe is None:
        return Histogram(), f"no probe of this run is called {name!r}"
    return probe.histogram(metric, labels), probe.distrust


def _why_no_data(summary: Summary, gate: Gate) -> str:
    probes = [probe.name for probe in summary.probes if probe.histogram(gate.metric.name).count]
    if probes and PROBE not in dict(gate.labels):
        return f'no data; probes have it: {gate.metric.name}{{probe="{probes[0]}"}}'
    return _UNMEASURED.get(gate.metric.name, "no data") + (" under these labels" if gate.labels else "")


def _aggregate(histogram: Histogram, gate: Gate) -> tuple[float, str]:
    """Return a percentile, minimum, mean or maximum of a histogram that is not empty, and what to mind about it."""
    fraction = gate.fraction
    if fraction is None:
        mean = histogram.mean or 0.0
        values = {"min": float(histogram.minimum), "max": float(histogram.maximum), "mean": mean}
        return values[gate.aggregate], ""
    count = histogram.count
    note = f"only {count} values: p{fraction * 100:g} is their maximum" if rank_of(fraction, count) == count else ""
    return histogram.quantile(fraction) or 0.0, note


def distrust(summary: Summary) -> list[str]:
    """Return the reasons why a run's numbers cannot be trusted; none when they can."""
    reasons = list(summary.run.doubts)
    reasons += [f"process {shard.shard}: {_first_line(shard.lost)}" for shard in summary.shards if shard.lost]
    late, limit_ms = summary.lateness().quantile(0.99), summary.plan.lateness_limit_ms
    what = "event loop" if summary.plan.component else "frame"
    if late is not None and late / 1e6 > limit_ms:
        reasons.append(
            f"the generator fell behind: {what} lateness p99 {late / 1e6:.1f} ms is over {limit_ms:g} ms; "
            "use more processes or machines, or fewer calls"
        )
    reasons += [
        f"process {shard.shard} was saturated: {shard.cpu_percent_mean:.0f} % of a core on average"
        for shard in summary.shards
        if shard.cpu_percent_mean > SATURATED_CPU_PERCENT
    ]
    for outcome, words in ((Outcome.SHED, "could not be started"), (Outcome.INTERNAL_ERROR, "ended by our own error")):
        count = summary.totals.outcomes.get(outcome, 0)
        if count:
            reasons.append(f"{count} calls {words}: the offered load was less than planned")
    return reasons


def decide(summary: Summary, results: Sequence[GateResult]) -> Verdict:
    """Return the verdict: aborted, then unknown, then failed, then passed; the first that applies."""
    if summary.run.cut_short:
        return Verdict("aborted", ExitCode.ABORTED, [summary.run.cut_short, *distrust(summary)])
    doubts = distrust(summary)
    if doubts:
        return Verdict("unknown", ExitCode.UNKNOWN, doubts)
    deciding = [result for result in results if result.severity == "fail"]
    failed = [_words(result) for result in deciding if result.status == "fail"]
    unknown = [_words(result) for result in deciding if result.status == "unknown"]
    if summary.run.stopped_early:
        failed.insert(0, summary.run.stopped_early)
    if failed:
        return Verdict("failed", ExitCode.GATE_FAILED, failed + unknown)
    if unknown:
        return Verdict("unknown", ExitCode.UNKNOWN, unknown)
    if not sum(summary.totals.outcomes.values()):
        return Verdict("unknown", ExitCode.UNKNOWN, ["no call was placed"])
    return Verdict("passed", ExitCode.PASSED, [])


def _words(result: GateResult) -> str:
    if result.status == "unknown" or result.actual is None:
        return f"{result.expression}: {result.reason or 'no data'}"
    return f"{result.expression}: measured {result.actual:.4g} {result.unit}".rstrip()


def _first_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else text
