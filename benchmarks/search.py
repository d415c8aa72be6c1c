"""How many calls a core carries: judges one step honestly, and closes in on the limit in few steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.harness import AGENT_RATE, Result
from benchmarks.processes import SinkView, step_s
from voxload.clock import NS_PER_S, monotonic_ns

LATENESS_P99_MS_MAX = 5.0
SENT_SHARE_MIN = 0.99
SINK_SHARE_MIN = 0.98
"""Seen by the sink in whole samples of 250 ms, whose edges cost a little precision."""
SINK_CPU_MAX = 0.95
DISTURBED_SHARE = 0.01
"""Share of the window for which other processes held a core of the benchmark; a step that fails so is repeated once."""
CLOSE_ENOUGH = 1.06
CALLS_MIN = 5
FIXED_CALLS = 100
STEPS_MAX = 20


@dataclass(slots=True)
class Step:
    """One step and its verdict."""

    result: Result
    sink: SinkView
    failed: str = ""
    """Why the step does not count; empty: it held."""
    target_bound: bool = False
    """The sink was the limit, not the client."""

    @property
    def disturbed(self) -> bool:
        """Whether other processes held the client's core, or the sink's, for a noticeable time."""
        client_share = self.result.wait_s / max(self.result.seconds, 1e-9)
        return max(client_share, self.sink.wait_share) > DISTURBED_SHARE


@dataclass(slots=True)
class Mode:
    """A kind of traffic."""

    short: str
    name: str
    rate: int
    duplex: bool
    calls_max: int = 4000
    weight: float = 1.0
    """Share of the time, relative to the other modes."""
    light: bool = False
    """Whether the target is the sink in C, so that it is not the limit."""
    peers: tuple[str, ...] = ()
    """Who is measured in it, where it is not for all."""


@dataclass(slots=True)
class Cell:
    """What was found out about one peer in one mode."""

    peer: str
    mode: Mode
    steps: list[Step] = field(default_factory=list)
    fixed: Step | None = None
    best: Step | None = None
    """The largest step that held."""
    failed_at: int | None = None
    """The smallest number of calls that did not hold."""
    missing: str = ""
    """What is not installed of it."""
    broken: str = ""
    """Why it did not run at all, although it is installed."""

    @property
    def target_bound(self) -> bool:
        """Whether the number is only a lower bound, because the sink was the limit."""
        return any(step.target_bound and step.result.calls == self.failed_at for step in self.steps)

    @property
    def disturbed_end(self) -> bool:
        """Whether every failure at the bound was a disturbed step: that says nothing of the peer's own limit."""
        at_bound = [step for step in self.steps if step.failed and step.result.calls == self.failed_at]
        return bool(at_bound) and all(step.disturbed for step in at_bound)

    @property
    def lower_bound(self) -> bool:
        """Whether the peer may carry more than was found."""
        return self.open_end or self.target_bound or self.disturbed_end

    @property
    def open_end(self) -> bool:
        """Whether the search ended (time, or the mode's limit) before any number of calls failed."""
        return self.failed_at is None and self.best is not None


def judge(result: Result, sink: SinkView) -> Step:
    """Return the step with its verdict: errors, missing frames and lateness fail it."""
    step = Step(result, sink)
    late_ms = result.lateness_p99_ms
    expected_in = result.calls * AGENT_RATE * result.seconds if result.duplex else 0
    if result.errors:
        step.failed = f"{result.errors} errors: {result.error}"
    elif result.frames < SENT_SHARE_MIN * result.frames_expected:
        step.failed = f"sent {result.frames} of {result.frames_expected:.0f} frames"
    elif late_ms is None or late_ms > LATENESS_P99_MS_MAX:
        step.failed = f"frame lateness p99 {late_ms:.1f} ms" if late_ms is not None else "no frames"
    elif sink.frames_in_per_s < SINK_SHARE_MIN * result.calls * result.rate:
        step.failed = f"the sink saw {sink.frames_in_per_s:.0f} of {result.calls * result.rate} frames a second"
    elif result.frames_in < SENT_SHARE_MIN * expected_in:
        step.failed = f"received {result.frames_in} of {expected_in:.0f} frames"
    if step.failed and not result.errors:
        sink_late = sink.lateness_p99_ms is not None and sink.lateness_p99_ms > LATENESS_P99_MS_MAX
        client_busy = result.cpu_s > 0.9 * result.seconds
        step.target_bound = not client_busy and (sink.cpu_share > SINK_CPU_MAX or (sink_late and not step.disturbed))
    return step


class Search:
    """Finds a cell's numbers; `run(calls)` runs one step."""

    def __init__(self, cell: Cell, run: Callable[[int], Step], window_s: float, budget_s: float) -> None:
        self._cell = cell
        self._run = run
        self._window_s = window_s
        self._end_ns = monotonic_ns() + round(budget_s * NS_PER_S)

    def find(self) -> None:
        """Measure the fixed load, then close in on the limit until it is near enough or the time is used up."""
        cell = self._cell
        cell.fixed = self._try(FIXED_CALLS)
        if not cell.fixed.result.seconds:  # no window at all: it did not start, and fewer calls would not help
            cell.broken = cell.fixed.failed
            return
        if cell.fixed.disturbed and not cell.fixed.failed:
            cell.fixed = self._try(FIXED_CALLS)
        while not self._near_enough() and len(cell.steps) < STEPS_MAX:
            calls = self._next()
            if calls is None or not self._time_for(calls):
                return
            self._try(calls)

    def _time_for(self, calls: int) -> bool:
        return monotonic_ns() + step_s(calls, self._window_s) * NS_PER_S <= self._end_ns

    def _try(self, calls: int) -> Step:
        cell = self._cell
        step = self._run(calls)
        cell.steps.append(step)
        if step.failed and step.disturbed and self._time_for(calls):
            step = self._run(calls)
            cell.steps.append(step)
        if not step.failed:
            if cell.best is None or calls > cell.best.result.calls:
                cell.best = step
        elif cell.failed_at is None or calls < cell.failed_at:
            cell.failed_at = calls
        return step

    def _near_enough(self) -> bool:
        best, failed_at = self._cell.best, self._cell.failed_at
        if failed_at is None:
            return False
        if best is None:
            return failed_at <= CALLS_MIN
        return failed_at <= max(CLOSE_ENOUGH * best.result.calls, best.result.calls + 1)

    def _next(self) -> int | None:
        """Return the next number of calls: what the CPU time says while nothing failed, then the geometric middle."""
        cell, rate = self._cell, self._cell.mode.rate
        best, failed_at = cell.best, cell.failed_at
        if best is None:
            assert failed_at is not None
            us = cell.steps[-1].result.us_per_frame
            cpu_says = 0.9e6 / (us * rate) if us else failed_at / 2
            return max(round(min(max(cpu_says, failed_at / 4), failed_at / 1.25)), CALLS_MIN)
        calls = best.result.calls
        us = best.result.us_per_frame or 1.0
        if failed_at is not None:
            return max(math.isqrt(calls * failed_at), calls + 1)
        if calls >= cell.mode.calls_max:
            return None
        return min(round(max(1.12 * calls, min(0.9e6 / (us * rate), 8 * calls))), cell.mode.calls_max)
