"""What all peers of the benchmark share: their arguments, the frame that they send, the steady window, the JSON line.

A peer is a process of its own on a core of its own. It opens its calls, waits until all of them send, lets them run
for a settling second, and then counts for a window: frames sent and received, CPU time of the process (user and
system), and the lateness of each frame (the instant just before the send, less the instant at which the frame was due).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from array import array
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from voxload.clock import NS_PER_S, monotonic_ns, process_cpu_ns
from voxload.dialects.base import CallerSession, CallIdentity
from voxload.dialects.rtmed import SOCKET_PREFIX, RtmedDialect, RtmedOptions
from voxload.process import prefer_this_process, raise_file_limit

SETTLE_S = 1.0
"""Between the last call's first frame and the window."""
CONNECTS_AT_ONCE = 64
SETUPS_PER_S = 400
"""At which voxload places its calls; the peers open theirs as they do."""
SETUP_S_MAX = 30.0
"""A peer that has not opened its calls by then gives up."""
AGENT_RATE = 50
"""Frames a second that the sink sends in a duplex call."""


@dataclass(frozen=True, slots=True)
class Job:
    """One step of the benchmark, as a peer sees it."""

    url: str
    calls: int
    seconds: float
    rate: int
    duplex: bool
    cpu: int | None
    setups_per_s: int = SETUPS_PER_S

    @property
    def period_ns(self) -> int:
        """Time between two frames of a call."""
        return NS_PER_S // self.rate

    def socket_url(self, call: int) -> str:
        """Return where the media socket of a call opens."""
        return f"ws://{self.url.split('://', 1)[1]}{SOCKET_PREFIX}{call}"

    def first_due_ns(self, call: int, start_ns: int) -> int:
        """Return when a call's first frame is due: the calls are spread evenly over one period."""
        return start_ns + self.period_ns * call // self.calls


class Usage(NamedTuple):
    """What this process has had of its core so far, in ns."""

    at_ns: int
    cpu_ns: int
    wait_ns: int
    """Time for which a thread could have run and another process had the core (`/proc/PID/task/*/schedstat`)."""


def usage() -> Usage:
    """Return the process's use of its core up to now."""
    wait_ns = 0
    for path in Path("/proc/self/task").glob("*/schedstat"):
        with contextlib.suppress(OSError, IndexError):  # a thread may end meanwhile
            wait_ns += int(path.read_text().split()[1])
    return Usage(monotonic_ns(), process_cpu_ns(), wait_ns)


@dataclass(slots=True)
class Result:
    """What a peer prints, on one line."""

    peer: str
    calls: int
    rate: int
    duplex: bool
    seconds: float = 0.0
    frames: int = 0
    frames_in: int = 0
    cpu_s: float = 0.0
    wait_s: float = 0.0
    """Time in the window for which other processes held the core: the step was disturbed by them."""
    lateness_p50_ms: float | None = None
    lateness_p99_ms: float | None = None
    errors: int = 0
    error: str = ""
    rss_mib: float = 0.0
    window_start_ns: int = 0
    window_end_ns: int = 0

    @property
    def frames_expected(self) -> float:
        """Frames that the calls were meant to send in the window."""
        return self.calls * self.rate * self.seconds

    @property
    def us_per_frame(self) -> float | None:
        """CPU time of the client for each frame sent (in a duplex call also for the frames received meanwhile)."""
        return self.cpu_s * 1e6 / self.frames if self.frames else None

    def set_window(self, start: Usage, end: Usage) -> None:
        """Fill in what the window cost."""
        self.window_start_ns, self.window_end_ns = start.at_ns, end.at_ns
        self.seconds = (end.at_ns - start.at_ns) / NS_PER_S
        self.cpu_s = (end.cpu_ns - start.cpu_ns) / NS_PER_S
        self.wait_s = (end.wait_ns - start.wait_ns) / NS_PER_S
        self.rss_mib = rss_mib()

    def print(self) -> None:
        """Write the line."""
        sys.stdout.write(json.dumps(asdict(self)) + "\n")
        sys.stdout.flush()


def read_job(peer: str) -> Job:
    """Read the arguments and take the core that they name."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.peer_{peer}")
    parser.add_argument("--url", required=True, help="base URL of the sink, http://127.0.0.1:PORT")
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of the steady window")
    parser.add_argument("--rate", type=int, default=50, help="frames a second of each call: 10, 20, 25, 40 or 50")
    parser.add_argument("--duplex", action="store_true", help="the sink sends frames too; read them")
    parser.add_argument("--cpu", type=int, default=None, help="core to run on")
    parser.add_argument("--setups-per-s", type=int, default=SETUPS_PER_S, help="calls that voxload places a second")
    args = parser.parse_args()
    if args.cpu is not None:
        os.sched_setaffinity(0, {args.cpu})
    raise_file_limit()
    prefer_this_process()  # as voxload's own processes do; all peers and the sink alike
    return Job(args.url, args.calls, args.seconds, args.rate, args.duplex, args.cpu, args.setups_per_s)


class Frames:
    """The frame that every peer sends: silence, as the dialect writes it, encoded once; only the stamp is new."""

    def __init__(self, job: Job) -> None:
        dialect = RtmedDialect(job.url, RtmedOptions(message_rate=job.rate))
        self.prepared = dialect.prepare_caller([bytes(dialect.caller_format.frame_bytes)])[0]
        self.session: CallerSession = dialect.caller(CallIdentity(0, "bench"))


@dataclass(slots=True)
class Tally:
    """What a peer counts while it runs. `lateness` grows by one entry (ns) a frame: the cheapest record there is."""

    job: Job
    peer: str
    lateness: array[int] = field(default_factory=lambda: array("q"))
    frames_in: int = 0
    errors: int = 0
    error: str = ""
    _frames: int = 0
    _frames_in: int = 0
    _rss_mib: float = 0.0
    _start: Usage = field(default_factory=lambda: Usage(0, 0, 0))

    def failed(self, error: BaseException | str) -> None:
        """Count an error and keep the first one's text."""
        self.errors += 1
        self.error = self.error or (error if isinstance(error, str) else repr(error))[:200]

    def open(self) -> None:
        """Begin the window."""
        self._rss_mib = rss_mib()  # before the window's latenesses
        self._frames, self._frames_in, self._start = len(self.lateness), self.frames_in, usage()

    def close(self) -> Result:
        """End the window and return what happened in it."""
        end = usage()
        late = self.lateness[self._frames :]
        result = self._result()
        result.frames, result.frames_in = len(late), self.frames_in - self._frames_in
        result.lateness_p50_ms, result.lateness_p99_ms = percentile_ms(late, 50), percentile_ms(late, 99)
        result.set_window(self._start, end)
        result.rss_mib = self._rss_mib
        return result

    def gave_up(self) -> Result:
        """Return the result of a peer that could not open its calls."""
        self.failed("not all calls were open in time")
        return self._result()

    def _result(self) -> Result:
        job = self.job
        return Result(self.peer, job.calls, job.rate, job.duplex, errors=self.errors, error=self.error)


def percentile_ms(values_ns: Iterable[int], percent: float) -> float | None:
    """Return a percentile by nearest rank, or None without values."""
    values = np.asarray(values_ns, dtype=np.int64)
    return float(np.percentile(values, percent, method="inverted_cdf")) / 1e6 if values.size else None


def rss_mib() -> float:
    """Return the resident memory of this process."""
    import psutil

    return float(psutil.Process().memory_info().rss) / (1024 * 1024)


def leave() -> None:
    """End the process without thousands of closing handshakes: they are not what is measured."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
