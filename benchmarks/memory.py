"""The soaks as a section of the page: runs `benchmarks.soak` on the virtual clock and with real sockets."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.page import Section, grid
from benchmarks.processes import ROOT
from benchmarks.soak import GROWTH_MAX, Readings, growth, level
from voxload.clock import NS_PER_S
from voxload.model.quantities import format_duration

SHARES = (0.25, 0.5, 0.75)
"""Of the time, at which the level is shown between start and end."""


def section(virtual: str, real: str = "", calls: int = 0) -> Section:
    """Return the memory of every process over a virtual stretch of time, and over a real one where it is given."""
    parts = [(f"{virtual} on the virtual clock, one process with callers and agent", ["--virtual", virtual])]
    if real:
        words = ["--duration", real, "--calls", str(calls)]
        parts.append((f"{real} at {calls} calls over real sockets", words))
    lines, raw, held = [], {}, True
    for title, words in parts:
        found = _soak(words)
        raw[title] = found
        lines += [f"### {title}", ""]
        if isinstance(found, str):
            lines, held = [*lines, f"Not measured: {found}", ""], False
            continue
        table, flat = told(found)
        lines += [*table, ""]
        held = held and flat
    lines.append(
        "Resident memory, median of a tenth of the time each: after the start-up (imports, the ramp, the first calls "
        f"and reports), around a quarter, half and three quarters, and at the end. Flat: at most {GROWTH_MAX:.0%} more."
        + ("" if real else " Over real sockets the start-up alone takes a minute: `--only long_soak` has ten.")
    )
    return Section(lines, raw, held)


def told(found: dict[str, Any]) -> tuple[list[str], bool]:
    """Return a soak's table and verdict as lines of a page, and whether every process stayed flat."""
    duration_s, start_s = found["duration_s"], found["start_s"]
    tenth_s = duration_s / 10
    shown = [share for share in SHARES if share * duration_s - tenth_s / 2 > start_s]
    stretches = [(start_s, start_s + tenth_s)]
    stretches += [(share * duration_s - tenth_s / 2, share * duration_s + tenth_s / 2) for share in shown]
    stretches.append((duration_s - tenth_s, duration_s))
    columns = [f"from {format_duration(start_s * NS_PER_S)}, MiB", *(f"{share:.0%}" for share in shown), "end"]
    rows, known = [], []
    for process, readings in found["readings"].items():
        name = process.split(" (", maxsplit=1)[0]
        levels = [level(readings, *stretch) for stretch in stretches]
        more = growth(readings, duration_s, start_s)
        known += [] if more is None else [(more, name)]
        texts = ["—" if mib is None else f"{mib:.1f}" for mib in levels]
        rows.append((name, *texts, "too few readings" if more is None else f"{more:+.1%}"))
    flat, verdict = False, "**Not told**: a process was read too seldom."
    if known and len(known) == len(rows):
        most, name = max(known)
        flat = most <= GROWTH_MAX
        verdict = f"**{'Flat' if flat else 'NOT flat'} within {GROWTH_MAX:.0%}**: at most {most:+.1%} ({name})."
    return [*grid(("process", *columns, "end against start"), rows), "", verdict], flat


def _soak(words: list[str]) -> dict[str, Any] | str:
    """Return the readings of each process, or what went wrong."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "soak.json")
        command = [sys.executable, "-m", "benchmarks.soak", *words, "--json", str(path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if not path.exists():
            return (done.stderr.strip() or done.stdout.strip())[-300:]
        found: dict[str, Any] = json.loads(path.read_text())
        found["readings"] = {name: _rounded(readings) for name, readings in found["readings"].items()}
        return found


def _rounded(readings: Readings) -> list[list[float]]:
    return [[round(at_s, 1), round(mib, 1)] for at_s, mib in readings]
