"""Tiers of a testing schedule: one scenario reshaped from a two-minute smoke test to four hours of chaos."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from voxload.clock import NS_PER_S
from voxload.model.load import ConcurrencyLoad, Load
from voxload.model.scenario import TWIN_TARGET, Scenario
from voxload.runners.overrides import stretched

SMOKE_CALLS = 5
"""Callers, one call after the other."""
SOAK_SHARE = 0.7
"""Of the scenario's peak, in the tiers that last."""
STRESS_STEPS = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0)
"""Of the scenario's peak, one after the other, until the target breaks."""
CAPACITY_RAMP = 0.25
STRESS_STOP = {"condition": "error_rate > 5%", "for": 30.0, "over": 30.0}
RECOVERY = {"after": 30.0}


class Tier(NamedTuple):
    """A tier: how long, how often, and what for."""

    duration_s: float
    frequency: str
    scope: str


TIERS = {
    "smoke": Tier(120, "every deployment", "basic functionality: five callers"),
    "regression": Tier(900, "daily", "key user flows: the scenario's own load"),
    "capacity": Tier(3600, "weekly", "a ramp to the scenario's peak, then held"),
    "stress": Tier(7200, "monthly", "steps up to four times the peak, until the target breaks"),
    "soak": Tier(8 * 3600, "before a release", "70 % of the peak for long: leaks, drift"),
    "chaos": Tier(4 * 3600, "quarterly", "70 % of the peak with faults: failure resilience"),
}
"""By name; the durations are those of the specification's schedule."""


class Reshaped(NamedTuple):
    """The parts of a scenario that a tier sets, under the names of the file, and what it could not do."""

    changes: dict[str, Any]
    warnings: list[str]


def reshape(scenario: Scenario, written: Mapping[str, Any], tier: str, time_scale: float) -> Reshaped:
    """Return what a tier changes in a scenario; `written` is its file, whose own settings are kept where there are any.

    `time_scale` shortens (or lengthens) everything that the tier times, for trying.
    """
    load, length_s = scenario.load, TIERS[tier].duration_s * time_scale
    changes: dict[str, Any] = {"load": _load(load, tier, length_s)}
    warnings: list[str] = []
    if tier == "stress" and not scenario.stop_when:
        changes["stop_when"] = [_scaled(STRESS_STOP, time_scale)]
    if tier in {"stress", "chaos"} and scenario.recovery is None:
        changes["recovery"] = {"after": max(RECOVERY["after"] * time_scale, 5.0)}
    if tier == "chaos":
        changes |= _faults(scenario, written, length_s, warnings)
    return Reshaped(changes, warnings)


def _load(load: Load, tier: str, length_s: float) -> dict[str, Any]:
    match tier:
        case "smoke":
            callers = min(peak_of(load), SMOKE_CALLS) if isinstance(load, ConcurrencyLoad) else SMOKE_CALLS
            return _closed(load, callers, length_s, length_s / 10)
        case "regression":
            return stretched(load, round(length_s * NS_PER_S))
        case "capacity":
            return _ramped(load, peak_of(load), length_s, CAPACITY_RAMP)
        case "stress":
            return _stepped(load, length_s)
        case _:
            return _steady(load, peak_of(load) * SOAK_SHARE, length_s)


def peak_of(load: Load) -> float:
    """Return the highest arrival rate a second of an open load, or the callers of a closed one."""
    if isinstance(load, ConcurrencyLoad):
        return float(load.concurrency)
    return max(max(phase.rate_start_per_s, phase.rate_end_per_s) for phase in load.phases())


def scaled_load(load: Load, written: dict[str, Any], share: float) -> dict[str, Any]:
    """Return a load as written with all its rates, or its callers, times `share`; at least one caller stays."""
    if isinstance(load, ConcurrencyLoad):
        return {**written, "concurrency": max(round(load.concurrency * share), 1)}
    stages = []
    for phase in load.phases():
        stage = {"name": phase.name, "duration": phase.duration_ns / NS_PER_S}
        stage |= {"arrival_rate": phase.rate_start_per_s * share, "ramp_to": phase.rate_end_per_s * share}
        stages.append(stage)
    return {"shape": "stages", "stages": stages, "process": load.process}


def _steady(load: Load, level: float, length_s: float) -> dict[str, Any]:
    if isinstance(load, ConcurrencyLoad):
        return _closed(load, level, length_s, min(10.0, length_s / 4))
    return {"shape": "constant", "arrival_rate": level, "duration": length_s, **_process(load)}


def _ramped(load: Load, level: float, length_s: float, share: float) -> dict[str, Any]:
    if isinstance(load, ConcurrencyLoad):
        return _closed(load, level, length_s, length_s * share)
    ramp = {"name": "ramp", "duration": length_s * share, "arrival_rate": 0, "ramp_to": level}
    hold = {"name": "hold", "duration": length_s * (1 - share), "arrival_rate": level}
    return {"shape": "stages", "stages": [ramp, hold], **_process(load)}


def _stepped(load: Load, length_s: float) -> dict[str, Any]:
    peak, step_s = peak_of(load), length_s / len(STRESS_STEPS)
    if isinstance(load, ConcurrencyLoad):  # callers cannot come in steps: they come one by one all the time
        return _closed(load, peak * STRESS_STEPS[-1], length_s, length_s)
    stages = [{"name": f"x{factor:g}", "duration": step_s, "arrival_rate": peak * factor} for factor in STRESS_STEPS]
    return {"shape": "stages", "stages": stages, **_process(load)}


def _closed(load: Load, callers: float, length_s: float, ramp_up_s: float) -> dict[str, Any]:
    return {
        "shape": "concurrency",
        "concurrency": max(round(callers), 1),
        "duration": length_s,
        "ramp_up": ramp_up_s,
        "pause": load.pause_ns / NS_PER_S if isinstance(load, ConcurrencyLoad) else 0,
    }


def _process(load: Load) -> dict[str, Any]:
    return {} if isinstance(load, ConcurrencyLoad) else {"process": load.process}


def _scaled(rule: dict[str, Any], time_scale: float) -> dict[str, Any]:
    return {
        name: min(max(value * time_scale, 2.0), 60.0) if isinstance(value, float) else value
        for name, value in rule.items()
    }


def _faults(scenario: Scenario, written: Mapping[str, Any], length_s: float, warnings: list[str]) -> dict[str, Any]:
    """Return the faults of chaos: on the callers' lines, and in the embedded agent where that is the target."""
    changes: dict[str, Any] = {}
    if not scenario.personas:
        line = {"loss": 0.03, "jitter": "5ms..40ms"}
        changes["personas"] = [{"name": "good_line", "weight": 2}, {"name": "bad_line", "weight": 1, "line": line}]
    if scenario.target != TWIN_TARGET:
        warnings.append(
            "chaos: faults are put on the callers' lines only; those of the target's own parts (a worker killed, Redis "
            "gone, a quota cut) are yours to cause meanwhile"
        )
        return changes
    twin = dict(written.get("twin") or {})
    stall_s = min(5.0, max(length_s / 100, 0.5))
    faults = {
        "stalls": [{"at": length_s * share, "for": stall_s} for share in (0.2, 0.6)],
        "reject_rate": 0.02,
        "drop_rate": 0.02,
        "silent_rate": 0.02,
        "late_frames": {"rate": 0.02, "by": "80ms"},
    }
    changes["twin"] = {**twin, "faults": {**faults, **(twin.get("faults") or {})}}
    return changes
