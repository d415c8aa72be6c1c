"""How many calls a core carries: judges one step honestly, and closes in on the limit in few steps."""

from __future__ import annotations

import itertools
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
"""Share of the window for which other processes held a core of the benchmark; a step that fails so is repeated."""
CLOSE_ENOUGH = 1.16
"""Between the largest step that held and the smallest that did not, when a search may end."""
STRIDE = 1.15
BUSY_SHARE_MIN = 0.6
"""Of a core: a client that used less and was late all the same is measured again, for the host may have paused us."""
CALLS_MIN = 5
STEPS_MAX = 20
TRIES_MAX = 4
"""How often a number of calls is tried while each failure was disturbed."""


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

    @property
    def busy(self) -> float:
        """Share of its core that the client used."""
        return self.result.cpu_s / max(self.result.seconds, 1e-9)

    @property
    def unexplained(self) -> bool:
        """Whether it failed although the client had time to spare and nobody was seen to disturb it."""
        return bool(self.failed) and not self.disturbed and not self.target_bound and self.busy < BUSY_SHARE_MIN


@dataclass(frozen=True, slots=True)
class Mode:
    """A kind of traffic."""

    short: str
    name: str
    rate: int
    duplex: bool
    same_calls: int = 200
    """The load at which all are compared: all hold it, and its cost is that of frames and not of idle wake-ups."""
    calls_max: int = 4000
    rounds: int = 2
    """How often each is measured at the same load, in turn with the others."""
    tls: bool = False
    """Whether the target must be the sink in Python, which alone has TLS; the one in C is a limit less often."""
    peers: tuple[str, ...] = ()
    """Who is measured in it, where it is not for all; the same load only."""


@dataclass(slots=True)
class Cell:
    """What was found out about one peer in one mode."""

    peer: str
    mode: Mode
    steps: list[Step] = field(default_factory=list)
    """All, in the order in which they were run."""
    missing: str = ""
    """What is not installed of it."""
    broken: str = ""
    """Why it did not run at all, although it is installed."""

    def add(self, step: Step) -> None:
        """Take a step."""
        if not self.steps and not step.result.seconds:  # no window at all: fewer calls would not help
            self.broken = step.failed
        self.steps.append(step)

    @property
    def usable(self) -> bool:
        """Whether there is something to measure."""
        return not self.missing and not self.broken

    @property
    def same(self) -> list[Step]:
        """The steps at the load at which all are compared: the good ones, or all where there is no good one."""
        found = [step for step in self.steps if step.result.calls == self.mode.same_calls]
        return [step for step in found if not step.failed and not step.disturbed] or found

    @property
    def best(self) -> Step | None:
        """The largest step that held."""
        return max((step for step in self.steps if not step.failed), key=lambda step: step.result.calls, default=None)

    @property
    def failed_at(self) -> int | None:
        """The smallest number of calls above all those that held at which a step failed."""
        held = self.best.result.calls if self.best is not None else 0
        return min((step.result.calls for step in self.steps if step.failed and step.result.calls > held), default=None)

    @property
    def at_bound(self) -> list[Step]:
        """The steps that failed there."""
        return [step for step in self.steps if step.failed and step.result.calls == self.failed_at]

    @property
    def target_bound(self) -> bool:
        """Whether the number is only a lower bound, because the sink was the limit."""
        return any(step.target_bound for step in self.at_bound)

    @property
    def disturbed_end(self) -> bool:
        """Whether every failure at the bound was a disturbed step: that says nothing of the peer's own limit."""
        return bool(self.at_bound) and all(step.disturbed for step in self.at_bound)

    @property
    def lower_bound(self) -> bool:
        """Whether the peer may carry more than was found."""
        return self.open_end or self.target_bound or self.disturbed_end

    @property
    def open_end(self) -> bool:
        """Whether the search ended (time, or the mode's limit) before any number of calls failed."""
        return self.failed_at is None and self.best is not None

    @property
    def near_enough(self) -> bool:
        """Whether there is little between what held and what did not."""
        if self.failed_at is None:
            return False
        if self.best is None:
            return self.failed_at <= CALLS_MIN
        calls = self.best.result.calls
        return self.failed_at <= max(CLOSE_ENOUGH * calls, calls + 1)

    @property
    def settled(self) -> bool:
        """Whether more steps would tell nothing new."""
        return self.near_enough and not self.must_repeat

    @property
    def must_repeat(self) -> bool:
        """Whether the failure at the bound may be another's fault."""
        bound = self.at_bound
        if self.disturbed_end:
            return len(bound) < TRIES_MAX
        return len(bound) == 1 and bound[0].unexplained


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
    """Closes in on a cell's limit; `run(calls)` runs one step, `guess` is where the limit may be (0: unknown)."""

    def __init__(
        self, cell: Cell, run: Callable[[int], Step], window_s: float, budget_s: float, guess: int = 0
    ) -> None:
        self._cell = cell
        self._run = run
        self._window_s = window_s
        self._end_ns = monotonic_ns() + round(budget_s * NS_PER_S)
        self._guess = min(guess, cell.mode.calls_max)
        self._guided = guess > 0

    def find(self) -> None:
        """Run steps until the limit is near enough or the time is used up."""
        cell = self._cell
        while cell.usable and not cell.settled and len(cell.steps) < STEPS_MAX:
            calls = self._next()
            if calls is None or not self._time_for(calls):
                return
            cell.add(self._run(calls))

    def _time_for(self, calls: int) -> bool:
        return monotonic_ns() + step_s(self._cell.peer, calls, self._window_s) * NS_PER_S <= self._end_ns

    def _next(self) -> int | None:
        """Return the next number of calls: the guess, from there in growing strides, then the geometric middle."""
        cell, best, failed_at = self._cell, self._cell.best, self._cell.failed_at
        if cell.must_repeat:
            return failed_at
        held = best.result.calls if best is not None else 0
        if held < self._guess < (failed_at or cell.mode.calls_max + 1):
            calls, self._guess = self._guess, 0
            return calls
        if failed_at is not None:
            middle = math.isqrt(held * failed_at)
            if cell.steps[-1].failed:
                fewer = round(failed_at / self._stride(failed=True))
                return max(fewer, middle, held + 1, CALLS_MIN) if failed_at > CALLS_MIN else None
            return max(min(round(held * self._stride(failed=False)), middle), held + 1)
        if best is None:
            return cell.mode.same_calls
        if held >= cell.mode.calls_max:
            return None
        by_cpu = 1.0 if self._guided else min(0.85 / max(best.busy, 1e-9), 4.0)
        return min(max(round(held * max(self._stride(failed=False), by_cpu)), held + 1), cell.mode.calls_max)

    def _stride(self, failed: bool) -> float:
        """Return a factor that grows with each step in a row that went the same way."""
        in_a_row = itertools.takewhile(lambda step: bool(step.failed) == failed, reversed(self._cell.steps))
        tried = {step.result.calls for step in in_a_row} - {self._cell.mode.same_calls}
        return float(STRIDE ** min(2 ** max(len(tried) - 1, 0), 8))
