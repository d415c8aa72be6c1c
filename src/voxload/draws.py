"""Seeded draws: stage latencies and chances that depend on the call and the turn alone, never on arrival order."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from hashlib import blake2b
from random import Random
from statistics import NormalDist

from voxload.model.twin import Gamma, LatencySettings, Lognormal

Sampler = Callable[[str, int], int]
"""Returns the latency in ns of one stage of a turn, from the id of the call and the number of the turn."""

Z_P95 = NormalDist().inv_cdf(0.95)
_UNIT = 2.0**-53


def digest(seed: int, call_id: str, turn: int, name: str) -> int:
    """Return 64 bits that any change of seed, call, turn or name turns into unrelated ones."""
    return int.from_bytes(blake2b(f"{seed}\0{call_id}\0{turn}\0{name}".encode(), digest_size=8).digest(), "big")


def uniform(seed: int, call_id: str, turn: int, name: str) -> float:
    """Return an even draw from the open interval (0, 1)."""
    return ((digest(seed, call_id, turn, name) >> 11) + 0.5) * _UNIT


def chance(rate: float, seed: int, call_id: str, turn: int, name: str) -> bool:
    """Return True for a share `rate` (0 to 1) of all (call, turn), drawn apart for each `name`."""
    return rate > 0 and uniform(seed, call_id, turn, name) < rate


def build_sampler(settings: LatencySettings, seed: int, stage: str) -> Sampler:
    """Return the sampler of one stage.

    The same (seed, call id, turn, stage) always gives the same latency; different stages are independent.
    """
    if settings.fixed_ns is not None:
        fixed_ns = settings.fixed_ns
        return lambda _call_id, _turn: fixed_ns
    if settings.lognormal is not None:
        return _lognormal(settings.lognormal, seed, stage)
    if settings.gamma is not None:
        return _gamma(settings.gamma, seed, stage)
    return _empirical(settings.empirical_ns or (0,), seed, stage)


def lognormal_quantile_ns(settings: Lognormal, fraction: float) -> float:
    """Return the quantile of the lognormal distribution with the given median and 95th percentile.

    ln X is normal with mean ln(median) and deviation ln(p95 / median) / z(0.95).
    """
    deviation = math.log(settings.p95_ns / settings.median_ns) / Z_P95
    return settings.median_ns * math.exp(deviation * NormalDist().inv_cdf(fraction))


def _lognormal(settings: Lognormal, seed: int, stage: str) -> Sampler:
    def sample(call_id: str, turn: int) -> int:
        return round(lognormal_quantile_ns(settings, uniform(seed, call_id, turn, stage)))

    return sample


def _gamma(settings: Gamma, seed: int, stage: str) -> Sampler:
    scale_ns = settings.mean_ns / settings.shape

    def sample(call_id: str, turn: int) -> int:
        return round(Random(digest(seed, call_id, turn, stage)).gammavariate(settings.shape, scale_ns))

    return sample


def _empirical(values_ns: Sequence[int], seed: int, stage: str) -> Sampler:
    def sample(call_id: str, turn: int) -> int:
        return values_ns[int(uniform(seed, call_id, turn, stage) * len(values_ns))]

    return sample
