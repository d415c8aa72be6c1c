"""The plan played event by event: random calls against each limit, to check the formulas.

Calls arrive by a Poisson process; every limit is looked at alone, as in the plan: a call that one limit refuses still
asks the others. What is counted at once is a resource that turns arrivals away when it is full; a rate is a bucket that
holds one unit of its time and refills evenly.
"""

from __future__ import annotations

import random
from collections.abc import Generator
from typing import Any

import msgspec
import simpy

from voxload.planning.plan import PER_S, CapacityPlan, Row, demand_per_call

WARM_UP_CALLS = 5.0
"""Holding times that pass before anything is counted: the calls up at once have reached their level."""
RATE_EVENTS_MAX = 200_000
"""A rate with more events than that in the simulated time is played with bundles of them."""


class Simulated(msgspec.Struct, frozen=True):
    """What became of one limit."""

    limit: str
    offered: int
    refused: int
    mean_in_use: float | None
    """Of what is counted at once."""

    @property
    def refused_share(self) -> float:
        """Refused over offered, 0 to 1."""
        return self.refused / self.offered if self.offered else 0.0


def simulate(plan: CapacityPlan, calls: int, seed: int) -> list[Simulated]:
    """Play `calls` calls (after the warm-up) against each limit of the plan that has a value."""
    per_call = demand_per_call(plan.profile)
    found = []
    for number, row in enumerate(plan.rows):
        if row.value is None or not plan.targets.calls or not per_call[row.limit]:
            continue
        rng = random.Random(f"{seed}/{number}")
        if row.per == "at once":
            found.append(_at_once(row, plan, per_call[row.limit], calls, rng))
        else:
            found.append(_rate(row, plan, calls, rng))
    return found


class _Tally:
    """Counts, once the warm-up is over."""

    def __init__(self, environment: simpy.Environment, warm_up_s: float) -> None:
        self._environment = environment
        self._warm_up_s = warm_up_s
        self._changed_s = warm_up_s
        self.offered = self.refused = 0
        self.area = 0.0

    def arrival(self, refused: bool) -> None:
        """Count an arrival."""
        if self._environment.now >= self._warm_up_s:
            self.offered += 1
            self.refused += refused

    def level(self, in_use: int) -> None:
        """Add the time since the last change at the level that it had."""
        now_s = self._environment.now
        if now_s > self._changed_s:
            self.area += in_use * (now_s - self._changed_s)
            self._changed_s = now_s


def _at_once(row: Row, plan: CapacityPlan, per_call: float, calls: int, rng: random.Random) -> Simulated:
    """Arrivals that hold a place each; a call that needs more than one place makes so many arrivals."""
    environment = simpy.Environment()
    assert row.value is not None
    places = simpy.Resource(environment, max(int(row.value), 1))
    rate_per_s = plan.arrival_rate_per_s * max(per_call, 1.0)
    holding_s = plan.profile.call_s * min(per_call, 1.0)
    warm_up_s = WARM_UP_CALLS * holding_s
    tally = _Tally(environment, warm_up_s)

    def hold(request: Any) -> Generator[Any, None, None]:
        yield environment.timeout(rng.expovariate(1.0 / holding_s))
        tally.level(places.count)
        places.release(request)

    def arrive() -> Generator[Any, None, None]:
        while True:
            yield environment.timeout(rng.expovariate(rate_per_s))
            refused = places.count >= places.capacity
            tally.arrival(refused)
            if not refused:
                tally.level(places.count)
                environment.process(hold(places.request()))

    environment.process(arrive())
    end_s = warm_up_s + calls / rate_per_s
    environment.run(until=end_s)
    tally.level(places.count)
    return Simulated(row.limit, tally.offered, tally.refused, tally.area / (end_s - warm_up_s))


def _rate(row: Row, plan: CapacityPlan, calls: int, rng: random.Random) -> Simulated:
    """Requests at random instants that take their size out of a bucket, or are refused."""
    environment = simpy.Environment()
    assert row.value is not None
    demand_per_s = row.demand / PER_S[row.per]
    size = plan.profile.tokens_per_turn if row.unit == "tokens" else 1.0
    refill_per_s = row.value / PER_S[row.per]
    span_s = max(calls / plan.arrival_rate_per_s, 20 * PER_S[row.per])
    bundle = max(demand_per_s / size * span_s / RATE_EVENTS_MAX, 1.0)
    size *= bundle
    # a full bucket lets too much through at first: by then it has been emptied, where it ever is
    surplus_per_s = demand_per_s - refill_per_s
    warm_up_s = min(row.value / surplus_per_s, span_s) if surplus_per_s > 0 else PER_S[row.per]
    tally = _Tally(environment, warm_up_s)

    def arrive() -> Generator[Any, None, None]:
        level, updated_s = row.value or 0.0, 0.0
        while True:
            yield environment.timeout(rng.expovariate(demand_per_s / size))
            level = min(level + (environment.now - updated_s) * refill_per_s, row.value or 0.0)
            updated_s = environment.now
            tally.arrival(level < size)
            if level >= size:
                level -= size

    environment.process(arrive())
    environment.run(until=warm_up_s + span_s)
    return Simulated(row.limit, tally.offered, tally.refused, None)
