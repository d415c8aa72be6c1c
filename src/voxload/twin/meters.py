"""What the twin counts about itself, and its exposition in the Prometheus text format."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

BUCKETS_S = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)


class Meters(Collector):
    """Counters and latency histograms of one twin.

    Frames are counted a call; `live` yields (frames in, frames out) of each active call when the metrics are asked for,
    so that a frame costs nothing here.
    """

    def __init__(self, live: Callable[[], Iterable[tuple[int, int]]]) -> None:
        self._live = live
        self.active_calls = 0
        self.ended_frames_in = 0
        self.ended_frames_out = 0
        self._registry = CollectorRegistry(auto_describe=False)
        self._calls = Counter("twin_calls", "Calls by how they ended.", ["outcome"], registry=self._registry)
        self._turns = Counter("twin_turns", "Turns that the caller finished.", registry=self._registry)
        self._interruptions = Counter(
            "twin_interruptions", "Replies that the agent stopped because the caller spoke.", registry=self._registry
        )
        self._refusals = Counter("twin_quota_refusals", "Refusals by quota.", ["quota"], registry=self._registry)
        self._faults = Counter("twin_faults", "Faults that have struck, by name.", ["fault"], registry=self._registry)
        self._stages = Histogram(
            "twin_stage_seconds",
            "Latency that was drawn, by stage.",
            ["stage"],
            buckets=BUCKETS_S,
            registry=self._registry,
        )
        self._replies = Histogram(
            "twin_reply_seconds",
            "From the caller's last active sample to the first frame of the reply, as it happened.",
            buckets=BUCKETS_S,
            registry=self._registry,
        )
        self._registry.register(self)

    def call_ended(self, outcome: str) -> None:
        """Count a call that has ended, or was never let in."""
        self._calls.labels(outcome).inc()

    def turn(self, stages_ns: dict[str, int]) -> None:
        """Count a turn with the latencies that were drawn for it, in ns by stage."""
        self._turns.inc()
        for stage, latency_ns in stages_ns.items():
            self._stages.labels(stage).observe(latency_ns / 1e9)

    def replied(self, latency_ns: int) -> None:
        """Record when a reply began, in ns from the end of the caller's speech."""
        self._replies.observe(latency_ns / 1e9)

    def interrupted(self) -> None:
        """Count a reply that was stopped for the caller."""
        self._interruptions.inc()

    def fault(self, name: str) -> None:
        """Count a fault that has struck."""
        self._faults.labels(name).inc()

    def refused(self, quota: str) -> None:
        """Count a refusal by a quota."""
        self._refusals.labels(quota).inc()

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics that are added up only when they are asked for."""
        frames_in, frames_out = self.ended_frames_in, self.ended_frames_out
        for call_in, call_out in self._live():
            frames_in += call_in
            frames_out += call_out
        yield GaugeMetricFamily("twin_active_calls", "Calls with an open media socket.", self.active_calls)
        frames = CounterMetricFamily("twin_frames", "Audio messages by direction.", labels=["direction"])
        frames.add_metric(["in"], frames_in)
        frames.add_metric(["out"], frames_out)
        yield frames

    def expose(self) -> bytes:
        """Return all metrics in the Prometheus text format."""
        return generate_latest(self._registry)
