"""What a probe of a service measured in the background of a run, apart from the run's own figures."""

from __future__ import annotations

import msgspec

from voxload.measure.histogram import Histogram, merged
from voxload.measure.series import ErrorSample, Quantiles, Series
from voxload.model.outcome import NOT_ATTEMPTED, Outcome

LATENESS_METRIC = "loop_lateness"


class ProbePoint(msgspec.Struct, frozen=True, omit_defaults=True):
    """One stretch of the run in which the probe did something; it starts `start_s` after the run's first instant."""

    start_s: float
    completed: int = 0
    failed: int = 0
    latencies: dict[str, Quantiles] = {}
    means: dict[str, float] = {}
    """Ratios and scores: the mean over all labels."""


class ProbeResult(msgspec.Struct, frozen=True):
    """One probe over the whole run."""

    name: str
    component: str
    target: str
    rate_per_s: float
    headline: tuple[str, ...]
    """Latency metrics that reports open with, the most telling first."""
    lateness_limit_ms: float
    outcomes: dict[str, int] = {}
    series: list[Series] = []
    timeline: list[ProbePoint] = []
    errors: list[ErrorSample] = []
    facts: dict[str, str] = {}
    problem: str = ""
    """Why it measured nothing, or not to the end; empty when all was well."""

    def histogram(self, metric: str, labels: dict[str, str] | None = None) -> Histogram:
        """Return all values of a metric, merged over the series whose labels include `labels`."""
        wanted = (labels or {}).items()
        return merged(
            Histogram.from_data(series.histogram)
            for series in self.series
            if series.metric == metric and wanted <= series.labels.items()
        )

    @property
    def completed(self) -> int:
        """Units of work that were done."""
        return self.outcomes.get(Outcome.COMPLETED, 0)

    @property
    def attempted(self) -> int:
        """Units of work that say something of the service."""
        return sum(count for outcome, count in self.outcomes.items() if outcome not in NOT_ATTEMPTED)

    @property
    def distrust(self) -> str:
        """Why its figures cannot be judged; empty when they can."""
        if self.problem:
            return f"the probe {self.name}: {self.problem}"
        late_ns = self.histogram(LATENESS_METRIC).quantile(0.99)
        if late_ns is not None and late_ns / 1e6 > self.lateness_limit_ms:
            return (
                f"the probe {self.name} could not keep time: lateness p99 {late_ns / 1e6:.1f} ms is over "
                f"{self.lateness_limit_ms:g} ms, so its latencies may be its own"
            )
        defects = self.outcomes.get(Outcome.INTERNAL_ERROR, 0)
        return f"the probe {self.name} had {defects} errors of our own" if defects else ""
