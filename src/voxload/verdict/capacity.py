"""The search for the highest load that passes: a stepped ramp, then bisection, then confirmation; no I/O.

A single probe may pass or fail by chance near the limit. So the answer is confirmed: the load passes in `confirmations`
probes, and the load above it fails twice. A load that has passed and later fails counts as failed (hysteresis: a target
must carry it again and again), and the search goes on below it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

Status = Literal["passed", "failed", "unknown"]

UNKNOWN_MAX = 3
"""So many probes at one load whose numbers cannot be trusted end the search: the generator is the limit."""


_EPSILON = 1e-9


class Probe(msgspec.Struct, frozen=True):
    """One run at one load."""

    load: float
    status: Status
    reasons: tuple[str, ...] = ()
    """Why it failed or is unknown: the gates, in words."""
    throughput_per_s: float | None = None
    """Completed calls a second."""
    latency_p95_ms: float | None = None
    latency_metric: str = "turn_latency"
    """Which latency that is: of the set-up where nobody speaks."""
    calls: int = 0
    folder: str = ""


class SearchSettings(msgspec.Struct, frozen=True):
    """How to search. Loads are concurrent calls or calls a second."""

    start: float
    maximum: float
    growth: float = 1.5
    """From one step of the ramp to the next."""
    tolerance: float = 0.05
    """Width of the last interval, as a share of the load that passes."""
    resolution: float = 1.0
    """Loads are multiples of this."""
    confirmations: int = 2
    """Probes in all that the answer must pass."""


class Capacity(msgspec.Struct, frozen=True):
    """What is known: the highest load that passes, the lowest that fails, and whether both are certain."""

    passes: float | None
    fails: float | None
    breaking: tuple[str, ...]
    """Why the load just above the capacity failed."""
    bound: Literal["", "maximum", "generator", "start"] = ""
    """What ended the search early: its own maximum, the generator, or a first step that failed already."""
    done: bool = False


def next_load(settings: SearchSettings, probes: Iterable[Probe]) -> float | None:
    """Return the load to try next, None when the search is over. Depends on the probes alone, so it can be resumed."""
    tried = list(probes)
    found = capacity(settings, tried)
    if found.done:
        return None
    low, high = found.passes, found.fails
    untrusted = [probe for probe in tried if probe.status == "unknown"]
    if tried and tried[-1].status == "unknown" and _count(untrusted, tried[-1].load) < UNKNOWN_MAX:
        return tried[-1].load
    if high is None:
        return settings.start if low is None else min(_snap(settings, low * settings.growth, up=True), settings.maximum)
    if low is None:  # the first step has failed: look below it
        return max(_snap(settings, high / 2), settings.resolution)
    if high - low > _width(settings, low):
        middle = _snap(settings, (low + high) / 2)
        return middle if low < middle < high else low
    if _count(_with(tried, "passed"), low) < settings.confirmations:
        return low
    return high  # a second look at the load that failed


def capacity(settings: SearchSettings, probes: Iterable[Probe]) -> Capacity:
    """Return what the probes say so far."""
    tried = list(probes)
    failed = _with(tried, "failed")
    # one failure at a load that passes twice as often is chance; else the load counts as failed
    refuted = {load for load in {probe.load for probe in failed} if not _mostly_passes(tried, load)}
    high = min(refuted, default=None)
    passed = sorted({probe.load for probe in _with(tried, "passed") if _stands(tried, probe.load, high)})
    low = passed[-1] if passed else None
    breaking = next((probe.reasons for probe in reversed(failed) if probe.load == high), ())
    stuck = [load for load in {probe.load for probe in tried} if _count(_with(tried, "unknown"), load) >= UNKNOWN_MAX]
    if stuck:
        return Capacity(low, high, breaking, "generator", done=True)
    if low is not None and low >= settings.maximum:
        sure = _count(_with(tried, "passed"), low) >= settings.confirmations
        return Capacity(low, None, (), "maximum", done=sure)
    if low is None and high is not None and high <= settings.resolution:
        return Capacity(None, high, breaking, "start", done=True)
    if low is None or high is None or high - low > _width(settings, low):
        return Capacity(low, high, breaking)
    sure = _count(_with(tried, "passed"), low) >= settings.confirmations and _count(failed, high) >= 2
    return Capacity(low, high, breaking, done=sure)


def _stands(tried: list[Probe], load: float, high: float | None) -> bool:
    return (high is None or load < high) and (_mostly_passes(tried, load) or not _count(_with(tried, "failed"), load))


def _mostly_passes(tried: list[Probe], load: float) -> bool:
    passes, fails = _count(_with(tried, "passed"), load), _count(_with(tried, "failed"), load)
    return passes >= 2 * fails


def _with(tried: list[Probe], status: Status) -> list[Probe]:
    return [probe for probe in tried if probe.status == status]


def _count(probes: list[Probe], load: float) -> int:
    return sum(probe.load == load for probe in probes)


def _width(settings: SearchSettings, low: float) -> float:
    return max(settings.resolution, low * settings.tolerance) + _EPSILON


def _snap(settings: SearchSettings, load: float, *, up: bool = False) -> float:
    """Return the load as a multiple of the resolution, and when going up at least one step further."""
    steps = load / settings.resolution + _EPSILON
    whole = int(steps) + (1 if up and steps - int(steps) > 2 * _EPSILON else 0)
    return round(max(whole, 1) * settings.resolution, 6)
