"""One stretch of a run's time line: counts, and histograms until its figures are packed."""

from __future__ import annotations

import zlib
from collections.abc import Container

import msgspec

from voxload.measure.histogram import Histogram
from voxload.measure.series import Quantiles, quantiles
from voxload.model.metric import SCALE, is_latency

Values = tuple[dict[str, Quantiles], dict[str, float]]
"""Percentiles of the latencies and means of the ratios and scores, by metric."""

_packed: msgspec.msgpack.Decoder[Values] = msgspec.msgpack.Decoder(Values)


class Stretch:
    """What was measured in it; takes in values until `freeze`."""

    __slots__ = (
        "_packed", "bytes_received", "bytes_sent", "cpu", "ended", "frames_received", "frames_sent", "histograms",
        "outcomes", "started",
    )  # fmt: skip

    def __init__(self) -> None:
        self.started = self.ended = 0
        self.frames_sent = self.frames_received = self.bytes_sent = self.bytes_received = 0
        self.outcomes: dict[str, int] = {}
        self.histograms: dict[str, Histogram] = {}
        self.cpu = 0.0
        self._packed = b""

    @property
    def frozen(self) -> bool:
        """Whether its figures stand."""
        return bool(self._packed)

    def histogram(self, metric: str) -> Histogram:
        """Return where values of a metric are counted; only before it is frozen."""
        found = self.histograms.get(metric)
        if found is None:
            found = self.histograms[metric] = Histogram()
        return found

    def values(self) -> Values:
        """Return the figures as they are now."""
        if self._packed:
            return _packed.decode(zlib.decompress(self._packed))
        latencies = {name: quantiles(histogram) for name, histogram in self.histograms.items() if is_latency(name)}
        means = {name: histogram.mean for name, histogram in self.histograms.items() if not is_latency(name)}
        return (
            {name: found for name, found in latencies.items() if found is not None},
            {name: mean / SCALE for name, mean in means.items() if mean is not None},
        )

    def freeze(self, kept: Container[str] = ()) -> None:
        """Pack the figures, about 1 kB, and let the histograms go, but for those of the metrics in `kept`."""
        self._pack(self.values())
        self.histograms = {name: each for name, each in self.histograms.items() if name in kept}

    def late(self, metric: str, value: float) -> None:
        """Take in a value that came after the freezing: the mean of its stretch, or its first value, stands."""
        latencies, means = self.values()
        means.setdefault(metric, value)
        self._pack((latencies, means))

    def _pack(self, values: Values) -> None:
        self._packed = zlib.compress(msgspec.msgpack.encode(values))
