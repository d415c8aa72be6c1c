"""The numbers behind the charts of the HTML report, thinned so that the page stays small, and their captions."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from voxload.measure.histogram import Histogram, bucket_bounds
from voxload.measure.probe import ProbePoint
from voxload.measure.summary import LATENESS_METRICS, Summary, TimelinePoint
from voxload.model.metric import METRICS
from voxload.model.outcome import Outcome
from voxload.report import probes, text, view
from voxload.report.targets import kind_of

POINTS_MAX = 600
"""Points of a time series; a longer run is drawn with several stretches to a point."""
CURVE_POINTS_MAX = 160
_NOT_SHOWN = frozenset({*LATENESS_METRICS, "call_duration"})
_GATE = re.compile(
    r"\s*(?:p\d[\d.]*|min|mean|median|max)\s*\(\s*(\w+)\s*(?:\{\s*probe\s*=\s*\"([^\"]*)\"\s*\}\s*)?\)"
    r"\s*[<>]=?\s*[\d.]+\s*\w+\s*(?:\[probe=\"([^\"]*)\"\])?"
)
"""A gate that is a line in the chart of a latency: of the calls, or of one probe."""

_MEAN_GATE = re.compile(r"\s*(?:(\w+)|mean\s*\(\s*(\w+)\s*\))\s*[<>]=?\s*[\d.]+\s*\S*\s*")


def chart_data(summary: Summary) -> dict[str, Any]:
    """Return the data of all charts as plain values for JSON.

    `time` holds columns of equal length over the stretches of the run (`t` is the end of a stretch in s, rates are a
    second, latencies in ms, `means` of ratios from 0 to 1 and of scores); `units` says what those means are; `curves`
    holds by metric the distribution as [ms, percent] columns; `sideBySide` names the latencies of `time` that are drawn
    in one chart where services were probed; `limits` and `meanLimits` the gates that are a line in a
    chart of a latency or a mean; `phases` the bands.
    """
    step = stretches_a_point(summary)
    groups = _grouped(summary.timeline, step)
    time = _time_columns(groups)
    time["latencies"] |= _probe_columns(summary, step)
    return {
        "time": time,
        "stretches": step,
        "phases": _phases(summary),
        "curves": _curves(summary),
        "limits": _limits(summary),
        "units": _units(summary),
        "meanLimits": _mean_limits(summary),
        "latenessLimit": summary.plan.lateness_limit_ms,
        "sideBySide": _side_by_side(summary),
        "titles": {
            text.clean(name): text.title(name)
            for name in [*view.metric_order(summary), *_means(summary), *_outcomes(summary.timeline)]
        }
        | probes.chart_metrics(summary),
    }


def series_metrics(summary: Summary) -> list[str]:
    """Return the metrics that the time chart offers: latencies, turn latency first, then ratios and scores."""
    present = {name for point in summary.timeline for name in point.latencies}
    names = [name for name in view.metric_order(summary) if name in present - _NOT_SHOWN]
    names.sort(key=lambda name: name != summary.plan.headline[0])
    return [*names, *_means(summary), *probes.chart_metrics(summary)]


def _means(summary: Summary) -> list[str]:
    """Return the ratios and scores that have a mean in some stretch, those of the catalogue first."""
    present = dict.fromkeys(name for point in summary.timeline for name in point.means)
    return [name for name in METRICS if name in present] + [name for name in present if name not in METRICS]


def _units(summary: Summary) -> dict[str, str]:
    """Return the unit of each mean: `%` for a ratio or a share, else that of the score."""
    units = {name: METRICS[name].unit if name in METRICS else "" for name in _means(summary)}
    return {
        text.clean(name): "%" if kind_of(name) == "ratio" or unit == "share" else unit for name, unit in units.items()
    }


def curve_metrics(summary: Summary) -> list[str]:
    """Return the latency metrics that the distribution chart offers: those with a value, corrected ones only."""
    names = [name for name in view.metric_order(summary) if not name.endswith("_uncorrected")]
    return sorted(names, key=lambda name: name != summary.plan.headline[0])


def stretches_a_point(summary: Summary) -> int:
    """Return how many stretches of the timeline one point of a chart stands for (1 unless the run was long)."""
    return max(1, math.ceil(len(summary.timeline) / POINTS_MAX))


def _grouped(points: Sequence[TimelinePoint], step: int) -> list[Sequence[TimelinePoint]]:
    return [points[start : start + step] for start in range(0, len(points), step)]


def _outcomes(points: Sequence[TimelinePoint]) -> list[str]:
    present = {name for point in points for name, count in point.outcomes.items() if count}
    known = [outcome.value for outcome in Outcome if outcome in present]
    return known + sorted(present - set(known))


def _time_columns(groups: Sequence[Sequence[TimelinePoint]]) -> dict[str, Any]:
    busiest = [max(group, key=lambda point: point.active) for group in groups]
    points = [point for group in groups for point in group]
    metrics = dict.fromkeys(name for point in points for name in point.latencies)
    return {
        "t": [_short(group[-1].start_s + group[-1].duration_s, 6) for group in groups],
        "active": [point.active for point in busiest],
        "planned": [_short(point.planned) for point in busiest],
        "started": _rates(groups, lambda point: point.started),
        "outcomes": {text.clean(name): _rates(groups, _outcome_counter(name)) for name in _outcomes(points)},
        "latencies": {text.clean(name): _latency_columns(groups, name) for name in metrics},
        "means": {
            text.clean(name): _mean_column(groups, name) for name in dict.fromkeys(n for p in points for n in p.means)
        },
        "cpu": [_short(max(point.cpu_percent for point in group)) for group in groups],
    }


def _outcome_counter(name: str) -> Callable[[TimelinePoint], int]:
    return lambda point: point.outcomes.get(name, 0)


def _rates(groups: Sequence[Sequence[TimelinePoint]], count: Callable[[TimelinePoint], int]) -> list[float]:
    """Return counts as rates a second."""
    return [_short(sum(map(count, group)) / (sum(point.duration_s for point in group) or 1)) for group in groups]


def _latency_columns(
    groups: Sequence[Sequence[TimelinePoint | ProbePoint]], metric: str
) -> dict[str, list[float | None]]:
    """Return percentiles over time; percentiles cannot be averaged, so a wider point shows its worst stretch."""
    columns: dict[str, list[float | None]] = {"p50": [], "p95": [], "p99": [], "n": []}
    for group in groups:
        found = [point.latencies[metric] for point in group if metric in point.latencies]
        columns["p50"].append(_short(max(item.p50_ms for item in found)) if found else None)
        columns["p95"].append(_short(max(item.p95_ms for item in found)) if found else None)
        columns["p99"].append(_short(max(item.p99_ms for item in found)) if found else None)
        columns["n"].append(sum(item.count for item in found))
    return columns


def _probe_columns(summary: Summary, step: int) -> dict[str, dict[str, list[float | None]]]:
    """Return the latencies of the probes over the stretches of the run."""
    wanted, found = probes.chart_metrics(summary), {}
    for probe in summary.probes:
        points = probes.points_of(probe, summary.timeline)
        groups = [
            [point for point in points[start : start + step] if point is not None]
            for start in range(0, len(points), step)
        ]
        for metric in {name for point in probe.timeline for name in point.latencies}:
            name = probes.column_name(probe.name, metric)
            if name in wanted:
                found[name] = _latency_columns(groups, metric)
    return found


def _side_by_side(summary: Summary) -> list[str]:
    """Return what is drawn in one chart: the run's headline latency, and the first of each probe."""
    if not summary.probes:
        return []
    wanted = probes.chart_metrics(summary)
    names = [probes.column_name(probe.name, probe.headline[0]) for probe in summary.probes]
    return [summary.plan.headline[0], *(name for name in names if name in wanted)]


