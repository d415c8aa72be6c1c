"""The soaks as a section of the page: runs `benchmarks.soak` on the virtual clock and with real sockets."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.page import Section, grid
from benchmarks.processes import ROOT
from benchmarks.soak import GROWTH_MAX, growth

READINGS_MIN = 20
COLUMNS = ("process", "start, MiB", "end, MiB", "end against start")


def section(virtual: str, real: str, calls: int, must_be_flat: bool = False) -> Section:
    """Return the memory of every process over a virtual and a real stretch of time."""
    parts = [
        (f"{virtual} on the virtual clock, one process with callers and agent", ["--virtual", virtual]),
        (f"{real} at {calls} calls over real sockets", ["--duration", real, "--calls", str(calls)]),
    ]
    lines, raw, held = [], {}, True
    for title, words in parts:
        levels = _soak(words)
        raw[title] = levels
        lines += [f"### {title}", ""]
        if isinstance(levels, str):
            lines, held = [*lines, f"Not measured: {levels}", ""], False
            continue
        rows = [_row(name, readings) for name, readings in levels.items()]
        lines += [*grid(COLUMNS, rows), ""]
        if must_be_flat:
            held = held and all(
                growth(readings) <= GROWTH_MAX for readings in levels.values() if len(readings) >= READINGS_MIN
            )
    lines.append(
        "Median resident memory of the second tenth of the time, and of the last tenth. "
        + (f"Flat: at most {GROWTH_MAX:.0%} more." if must_be_flat else "Start-up counts in so short a time.")
    )
    return Section(lines, raw, held)


def _row(name: str, readings: list[float]) -> tuple[str, ...]:
    name = name.split(" (", maxsplit=1)[0]
    if len(readings) < READINGS_MIN:
        return name, "—", "—", f"too few readings ({len(readings)})"
    tenth = len(readings) // 10
    start, end = statistics.median(readings[tenth : 2 * tenth]), statistics.median(readings[-tenth:])
    return name, f"{start:.1f}", f"{end:.1f}", f"{growth(readings):+.1%}"


def _soak(words: list[str]) -> dict[str, Any] | str:
    """Return the readings of each process, or what went wrong."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "soak.json")
        command = [sys.executable, "-m", "benchmarks.soak", *words, "--json", str(path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if not path.exists():
            return (done.stderr.strip() or done.stdout.strip())[-300:]
        return {name: [round(mib, 1) for mib in levels] for name, levels in json.loads(path.read_text()).items()}
