"""The benchmark's answer as tables, as JSON, and as a Markdown page."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import peer_artillery
from benchmarks.page import LOAD, grid
from benchmarks.processes import cores
from benchmarks.search import LATENESS_P99_MS_MAX, Cell, Mode, Step
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
    "µs/frame at {calls} calls",
    "ratio",
    "lateness p50, p99 there",
    "kB a call",
)
KB_MIN = 0.5
"""Memory a call that the process's own ups and downs hide."""
DOES_COLUMNS = ("", "masks with", "a frame is", "frames received are", "beside the frames")
DOES = {
    "voxload": (
        "a new key each, C",
        "stamped anew, its audio encoded once",
        "recognised, decoded, heard by all meters",
        "a start by HTTP, pings, script, histograms by label",
    ),
    "floor": ("nothing (key 0)", "the same bytes each time", "counted by their headers", "nothing"),
    "locust": (
        "a new key each, Python",
        "stamped anew by our code, its audio encoded once",
        "counted, unread",
        "a lateness in an array; no event a frame",
    ),
    "artillery": (
        "a new key each, JavaScript",
        "the same text each time",
        "counted, unread",
        "a lateness in an array",
    ),
    "websockets": (
        "a new key each, C",
        "stamped anew by our code, its audio encoded once",
        "counted, unread",
        "a lateness in an array; pings every 20 s",
    ),
    "aiohttp": (
        "a new key each, C",
        "stamped anew by our code, its audio encoded once",
        "counted, unread",
        "a lateness in an array",
    ),
}
"""What is paid for in each peer's µs; all of them keep absolute deadlines and take how late each frame was."""


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
    if not cell.steps or (cell.best is None and cell.failed_at is None):
        return "—"
    if cell.best is None:
        return "unknown (disturbed)" if cell.disturbed_end else f"< {cell.failed_at}"
    if cell.mode.peers and cell.open_end:
        return "—"  # no limit was searched
    if cell.lower_bound:
        reason = "the target's limit" if cell.target_bound else "disturbed" if cell.disturbed_end else "search ended"
        return f"≥ {cell.best.result.calls} ({reason})"
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


def same_us(cell: Cell) -> float | None:
    """Return the median cost of a frame at the load that all hold, µs."""
    costs = [step.result.us_per_frame for step in cell.same if step.result.us_per_frame]
    return statistics.median(costs) if costs else None


def _same(cell: Cell) -> str:
    """Return that cost, with its range where there are several rounds, and what is wrong with them."""
    costs = [step.result.us_per_frame for step in cell.same if step.result.us_per_frame]
    spread = f" ({min(costs):.1f}-{max(costs):.1f})" if len(costs) > 1 else ""
    marks = " (failed)" if cell.same and all(step.failed for step in cell.same) else ""
    marks += " (disturbed)" if cell.same and all(step.disturbed for step in cell.same) else ""
    return _us(same_us(cell)) + spread + marks


def _late(cell: Cell) -> str:
    """Return the medians of the rounds' lateness at the load that all hold."""
    texts = []
    for name in ("lateness_p50_ms", "lateness_p99_ms"):
        values = [getattr(step.result, name) for step in cell.same]
        known = [value for value in values if value is not None]
        texts.append(_us(statistics.median(known)) if known else "—")
    return f"{texts[0]}, {texts[1]} ms"


def columns(mode: Mode) -> tuple[str, ...]:
    """Return the columns of a mode's table."""
    return tuple(text.format(calls=mode.same_calls) for text in COLUMNS)


def rows(cells: Sequence[Cell]) -> list[tuple[str, ...]]:
    """Return one mode's rows: numbers, and ratios to voxload (calls: voxload's divided by the peer's)."""
    ours = next((cell for cell in cells if cell.peer == "voxload"), None)
    lines: list[tuple[str, ...]] = []
    for cell in cells:
        label = LABELS[cell.peer]
        if not cell.usable:
            reason = f"missing: {cell.missing}" if cell.missing else "did not run, see the raw steps"
            lines.append((label, reason, *[""] * (len(COLUMNS) - 2)))
            continue
        ratio = _ratio(same_us(cell), same_us(ours) if ours is not None else None)
        memory_kb_each = memory_kb(cell.same[0] if cell.same else None, _largest(cell))
        memory = "≈ 0" if memory_kb_each is not None and memory_kb_each < KB_MIN else _us(memory_kb_each)
        lines.append((label, _calls(cell), _carries(ours, cell), _same(cell), ratio, _late(cell), memory))
    return lines


def _largest(cell: Cell) -> Step | None:
    """Return the step of the most calls that were up, whether it held or not: memory does not ask."""
    return max((step for step in cell.steps if step.result.rss_mib), key=lambda step: step.result.calls, default=None)


def memory_kb(few: Step | None, many: Step | None) -> float | None:
    """Return the resident memory that each further call takes, between a step of few calls and one of many."""
    if few is None or many is None or not few.result.rss_mib or not many.result.rss_mib:
        return None
    if many.result.calls < 2 * few.result.calls:
        return None
    return (many.result.rss_mib - few.result.rss_mib) * 2**20 / 1000 / (many.result.calls - few.result.calls)


def _notes(cells: Sequence[Cell]) -> list[str]:
    disturbed = sum(step.disturbed for cell in cells for step in cell.steps)
    steps = sum(len(cell.steps) for cell in cells)
    if not disturbed:
        return []
    text = (
        f"{disturbed} of {steps} steps were disturbed: other processes held a core of the benchmark for over 1 % "
        "of the time. They were repeated while there was time; none stands as a limit."
    )
    return [text]


def caption() -> str:
    """Return what the columns mean."""
    return (
        "calls a core: the largest step without errors, with at least 99 % of its frames and a frame lateness p99 of "
        f"at most {LATENESS_P99_MS_MAX:g} ms, one process on one core (in brackets the smallest that failed); beside "
        "it, how many times as many voxload carries. µs/frame: CPU time (user + system) of that process per frame "
        "sent, all at the same load, measured in turn: median of the rounds (and their range); in duplex, the frame "
        "received meanwhile included; beside it, the ratio to voxload. kB a call: resident memory of the process "
        "that each call adds, where the steps had at least twice as many calls."
    )


def does() -> list[str]:
    """Return what each peer does for its frames, as lines of a page."""
    return grid(DOES_COLUMNS, [(LABELS[peer], *words) for peer, words in DOES.items()], "---")


def show(console: Console, modes: Sequence[tuple[Mode, Sequence[Cell]]], about: dict[str, str]) -> None:
    """Print the tables."""
    for mode, cells in modes:
        table = Table(title=mode.name, title_justify="left")
        for number, column in enumerate(columns(mode)):
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
                        "us_per_frame_at_same_calls": same_us(cell),
                        "memory_kb_per_call": memory_kb(cell.same[0] if cell.same else None, _largest(cell)),
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
        lines += [f"### {mode.name}", "", *grid(columns(mode), rows(cells)), ""]
    notes = _notes([cell for _, cells in modes for cell in cells])
    return [
        *lines,
        caption(),
        "",
        "What each does for its µs, so that the ratios are read for what they are:",
        "",
        *does(),
        *(line for note in notes for line in ("", note)),
    ]
