"""voxload beside its peers on the same target: who is measured, in which traffic, and for how long."""

from __future__ import annotations

import importlib.util
from functools import partial
from typing import Any

from rich.console import Console

from benchmarks import peer_artillery, table
from benchmarks.page import Section, kept_data
from benchmarks.processes import Sink, compiler, run_peer
from benchmarks.search import Cell, Mode, Search, Step, judge
from voxload.clock import NS_PER_S, monotonic_ns

PEERS = ("voxload", "floor", "locust", "artillery", "websockets", "aiohttp")
OURS = frozenset({"voxload", "voxload_acs", "voxload_tls"})
BUDGET_S, QUICK_BUDGET_S = 470, 100
KNOWN = 1.35
"""Between the calls that held and those that did not, when a limit is called known."""
SHARE = {"locust": 1.6, "artillery": 1.6}
"""Of the time: those that open their calls slowly need more."""
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
FRAMES_UP = Mode("50/s up", "50 frames/s of 20 ms, up only (the target is silent)", 50, duplex=False)
FRAMES_DUPLEX = Mode(
    "50/s duplex", "50 frames/s of 20 ms, duplex (the target sends 50 frames/s too)", 50, duplex=True, same_calls=120
)
CHUNKS_UP = Mode(
    "10/s up",
    "10 messages/s of 100 ms, up only (the dialect's default)",
    10,
    duplex=False,
    same_calls=500,
    calls_max=10_000,
    rounds=1,
)
ACS_UP = Mode(
    "ACS up", "ACS media streaming: 50 frames/s of 20 ms up, the agent quiet", 50, duplex=False, peers=("voxload_acs",)
)
TLS_UP = Mode(
    "wss up",
    "50 frames/s of 20 ms up over wss://, certificates verified",
    50,
    duplex=False,
    peers=("voxload_tls",),
    tls=True,
)
GUESSES = {
    "50/s up": {"voxload": 1100, "floor": 1500, "locust": 310, "artillery": 270, "websockets": 300, "aiohttp": 520},
    "50/s duplex": {"voxload": 750, "floor": 1300, "locust": 170, "artillery": 220, "websockets": 190, "aiohttp": 340},
    "10/s up": {
        "voxload": 4500, "floor": 8000, "locust": 1300, "artillery": 700, "websockets": 1600, "aiohttp": 2200,
    },
}  # fmt: skip
"""Where a limit is sought first when no earlier run knows better: it saves steps and decides nothing."""


def measure(peers: list[str], progress: Console, quick: bool, about: dict[str, str]) -> tuple[Section, Found]:
    """Measure every peer in every mode; returns the section of the page, and the cells by mode."""
    modes = [FRAMES_UP, FRAMES_DUPLEX] if quick else [FRAMES_UP, FRAMES_DUPLEX, CHUNKS_UP, ACS_UP, TLS_UP]
    budget_s = QUICK_BUDGET_S if quick else BUDGET_S
    bench = Bench(peers, progress, budget_s, rounds_max=1 if quick else 2, guesses=guesses(kept_data("peers")))
    found = bench.run(modes)
    ours = [cell for _, cells in found for cell in cells if cell.peer in OURS]
    held = all(cell.best is not None for cell in ours)
    return Section(table.as_markdown(found), table.as_data(found, about), held), found


def guesses(kept: Any) -> dict[str, dict[str, int]]:
    """Return where to seek each limit first, by mode and peer: where the last run found it, where it is known."""
    found = {mode: dict(by_peer) for mode, by_peer in GUESSES.items()}
    for entry in kept["modes"] if kept else ():
        for cell in entry["peers"]:
            calls, failed_at = cell["calls_a_core"], cell["failed_at"]
            if calls and failed_at and not cell["lower_bound_only"] and failed_at <= KNOWN * calls:
                found.setdefault(entry["mode"]["short"], {})[cell["peer"]] = calls
    return found


class Bench:
    """Runs every peer in every mode, and shares out the time: first the same load, then limits, then what is open."""

    def __init__(
        self,
        peers: list[str],
        progress: Console,
        budget_s: float,
        rounds_max: int,
        guesses: dict[str, dict[str, int]],
        window_s: float = 2.0,
    ) -> None:
        self._peers = peers
        self._progress = progress
        self._end_ns = monotonic_ns() + round(budget_s * NS_PER_S)
        self._rounds_max = rounds_max
        self._guesses = guesses
        self._window_s = window_s
        self._missing = {peer: missing(peer) for peer in NEEDS}

    def run(self, modes: list[Mode]) -> Found:
        """Return the cells of each mode."""
        found = [
            (mode, [Cell(peer, mode, missing=self._missing[peer]) for peer in mode.peers or self._peers])
            for mode in modes
        ]
        for mode, cells in found:
            with Sink(speak=mode.duplex, light=not mode.tls) as sink:
                self._same_load(mode, cells, sink)
        for _ in range(2):  # the second time with what the first has left over
            self._limits(found, self._open_cells(found))
        return found

    def _same_load(self, mode: Mode, cells: list[Cell], sink: Sink) -> None:
        """Measure all in turn at one load; those whose rounds were all disturbed or failed once more."""
        for number in range(min(mode.rounds, self._rounds_max) + 1):
            for cell in cells:
                good = any(not step.failed and not step.disturbed for step in cell.same)
                if cell.usable and (number < min(mode.rounds, self._rounds_max) or not good):
                    cell.add(self._step(cell, sink, mode.same_calls))

    def _open_cells(self, found: Found) -> list[Cell]:
        return [cell for mode, cells in found if not mode.peers for cell in cells if cell.usable and not cell.settled]

    def _limits(self, found: Found, seeking: list[Cell]) -> None:
        shares = [SHARE.get(cell.peer, 1.0) for cell in seeking]
        for mode, _ in found:
            mine = [cell for cell in seeking if cell.mode is mode]
            if not mine:
                continue
            with Sink(speak=mode.duplex, light=not mode.tls) as sink:
                for cell in mine:
                    left_s = (self._end_ns - monotonic_ns()) / NS_PER_S
                    budget_s = left_s * shares[0] / sum(shares)
                    del shares[0]
                    guess = self._guesses.get(mode.short, {}).get(cell.peer, 0)
                    run = partial(self._step, cell, sink)
                    Search(cell, run, self._window_s, budget_s, guess).find()

    def _step(self, cell: Cell, sink: Sink, calls: int) -> Step:
        mode = cell.mode
        step = judge(*run_peer(cell.peer, sink, calls, mode.rate, mode.duplex, self._window_s))
        us = step.result.us_per_frame
        cost = "—" if us is None else f"{us:.1f}"
        verdict = (step.failed or "held") + (" (disturbed)" if step.disturbed else "")
        line = f"{table.LABELS[cell.peer]}, {mode.short}: {calls} calls, {cost} µs/frame: {verdict}"
        self._progress.print(line, highlight=False, markup=False, soft_wrap=True)
        return step


def missing(peer: str) -> str:
    """Return what is not installed of a peer's packages, or nothing."""
    if peer == "floor" and compiler() is None:
        return "no C compiler"
    if peer == "artillery":
        return peer_artillery.missing()
    absent = [name for name in NEEDS[peer] if importlib.util.find_spec(name) is None]
    return f"{', '.join(absent)} not installed (pip install -e '.[bench]')" if absent else ""
