"""Peer: Artillery (npm) with its own WebSocket engine, a virtual user a call.

The script is what its manual has for such a load: `connect`, then a `loop` of a paced step and a `send` of the frame as
a text; one worker (`WORKERS=1`), for it has one core. The pace is a function of its processor (`artillery_paced.js`
says why), which takes the lateness too, since Artillery reports none. In its favour: the frame is the same text each
time, without a new stamp; frames received are counted and not parsed. CPU time and memory are those of its process.

Artillery is installed with npm into a folder of the cache (`python -m benchmarks.peer_artillery --install`).
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from benchmarks.harness import SETTLE_S, SETUP_S_MAX, Frames, Job, Result, Usage, read_job
from voxload.clock import monotonic_ns

PEER = "artillery"
VERSION = "2.0.21"
FOLDER = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "voxload" / "artillery"
PROGRAM = FOLDER / "node_modules" / ".bin" / "artillery"
PROCESSOR = Path(__file__).with_name("artillery_paced.js")
ARRIVALS_PER_S = 100
INSTALL_S_MAX = 300
MARK = "BENCHMARK "


def missing() -> str:
    """Return what is not installed, or nothing."""
    absent = [name for name in ("node", "npm") if shutil.which(name) is None]
    if absent:
        return f"{' and '.join(absent)} not installed (Debian: apt-get install nodejs npm)"
    return "" if PROGRAM.exists() else "not installed (python -m benchmarks.peer_artillery --install)"


def install() -> str:
    """Install Artillery unless it is there; returns why not, or nothing."""
    if not missing() or shutil.which("npm") is None:
        return missing()
    FOLDER.mkdir(parents=True, exist_ok=True)
    command = [
        "npm",
        "install",
        "--prefix",
        str(FOLDER),
        "--no-audit",
        "--no-fund",
        "--omit=dev",
        f"artillery@{VERSION}",
    ]
    quiet = {"PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD": "1"}  # browsers are for another engine of it
    try:
        done = subprocess.run(
            command, env={**os.environ, **quiet}, capture_output=True, text=True, timeout=INSTALL_S_MAX, check=False
        )
    except subprocess.TimeoutExpired:
        return f"npm install took over {INSTALL_S_MAX} s"
    return "" if done.returncode == 0 else f"npm install failed: {done.stderr.strip()[-200:]}"


def version() -> str:
    """Return the installed version."""
    return str(json.loads((FOLDER / "node_modules" / "artillery" / "package.json").read_text())["version"])


def script(job: Job) -> dict[str, Any]:
    """Return Artillery's script: all calls arrive, wait for each other, and then send until the process ends."""
    frames = Frames(job)
    text = frames.session.stamp(frames.prepared, 0, monotonic_ns()).decode()
    return {
        "config": {
            "target": job.socket_url(0),
            "phases": [{"duration": math.ceil(job.calls / ARRIVALS_PER_S), "arrivalCount": job.calls}],
            "processor": str(PROCESSOR),
        },
        "scenarios": [
            {
                "engine": "ws",
                "flow": [
                    {"function": "begin"},
                    {"loop": [{"function": "pace"}, {"send": text}], "count": 10_000_000},
                ],
            }
        ],
    }


def run(job: Job) -> Result:
    """Run Artillery; it inherits this process's core, priority and limits."""
    result = Result(PEER, job.calls, job.rate, job.duplex)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "script.json")
        path.write_text(json.dumps(script(job)))
        told = {
            "calls": job.calls,
            "rate": job.rate,
            "seconds": job.seconds,
            "duplex": job.duplex,
            "settle_s": SETTLE_S,
        }
        fixed = {"WORKERS": "1", "ARTILLERY_DISABLE_TELEMETRY": "true", "BENCHMARK_JOB": json.dumps(told)}
        process = subprocess.Popen(
            [str(PROGRAM), "run", "--quiet", str(path)],
            env={**os.environ, **fixed},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        seen, said = _listen(process, SETUP_S_MAX + job.calls / ARRIVALS_PER_S + job.seconds)
    if seen is None:
        result.errors, result.error = 1, f"no result: {' '.join(said.split())[-200:]}"
        return result
    before, after = (Usage(**seen[name]) for name in ("before", "after"))
    result.set_window(before, after)
    result.frames, result.frames_in = seen["frames"], seen["frames_in"]
    result.errors, result.error = seen["errors"], seen["error"]
    result.lateness_p50_ms, result.lateness_p99_ms = seen["late_p50_ms"], seen["late_p99_ms"]
    result.rss_mib = seen["rss_bytes"] / 2**20
    return result


def _listen(process: subprocess.Popen[str], seconds_max: float) -> tuple[dict[str, Any] | None, str]:
    """Return the line of figures that the processor writes (None: it wrote none), and all else that was said."""
    watch = threading.Timer(seconds_max, process.kill)
    watch.start()
    said: list[str] = []
    seen = None
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(MARK):
            seen = json.loads(line.removeprefix(MARK))
            break
        said.append(line)
    watch.cancel()
    process.kill()
    process.wait()
    return seen, "".join(said)


def main() -> int:
    """Entry point."""
    if sys.argv[1:] == ["--install"]:
        problem = install()
        print(problem or f"Artillery {version()} in {FOLDER}")
        return 1 if problem else 0
    run(read_job(PEER)).print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
