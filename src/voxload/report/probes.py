"""The probes of services as reports show them: a table, lines beside the turns' latency, lanes below a call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from voxload.measure.probe import ProbePoint, ProbeResult
from voxload.measure.summary import CallRecord, Summary, TimelinePoint
from voxload.report import text
from voxload.report.view import Sign

SLOW = 2.0
"""A stretch is slow for a probe when its p95 is over so many times that of the whole run."""
LOOKS_MAX = 60


class ProbeRow(NamedTuple):
    """One probe, ready to show."""

    name: str
    about: str
    done: str
    success: str
    latency: str
    """What the percentiles are of."""
    p50: str
    p95: str
    p99: str
    sign: Sign
    state: str


def probe_rows(summary: Summary) -> list[ProbeRow]:
    """Return the probes in the order of the scenario."""
    return [_row(probe) for probe in summary.probes]


def _row(probe: ProbeResult) -> ProbeRow:
    metric = probe.headline[0]
    histogram = probe.histogram(metric)
    sign, state = _state(probe)
    p50, p95, p99 = (text.nanoseconds(histogram.quantile(share)) for share in (0.5, 0.95, 0.99))
    return ProbeRow(
        text.clean(probe.name),
        text.clean(f"{probe.component} at {probe.target}", 120),
        f"{text.number(probe.completed)} of {text.number(probe.attempted)}",
        text.rate(probe.completed, probe.attempted) if probe.attempted else text.MISSING,
        text.title(metric),
        p50,
        p95,
        p99,
        sign,
        state,
    )


def _state(probe: ProbeResult) -> tuple[Sign, str]:
    doubt = probe.distrust
    if doubt and not probe.attempted:
        return Sign("✗", "not probed", "bad"), text.clean(probe.problem or doubt, 200)
    if doubt:
        return Sign("?", "not to be judged", "unsure"), text.clean(probe.problem or doubt, 200)
    failed = probe.attempted - probe.completed
    if failed:
        worst = f": {probe.errors[0].text}" if probe.errors else ""
        sign = Sign("✗", "down", "bad") if not probe.completed else Sign("!", "errors", "unsure")
        return sign, text.clean(f"{text.number(failed)} failed{worst}", 200)
    if not probe.attempted:
        return Sign("?", "not probed", "unsure"), "nothing was asked of it"
    return Sign("✓", "up", "good"), ""


def column_name(probe: str, metric: str) -> str:
    """Return the name of a probe's metric among the columns of charts; no metric of a run holds a colon."""
    return f"{text.clean(probe)}: {metric}"


def chart_metrics(summary: Summary) -> dict[str, str]:
    """Return the probes' latencies that a time chart offers, as titles by column."""
    return {
        column_name(probe.name, metric): f"{text.clean(probe.name)}: {text.title(metric).lower()}"
        for probe in summary.probes
        for metric in dict.fromkeys((*probe.headline, "operation_latency"))
        if any(metric in point.latencies for point in probe.timeline)
    }


def points_of(probe: ProbeResult, timeline: Sequence[TimelinePoint]) -> list[ProbePoint | None]:
    """Return the stretches of a probe beside those of the run."""
    found: Mapping[float, ProbePoint] = {point.start_s: point for point in probe.timeline}
    return [found.get(point.start_s) for point in timeline]


class Look(NamedTuple):
    """What a probe saw in one stretch, in s since a call's intended start; `bad`: it was slow, or failed."""

    from_s: float
    to_s: float
    label: str
    told: str
    bad: bool


class ProbeLane(NamedTuple):
    """What one probe saw while a call was up."""

    name: str
    looks: tuple[Look, ...]


def stretch_s(summary: Summary) -> float:
    """Return how long a stretch of the run's time axis is."""
    return summary.timeline[0].duration_s if summary.timeline else 1.0


def probe_lanes(call: CallRecord, length_s: float, probes: Sequence[ProbeResult], stretch_s: float) -> list[ProbeLane]:
    """Return what the probes saw, in stretches of the run, while a call of `length_s` was up."""
    found = []
    for probe in probes:
        usual_ms = (probe.histogram(probe.headline[0]).quantile(0.95) or 0.0) / 1e6
        looks = [
            _look(probe, point, point.start_s - call.due_s, stretch_s, usual_ms)
            for point in probe.timeline
            if -stretch_s < point.start_s - call.due_s < length_s
        ]
        if looks:
            found.append(ProbeLane(text.clean(probe.name, 24), tuple(looks[:LOOKS_MAX])))
    return found


def _look(probe: ProbeResult, point: ProbePoint, at_s: float, stretch_s: float, usual_ms: float) -> Look:
    metric = probe.headline[0]
    failed = f"{point.failed} failed" if point.failed else ""
    if metric not in point.latencies:
        return Look(at_s, at_s + stretch_s, "✗" if failed else "", failed or "nothing was done", bool(failed))
    p95_ms = point.latencies[metric].p95_ms
    told = f"{text.title(metric)} p95 {text.milliseconds(p95_ms)}, over the run {text.milliseconds(usual_ms)}"
    told += f"; {failed}" if failed else ""
    return Look(at_s, at_s + stretch_s, text.milliseconds(p95_ms), told, bool(failed) or p95_ms > SLOW * usual_ms)
