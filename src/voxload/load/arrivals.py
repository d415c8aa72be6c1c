"""The intended start of every call: an exact, seeded sequence that is the same for any number of processes."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import msgspec

from voxload.clock import NS_PER_S
from voxload.model.load import ConcurrencyLoad, Phase, Process

_ROUNDING = 1e-9
"""Relative error of the sums of areas: 200 calls computed as 200.00000000000003 are 200, not 201."""
COUNTED_CALLS_MAX = 1_000_000
"""Poisson plans up to this size are counted by drawing them; larger ones by their expectation."""


class Arrival(msgspec.Struct, frozen=True):
    """The intended start of a call."""

    index: int
    """Number of the call in the run, from 0."""
    due_ns: int
    """Offset from the start of the run."""
    phase: str


def arrivals(phases: Sequence[Phase], process: Process, seed: int) -> Iterator[Arrival]:
    """Yield the calls of an open load in order of their intended start; nothing is kept in memory.

    With rate r(t) and cumulative rate R(t):

    - even: call k is due where R(t) = k, so the first call is due at the first instant with a rate above 0, and the
      number of calls is R(end) rounded up.
    - poisson: the calls are due where R(t) = E1, E1 + E2, … with independent unit exponentials E (time rescaling, exact
      for any rate: Çinlar, Introduction to Stochastic Processes, 1975, ch. 4). The expected number of calls is R(end).

    Starts never decrease and lie within the load, its end excluded.
    """
    levels = _poisson_levels(seed) if process == "poisson" else _even_levels()
    return _at_levels(phases, levels)


def slice_arrivals(sequence: Iterable[Arrival], shard: int, shards: int) -> Iterator[Arrival]:
    """Yield the part of shard `shard`: the calls whose index leaves the remainder `shard` when divided by `shards`."""
    return islice(sequence, shard, None, shards)


def closed_starts(load: ConcurrencyLoad, shard: int, shards: int) -> Iterator[Arrival]:
    """Yield the first call of each caller of this shard.

    Caller u belongs to the shard with the number u modulo `shards`. Its first call starts at u/concurrency of the
    ramp. Its calls have the indices u, u + concurrency, u + 2·concurrency, …, so no index is used twice.
    """
    for caller in range(shard, load.concurrency, shards):
        due_ns = load.ramp_up_ns * caller // load.concurrency
        yield Arrival(caller, due_ns, "ramp" if due_ns < load.ramp_up_ns else "hold")


def count_calls(phases: Sequence[Phase], process: Process, seed: int) -> list[int]:
    """Return how many calls each phase places: exact, but for Poisson loads of more than a million calls (expected)."""
    if process == "poisson" and sum(phase.calls for phase in phases) <= COUNTED_CALLS_MAX:
        numbers = dict.fromkeys(range(len(phases)), 0)
        ends_ns = _ends_ns(phases)
        position = 0
        for arrival in arrivals(phases, process, seed):
            while arrival.due_ns >= ends_ns[position]:
                position += 1
            numbers[position] += 1
        return list(numbers.values())
    counts: list[int] = []
    area = 0.0
    for phase in phases:
        before, area = area, area + phase.calls
        counts.append(_calls_below(area) - _calls_below(before))
    return counts


def _ends_ns(phases: Sequence[Phase]) -> list[int]:
    total_ns, ends_ns = 0, []
    for phase in phases:
        total_ns += phase.duration_ns
        ends_ns.append(total_ns)
    return ends_ns


def _calls_below(area: float) -> int:
    """Return the number of integers k >= 0 with k < area."""
    return math.ceil(area - _ROUNDING * max(1.0, area))


def _even_levels() -> Iterator[float]:
    level = 0.0
    while True:
        yield level
        level += 1.0


def _poisson_levels(seed: int) -> Iterator[float]:
    draw = random.Random(f"arrivals {seed}").expovariate
    level = 0.0
    while True:
        level += draw(1.0)
        yield level


def _at_levels(phases: Sequence[Phase], levels: Iterator[float]) -> Iterator[Arrival]:
    """Yield one arrival for each level, at the instant at which the cumulative rate reaches it."""
    index, last_ns = 0, 0
    start_ns, area = 0, 0.0
    level = next(levels)
    for phase in phases:
        end_ns = start_ns + phase.duration_ns
        end_area = area + phase.calls
        limit = end_area - _ROUNDING * max(1.0, end_area)
        while level < limit:
            offset_ns = round(_instant_s(phase, level - area) * NS_PER_S)
            last_ns = min(max(start_ns + offset_ns, last_ns), end_ns - 1)
            yield Arrival(index, last_ns, phase.name)
            index += 1
            level = next(levels)
        start_ns, area = end_ns, end_area


def _instant_s(phase: Phase, area: float) -> float:
    """Return when a phase has placed `area` calls: r·t + s·t²/2 = area, solved so that no digits cancel out."""
    if area <= 0:
        return 0.0
    rate, slope = phase.rate_start_per_s, (phase.rate_end_per_s - phase.rate_start_per_s) * NS_PER_S / phase.duration_ns
    return 2 * area / (rate + math.sqrt(max(rate * rate + 2 * slope * area, 0.0)))
