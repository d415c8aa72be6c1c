"""voxload beside its peers on the same target: who is measured, in which traffic, and for how long."""

from __future__ import annotations

import importlib.util

from rich.console import Console

from benchmarks import peer_artillery, table
from benchmarks.page import Section
from benchmarks.processes import Sink, compiler, run_peer
from benchmarks.search import Cell, Mode, Search, Step, judge
from voxload.clock import NS_PER_S, monotonic_ns

PEERS = ("voxload", "floor", "locust", "artillery", "websockets", "aiohttp")
OURS = frozenset({"voxload", "voxload_acs", "voxload_tls"})
BUDGET_S, QUICK_BUDGET_S = 270, 80
Found = list[tuple[Mode, list[Cell]]]
NEEDS = {
    "voxload": ("picows", "uvloop"),
    "voxload_acs": ("picows", "uvloop"),
    "voxload_tls": ("picows", "uvloop"),
    "voxload_quiet": ("picows", "uvloop"),
    "bare": ("picows", "uvloop"),
    "floor": (),
    "aiohttp": ("aiohttp", "uvloop"),
    "artillery": (),
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
CHUNKS_UP = Mode(
    "10/s up",
    "10 messages/s of 100 ms, up only (the dialect's default)",
    10,
    duplex=False,
    calls_max=8000,
    light=True,
    weight=1.2,
)


def measure(peers: list[str], progress: Console, quick: bool, about: dict[str, str]) -> tuple[Section, Found]:
    """Measure every peer in every mode; returns the section of the page, and the cells by mode."""
    modes = [FRAMES_UP, FRAMES_DUPLEX] if quick else [FRAMES_UP, FRAMES_DUPLEX, CHUNKS_UP, ACS_UP, TLS_UP]
    bench = Bench(peers, progress, QUICK_BUDGET_S if quick else BUDGET_S, window_s=2.0 if quick else 3.0)
    found = bench.run(modes)
    ours = [cell for _, cells in found for cell in cells if cell.peer in OURS]
    held = all(cell.best is not None for cell in ours)
    return Section(table.as_markdown(found), table.as_data(found, about), held), found


class Bench:
    """Runs every peer in every mode, and shares out the time."""

    def __init__(self, peers: list[str], progress: Console, budget_s: float, window_s: float) -> None:
        self._peers = peers
        self._progress = progress
        self._end_ns = monotonic_ns() + round(budget_s * NS_PER_S)
        self._window_s = window_s
        self._missing = {peer: missing(peer) for peer in NEEDS}

    def run(self, modes: list[Mode]) -> Found:
        """Return the cells of each mode."""
        weights = [mode.weight for mode in modes for peer in self._peers_of(mode) if not self._missing[peer]]
        found = []
        for mode in modes:
            cells = []
            with Sink(speak=mode.duplex, light=mode.light) as sink:
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
            self._progress.print(line, highlight=False, markup=False, soft_wrap=True)
            return step

        Search(cell, run, self._window_s, budget_s).find()


def missing(peer: str) -> str:
    """Return what is not installed of a peer's packages, or nothing."""
    if peer == "floor" and compiler() is None:
        return "no C compiler"
    if peer == "artillery":
        return peer_artillery.missing()
    absent = [name for name in NEEDS[peer] if importlib.util.find_spec(name) is None]
    return f"{', '.join(absent)} not installed (pip install -e '.[bench]')" if absent else ""
