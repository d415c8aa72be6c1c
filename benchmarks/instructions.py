"""`python -m benchmarks.instructions` (`make bench-check`): has the hot path become slower? Counted, not timed.

Valgrind's callgrind counts the instructions of each workload in `workloads.py`; the counts are compared with those in
`instructions.json`, which hold for one version of Python on one architecture, with the C parts or without them
(`VOXLOAD_PURE_PYTHON=1`). A count does not depend on what else the
machine does, so that a change of 5 % is seen where a clock sees noise. (Hardware counters, as `perf stat` reads them,
are not there in most virtual machines, and count the kernel's mood too.) What a workload costs once is taken out: it
runs n and 2n times, and the difference counts.

Exit code 0: as committed, or cheaper; 1: dearer by more than the tolerance; 4: unknown, because valgrind is not
installed or nothing is committed for this Python. `--write` renews the committed counts.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import table

ROOT = Path(__file__).resolve().parent.parent
COUNTS = Path(__file__).with_name("instructions.json")
TOLERANCE = 0.05
PACKAGES = ("picows", "uvloop", "numpy", "msgspec", "pybase64")
MARK = "getppid"
"""A C function that nothing else calls here: callgrind closes a count each time it is entered."""
SLOWER, UNKNOWN = 1, 4
Counts = dict[str, float]


def platform_key() -> str:
    """Return what the counts hold for."""
    version = ".".join(platform.python_version_tuple()[:2])
    parts = "compiled" if table.compiled() else "pure"
    return f"{platform.python_implementation().lower()}-{version}-{platform.machine()}-{parts}"


def run_workloads(names: list[str]) -> None:
    """Run each workload n and then 2n times, with a mark before and after each (in the counted process)."""
    from benchmarks.workloads import WORKLOADS

    mark = os.getppid
    for name in names:
        factory, times = WORKLOADS[name]
        run = factory()
        run(times)  # the interpreter specialises its code first
        for repeats in (times, 2 * times):
            mark()
            run(repeats)
            mark()


def count(names: list[str]) -> Counts:
    """Return the instructions of each workload for one frame."""
    from benchmarks.workloads import WORKLOADS

    counted = stretches(["-m", "benchmarks.instructions", "--counted", json.dumps(names)])
    found = {}
    for number, name in enumerate(names):
        _, once, _, twice = counted[4 * number : 4 * number + 4]  # before, n, between, 2n
        found[name] = round((twice - once) / WORKLOADS[name][1], 1)
    return found


def stretches(words: list[str]) -> list[int]:
    """Run Python under callgrind; returns the instructions up to each mark (`os.getppid()`) since the one before.

    Raises:
        RuntimeError: callgrind failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = ["valgrind", "--tool=callgrind", f"--dump-before={MARK}", "--callgrind-out-file=counts"]
        fixed = {"PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [*command, sys.executable, *words],
            cwd=folder,
            env={**os.environ, **fixed},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"callgrind failed: {done.stderr.strip()[-500:]}")
        dumps = sorted(Path(folder).glob("counts.*"), key=lambda path: int(path.suffix[1:]))
        return [_total(path) for path in dumps]


def _total(path: Path) -> int:
    """Return the number of instructions in one of callgrind's dumps."""
    with path.open() as lines:
        for line in lines:
            if line.startswith("summary:"):
                return int(line.split()[1])
    raise RuntimeError(f"callgrind's dump {path.name} has no total")


def compare(found: Counts, committed: Counts, tolerance: float) -> tuple[list[tuple[str, float, float | None]], bool]:
    """Return a row for each workload (name, count, change; None: nothing committed) and whether any is slower."""
    rows = []
    for name, now in found.items():
        before = committed.get(name)
        rows.append((name, now, None if not before else now / before - 1))
    return rows, any(change is not None and change > tolerance for _, _, change in rows)


def load() -> dict[str, Any]:
    """Return the committed counts by platform."""
    return dict(json.loads(COUNTS.read_text())) if COUNTS.exists() else {}


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def main(arguments: list[str] | None = None) -> int:
    """Count, compare, tell."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions", description=__doc__.splitlines()[0])
    parser.add_argument("--only", metavar="TEXT", default="", help="the workloads whose name holds this text")
    parser.add_argument("--write", action="store_true", help=f"renew {COUNTS.name} for this Python and architecture")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--counted", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.counted is not None:
        run_workloads(args.counted)
        return 0
    from benchmarks.workloads import WORKLOADS

    names = [name for name in WORKLOADS if args.only in name]
    if not names:
        parser.error(f"no workload's name holds {args.only!r}; there are: {'; '.join(WORKLOADS)}")
    if shutil.which("valgrind") is None:
        print("unknown: valgrind is not installed (Debian: apt-get install valgrind); nothing was counted")
        return UNKNOWN
    found = count(names)
    entry = load().get(platform_key(), {})
    rows, slower = compare(found, entry.get("counts", {}), TOLERANCE)
    _tell(rows, args.json)
    if args.write:
        kept = {**entry.get("counts", {}), **found}
        counts = {name: kept[name] for name in WORKLOADS if name in kept}
        whole = {**load(), platform_key(): {"packages": _versions(), "counts": counts}}
        COUNTS.write_text(json.dumps(whole, indent=1) + "\n")
        return 0
    return _verdict(rows, slower, entry)


def _tell(rows: list[tuple[str, float, float | None]], as_json: bool) -> None:
    if as_json:
        print(json.dumps([{"workload": name, "instructions": now, "change": change} for name, now, change in rows]))
        return
    for name, now, change in rows:
        verdict = "nothing committed" if change is None else f"{change:+.1%}{' SLOWER' if change > TOLERANCE else ''}"
        print(f"{name:<40} {now:>12,.0f} instructions  {verdict}")


def _verdict(rows: list[tuple[str, float, float | None]], slower: bool, entry: dict[str, Any]) -> int:
    changed = {name: was for name, was in entry.get("packages", {}).items() if _versions().get(name) != was}
    if changed:
        was = ", ".join(f"{name} {version}" for name, version in changed.items())
        print(f"the committed counts were made with {was}: a difference may be theirs", file=sys.stderr)
    if slower:
        print(
            f"slower by more than {TOLERANCE:.0%}; if that is the price of something, renew with --write",
            file=sys.stderr,
        )
        return SLOWER
    if any(change is None for _, _, change in rows):
        print(
            f"unknown: {COUNTS.name} has no counts of {platform_key()} for some; write them with --write",
            file=sys.stderr,
        )
        return UNKNOWN
    return 0


if __name__ == "__main__":
    sys.exit(main())