def _mean_column(groups: Sequence[Sequence[TimelinePoint]], metric: str) -> list[float | None]:
    """Return a mean over time; the counts behind it are not known, so a wider point weighs its stretches alike."""
    found = [[point.means[metric] for point in group if metric in point.means] for group in groups]
    return [_short(sum(values) / len(values)) if values else None for values in found]


def _phases(summary: Summary) -> list[dict[str, Any]]:
    return [
        {"name": text.clean(phase.name, 40), "from": phase.start_s, "to": phase.start_s + phase.duration_s}
        for phase in summary.plan.phases
    ]


def _curves(summary: Summary) -> dict[str, dict[str, list[list[float]]]]:
    found = {}
    for metric in curve_metrics(summary):
        both = {"corrected": curve(summary.histogram(metric))}
        uncorrected = summary.histogram(f"{metric}_uncorrected")
        if uncorrected.count:
            both["uncorrected"] = curve(uncorrected)
        found[text.clean(metric)] = both
    return found


def curve(histogram: Histogram) -> list[list[float]]:
    """Return the distribution function as columns [ms, percent of values at most that], thinned evenly in the share."""
    count = histogram.count
    if not count:
        return [[], []]
    step, seen, kept = count / CURVE_POINTS_MAX, 0, -math.inf
    # A value of 0 has no place on a logarithmic axis: 1 µs stands for all below it.
    columns: list[list[float]] = [[_short(max(histogram.minimum, 1000) / 1e6, 6)], [0.0]]
    for index in sorted(histogram.counts):
        seen += histogram.counts[index]
        if seen - kept >= step or seen == count:
            upper = min(bucket_bounds(index)[1], histogram.maximum)
            columns[0].append(_short(max(upper, 1000) / 1e6, 6))
            columns[1].append(_short(100 * seen / count, 6))
            kept = seen
    if histogram.overflow:
        columns[0].append(_short(histogram.maximum / 1e6, 6))
        columns[1].append(100.0)
    return columns


