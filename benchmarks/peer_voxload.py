"""voxload itself: the real engine in this process, from the arrivals to the recorder, nothing left out.

Every call places its `POST /api/v1/calls/start`, opens its socket, follows a script (`listen` for the whole time, in
which silence is sent frame by frame), is pinged as in any run, and in a duplex call decodes and listens to every frame
that the agent sends. The numbers are those of the engine's own one-second snapshots: `frames_sent`, `frames_received`
and the histogram `frame_lateness`. The window begins after the first whole second with all calls up.
"""

from __future__ import annotations

import asyncio
import math
import os
import sys
from typing import Any

import uvloop

from benchmarks.harness import SETTLE_S, SETUP_S_MAX, Job, Result, read_job, usage
from voxload.clock import NS_PER_MS, NS_PER_S, monotonic_ns
from voxload.engine.shard import Shard
from voxload.measure.histogram import Histogram
from voxload.measure.snapshot import Snapshot
from voxload.model.plan import Plan

EXPECTED_ENDS = {"cancelled", "completed"}
"""How calls end when this process hangs up on them."""


def scenario(job: Job, dialect: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the scenario: a fixed number of callers, each with one call that outlasts the window."""
    # one interval more than the calls need, so that their frames spread over the whole period, as every peer's do
    ramp_s = (job.calls + 1) / job.setups_per_s
    return {
        "name": "benchmark",
        "target": job.url,
        "dialect": dialect or {"name": "rtmed", "message_rate": job.rate},
        "load": {
            "shape": "concurrency",
            "concurrency": job.calls,
            "ramp_up": ramp_s,
            "duration": ramp_s + SETUP_S_MAX + job.seconds,
        },
        "timeouts": {"setup": SETUP_S_MAX},  # too slow a set-up is a figure here, not a failed call
        "calls": [{"name": "listener", "script": [{"listen": "10m"}]}],
    }


class Window:
    """Adds up the snapshots of the steady window; tells the shard to stop after it."""

    def __init__(self, job: Job, peer: str) -> None:
        self.job = job
        self.shard: Shard | None = None
        self.result = Result(peer, job.calls, job.rate, job.duplex)
        self._lateness = Histogram()
        self._steady = 0  # whole seconds for which all calls have been up
        self._left = math.ceil(job.seconds)
        self._give_up_ns = monotonic_ns() + round((SETUP_S_MAX + job.calls / job.setups_per_s) * NS_PER_S)
        self._start = usage()

    def take(self, snapshot: Snapshot) -> None:
        """Look at one snapshot, at the instant at which it was taken."""
        now = usage()
        for outcome, count in snapshot.counters.outcomes.items():
            if outcome not in EXPECTED_ENDS:
                self.result.errors += count
                text = next((text for kind, text, _ in snapshot.counters.errors if kind == outcome), "")
                self.result.error = self.result.error or f"{outcome}: {text}"
        if self._left == 0:
            return
        if self._steady > SETTLE_S:
            self._add(snapshot)
            self._left -= 1
            if self._left == 0:
                self.result.set_window(self._start, now)
                self._stop()
            return
        self._steady = self._steady + 1 if snapshot.active == self.job.calls else 0
        self._start = now
        if not self._steady and (now.at_ns > self._give_up_ns or self.result.errors):
            self.result.errors += 1
            self.result.error = self.result.error or "not all calls were open in time"
            self._left = 0
            self._stop()

    def _add(self, snapshot: Snapshot) -> None:
        counters = snapshot.counters
        self.result.frames += counters.frames_sent
        self.result.frames_in += counters.frames_received
        for series in snapshot.unpack().series:
            if series.metric == "frame_lateness":
                self._lateness.merge(Histogram.from_data(series.histogram))

    def _stop(self) -> None:
        if self.shard is not None:
            asyncio.get_running_loop().call_soon(self.shard.stop)

    def close(self) -> Result:
        """Return what was measured."""
        for name, fraction in (("lateness_p50_ms", 0.5), ("lateness_p99_ms", 0.99)):
            value_ns = self._lateness.quantile(fraction)
            setattr(self.result, name, None if value_ns is None else value_ns / NS_PER_MS)
        return self.result


async def run(job: Job, peer: str = "voxload", dialect: dict[str, Any] | None = None) -> Result:
    """Place the calls and measure."""
    window = Window(job, peer)
    authorities = os.environ.get("BENCHMARK_CA", "")
    plan = Plan(run_id="benchmark", scenario=scenario(job, dialect), target=job.url, authorities=authorities)
    window.shard = Shard(plan, 0, 1, window.take)
    await window.shard.run(monotonic_ns() + 100 * NS_PER_MS)
    return window.close()


def main() -> int:
    """Entry point."""
    uvloop.run(run(read_job("voxload"))).print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
