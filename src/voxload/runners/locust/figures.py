"""Our live figures in Locust's own terms, for its web page; gates never read them (Locust rounds its percentiles)."""

from __future__ import annotations

from typing import Any

from voxload.measure.histogram import bucket_bounds
from voxload.measure.snapshot import Snapshot
from voxload.model.metric import is_latency
from voxload.model.outcome import NOT_ATTEMPTED, Outcome

SHOWN = ("call_setup", "turn_latency", "voice_response", "message_rtt", "http_latency")
VOICE = "VOICE"
CALL = "CALL"


def show(snapshot: Snapshot, stats: Any) -> None:
    """Add a snapshot to Locust's statistics: latencies by metric, calls by kind, failures by outcome."""
    for series in snapshot.series:
        if series.metric in SHOWN and is_latency(series.metric):
            name = " ".join([series.metric, *(value for key, value in series.labels.items() if key == "turn")])
            for index, count in series.histogram.buckets:
                low, high = bucket_bounds(index)
                for _ in range(count):
                    stats.log_request(VOICE, name, (low + high) / 2e6, 0)
    for call in snapshot.calls:
        if call.outcome in {outcome.value for outcome in NOT_ATTEMPTED}:
            continue
        stats.log_request(CALL, call.call, call.duration_s * 1000, 0)
        if call.outcome != Outcome.COMPLETED.value:
            stats.log_error(CALL, call.call, f"{call.outcome}: {call.error}".rstrip(": "))
