"""Soak: does memory stay flat? A real run at 500 calls, or a day on the virtual clock.

    python -m benchmarks.soak                          ten minutes at 500 calls, every process watched
    python -m benchmarks.soak --duration 2m --calls 100
    python -m benchmarks.soak --record 100%            every call recorded as well
    python -m benchmarks.soak --virtual 24h            one process, no sockets, as fast as it goes

Resident memory is read every second (virtual: every minute of the run). It is flat when its level over the last tenth
is at most 5 % above that over a tenth after the start-up: imports, the ramp, the first calls of every kind, the first
reports. That takes a minute; of a run under ten minutes half of the time, at most 30 s (virtual: a tenth). Exit code 1
when it is not flat.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil

from voxload.measure.collector import Collector
from voxload.model.plan import Plan
from voxload.model.quantities import parse_duration_ns
from voxload.testing.virtual import VirtualWorld

GROWTH_MAX = 0.05


def soak_scenario(duration_s: float, **load: Any) -> dict[str, Any]:
    """A load of short calls with two turns each; `load` has the arrival rate, or a closed concurrency."""
    shape = "concurrency" if "concurrency" in load else "constant"
    return {
        "name": "soak",
        "target": "twin",
        "load": {"shape": shape, "duration": f"{duration_s:g}s", **load},
        "calls": [
            {
                "name": "booking",
                "script": ["wait_for_agent", {"say": "book_appointment"}, "wait_for_agent", {"think": "1s..2s"}],
            }
        ],
        "twin": {"latency": {"turn": "500ms"}, "reply_seconds_max": 1.5, "faults": {"silent_rate": 0.01}},
        "timeouts": {"agent_reply": "3s"},
    }


def live_bytes(roots: Iterable[object]) -> int:
    """Bytes of all that is reachable from `roots`, other than modules, classes and functions."""
    gc.collect()
    seen: set[int] = set()
    todo, total = list(roots), 0
    shared = (type, type(sys), type(live_bytes))
    while todo:
        item = todo.pop()
        if id(item) in seen or isinstance(item, shared):
            continue
        seen.add(id(item))
        total += sys.getsizeof(item)
        todo += gc.get_referents(item)
    return total


Readings = list[tuple[float, float]]
"""Seconds since the start of the run, MiB."""


def warm_up_s(duration_s: float, on_virtual_clock: bool = False) -> float:
    """Return how much of the run is start-up."""
    if on_virtual_clock:
        return duration_s / 10
    return 60.0 if duration_s >= 600 else min(duration_s / 2, 30.0)


def level(readings: Readings, start_s: float, end_s: float) -> float | None:
    """Return the median of a stretch, MiB; None where it was read fewer than three times."""
    found = [mib for at_s, mib in readings if start_s <= at_s < end_s]
    return statistics.median(found) if len(found) >= 3 else None


def growth(readings: Readings, duration_s: float, start_s: float) -> float | None:
    """Return the level of the last tenth over that of a tenth from `start_s` on, less one; None: too few readings."""
    start, end = level(readings, start_s, start_s + duration_s / 10), level(readings, 0.9 * duration_s, duration_s)
    return end / start - 1 if start and end else None


def virtual(duration_s: float, rate_per_s: float) -> dict[str, Readings]:
    """Play the run on the virtual clock; returns this process's resident memory once a virtual minute."""
    found: Readings = []
    process = psutil.Process()
    started = time.perf_counter()

    class Watched(VirtualWorld):
        def _report(self, end_ns: int, final: bool = False) -> None:
            super()._report(end_ns, final)
            if round(end_ns / 1e9) % 60 == 0:
                found.append((end_ns / 1e9, process.memory_info().rss / 2**20))

    world = Watched(Plan("soak", soak_scenario(duration_s, arrival_rate=rate_per_s), "http://agent.example"))
    world.collector = Collector.of_duration(duration_s)
    collector = world.run(duration_s + 3600)
    spent = time.perf_counter() - started
    print(f"{sum(collector.outcomes.values()):,} calls, {duration_s / 3600:.1f} h in {spent:.0f} s")
    return {"virtual world": found}


ROLES = {
    "voxload.engine.shard": "generator shard",
    "voxload.twin": "embedded agent",
    "voxload.standins.acs": "exchange",
}


def real(duration_s: float, calls: int, record: str) -> dict[str, Readings]:
    """Run the command; returns the resident memory of each of its processes once a second."""
    found: dict[str, Readings] = {}
    with tempfile.TemporaryDirectory() as folder:
        scenario = Path(folder, "soak.json")
        scenario.write_text(json.dumps(soak_scenario(duration_s, concurrency=calls, ramp_up=f"{duration_s / 20:g}s")))
        command = subprocess.Popen(
            [sys.executable, "-m", "voxload", "run", str(scenario), "--quiet", "--out", str(Path(folder, "results"))]
            + (["--record", record] if record else [])
        )
        began = time.perf_counter()
        while command.poll() is None:
            at_s = time.perf_counter() - began
            if at_s < duration_s:  # afterwards calls end, and what they held comes free
                _look(command.pid, at_s, found)
            time.sleep(1)
    if command.returncode not in {0, 4}:
        raise SystemExit(f"the run ended with exit code {command.returncode}")
    return found


def _look(pid: int, at_s: float, found: dict[str, Readings]) -> None:
    try:
        command = psutil.Process(pid)
        for process in [command, *command.children(recursive=True)]:
            words = " ".join(process.cmdline())
            name = next((role for module, role in ROLES.items() if module in words), "helper")
            if process.pid == pid:
                name = "command, collector"
            found.setdefault(f"{name} ({process.pid})", []).append((at_s, process.memory_info().rss / 2**20))
    except psutil.NoSuchProcess:
        pass


def main() -> int:
    """Soak and tell; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--duration", default="10m")
    parser.add_argument("--calls", type=int, default=500)
    parser.add_argument("--record", default="", help="record calls, as `voxload run --record` does")
    parser.add_argument("--virtual", metavar="DURATION", help="on the virtual clock, for so long")
    parser.add_argument("--rate", type=float, default=0.2, help="calls a second on the virtual clock")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all readings there, MiB by process")
    chosen = parser.parse_args()
    duration_s = parse_duration_ns(chosen.virtual or chosen.duration) / 1e9
    found = virtual(duration_s, chosen.rate) if chosen.virtual else real(duration_s, chosen.calls, chosen.record)
    start_s = warm_up_s(duration_s, bool(chosen.virtual))
    if chosen.json:
        chosen.json.write_text(json.dumps({"duration_s": duration_s, "start_s": start_s, "readings": found}))
    flat = True
    for name, readings in found.items():
        grown = growth(readings, duration_s, start_s)
        if grown is None:
            flat = False
            print(f"{name:<32} too few readings ({len(readings)})")
            continue
        flat = flat and grown <= GROWTH_MAX
        levels = [mib for _, mib in readings]
        print(f"{name:<32} {min(levels):7.1f} to {max(levels):7.1f} MiB, end against start {grown:+.1%}")
    print("flat" if flat else f"NOT flat: more than {GROWTH_MAX:.0%}, or not told")
    return 0 if flat else 1


if __name__ == "__main__":
    sys.exit(main())
