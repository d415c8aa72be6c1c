"""Drives a capacity search: one run a probe, the state on disk after each, so that an interrupt costs one probe."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from voxload.errors import BadInputError, Problem
from voxload.measure.histogram import Histogram
from voxload.measure.summary import Summary
from voxload.runners.results import write_atomically
from voxload.verdict.capacity import Capacity, Probe, SearchSettings, Status, capacity, next_load

STATE_FILE = "capacity.json"
STATE_VERSION = 1
PROBES_MAX = 60
"""A search that has not ended by then never will: the target passes and fails at random."""


class SearchState(msgspec.Struct):
    """All that is known of a search; what `capacity.json` holds."""

    version: int
    scenario: str
    """Name of the scenario, and of what its probes are made."""
    by: str
    """`concurrency` (calls at once) or `rate` (calls a second)."""
    gates: list[str]
    settings: SearchSettings
    step_s: float
    probes: list[Probe] = []
    result: Capacity | None = None


def read_state(folder: Path) -> SearchState:
    """Return the state of a search that was begun.

    Raises:
        BadInputError: there is none, or it is not one of ours.
    """
    file = folder / STATE_FILE if folder.is_dir() else folder
    try:
        state = msgspec.json.decode(file.read_bytes(), type=SearchState)
    except FileNotFoundError:
        hint = "give the folder of a search, under results/"
        raise BadInputError([Problem("no capacity search here", str(file), 0, hint)]) from None
    except (OSError, msgspec.MsgspecError) as error:
        raise BadInputError([Problem(f"not a capacity search: {error}", str(file))]) from None
    if state.version != STATE_VERSION:
        raise BadInputError([Problem(f"a capacity search of version {state.version}", str(file))])
    return state


def write_state(folder: Path, state: SearchState) -> None:
    """Write the state, in one piece."""
    encoded = msgspec.json.format(msgspec.json.encode(state), indent=2) + b"\n"
    write_atomically(folder / STATE_FILE, encoded)


def search(
    state: SearchState,
    folder: Path,
    run: Callable[[float], Summary],
    told: Callable[[Probe, Capacity], None],
    stopping: Callable[[], bool],
) -> SearchState:
    """Probe until the capacity is known, or `stopping()`; `run(load)` places the calls, `told` hears of each probe."""
    while not stopping() and len(state.probes) < PROBES_MAX:
        load = next_load(state.settings, state.probes)
        if load is None:
            break
        summary = run(load)
        if summary.verdict.status == "aborted":  # Ctrl-C, or the target is gone: not an answer to the question
            break
        probe = probe_of(load, summary)
        state.probes.append(probe)
        state.result = capacity(state.settings, state.probes)
        write_state(folder, state)
        told(probe, state.result)
    state.result = capacity(state.settings, state.probes)
    write_state(folder, state)
    return state


def probe_of(load: float, summary: Summary) -> Probe:
    """Return what a run says about its load."""
    status: Status = "unknown"
    if summary.verdict.status in {"passed", "failed"}:
        status = "passed" if summary.verdict.status == "passed" else "failed"
    metric, latency = _headline(summary)
    p95_ns = latency.quantile(0.95)
    return Probe(
        load,
        status,
        tuple(summary.verdict.reasons),
        summary.levels.get("throughput"),
        None if p95_ns is None else p95_ns / 1e6,
        metric,
        summary.totals.attempted,
        summary.run.run_id,
    )


def _headline(summary: Summary) -> tuple[str, Histogram]:
    """Return the latency that a caller feels, with its name: of turns, or of the set-up where nobody speaks."""
    turns = summary.histogram("turn_latency")
    return ("turn_latency", turns) if turns.count else ("call_setup", summary.histogram("call_setup"))
