"""How many calls one core of this machine carries: two short loads on the embedded agent, kept for later warnings."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec

from voxload.clock import utc_now
from voxload.errors import RunAbortedError
from voxload.measure.collector import Collector
from voxload.model.plan import Plan
from voxload.model.scenario import Scenario
from voxload.runners.estimate import CORE_SHARE_MAX
from voxload.runners.results import write_atomically

CALLS = 150
CALLS_MAX = 600
"""The embedded agent, one process, hears so many in time wherever a core carries them."""
RAMP_S = 1
STEADY_S = 3
FRAMES_PER_S = 50
CACHE_FILE = "doctor.json"

StartTwin = Callable[[Scenario], Any]


class Measured(msgspec.Struct, frozen=True):
    """What the benchmark found, one process, 50 frames a second up, the agent quiet."""

    cpu_us_per_frame: float
    """CPU time of the generator while all calls are up, network stack included."""
    lateness_p99_ms: float
    """Of the whole run, its set-ups included."""
    calls: int
    memory_mib: float
    """Of the generator process."""
    calls_per_core: int
    """At 70 % of a core, extrapolated."""
    measured_at: str


def measure(start_twin: StartTwin, calls_max: int = CALLS_MAX) -> Measured:
    """Place quiet calls for some seconds and read off what they cost.

    A frame costs less the more are sent at once (a process wakes for all that are due): half as much at a core's full
    load as at 150 calls. So `CALLS` calls tell first about how many a core carries, then that many are placed.

    Raises:
        RunAbortedError: the benchmark could not be made.
    """
    few = _place(start_twin, CALLS)
    many = min(few.calls_per_core, calls_max)
    return _place(start_twin, many) if many > CALLS else few


def _place(start_twin: StartTwin, calls: int) -> Measured:
    data: dict[str, Any] = {
        "name": "doctor",
        "target": "twin",
        "dialect": {"name": "rtmed", "message_rate": FRAMES_PER_S},
        "load": {"shape": "concurrency", "concurrency": calls, "duration": RAMP_S + STEADY_S, "ramp_up": RAMP_S},
        "calls": [{"name": "quiet", "script": [{"listen": RAMP_S + STEADY_S}, "hang_up"]}],
        "twin": {"greeting": False},
    }
    import uvloop  # noqa: PLC0415  # most who come here want to know what was remembered

    from voxload.runners.local import LocalRunner  # noqa: PLC0415  # as above

    scenario = Scenario.model_validate(data)
    with start_twin(scenario) as twin:
        collector = Collector()
        uvloop.run(LocalRunner(Plan("doctor", data, twin.url), 1, collector).run())
    health = collector.shard_health()[0]
    late_ns = collector.histogram("frame_lateness").quantile(0.99)
    points = list(collector.timeline({}))
    quiet = [point for before, point in pairwise(points) if point.active == before.active == calls and not point.ended]
    frames = sum(point.frames_sent for point in quiet)
    if health.lost or not frames or late_ns is None:
        reason = (health.lost.strip().splitlines() or [f"{calls} calls were never up at once"])[-1]
        raise RunAbortedError(f"not made: {reason}")
    us = sum(point.cpu_percent * point.duration_s for point in quiet) * 1e4 / frames
    per_core = int(CORE_SHARE_MAX * 1e6 / (us * FRAMES_PER_S))
    at = utc_now().isoformat(timespec="seconds")
    return Measured(us, late_ns / 1e6, calls, health.memory_mib, per_core, at)


def cache_path() -> Path:
    """Return where the last benchmark of this user is kept."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "voxload" / CACHE_FILE


def remember(measured: Measured) -> None:
    """Keep a benchmark for the warnings of `voxload check`; a cache that cannot be written is no error."""
    try:
        cache_path().parent.mkdir(parents=True, exist_ok=True)
        write_atomically(cache_path(), msgspec.json.encode(measured))
    except OSError:
        pass


def remembered() -> Measured | None:
    """Return the last benchmark on this machine, if there is one."""
    try:
        return msgspec.json.decode(cache_path().read_bytes(), type=Measured)
    except (OSError, msgspec.MsgspecError):
        return None
