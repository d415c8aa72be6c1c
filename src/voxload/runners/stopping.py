"""Ends a run early when a condition over its last seconds has held for long enough."""

from __future__ import annotations

import math
from collections.abc import Sequence

from voxload.clock import NS_PER_S
from voxload.measure.collector import Collector
from voxload.model.gates import StopCondition
from voxload.model.metric import SCALE
from voxload.verdict.expression import OPERATORS, Gate
from voxload.verdict.gate import RATE_OBSERVATIONS_MIN, ratio


class StopRules:
    """Looks at the last seconds of a run; conditions have been parsed (`voxload.verdict.rules.stop_gates`)."""

    def __init__(self, rules: Sequence[tuple[StopCondition, Gate]]) -> None:
        self._rules = rules
        self._since_s: list[float | None] = [None] * len(rules)

    def __call__(self, collector: Collector, elapsed_s: float) -> str:
        """Return which condition ends the run, in words with what was measured; nothing while none does."""
        for number, (rule, gate) in enumerate(self._rules):
            value = self._value(collector, gate, rule.over_ns / NS_PER_S)
            if value is None or not OPERATORS[gate.compare](value, gate.threshold):
                self._since_s[number] = None
                continue
            since_s = self._since_s[number]
            if since_s is None:
                since_s = self._since_s[number] = elapsed_s
            if elapsed_s - since_s >= rule.for_ns / NS_PER_S:
                span_s, held_s = rule.over_ns / NS_PER_S, rule.for_ns / NS_PER_S
                measured = f"{_shown(gate, value)} over the last {span_s:g} s, held for {held_s:g} s"
                return f"stop_when {gate.expression}: {measured}"
        return ""

    @staticmethod
    def _value(collector: Collector, gate: Gate, over_s: float) -> float | None:
        """Return what the gate measures over the last seconds; None when they hold too little."""
        histogram = collector.recent(gate.metric.complement_of or gate.metric.name, math.ceil(over_s))
        if not histogram.count:
            return None
        if gate.aggregate == "count":
            return float(histogram.count)
        if gate.metric.kind == "ratio":
            if histogram.count < RATE_OBSERVATIONS_MIN:
                return None
            return ratio(gate, histogram)
        scale = 1 if gate.metric.kind == "latency" else SCALE
        if gate.fraction is not None:
            return (histogram.quantile(gate.fraction) or 0.0) / scale
        values = {"min": histogram.minimum, "max": histogram.maximum, "mean": histogram.mean or 0.0}
        return values[gate.aggregate] / scale


def _shown(gate: Gate, value: float) -> str:
    if gate.aggregate == "count":
        return f"{value:g}"
    if gate.metric.kind == "latency":
        return f"{value / 1e6:.0f} ms"
    return f"{value:.1%}" if gate.metric.kind == "ratio" else f"{value:.4g} {gate.metric.unit}"
