"""What can be compared: a run, or a baseline of several, as histograms, levels and a sample of its calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from voxload.measure.evidence import Evidence
from voxload.measure.histogram import Histogram, merged
from voxload.measure.series import Series
from voxload.measure.summary import Summary
from voxload.model.metric import METRICS, SCALE, is_latency
from voxload.verdict.bootstrap import Figure
from voxload.verdict.gate import PROBE, distrust

PERCENTILES = ("p50", "p95", "p99")
LEVELS = ("throughput", "concurrent_calls")
NOT_COMPARED = frozenset(
    {
        "frame_lateness", "loop_lateness", "call_duration", "talk_ratio", "dead_air", "dropped_audio", "clipped_audio",
        "underrun_ms_per_min", "call_setup_uncorrected", "turn_latency_uncorrected", "operation_latency_uncorrected",
    }
)  # fmt: skip
"""Metrics of the generator, without a better direction, or that say twice what another one says."""


@dataclass(frozen=True, slots=True)
class Subject:
    """One side of a comparison."""

    name: str
    model: str
    """`open`, `closed`, or empty where it is not known."""
    series: Sequence[Series] = ()
    levels: Mapping[str, float] = field(default_factory=dict)
    evidence: Evidence | None = None
    points: Mapping[Figure, float] = field(default_factory=dict)
    """Figures that are given as they are, without calls behind them: in ns, shares of 1, or plain numbers."""
    by_run: Sequence[Mapping[str, float]] = ()
    """The figures of each pooled run, by the figure's text."""
    runs: int = 1
    doubts: tuple[str, ...] = ()
    """Why its numbers cannot be trusted."""
    probes: Mapping[str, Sequence[Series]] = field(default_factory=dict)
    """What each probe of a service measured beside the calls, by its name; its figures have the label `probe`."""
    probe_doubts: Mapping[str, str] = field(default_factory=dict)
    """Why a probe's figures cannot be judged, by its name."""

    def histogram(self, metric: str, labels: Mapping[str, str] | None = None) -> Histogram:
        """Return all values of a metric, merged over the series whose labels include `labels`.

        They are the calls' own; a label `probe` names a probe whose values they are.
        """
        wanted = dict(labels or {})
        series = self.probes.get(wanted.pop(PROBE), ()) if PROBE in wanted else self.series
        return merged(
            Histogram.from_data(each.histogram)
            for each in series
            if each.metric == metric and wanted.items() <= each.labels.items()
        )

    def metrics(self) -> list[str]:
        """Return the metrics that have data and are worth comparing, in the order of the catalogue."""
        present = {each.metric for each in self.series} | {figure.metric for figure in self.points}
        present |= self.levels.keys() & set(LEVELS)
        return [name for name in METRICS if name in present and name not in NOT_COMPARED]

    def probe_metrics(self) -> list[tuple[str, str]]:
        """Return (probe, metric) of all that probes measured and that is worth comparing."""
        return [
            (probe, name)
            for probe, series in self.probes.items()
            for name in METRICS
            if name not in NOT_COMPARED and any(each.metric == name for each in series)
        ]

    def values(self, figures: Sequence[Figure]) -> dict[Figure, tuple[float | None, int]]:
        """Return (value, observations) of each figure: in ns, shares of 1, or plain; None without data."""
        found: dict[Figure, tuple[float | None, int]] = {}
        histograms: dict[tuple[str, tuple[tuple[str, str], ...]], Histogram] = {}
        for figure in figures:
            if figure in self.points:
                found[figure] = self.points[figure], 0
            elif figure.metric in METRICS and METRICS[figure.metric].kind == "level":
                value = self.levels.get(figure.metric)
                found[figure] = value, 0 if value is None else 1
            else:
                key = (figure.metric, figure.labels)
                if key not in histograms:
                    histograms[key] = self.histogram(figure.metric, dict(figure.labels))
                found[figure] = figure_value(histograms[key], figure), histograms[key].count
        return found


def figure_value(histogram: Histogram, figure: Figure) -> float | None:
    """Return a figure of a histogram in ns, as a share of 1, or as a plain number; None when it is empty."""
    fraction = figure.fraction
    value = histogram.mean if fraction is None else histogram.quantile(fraction)
    return value if value is None or is_latency(figure.metric) else value / SCALE


def figures_of(metric: str, labels: tuple[tuple[str, str], ...] = ()) -> list[Figure]:
    """Return the figures by which a metric is compared."""
    if is_latency(metric):
        return [Figure(metric, aggregate, labels) for aggregate in PERCENTILES]
    return [Figure(metric, "mean" if METRICS[metric].kind == "score" else "", labels)]


def subject_of_run(summary: Summary, evidence: Evidence | None) -> Subject:
    """Return a run as something to compare; `evidence` comes from its calls, None where they are not at hand."""
    doubts = [summary.run.cut_short] if summary.run.cut_short else []
    if summary.run.stopped_early:
        doubts.append(f"ended early: {summary.run.stopped_early}")
    if evidence is not None and evidence.total != summary.totals.attempted:
        doubts.append(f"only {evidence.total} of {summary.totals.attempted} calls were written to its folder")
    return Subject(
        name=summary.run.run_id,
        model=summary.plan.model,
        series=summary.series,
        levels=summary.levels,
        evidence=evidence,
        doubts=(*doubts, *distrust(summary)),
        probes={probe.name: probe.series for probe in summary.probes},
        probe_doubts={probe.name: probe.distrust for probe in summary.probes if probe.distrust},
    )