def _limits(summary: Summary) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for gate in summary.gates:
        match, limit_ms = _GATE.fullmatch(gate.expression), text.in_ms(gate.threshold, gate.unit)
        if match and limit_ms is not None:
            label = text.clean(gate.expression, 60)
            probe = match[2] or match[3]
            column = probes.column_name(probe, match[1]) if probe else match[1]
            found.setdefault(column, []).append({"ms": limit_ms, "label": label, "status": gate.status})
    return found


def _mean_limits(summary: Summary) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for gate in summary.gates:
        match = _MEAN_GATE.fullmatch(gate.expression)
        metric = (match[1] or match[2]) if match else ""
        if kind_of(metric) in {"ratio", "score"}:
            value = gate.threshold / 100 if gate.unit == "%" else gate.threshold
            label = text.clean(gate.expression, 60)
            found.setdefault(metric, []).append({"value": value, "label": label, "status": gate.status})
    return found


def _short(value: float, digits: int = 4) -> float:
    """Return `value` to a number of significant digits, which is all that a chart can show."""
    if not value:
        return 0
    rounded = round(value, digits - 1 - math.floor(math.log10(abs(value))))
    return int(rounded) if float(rounded).is_integer() else rounded


def captions(summary: Summary) -> dict[str, str]:
    """Return in a sentence what each chart shows, for readers who cannot see it."""
    points = summary.timeline
    if not points:
        return {}
    peak = max(points, key=lambda point: point.active)
    late = [point.latencies[name].p99_ms for point in points for name in LATENESS_METRICS if name in point.latencies]
    limit_ms, what = summary.plan.lateness_limit_ms, "timers ran" if summary.plan.component else "frames were sent"
    over = sum(value > limit_ms for value in late)
    cpu = max(point.cpu_percent for point in points)
    failures = sum(
        count for point in points for name, count in point.outcomes.items() if view.outcome_tone(name) == "bad"
    )
    peak_s = peak.start_s + peak.duration_s
    return {
        "concurrency": f"Most calls up at once: {text.number(peak.active)}, {peak_s:.0f} s into the run; "
        f"planned then: {text.number(round(peak.planned))}.",
        "latency": _latency_caption(summary),
        "probes": "; ".join(f"{row.name} p95 {row.p95} over the run" for row in probes.probe_rows(summary)),
        "outcomes": f"{text.counted(sum(point.started for point in points), 'call')} started, "
        f"{text.number(sum(point.ended for point in points))} ended, {text.number(failures)} of them failed.",
        "lateness": f"At p99, {what} at most {text.milliseconds(max(late))} late in any stretch; "
        f"beyond {limit_ms:g} ms in {text.number(over)} of {text.number(len(late))}."
        if late
        else "Nothing was sent.",
        "cpu": f"The busiest generator process used at most {text.number(cpu, 0)} % of one core.",
    }


def _latency_caption(summary: Summary) -> str:
    metric = summary.plan.headline[0]
    noun = "turn" if metric == "turn_latency" else "value"
    worst = max(
        (point for point in summary.timeline if metric in point.latencies),
        key=lambda point: point.latencies[metric].p95_ms,
        default=None,
    )
    if worst is None:
        return f"No {noun} was measured."
    quantiles = worst.latencies[metric]
    return (
        f"{text.title(metric)} p95 was worst in the stretch from {worst.start_s:.0f} s: "
        f"{text.milliseconds(quantiles.p95_ms)} over {text.counted(quantiles.count, noun)}."
    )
