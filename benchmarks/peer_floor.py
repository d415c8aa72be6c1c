"""The floor: a C client on epoll (`floor.c`) that sends the same frames; what the kernel leaves to gain.

It builds nothing a frame, masks with a zero key, records no histogram and parses only frame headers. Built on first use
where a C compiler is present.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.harness import SETTLE_S, Frames, Job, Result, Usage, read_job
from benchmarks.processes import build
from voxload.clock import NS_PER_S, monotonic_ns

PEER = "floor"
SOURCE = Path(__file__).with_name("floor.c")
TIMEOUT_S = 120


def run(job: Job) -> Result:
    """Run the client; it inherits this process's core, priority and limits."""
    frames = Frames(job)
    payload = frames.session.stamp(frames.prepared, 0, monotonic_ns())
    result = Result(PEER, job.calls, job.rate, job.duplex)
    with tempfile.TemporaryDirectory() as folder:
        words = [str(urlsplit(job.url).port), str(job.calls), str(job.rate), str(job.seconds), str(SETTLE_S)]
        done = subprocess.run(
            [str(build(SOURCE, Path(folder))), *words],
            input=payload,
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    if done.returncode:
        result.errors, result.error = 1, done.stderr.decode(errors="replace")[-200:]
        return result
    seen = json.loads(done.stdout)
    result.set_window(Usage(seen["start_ns"], 0, 0), Usage(seen["end_ns"], seen["cpu_ns"], seen["wait_ns"]))
    result.frames, result.frames_in, result.errors = seen["frames"], seen["frames_in"], seen["errors"]
    result.error = "frames that the kernel did not take, or closed sockets" if result.errors else ""
    result.lateness_p50_ms, result.lateness_p99_ms = seen["late_p50_ns"] / 1e6, seen["late_p99_ns"] / 1e6
    result.rss_mib = seen["rss_kib"] / 1024 - 8 * seen["frames"] / 2**20  # less the latenesses that it keeps
    assert result.seconds < 10 * NS_PER_S
    return result


def main() -> int:
    """Entry point."""
    run(read_job(PEER)).print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
