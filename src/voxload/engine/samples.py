"""What a call keeps of its own measurements beside the shared histograms, so that calls can be compared as calls."""

from __future__ import annotations

SAMPLES_MAX = 256
"""Values of one metric that a call keeps; a longer call keeps every second, fourth, … of them."""


class CallSamples:
    """The values of metrics that a call measures many times and that stand nowhere else in its record."""

    __slots__ = ("_seen", "values")

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = {}
        """By metric: ms for latencies, 0 or 1 for ratios; evenly thinned."""
        self._seen: dict[str, int] = {}

    def add(self, metric: str, value: float) -> None:
        """Keep a value."""
        seen = self._seen.get(metric, 0)
        self._seen[metric] = seen + 1
        kept = self.values.setdefault(metric, [])
        stride = 1
        while seen // stride >= SAMPLES_MAX:
            stride *= 2
        if seen % stride:
            return
        if len(kept) >= SAMPLES_MAX:
            del kept[1::2]
        kept.append(round(value, 4))
