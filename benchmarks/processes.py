"""The processes of the benchmark: starts the sink and runs one peer for one step, each on its own core."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import CONNECTS_AT_ONCE, SETTLE_S, SETUP_S_MAX, SETUPS_PER_S, Result
from benchmarks.speech import agent_frame
from voxload.clock import NS_PER_S, monotonic_ns, sleep_s

SINK_SOURCE = Path(__file__).with_name("sink.c")
ROOT = Path(__file__).resolve().parent.parent
READY_S_MAX = 20.0
DRAIN_S_MAX = 5.0
START_S = 1.5
"""Interpreter and imports of a peer, about."""
SETUPS_PER_S_OF = {"locust": 100, "artillery": 100, "floor": 4000}
"""Calls that a peer opens a second, where it is not voxload's rate."""
assert CONNECTS_AT_ONCE < 4096  # the sink's backlog


def compiler() -> str | None:
    """Return the C compiler, if there is one."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def build(source: Path, folder: Path) -> Path:
    """Compile a program in C into a folder."""
    program = folder / source.stem
    subprocess.run([compiler() or "cc", "-O2", "-o", str(program), str(source)], check=True)
    return program


def cores() -> tuple[int, int]:
    """Return the core of the clients and the core of the sink: the first two that this process may use."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[min(1, len(usable) - 1)]


@dataclass(slots=True)
class SinkView:
    """What the sink saw in a peer's window."""

    frames_in_per_s: float = 0.0
    frames_out_per_s: float = 0.0
    cpu_share: float = 0.0
    wait_share: float = 0.0
    """Share of the window for which other processes held the sink's core."""
    setup_s: float | None = None
    """From the first open socket to the last, in steps of 250 ms; None: not all were open, or within one step."""
    lateness_p99_ms: float | None = None
    """The worst 250 ms of the sink's own sends."""


class Sink:
    """The sink as a child process; use it in a `with`.

    `light`: the one in C, where there is a compiler, which carries more than one in Python can. It is
    pinned to the second core, or with `anywhere` to none. With `linger_ms` it reads each socket once in that time only.
    """

    def __init__(self, speak: bool, light: bool = False, anywhere: bool = False, linger_ms: int = 0) -> None:
        self._folder = tempfile.TemporaryDirectory()
        core = -1 if anywhere else cores()[1]
        if light and compiler() is not None:
            folder = Path(self._folder.name)
            command = [str(build(SINK_SOURCE, folder)), str(core), str(linger_ms)]
            if speak:
                message = folder / "message"
                message.write_bytes(agent_frame("rtmed"))
                command.append(str(message))
        else:
            command = [sys.executable, "-m", "benchmarks.sink", *(["--speak"] if speak else [])]
            command += [] if anywhere else ["--cpu", str(core)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the sink did not start")
        told = json.loads(line)
        self.url: str = told["url"]
        self.tls_url: str = told["tls_url"]
        self.authorities: str = told["ca"]

    def __enter__(self) -> Sink:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()

    def stats(self) -> dict[str, Any]:
        """Return what the sink has counted, with the samples since the last call."""
        with urllib.request.urlopen(f"{self.url}/stats", timeout=10) as answer:
            stats: dict[str, Any] = json.load(answer)
            return stats

    def drain(self) -> dict[str, Any]:
        """Wait until all connections of the last step are gone; returns the statistics with that step's samples."""
        stats = self.stats()
        samples = stats["samples"]
        end_ns = monotonic_ns() + round(DRAIN_S_MAX * NS_PER_S)
        while stats["connections"] and monotonic_ns() < end_ns:
            sleep_s(0.05)
            stats = self.stats()
            samples += stats["samples"]
        return {**stats, "samples": samples}


def view(samples: list[dict[str, Any]], result: Result) -> SinkView:
    """Return what the sink saw in the samples that lie wholly inside the peer's window."""
    inside = [s for s in samples if s["start_ns"] >= result.window_start_ns and s["end_ns"] <= result.window_end_ns]
    span_s = sum(s["end_ns"] - s["start_ns"] for s in inside) / NS_PER_S
    if not span_s:
        return SinkView()
    late = [s["lateness_p99_ms"] for s in inside if s["lateness_p99_ms"] is not None]
    return SinkView(
        frames_in_per_s=sum(s["frames_in"] for s in inside) / span_s,
        frames_out_per_s=sum(s["frames_out"] for s in inside) / span_s,
        cpu_share=sum(s["cpu_ns"] for s in inside) / NS_PER_S / span_s,
        wait_share=sum(s["wait_ns"] for s in inside) / NS_PER_S / span_s,
        setup_s=setup_s(samples, result.calls),
        lateness_p99_ms=max(late, default=None),
    )


def setup_s(samples: list[dict[str, Any]], calls: int) -> float | None:
    """Return how long it took until all calls had opened their sockets, as the sink saw it."""
    first = next((sample["start_ns"] for sample in samples if sample["connections"]), None)
    last = next((sample["end_ns"] for sample in samples if sample["connections"] >= calls), None)
    if first is None or last is None or last - first < NS_PER_S:
        return None
    return (last - first) / NS_PER_S


def step_s(peer: str, calls: int, seconds: float) -> float:
    """Return about how long a step takes: start, set-up, settling, window, end."""
    return START_S + calls / SETUPS_PER_S_OF.get(peer, max(SETUPS_PER_S, calls // 8)) + SETTLE_S + seconds + 1.0


def run_peer(
    peer: str, sink: Sink, calls: int, rate: int, duplex: bool, seconds: float, setups_per_s: int = 0
) -> tuple[Result, SinkView]:
    """Run one step; voxload places `setups_per_s` calls a second (0: all within some seconds).

    A peer that dies, hangs or prints nonsense is a step with an error.
    """
    tls = peer.endswith("_tls")
    url = sink.tls_url if tls else sink.url
    command = [sys.executable, "-m", f"benchmarks.peer_{peer}", "--url", url, "--calls", str(calls)]
    command += ["--seconds", str(seconds), "--rate", str(rate), "--cpu", str(cores()[0])]
    command += ["--setups-per-s", str(setups_per_s or max(SETUPS_PER_S, calls // 8))]
    command += ["--duplex"] if duplex else []
    result = Result(peer, calls, rate, duplex)
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "BENCHMARK_CA": sink.authorities} if tls else None,
            capture_output=True,
            text=True,
            timeout=START_S + SETUP_S_MAX + 3 * step_s(peer, calls, seconds),
            check=False,
        )
        lines = done.stdout.strip().splitlines()
        if lines and done.returncode == 0:
            result = Result(**json.loads(lines[-1]))
        else:
            result.errors, result.error = 1, f"exit {done.returncode}: {done.stderr.strip()[-300:]}"
    except subprocess.TimeoutExpired:
        result.errors, result.error = 1, "the peer hung and was ended"
    return result, view(sink.drain()["samples"], result)
