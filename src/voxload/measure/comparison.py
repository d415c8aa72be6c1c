"""What a run looks like beside a baseline, as data: the specification's report, and every figure with its interval."""

from __future__ import annotations

from typing import Literal

import msgspec

ChangeStatus = Literal["regression", "improvement", "unchanged", "unknown"]


class Change(msgspec.Struct, frozen=True):
    """One figure of a run beside the baseline's."""

    figure: str
    """As in a gate: `p95(turn_latency)`, `call_success`."""
    metric: str
    """As the specification names it: `turn_latency_p95`, `call_success`."""
    status: ChangeStatus
    baseline: float | None
    actual: float | None
    unit: str
    """Of both: `ms`, `%`, or the metric's own."""
    change: float | None
    """In percent of the baseline, for shares in percentage points."""
    low: float | None
    high: float | None
    """The interval of the change; all intervals of a check hold together with 95 % confidence."""
    change_unit: Literal["%", "points"]
    threshold: float
    """How much worse (or better) counts, in `change_unit`."""
    sample_size: int
    reason: str = ""


class Regression(msgspec.Struct, frozen=True):
    """A figure that became worse, in the specification's terms."""

    metric: str
    baseline: float
    actual: float
    regression_percent: float
    """How much worse, in percent of the baseline; for shares in percentage points."""
    unit: str
    low: float
    high: float
    change_unit: str


class Improvement(msgspec.Struct, frozen=True):
    """A figure that became better."""

    metric: str
    baseline: float
    actual: float
    improvement_percent: float
    unit: str
    low: float
    high: float
    change_unit: str


class BaselineReport(msgspec.Struct, frozen=True):
    """The check of a run against a baseline."""

    timestamp: str
    """UTC, ISO 8601: when the run began."""
    baseline_version: str
    test_summary: dict[str, float]
    """`p50`, `p95`, `p99` of the response time in ms, `success_rate` in percent, `calls`."""
    regressions: list[Regression]
    improvements: list[Improvement]
    status: Literal["passed", "failed", "unknown"]
    reasons: list[str]
    """Regressions in words, then what is unknown and why."""
    changes: list[Change]
    notes: list[str]
    """What to mind: other machines, one run only, metrics that cannot be compared."""
    baseline: str
    """Its file."""
    baseline_runs: int
    run_id: str
    method: str


class SideFacts(msgspec.Struct, frozen=True):
    """One side of a comparison."""

    letter: str
    """`A` is the one that the others are compared with."""
    name: str
    kind: Literal["run", "baseline"]
    scenario: str
    started_at: str
    calls: int
    commit: str = ""
    target: str = ""
    verdict: str = ""


class SideChange(msgspec.Struct, frozen=True):
    """How a figure of one side differs from that of the first."""

    word: Literal["worse", "better", "same", "unknown"]
    """`same`: the interval holds "no change"."""
    change: float | None
    """In percent, for shares in percentage points."""
    low: float | None
    high: float | None
    unit: Literal["%", "points"]
    reason: str = ""


class ComparedFigure(msgspec.Struct, frozen=True):
    """One figure of all sides."""

    figure: str
    metric: str
    aggregate: str
    labels: dict[str, str]
    unit: str
    values: list[float | None]
    counts: list[int]
    changes: list[SideChange]
    """Of the second side, the third, …"""


class Comparison(msgspec.Struct, frozen=True):
    """Two or more runs or baselines side by side."""

    sides: list[SideFacts]
    rows: list[ComparedFigure]
    notes: list[str]
    method: str
