"""The language of gates: `p95(turn_latency{turn="booking"}) < 800ms`, `call_success >= 99.5%`."""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Literal, NamedTuple

from voxload.clock import NS_PER_S
from voxload.model.metric import METRICS, Metric
from voxload.model.quantities import parse_duration_ns

_EXPRESSION = re.compile(
    r"""\s*
    (?: (?P<aggregate>[A-Za-z_][\w.]*) \s* \( \s* )?
    (?P<metric>[A-Za-z_]\w*) \s*
    (?: \{ (?P<labels>[^}]*) \} \s* )?
    (?P<close>\))? \s*
    (?P<operator><=|>=|==|!=|<|>) \s*
    (?P<value>\d+(?:\.\d+)?) \s* (?P<unit>[A-Za-z%/µ]*)
    \s*""",
    re.VERBOSE,
)
_LABEL = re.compile(r"""\s*([A-Za-z_]\w*)\s*=\s*"([^"]*)"\s*""")
_PERCENTILE = re.compile(r"p(\d{1,2}(?:\.\d+)?)")

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
AGGREGATES = ("min", "mean", "max", "count")
"""Besides the percentiles `p50` … `p99.9`."""


class Gate(NamedTuple):
    """A parsed gate: `aggregate(metric{labels}) compare threshold`; latencies in ns, ratios 0 to 1, others plain."""

    expression: str
    metric: Metric
    aggregate: str
    """Empty for metrics that are one number; else p50…, min, mean, max or count."""
    labels: tuple[tuple[str, str], ...]
    compare: str
    threshold: float
    severity: Literal["fail", "warn"] = "fail"
    """warn: is reported, and decides nothing."""
    per: str = ""
    """A label: the gate must hold for each of its values."""

    @property
    def fraction(self) -> float | None:
        """The percentile as a fraction, or None for other aggregates."""
        match = _PERCENTILE.fullmatch(self.aggregate)
        return float(match[1]) / 100 if match else None


def parse_gate(text: str) -> Gate:
    """Parse one gate.

    Raises:
        ValueError: the text is no gate, names no known metric, or lacks a unit; the message says what to write.
    """
    match = _EXPRESSION.fullmatch(text)
    if not match or bool(match["aggregate"]) != bool(match["close"]):
        raise ValueError(
            f"{text!r} is not a gate; write for example p95(turn_latency) < 800ms or call_success >= 99.5%"
        )
    metric = METRICS.get(match["metric"])
    if metric is None:
        close = difflib.get_close_matches(match["metric"], METRICS, 1)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(METRICS)}"
        raise ValueError(f"{text!r}: no metric is called {match['metric']!r} ({hint})")
    aggregate = match["aggregate"] or ""
    _check_aggregate(text, metric, aggregate)
    labels = _parse_labels(text, match["labels"])
    if labels and metric.kind == "level":
        raise ValueError(f"{text!r}: {metric.name} is one number for the run and has no labels")
    threshold = _threshold(text, metric, aggregate, match["value"], match["unit"])
    return Gate(text.strip(), metric, aggregate, labels, match["operator"], threshold)


def _check_aggregate(text: str, metric: Metric, aggregate: str) -> None:
    if metric.kind in {"level", "ratio"}:
        if aggregate and not (metric.kind == "ratio" and aggregate == "count"):
            raise ValueError(f"{text!r}: {metric.name} is one number; write it without {aggregate}(…)")
        return
    if not aggregate:
        limit = "800ms" if metric.kind == "latency" else "3"
        raise ValueError(f"{text!r}: {metric.name} is a distribution; write for example p95({metric.name}) < {limit}")
    if aggregate not in AGGREGATES and not _PERCENTILE.fullmatch(aggregate):
        raise ValueError(f"{text!r}: {aggregate!r} is unknown; use p50 … p99.9, {', '.join(AGGREGATES)}")


def _parse_labels(text: str, labels: str | None) -> tuple[tuple[str, str], ...]:
    pairs = []
    for part in (labels or "").split(",") if labels and labels.strip() else ():
        match = _LABEL.fullmatch(part)
        if not match:
            raise ValueError(f'{text!r}: labels are written {{turn="booking", phase="hold"}}')
        pairs.append((match[1], match[2]))
    return tuple(pairs)


def _threshold(text: str, metric: Metric, aggregate: str, value: str, unit: str) -> float:
    if aggregate == "count":
        if unit:
            raise ValueError(f"{text!r}: a count has no unit")
        return float(value)
    if metric.kind == "latency":
        if not unit:
            raise ValueError(f"{text!r}: the threshold needs a unit, such as {value}ms")
        return float(_duration_ns(text, value + unit))
    if metric.kind == "ratio":
        number = float(value)
        if unit == "%":
            number = float(Decimal(value) / 100)  # 99.9 % is 0.999, which 99.9 / 100 is not
        elif unit or number > 1:
            raise ValueError(f"{text!r}: {metric.name} is a share; write it in percent, such as 99.5%")
        if number > 1:
            raise ValueError(f"{text!r}: a share cannot be over 100 %")
        return number
    if metric.unit == "s" and unit:
        return _duration_ns(text, value + unit) / NS_PER_S
    if unit not in {"", metric.unit, "%" if metric.unit == "percent" else "calls"}:
        raise ValueError(f"{text!r}: {unit!r} does not fit {metric.name}, a plain number ({metric.unit})")
    return float(value)


def _duration_ns(text: str, written: str) -> int:
    try:
        return parse_duration_ns(written)
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}") from None
