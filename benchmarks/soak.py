"""Soak: does memory stay flat? A real run at 500 calls, or a day on the virtual clock.

    python -m benchmarks.soak                          ten minutes at 500 calls, every process watched
    python -m benchmarks.soak --duration 2m --calls 100
    python -m benchmarks.soak --record 100%            every call recorded as well
    python -m benchmarks.soak --virtual 24h            one process, no sockets, as fast as it goes

Resident memory is read every second (virtual: every minute of the run). It is flat when its level over the last tenth
is at most 5 % above that over the second tenth: what comes before is start-up. Exit code 1 when it is not.
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
from voxload.model.units import parse_duration_ns
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


def growth(levels_mib: list[float]) -> float:
    """Median of the last tenth over that of the second tenth, less one."""
    tenth = max(len(levels_mib) // 10, 1)
    return statistics.median(levels_mib[-tenth:]) / statistics.median(levels_mib[tenth : 2 * tenth]) - 1


def virtual(duration_s: float, rate_per_s: float) -> dict[str, list[float]]:
    """Play the run on the virtual clock; returns this process's resident memory, MiB, once a virtual minute."""
    found: list[float] = []
    process = psutil.Process()
    started = time.perf_counter()

    class Watched(VirtualWorld):
        def _report(self, end_ns: int, final: bool = False) -> None:
            super()._report(end_ns, final)
            if round(end_ns / 1e9) % 60 == 0:
                found.append(process.memory_info().rss / 2**20)

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


def real(duration_s: float, calls: int, record: str) -> dict[str, list[float]]:
    """Run the command; returns the resident memory of each of its processes, MiB, once a second."""
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        scenario = Path(folder, "soak.json")
        scenario.write_text(json.dumps(soak_scenario(duration_s, concurrency=calls, ramp_up=f"{duration_s / 20:g}s")))
        command = subprocess.Popen(
            [sys.executable, "-m", "voxload", "run", str(scenario), "--quiet", "--out", str(Path(folder, "results"))]
            + (["--record", record] if record else [])
        )
        began = time.perf_counter()
        while command.poll() is None:
            if time.perf_counter() - began < duration_s:  # afterwards calls end, and what they held comes free
                _look(command.pid, found)
            time.sleep(1)
    if command.returncode not in {0, 4}:
        raise SystemExit(f"the run ended with exit code {command.returncode}")
    return found


def _look(pid: int, found: dict[str, list[float]]) -> None:
    try:
        command = psutil.Process(pid)
        for process in [command, *command.children(recursive=True)]:
            words = " ".join(process.cmdline())
            name = next((role for module, role in ROLES.items() if module in words), "helper")
            if process.pid == pid:
                name = "command, collector"
            found.setdefault(f"{name} ({process.pid})", []).append(process.memory_info().rss / 2**20)
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
    if chosen.virtual:
        found = virtual(parse_duration_ns(chosen.virtual) / 1e9, chosen.rate)
    else:
        found = real(parse_duration_ns(chosen.duration) / 1e9, chosen.calls, chosen.record)
    if chosen.json:
        chosen.json.write_text(json.dumps(found))
    flat = True
    for name, levels in found.items():
        if len(levels) < 20:
            print(f"{name:<32} too few readings ({len(levels)})")
            continue
        grown = growth(levels)
        flat = flat and grown <= GROWTH_MAX
        print(f"{name:<32} {min(levels):7.1f} to {max(levels):7.1f} MiB, end against start {grown:+.1%}")
    print("flat" if flat else f"NOT flat: more than {GROWTH_MAX:.0%}")
    return 0 if flat else 1


if __name__ == "__main__":
    sys.exit(main())
