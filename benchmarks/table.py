"""The benchmark's answer as tables, as JSON, and as a Markdown page."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import peer_artillery
from benchmarks.page import LOAD, grid
from benchmarks.processes import cores
from benchmarks.search import FIXED_CALLS, LATENESS_P99_MS_MAX, Cell, Mode, Step
from voxload.ring import Ring, new_slots

LABELS = {
    "voxload": "voxload",
    "voxload_acs": "voxload as ACS",
    "voxload_tls": "voxload over wss",
    "locust": "Locust + websocket-client",
    "websockets": "websockets on asyncio",
    "aiohttp": "aiohttp on uvloop",
    "artillery": "Artillery, its ws engine",
    "voxload_quiet": "voxload, quiet calls",
    "floor": "C, epoll, pre-built frames: the floor",
    "bare": "(bare wheel + picows)",
}
PACKAGES = ("picows", "uvloop", "websockets", "aiohttp", "websocket-client", "locust", "gevent")
COLUMNS = (
    "",
    "calls a core",
    "voxload carries",
    f"µs/frame, {FIXED_CALLS} calls",
    "ratio",
    "µs/frame at limit",
    "ratio",
    "kB a call",
)


def facts() -> dict[str, str]:
    """Return what must be known of the machine to read the numbers."""
    versions = []
    for name in PACKAGES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"{name} not installed")
    if not peer_artillery.missing():
        versions.append(f"artillery {peer_artillery.version()}")
    client, sink = cores()
    return {
        "processor": _processor(),
        "cores": f"{os.cpu_count()} (clients on {client}, sink on {sink})",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "voxload's C parts": "compiled" if compiled() else "not compiled",
        "packages": ", ".join(versions),
        LOAD: " ".join(f"{value:.2f}" for value in os.getloadavg()),
    }


def compiled() -> bool:
    """Return whether voxload's own hot path runs in C."""
    return not isinstance(new_slots(1, 2, 0), Ring)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def _calls(cell: Cell) -> str:
    if cell.best is None:
        return "—" if not cell.steps else f"< {cell.failed_at}"
    if cell.lower_bound:
        return f"≥ {cell.best.result.calls}"
    return f"{cell.best.result.calls} (not {cell.failed_at})"


def _us(value: float | None) -> str:
    return "—" if value is None else f"{value:.1f}"


def _ratio(top: float | None, bottom: float | None) -> str:
    return "—" if not top or not bottom else f"{top / bottom:.2f}"


def _carries(ours: Cell | None, cell: Cell) -> str:
    """Return how many times as many calls voxload carries; bounds stay bounds, and two of them give no ratio."""
    if ours is None or ours.best is None or cell.best is None:
        return "—"
    ratio = f"{ours.best.result.calls / cell.best.result.calls:.2f}"
    if ours is cell:
        return ratio
    if ours.lower_bound and cell.lower_bound:
        return "unknown"
    if ours.lower_bound:
        return f"≥ {ratio}"
    return f"≤ {ratio}" if cell.lower_bound else ratio


def _fixed_us(cell: Cell) -> float | None:
    return cell.fixed.result.us_per_frame if cell.fixed is not None else None


def _limit_us(cell: Cell) -> float | None:
    return cell.best.result.us_per_frame if cell.best is not None else None


def rows(cells: Sequence[Cell]) -> list[tuple[str, ...]]:
    """Return one mode's rows: numbers, and ratios to voxload (calls: voxload's divided by the peer's)."""
    ours = next((cell for cell in cells if cell.peer in {"voxload", "voxload_acs"}), None)
    lines: list[tuple[str, ...]] = []
    for cell in cells:
        label = LABELS[cell.peer]
        if cell.missing or cell.broken:
            reason = f"missing: {cell.missing}" if cell.missing else "did not run, see the raw steps"
            lines.append((label, reason, *[""] * (len(COLUMNS) - 2)))
            continue
        marks = ""
        if cell.fixed is not None:
            marks = (" (failed)" if cell.fixed.failed else "") + (" (disturbed)" if cell.fixed.disturbed else "")
        lines.append(
            (
                label,
                _calls(cell),
                _carries(ours, cell),
                _us(_fixed_us(cell)) + marks,
                _ratio(_fixed_us(cell), _fixed_us(ours) if ours is not None else None),
                _us(_limit_us(cell)),
                _ratio(_limit_us(cell), _limit_us(ours) if ours is not None else None),
                _us(memory_kb(cell.fixed, cell.best)),
            )
        )
    return lines


def memory_kb(few: Step | None, many: Step | None) -> float | None:
    """Return the resident memory that each further call takes, between a step of few calls and one of many."""
    if few is None or many is None or not few.result.rss_mib or not many.result.rss_mib:
        return None
    if many.result.calls < 2 * few.result.calls:
        return None
    return (many.result.rss_mib - few.result.rss_mib) * 2**20 / 1000 / (many.result.calls - few.result.calls)


