"""`python -m benchmarks.profile`: where each microsecond of a frame goes, in voxload and in the C floor.

Linux's `perf` looks 1,000 times a second (by the clock of the CPU, so that it works in virtual machines) at what the
client executes in its steady window. Each look counts for the part of the program, or for the system call, in which it
finds it; a part's share of the looks is its share of the CPU time. What Python executes cannot be told apart by perf:
its pieces are timed alone. `--write` puts the table into `docs/hot-path.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from benchmarks import table, workloads
from benchmarks.harness import Result
from benchmarks.page import Section, grid
from benchmarks.peers import missing
from benchmarks.processes import ROOT, START_S, Sink, cores, step_s
from voxload.clock import NS_PER_S, monotonic_ns

PAGE = ROOT / "docs" / "hot-path.md"
BEGIN, END = "<!-- profile: begin -->", "<!-- profile: end -->"
LOADS = ((50, False, 800), (50, True, 500), (10, False, 2000))
"""Frames a second of each call, whether the target speaks, calls."""
LOOKS_PER_S = 999
BUFFER_PAGES = 4096
"""Perf writes them out when the client leaves it a core; until then they wait in memory."""
LOOKS_SHARE_MIN = 0.5
"""Of those that the CPU time makes one expect: fewer, and perf has lost too many to tell."""
UNKNOWN = 4
SYSTEM_CALLS = (
    ("kernel: send", re.compile(r"sys_(write|writev|sendto|sendmsg|sendmmsg)$")),
    ("kernel: receive", re.compile(r"sys_(read|readv|recvfrom|recvmsg|recvmmsg)$")),
    ("kernel: epoll and timer", re.compile(r"sys_(epoll_|timerfd_|clock_|poll|io_uring)")),
)
PARTS = (
    ("wheel (C)", re.compile(r"/_ring\.")),
    ("mouth: stamp, mask, write, count (C)", re.compile(r"/_(mouth|splice)\.")),
    ("receiver: find frames (C)", re.compile(r"/_receiver\.")),
    ("inlet: decode, hear, measure (C)", re.compile(r"/_inlet\.")),
    ("picows", re.compile(r"picows")),
    ("uvloop", re.compile(r"uvloop|libuv")),
    ("clock", re.compile(r"\[vdso\]")),
    ("Python", re.compile(r"libpython|/python[0-9.]*$")),
    ("modules in C: base64, audioop, msgspec, numpy", re.compile(r"pybase64|audioop|msgspec|numpy|math\.|_struct")),
    ("C library", re.compile(r"libc\.so|libc-|ld-linux|libpthread")),
    ("the floor's own code", re.compile(r"/floor$")),
)
OTHER_KERNEL, OTHER = "kernel: other (interrupts, waking the target)", "other"
ORDER = (*(name for name, _ in SYSTEM_CALLS), OTHER_KERNEL, *(name for name, _ in PARTS), OTHER)
PIECES = (
    "stamp rtmed",
    "decode rtmed",
    "ear and meters",
    "decode and hear rtmed",
    "histogram, one value",
    "wheel, one deadline",
)
Costs = dict[str, float]
"""µs a frame, by part."""


def looks(text: str) -> Iterator[tuple[int, list[tuple[str, str]]]]:
    """Read `perf script -F time,ip,sym,dso`; yields (time in ns, [(function, object file), from the inside out])."""
    at_ns, frames = 0, []
    for line in text.splitlines():
        if not line.strip():
            if frames:
                yield at_ns, frames
            frames = []
        elif (head := re.match(r"\s*(\d+)\.(\d+):", line)) is not None:
            at_ns = int(head[1]) * NS_PER_S + int(head[2].ljust(9, "0")[:9])
        elif (entry := re.match(r"\s*[0-9a-f]+ (.*) \((.*)\)$", line)) is not None:
            frames.append((re.sub(r"\+0x[0-9a-f]+$", "", entry[1]), entry[2]))
    if frames:
        yield at_ns, frames


def part_of(frames: list[tuple[str, str]]) -> str:
    """Return the part to which one look counts."""
    inner = frames[0][1]
    if "kernel" in inner and "[vdso]" not in inner:
        for function, _ in frames:
            for name, pattern in SYSTEM_CALLS:
                if pattern.search(function):
                    return name
        return OTHER_KERNEL
    return next((name for name, pattern in PARTS if pattern.search(inner)), OTHER)


def shares(text: str, start_ns: int, end_ns: int) -> Counter[str]:
    """Return how many looks of the window count to each part."""
    return Counter(part_of(frames) for at_ns, frames in looks(text) if start_ns <= at_ns <= end_ns)


def measure(peer: str, rate: int, duplex: bool, calls: int, seconds: float) -> tuple[Result, Costs]:
    """Run one step under perf; returns its result, and µs a frame by part.

    Raises:
        RuntimeError: the peer or perf failed.
    """
    with Sink(duplex, light=True) as sink, tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "perf.data")
        command = ["perf", "record", "-k", "CLOCK_MONOTONIC", "-e", "cpu-clock", "-F", str(LOOKS_PER_S), "-g"]
        command += ["-m", str(BUFFER_PAGES)]
        command += ["-o", str(data), "--", sys.executable, "-m", f"benchmarks.peer_{peer}", "--url", sink.url]
        command += ["--rate", str(rate), "--calls", str(calls), "--seconds", str(seconds), "--cpu", str(cores()[0])]
        command += ["--duplex"] if duplex else []
        limit_s = START_S + 3 * step_s(peer, calls, seconds) + 60
        said, problem = _run(command, limit_s)
        lines = [line for line in said.splitlines() if line.startswith('{"peer"')]
        if not lines:
            raise RuntimeError(f"no result: {problem.strip()[-300:]}")
        result = Result(**json.loads(lines[-1]))
        if result.errors or result.us_per_frame is None:
            raise RuntimeError(result.error or "no frames")
        words = ["perf", "script", "-i", str(data), "-F", "time,ip,sym,dso", "--ns"]
        seen = subprocess.run(words, capture_output=True, text=True, check=False)
        counted = shares(seen.stdout, result.window_start_ns, result.window_end_ns)
    total = counted.total()
    if total < LOOKS_SHARE_MIN * result.cpu_s * LOOKS_PER_S:
        raise RuntimeError(f"perf looked {total} times only: {seen.stderr.strip()[-300:]}")
    return result, {part: count / total * result.us_per_frame for part, count in counted.items()}


def _run(command: list[str], limit_s: float) -> tuple[str, str]:
    """Run perf with its client, perf on the target's core; returns what was written. None of them outlives this."""
    aside = ["taskset", "--cpu-list", str(cores()[1])] if shutil.which("taskset") else []  # the client takes its own
    process = subprocess.Popen(
        [*aside, *command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        return process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise RuntimeError("the client hung and was ended") from None


def pieces() -> Costs:
    """Return what pieces of the hot path cost alone, µs a frame: the least of five rounds."""
    found = {}
    for name in PIECES:
        factory, times = workloads.WORKLOADS[name]
        run = factory()
        run(times)
        rounds = []
        for _ in range(5):
            start_ns = monotonic_ns()
            run(times)
            rounds.append((monotonic_ns() - start_ns) / times / 1000)
        found[name] = min(rounds)
    return found


def _measure_again(peer: str, rate: int, duplex: bool, calls: int, seconds: float) -> tuple[Result, Costs]:
    """Measure; once again if that fails, as it does when other processes hold the cores."""
    try:
        return measure(peer, rate, duplex, calls, seconds)
    except RuntimeError:
        return measure(peer, rate, duplex, calls, seconds)


def section(progress: Console, scale: float = 1.0, seconds: float = 3.0) -> Section:
    """Measure voxload and the floor, up and duplex; returns the tables."""
    if shutil.which("perf") is None:
        return Section(["Not measured: perf is not installed (Debian: apt-get install linux-perf)."], None)
    columns: list[tuple[str, Result, Costs]] = []
    for rate, duplex, full in LOADS:
        calls = max(round(full * scale), 1)
        for peer in ("voxload", "floor"):
            if missing(peer):
                progress.print(f"{table.LABELS[peer]} is missing: {missing(peer)}", markup=False)
                continue
            try:
                result, costs = _measure_again(peer, rate, duplex, calls, seconds)
            except RuntimeError as error:
                progress.print(f"{peer}, {calls} calls: not measured: {error}", markup=False, highlight=False)
                continue
            columns.append((f"{peer}, {calls:,} at {rate}/s{' duplex' if duplex else ''}", result, costs))
            progress.print(f"{columns[-1][0]}: {result.us_per_frame:.1f} µs/frame", highlight=False)
    if not columns:
        return Section(["Not measured: perf could not look at the client."], None, held=False)
    alone = pieces()
    raw = {name: {"us_per_frame": result.us_per_frame, "parts": costs} for name, result, costs in columns}
    return Section(lines(columns, alone), {"steps": raw, "alone": alone})


def lines(columns: list[tuple[str, Result, Costs]], alone: Costs) -> list[str]:
    """Return the tables in Markdown."""
    parts = [part for part in ORDER if any(costs.get(part, 0.0) >= 0.005 for _, _, costs in columns)]
    rows = [(part, *(f"{costs[part]:.2f}" if part in costs else "" for _, _, costs in columns)) for part in parts]
    rows.append(("**all**", *(f"**{result.us_per_frame:.2f}**" for _, result, _ in columns)))
    return [
        *grid(("µs a frame", *(name for name, _, _ in columns)), rows),
        "",
        "CPU time of the client's process by looks of `perf` at it; calls, each at so many frames a second. In duplex",
        "a frame sent and a frame heard count as one. What a call does now and then (a ping, its answer, the report)",
        "is shared among its frames. On the loopback interface `send` carries the frame up to the target's socket.",
        "",
        *grid(("a piece alone, in Python or C", "µs"), [(name, f"{us:.2f}") for name, us in alone.items()]),
    ]


def write(found: Section) -> None:
    """Put the tables between the marks of the page."""
    text = PAGE.read_text()
    head, rest = text.split(BEGIN, 1)
    PAGE.write_text("\n".join([head + BEGIN, *found.lines, END + rest.split(END, 1)[1]]))


def main(arguments: list[str] | None = None) -> int:
    """Measure and tell; returns 0, or 4 when nothing could be measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="share of the calls (0.1: a quick look)")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of the steady window")
    parser.add_argument("--write", action="store_true", help=f"put the tables into {PAGE.relative_to(ROOT)}")
    args = parser.parse_args(arguments)
    found = section(Console(stderr=True), args.scale, args.seconds)
    print("\n".join(found.lines))
    if found.data is None:
        return UNKNOWN
    if args.write:
        write(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
