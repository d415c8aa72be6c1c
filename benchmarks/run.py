"""`python -m benchmarks.run`: voxload beside its peers on the same target, in one run (about six minutes)."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
from pathlib import Path

from rich.console import Console

from benchmarks import table
from benchmarks.peer_floor import compiler
from benchmarks.processes import Sink, run_peer
from benchmarks.search import Cell, Mode, Search, Step, judge
from voxload.clock import NS_PER_S, monotonic_ns
from voxload.process import raise_file_limit

RESULTS = Path(__file__).resolve().parent / "RESULTS.md"
NEEDS = {
    "voxload": ("picows", "uvloop"),
    "voxload_acs": ("picows", "uvloop"),
    "voxload_tls": ("picows", "uvloop"),
    "bare": ("picows", "uvloop"),
    "floor": (),
    "aiohttp": ("aiohttp", "uvloop"),
    "locust": ("locust", "websocket"),
    "websockets": ("websockets",),
}
FRAMES_UP = Mode("50/s up", "50 frames/s of 20 ms, up only (the target is silent)", 50, duplex=False, weight=1.2)
FRAMES_DUPLEX = Mode("50/s duplex", "50 frames/s of 20 ms, duplex (the target sends 50 frames/s too)", 50, duplex=True)
ACS_UP = Mode(
    "ACS up",
    "ACS media streaming: 50 frames/s of 20 ms up, the agent quiet",
    50,
    duplex=False,
    weight=0.5,
    peers=("voxload_acs",),
)
TLS_UP = Mode(
    "wss up",
    "50 frames/s of 20 ms up over wss://, certificates verified",
    50,
    duplex=False,
    weight=0.5,
    peers=("voxload_tls",),
)
CHUNKS_UP = Mode("10/s up", "10 messages/s of 100 ms, up only (the dialect's default)", 10, duplex=False, weight=1.2)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; returns 0, or 1 when voxload itself could not be measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="at most 90 s: 50 frames/s only, coarser limits")
    parser.add_argument(
        "--peers", default="voxload,floor,locust,websockets,aiohttp", help="comma-separated; also: bare"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name} too")
    args = parser.parse_args(arguments)
    peers = args.peers.split(",")
    for peer in peers:
        if peer not in NEEDS:
            parser.error(f"no peer {peer!r}; there are {', '.join(NEEDS)}")
    console, progress = Console(width=None if sys.stdout.isatty() else 180), Console(stderr=True)
    if len(os.sched_getaffinity(0)) < 2:
        progress.print("[yellow]one core only: client and target share it, and the limits mean little[/yellow]")
    raise_file_limit()
    about = table.facts()
    modes = [FRAMES_UP, FRAMES_DUPLEX] if args.quick else [FRAMES_UP, FRAMES_DUPLEX, CHUNKS_UP, ACS_UP, TLS_UP]
    bench = Bench(peers, progress, budget_s=80 if args.quick else 345, window_s=2.0 if args.quick else 3.0)
    found = bench.run(modes)
    console.print_json(json.dumps(table.as_data(found, about))) if args.json else table.show(console, found, about)
    if args.write:
        RESULTS.write_text(table.as_markdown(found, about))
    ours = [cell for _, cells in found for cell in cells if cell.peer in {"voxload", "voxload_acs", "voxload_tls"}]
    return 0 if all(cell.best is not None for cell in ours) else 1


class Bench:
    """Runs every peer in every mode, and shares out the time."""

    def __init__(self, peers: list[str], progress: Console, budget_s: float, window_s: float) -> None:
        self._peers = peers
        self._progress = progress
        self._end_ns = monotonic_ns() + round(budget_s * NS_PER_S)
        self._window_s = window_s
        self._missing = {peer: _missing(peer) for peer in NEEDS}

    def run(self, modes: list[Mode]) -> list[tuple[Mode, list[Cell]]]:
        """Return the cells of each mode."""
        weights = [mode.weight for mode in modes for peer in self._peers_of(mode) if not self._missing[peer]]
        found = []
        for mode in modes:
            cells = []
            with Sink(speak=mode.duplex) as sink:
                for peer in self._peers_of(mode):
                    cell = Cell(peer, mode, missing=self._missing[peer])
                    cells.append(cell)
                    if not cell.missing:
                        left_s = (self._end_ns - monotonic_ns()) / NS_PER_S
                        self._search(cell, sink, left_s * weights[0] / sum(weights))
                        del weights[0]
            found.append((mode, cells))
        return found

    def _peers_of(self, mode: Mode) -> list[str]:
        return list(mode.peers) or self._peers

    def _search(self, cell: Cell, sink: Sink, budget_s: float) -> None:
        mode = cell.mode

        def run(calls: int) -> Step:
            step = judge(*run_peer(cell.peer, sink, calls, mode.rate, mode.duplex, self._window_s))
            us = step.result.us_per_frame
            cost = "—" if us is None else f"{us:.1f}"
            verdict = (step.failed or "held") + (" (disturbed)" if step.disturbed else "")
            line = f"{table.LABELS[cell.peer]}, {mode.short}: {calls} calls, {cost} µs/frame: {verdict}"
            self._progress.print(line, highlight=False, markup=False)
            return step

        Search(cell, run, self._window_s, budget_s).find()


def _missing(peer: str) -> str:
    """Return what is not installed of a peer's packages, or nothing."""
    if peer == "floor" and compiler() is None:
        return "no C compiler"
    absent = [name for name in NEEDS[peer] if importlib.util.find_spec(name) is None]
    return f"{', '.join(absent)} not installed (pip install -e '.[bench]')" if absent else ""


if __name__ == "__main__":
    sys.exit(main())
