"""Set loads, measured as they are, beside the C floor at the same load; and 10,000 calls on one machine.

The small ones are one process on one core, as in the rest of the benchmark. The 10,000 calls are `voxload run` as a
user starts it: a process for each core, on the same two cores as the target (the sink in C).

One window of a virtual machine tells little: the same work costs half as much or twice as much a minute later. So
voxload and the floor are measured in turn, round by round, and the medians are compared.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from benchmarks.page import Section, grid
from benchmarks.peers import missing
from benchmarks.processes import ROOT, Sink, compiler, cores, run_peer
from benchmarks.search import LATENESS_P99_MS_MAX, SENT_SHARE_MIN, Step, judge
from benchmarks.table import LABELS

ROUNDS = 5
STEADY_S = 30.0
PING_INTERVAL_S = 15
LINGER_MS = 200
"""How long the light target leaves each socket unread: it reads two frames at once."""
RUN_S_MAX = 180.0
COLUMNS = ("", "calls", "µs/frame", "floor", "ratio", "lateness p99", "")


class Load(NamedTuple):
    """One load of one process."""

    name: str
    peer: str
    calls: int
    duplex: bool


class MachineLoad(NamedTuple):
    """One load of a whole machine, callers and target together; calls are set up while the frames of others flow."""

    calls: int
    rate: int
    duplex: bool
    setups_per_s: int = 550

    def name(self) -> str:
        """Return it in words."""
        return f"{self.calls:,} calls at {self.rate} messages/s" + (", duplex" if self.duplex else "")


MACHINES = (MachineLoad(10_000, 10, duplex=False), MachineLoad(1000, 50, duplex=True))
LOADS = (
    Load("50 frames/s up", "voxload", 1000, duplex=False),
    Load("50 frames/s duplex", "voxload", 1000, duplex=True),
    Load("50 frames/s up over wss, certificates verified", "voxload_tls", 500, duplex=False),
)


def section(
    progress: Console,
    loads: tuple[Load, ...] = LOADS,
    machines: tuple[MachineLoad, ...] = MACHINES,
    window_s: float = 3.0,
    rounds: int = ROUNDS,
) -> Section:
    """Measure all; returns the section of the page."""
    rows, raw, held = [], [], True
    for load in loads:
        ours: list[Step] = []
        floor: list[Step] = []
        for _ in range(rounds):
            ours.append(_step(load.peer, load, window_s, progress))
            floor += [] if missing("floor") else [_step("floor", load, window_s, progress)]
        rows.append(_row(load, ours, floor))
        raw.append({"load": load._asdict(), "ours": list(map(asdict, ours)), "floor": list(map(asdict, floor))})
        held = held and all(step.result.frames for step in ours)
    lines = [
        *grid(COLUMNS, rows),
        "",
        f"One process on one core, the target on another; in each direction where duplex. Medians of {rounds} rounds,",
        "in which both were measured in turn (and their range). The floor sends without TLS.",
    ]
    whole = []
    for load in machines:
        found = machine(load)
        progress.print(f"{load.name()}, voxload run: {found['verdict']}", markup=False, highlight=False, soft_wrap=True)
        title = f"### {load.name()}, callers and target on {len(cores_used())} cores"
        lines += ["", title, "", *machine_lines(found)]
        whole.append({"load": load._asdict(), **found})
    lines += [
        "",
        f"The target is the sink in C. Where it does not speak, it reads each socket every {LINGER_MS} ms. Each call",
        f"is pinged every {PING_INTERVAL_S} s. Frames and lateness are the summary's; those of the ramp count too.",
    ]
    return Section(lines, {"loads": raw, "machine": whole}, held)


def cores_used() -> set[int]:
    """Return the cores of the benchmark."""
    return set(cores())


def _step(peer: str, load: Load, window_s: float, progress: Console) -> Step:
    with Sink(load.duplex, light=not load.peer.endswith("_tls")) as sink:
        for _ in range(2):
            step = judge(*run_peer(peer, sink, load.calls, 50, load.duplex, window_s))
            verdict = (step.failed or "held") + (" (disturbed)" if step.disturbed else "")
            line = f"{LABELS[peer]}, {load.name}: {load.calls} calls, {step.result.us_per_frame or 0:.1f} µs/frame"
            progress.print(f"{line}: {verdict}", markup=False, highlight=False, soft_wrap=True)
            if not (step.failed and step.disturbed):
                break
    return step


def _row(load: Load, ours: Sequence[Step], floor: Sequence[Step]) -> tuple[str, ...]:
    us, us_floor = _costs(ours), _costs(floor)
    late_ms = [step.result.lateness_p99_ms for step in ours if step.result.lateness_p99_ms is not None]
    failed = [step.failed for step in ours if step.failed]
    marks = ", target-bound" if any(step.target_bound for step in ours) else ""
    marks += ", disturbed" if any(step.disturbed for step in ours) else ""
    held = f"held in {len(ours) - len(failed)} of {len(ours)}: {failed[0]}" if failed else "held"
    return (
        load.name,
        f"{load.calls:,}",
        _median_and_range(us),
        _median_and_range(us_floor),
        f"{statistics.median(us) / statistics.median(us_floor):.2f}" if us and us_floor else "—",
        f"{statistics.median(late_ms):.1f} ms" if late_ms else "—",
        held + marks,
    )


def _costs(steps: Sequence[Step]) -> list[float]:
    """Return µs a frame of each step that knows it."""
    return [step.result.us_per_frame for step in steps if step.result.us_per_frame is not None]


def _median_and_range(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f}-{max(values):.1f})" if values else "—"


def machine(load: MachineLoad, steady_s: float = STEADY_S) -> dict[str, Any]:
    """Run `voxload run` with so many callers on the sink in C; returns what its summary says of the steady seconds."""
    if compiler() is None:
        return {"verdict": "not measured: no C compiler for the light target"}
    ramp_s = load.calls / load.setups_per_s
    with (
        Sink(load.duplex, light=True, anywhere=True, linger_ms=0 if load.duplex else LINGER_MS) as sink,
        tempfile.TemporaryDirectory() as folder,
    ):
        scenario = Path(folder, "machine.json")
        scenario.write_text(json.dumps(_scenario(load, ramp_s, steady_s, sink.url)))
        command = [sys.executable, "-m", "voxload", "run", str(scenario), "--json", "--quiet", "--no-history"]
        command += ["--processes", str(len(cores_used())), "--out", str(Path(folder, "results"))]
        try:
            done = subprocess.run(
                command, cwd=ROOT, capture_output=True, text=True, timeout=RUN_S_MAX + 2 * ramp_s, check=False
            )
        except subprocess.TimeoutExpired:
            return {"verdict": "not measured: the run did not end in time"}
        if not done.stdout.startswith("{"):
            return {"verdict": f"not measured: exit code {done.returncode}: {done.stderr.strip()[-200:]}"}
        return judge_machine(json.loads(done.stdout), load, steady_s, done.returncode)


def _scenario(load: MachineLoad, ramp_s: float, steady_s: float, url: str) -> dict[str, Any]:
    return {
        "name": "machine",
        "target": url,
        "dialect": {"name": "rtmed", "message_rate": load.rate},
        "load": {
            "shape": "concurrency",
            "concurrency": load.calls,
            "ramp_up": f"{ramp_s:g}s",
            "duration": f"{ramp_s + 1:g}s",
        },
        "calls": [{"name": "listener", "script": [{"listen": f"{ramp_s + steady_s:g}s"}]}],
        "timeouts": {"setup": "30s"},
        "measurement": {"ping_interval": f"{PING_INTERVAL_S}s"},
    }


def judge_machine(summary: dict[str, Any], load: MachineLoad, steady_s: float, exit_code: int) -> dict[str, Any]:
    """Return the figures of the seconds in which all calls were up, and whether the load was held."""
    points, calls = summary["timeline"], load.calls
    steady = [point for point in points if point["active"] == calls][1:]  # at its end, and at the end of the one before
    first = next((point["start_s"] for point in points if point["started"]), None)
    full = next((point["start_s"] + point["duration_s"] for point in points if point["active"] == calls), None)
    seconds = sum(point["duration_s"] for point in steady)
    frames = sum(point["frames_sent"] for point in steady)
    heard = sum(point["frames_received"] for point in steady)
    late_ms = [point["latencies"]["frame_lateness"]["p99_ms"] for point in steady if point["frames_sent"]]
    found: dict[str, Any] = {
        "calls": calls,
        "exit_code": exit_code,
        "outcomes": summary["totals"]["outcomes"],
        "steady_s": seconds,
        "frames_per_s": frames / seconds if seconds else 0.0,
        "heard_per_s": heard / seconds if seconds else 0.0,
        "lateness_p99_ms": max(shard["lateness_p99_ms"] for shard in summary["shards"]),
        "lateness_p99_ms_worst": max(late_ms, default=None),
        "setups_per_s": calls / (full - first) if full is not None and first is not None and full > first else None,
        "shards": summary["shards"],
    }
    not_completed = {name: count for name, count in found["outcomes"].items() if name != "completed"}
    if not_completed:
        problem = f"not all calls were completed: {not_completed}"
    elif len(steady) < steady_s / 3:
        problem = f"all calls were up at once for {seconds:.0f} s only"
    elif found["frames_per_s"] < SENT_SHARE_MIN * calls * load.rate:
        problem = f"{found['frames_per_s']:,.0f} of {calls * load.rate:,} frames a second"
    elif found["lateness_p99_ms"] > LATENESS_P99_MS_MAX:
        problem = f"frame lateness p99 {found['lateness_p99_ms']:.1f} ms"
    else:
        problem = ""
    return {**found, "verdict": problem or "held"}


def machine_lines(found: dict[str, Any]) -> list[str]:
    """Return what was found in Markdown."""
    if "calls" not in found:
        return [f"{found['verdict'].capitalize()}."]

    def shown(name: str, form: str) -> str:
        return "—" if found[name] is None else format(found[name], form)

    outcomes = ", ".join(f"{name} {count:,}" for name, count in found["outcomes"].items())
    worst_ms = shown("lateness_p99_ms_worst", ".1f")
    rows = [
        ("calls up at once", f"{found['calls']:,} for {found['steady_s']:.0f} s"),
        ("outcomes", outcomes),
        ("frames sent a second", shown("frames_per_s", ",.0f")),
        ("frames heard a second", shown("heard_per_s", ",.0f")),
        ("frame lateness p99, whole run", f"{shown('lateness_p99_ms', '.1f')} ms"),
        ("frame lateness p99, worst second with all calls up", f"{worst_ms} ms"),
        ("set-ups a second until all were up", shown("setups_per_s", ",.0f")),
        ("CPU of each process, mean over the run", _each(found, "cpu_percent_mean", "%")),
        ("memory of each process", _each(found, "memory_mib", "MiB")),
        ("verdict", f"**{found['verdict']}**"),
    ]
    return grid(("`voxload run`", ""), rows)


def _each(found: dict[str, Any], name: str, unit: str) -> str:
    return ", ".join(f"{shard[name]:.0f} {unit}" for shard in found["shards"])