def _notes(cells: Sequence[Cell]) -> list[str]:
    notes = []
    disturbed = sum(step.disturbed for cell in cells for step in cell.steps)
    steps = sum(len(cell.steps) for cell in cells)
    if disturbed:
        notes.append(
            f"{disturbed} of {steps} steps were disturbed: other processes held a core of the benchmark for over 1 % "
            "of the time."
        )
    if any(cell.disturbed_end for cell in cells):
        notes.append(
            "A ≥ where the failing step was disturbed, and no quiet repeat was possible: not the peer's own limit."
        )
    if any(cell.target_bound for cell in cells):
        notes.append("A ≥ where a step failed because the sink could not follow: the client may carry more.")
    if any(cell.open_end for cell in cells):
        notes.append("A ≥ where the time, or the limit of the search, ended it before a step failed.")
    return notes


def caption() -> str:
    """Return what the columns mean."""
    return (
        "calls a core: the largest step without errors, with at least 99 % of its frames and a frame lateness p99 of "
        f"at most {LATENESS_P99_MS_MAX:g} ms, one process on one core; beside it, how many times as many voxload "
        "carries. µs/frame: CPU time (user + system) of that process per frame sent; in duplex, the frame received "
        "meanwhile included; beside it, the ratio to voxload. The limits are different loads: like is compared with "
        f"like at {FIXED_CALLS} calls only, where waking up idle cores is a large part of the cost. kB a call: "
        f"resident memory of the process that each call adds between {FIXED_CALLS} calls and the limit."
    )


def show(console: Console, modes: Sequence[tuple[Mode, Sequence[Cell]]], about: dict[str, str]) -> None:
    """Print the tables."""
    for mode, cells in modes:
        table = Table(title=mode.name, title_justify="left")
        for number, column in enumerate(COLUMNS):
            table.add_column(column, justify="left" if number == 0 else "right")
        for row in rows(cells):
            table.add_row(*row)
        console.print(table)
        raw = Table(title="raw steps", title_justify="left", title_style="dim", style="dim")
        for column in (
            "",
            "calls",
            "frames",
            "in",
            "CPU s",
            "window s",
            "late p50 ms",
            "p99 ms",
            "RSS MiB",
            "sink CPU",
            "verdict",
        ):
            raw.add_column(column, justify="left" if column in {"", "verdict"} else "right")
        for row in _raw(cells):
            raw.add_row(*row)
        console.print(raw)
    for note in _notes([cell for _, cells in modes for cell in cells]):
        console.print(note)
    console.print(caption())
    for name, value in about.items():
        console.print(f"[dim]{name}:[/dim] {value}")


def _raw(cells: Sequence[Cell]) -> list[tuple[str, ...]]:
    lines: list[tuple[str, ...]] = []
    for cell in cells:
        for step in cell.steps:
            result = step.result
            lines.append(
                (
                    LABELS[cell.peer],
                    str(result.calls),
                    str(result.frames),
                    str(result.frames_in),
                    f"{result.cpu_s:.2f}",
                    f"{result.seconds:.2f}",
                    _us(result.lateness_p50_ms),
                    _us(result.lateness_p99_ms),
                    f"{result.rss_mib:.0f}",
                    f"{step.sink.cpu_share:.0%}",
                    (step.failed or "held")
                    + (" · target-bound" if step.target_bound else "")
                    + (" · disturbed" if step.disturbed else ""),
                )
            )
    return lines


def as_data(modes: Sequence[tuple[Mode, Sequence[Cell]]], about: dict[str, str]) -> dict[str, Any]:
    """Return everything as plain data."""
    return {
        "machine": about,
        "modes": [
            {
                "mode": asdict(mode),
                "peers": [
                    {
                        "peer": cell.peer,
                        "missing": cell.missing,
                        "broken": cell.broken,
                        "calls_a_core": cell.best.result.calls if cell.best is not None else None,
                        "failed_at": cell.failed_at,
                        "lower_bound_only": cell.lower_bound,
                        "bound_disturbed": cell.disturbed_end,
                        "us_per_frame_fixed": _fixed_us(cell),
                        "us_per_frame_at_limit": _limit_us(cell),
                        "memory_kb_per_call": memory_kb(cell.fixed, cell.best),
                        "steps": [{**asdict(step), "disturbed": step.disturbed} for step in cell.steps],
                    }
                    for cell in cells
                ],
            }
            for mode, cells in modes
        ],
    }


def as_markdown(modes: Sequence[tuple[Mode, Sequence[Cell]]]) -> list[str]:
    """Return the tables as lines of a page."""
    lines: list[str] = []
    for mode, cells in modes:
        lines += [f"### {mode.name}", "", *grid(COLUMNS, rows(cells)), ""]
    notes = _notes([cell for _, cells in modes for cell in cells])
    return [*lines, caption(), *(line for note in notes for line in ("", note))]
