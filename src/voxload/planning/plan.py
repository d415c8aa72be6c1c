"""The capacity plan: what so many calls ask of each service, which limit breaks first, what quota to have, the cost."""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from voxload.planning.erlang import erlang_b, erlang_c, mean_wait_s, places_for_blocking, traffic_for_blocking
from voxload.planning.limits import KINDS, Limit, LimitKind
from voxload.planning.profile import CallProfile

PER_S = {"second": 1.0, "minute": 60.0}
"""Seconds in the time over which a rate limit counts."""


class Targets(msgspec.Struct, frozen=True):
    """What to plan for."""

    calls: float
    """At once, on average, in the busiest hour: the offered traffic in erlangs."""
    daily_calls: float | None = None
    busy_hour_share: float = 0.15
    """Of the day's calls, in its busiest hour."""
    headroom: float = 0.3
    """Beyond what is needed, in the quota to ask for."""
    blocking: float = 0.01
    """Share of refused arrivals at which a limit counts as broken."""


class Row(msgspec.Struct, frozen=True):
    """One limit."""

    limit: str
    service: str
    unit: str
    per: str
    demand: float
    """Offered: erlangs for what is counted at once, else amount in a `per`."""
    value: float | None
    """The limit; None: there is none."""
    source: str
    utilisation: float | None
    """Demand over limit."""
    refused_share: float
    """Of arrivals: Erlang B for what is counted at once; for a rate, what exceeds it in the long run."""
    waiting_share: float | None
    """Erlang C: of arrivals, where the backend queues instead of refusing; None for rates."""
    mean_wait_s: float | None
    """None for rates, and where the queue only grows."""
    breaks_at_calls: float | None
    """Calls at once at which it gives way."""
    ask_for: float
    """The quota to have, rounded up to two digits."""


class Costs(msgspec.Struct, frozen=True):
    """In US dollars."""

    items: dict[str, float]
    """Of one call."""
    call: float
    hour: float
    """At the planned load."""
    day: float | None
    """Of the daily calls."""


class CapacityPlan(msgspec.Struct, frozen=True):
    """The whole plan."""

    targets: Targets
    profile: CallProfile
    origins: dict[str, str]
    arrival_rate_per_s: float
    busy_hour_calls: float | None
    """Calls at once that the daily volume makes in its busiest hour."""
    rows: list[Row]
    first: str | None
    """The limit that breaks first as calls grow."""
    costs: Costs | None = None


def calls_of_day(daily_calls: float, busy_hour_share: float, call_s: float) -> float:
    """Return the mean calls at once in the busiest hour of a day (Little's law)."""
    return daily_calls * busy_hour_share / 3600 * call_s


def demand_per_call(profile: CallProfile) -> dict[str, float]:
    """Return what each call that is up asks of each limit, in the limit's own unit of time."""
    per_s = 1.0 / profile.call_s
    turns_per_s = profile.turns * per_s
    return {
        "acs.concurrent_calls": 1.0,
        "speech.concurrent_streams": profile.streams,
        "speech.tts_requests_per_s": turns_per_s * profile.tts_requests_per_turn,
        "openai.tokens_per_minute": turns_per_s * profile.tokens_per_turn * 60,
        "openai.requests_per_minute": turns_per_s * 60,
        "redis.connections": profile.redis_connections,
        "eventgrid.events_per_s": profile.events * per_s,
    }


def make_plan(
    profile: CallProfile,
    origins: dict[str, str],
    limits: Mapping[str, Limit],
    targets: Targets,
    cost_items: dict[str, float] | None = None,
) -> CapacityPlan:
    """Return the plan; every limit is looked at alone, as if the others gave way never."""
    per_call = demand_per_call(profile)
    rows = [_row(KINDS[name], limit, per_call[name], profile, targets) for name, limit in limits.items()]
    breaking = [row for row in rows if row.breaks_at_calls is not None]
    first = min(breaking, key=lambda row: row.breaks_at_calls or 0.0, default=None)
    rate_per_s = targets.calls / profile.call_s
    busy = None
    if targets.daily_calls is not None:
        busy = calls_of_day(targets.daily_calls, targets.busy_hour_share, profile.call_s)
    costs = None if cost_items is None else _costs(cost_items, rate_per_s, targets.daily_calls)
    return CapacityPlan(targets, profile, origins, rate_per_s, busy, rows, first.limit if first else None, costs)


def _costs(items: dict[str, float], rate_per_s: float, daily_calls: float | None) -> Costs:
    call = math.fsum(items.values())
    return Costs(items, call, call * rate_per_s * 3600, None if daily_calls is None else call * daily_calls)


def _row(kind: LimitKind, limit: Limit, per_call: float, profile: CallProfile, targets: Targets) -> Row:
    demand = targets.calls * per_call
    at_once = kind.per == "at once"
    refused, waiting, wait_s, breaks_at = 0.0, 0.0 if at_once else None, 0.0 if at_once else None, None
    if limit.value is not None:
        if at_once:
            places = math.floor(limit.value)
            refused, waiting = erlang_b(demand, places), erlang_c(demand, places)
            holding_s = profile.call_s * min(per_call, 1.0)
            queue_s = mean_wait_s(demand, places, holding_s)
            wait_s = queue_s if math.isfinite(queue_s) else None
            breaks_at = traffic_for_blocking(places, targets.blocking) / per_call if per_call else None
        else:
            refused = max(0.0, 1.0 - limit.value / demand) if demand else 0.0
            breaks_at = limit.value / per_call if per_call else None
    ask_for = demand * (1.0 + targets.headroom)
    if at_once:
        ask_for = max(ask_for, float(places_for_blocking(demand, targets.blocking)))
    return Row(
        limit=kind.name,
        service=kind.service,
        unit=kind.unit,
        per=kind.per,
        demand=demand,
        value=limit.value,
        source=limit.source + (f" ({limit.date})" if limit.date else ""),
        utilisation=None if limit.value is None else demand / limit.value,
        refused_share=refused,
        waiting_share=waiting,
        mean_wait_s=wait_s,
        breaks_at_calls=breaks_at,
        ask_for=round_up(ask_for),
    )


def round_up(amount: float) -> float:
    """Return an amount rounded up to two significant digits, as quotas are asked for."""
    if amount <= 0:
        return 0.0
    step = 10.0 ** max(math.floor(math.log10(amount)) - 1, 0)
    return math.ceil(amount / step - 1e-9) * step
