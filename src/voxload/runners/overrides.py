"""The load of a scenario after the options of the command line: `--users`, `--duration`, `--rate`."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from voxload.clock import NS_PER_S
from voxload.errors import BadInputError, Problem
from voxload.model.load import ConcurrencyLoad, ConstantLoad, DayLoad, Load, PoissonLoad
from voxload.model.quantities import parse_duration_ns, parse_rate_per_s

RAMP_UP_NS_MAX = 10 * NS_PER_S
"""Longest ramp that `--users` sets; at most a quarter of the duration."""

Amount = str | int | float
"""A duration or a rate as typed: text with a unit, or a plain number (seconds, per second)."""


def override_load(load: Load, users: int | None, duration: Amount | None, rate: Amount | None) -> dict[str, Any]:
    """Return the load as a scenario states it, with the options applied.

    `users` makes it a closed load of that many callers (a load that is closed already keeps its pause), `rate` an open
    load of constant rate (Poisson if it was). Either keeps the total length unless `duration` sets it. `duration` alone
    sets the length and stretches every stage in proportion.

    Raises:
        BadInputError: options that exclude each other, or values that are not what they should be.
    """
    if users is not None and rate is not None:
        raise BadInputError([Problem("--users and --rate exclude each other", suggestion="a load is closed or open")])
    length_ns = sum(phase.duration_ns for phase in load.phases())
    wanted_ns = length_ns if duration is None else _parsed("--duration", parse_duration_ns, duration)
    if wanted_ns <= 0:
        raise BadInputError([Problem("--duration: must be greater than 0")])
    if users is not None:
        return _closed(load, users, wanted_ns)
    if rate is not None:
        rate_per_s = _parsed("--rate", parse_rate_per_s, rate)
        if rate_per_s <= 0:
            raise BadInputError([Problem("--rate: must be greater than 0")])
        return _constant(load, rate_per_s, wanted_ns)
    return stretched(load, wanted_ns)


def _parsed(option: str, parse: Any, value: Amount) -> Any:
    try:
        return parse(value)
    except ValueError as error:
        raise BadInputError([Problem(f"{option}: {error}")]) from None


def _closed(load: Load, users: int, length_ns: int) -> dict[str, Any]:
    pause_ns = load.pause_ns if isinstance(load, ConcurrencyLoad) else 0
    return {
        "shape": "concurrency",
        "concurrency": users,
        "duration": _seconds(length_ns),
        "ramp_up": _seconds(min(RAMP_UP_NS_MAX, length_ns // 4)),
        "pause": _seconds(pause_ns),
        **({"redial": _seconds(load.redial_ns)} if isinstance(load, ConcurrencyLoad) else {}),
    }


def _constant(load: Load, rate_per_s: float, length_ns: int) -> dict[str, Any]:
    found: dict[str, Any] = {"shape": "constant", "arrival_rate": rate_per_s, "duration": _seconds(length_ns)}
    if isinstance(load, PoissonLoad) or (not isinstance(load, ConcurrencyLoad) and load.process == "poisson"):
        found["process"] = "poisson"
    return found


def stretched(load: Load, wanted_ns: int) -> dict[str, Any]:
    """Return the load as a scenario states it, of another length: every duration in it in proportion."""
    length_ns = sum(phase.duration_ns for phase in load.phases())
    if isinstance(load, ConcurrencyLoad):
        found = _as_written(load, 1, 1)
        ramp_up_ns = load.ramp_up_ns * wanted_ns // length_ns if wanted_ns < length_ns else load.ramp_up_ns
        return {**found, "duration": _seconds(wanted_ns), "ramp_up": _seconds(ramp_up_ns)}
    if isinstance(load, DayLoad):  # an hour is then no hour any more
        stages = [
            {"name": phase.name, "duration": _seconds(phase.duration_ns * wanted_ns // length_ns)}
            | {"arrival_rate": phase.rate_start_per_s}
            for phase in load.phases()
        ]
        return {"shape": "stages", "stages": stages, "process": load.process}
    found = _as_written(load, wanted_ns, length_ns)
    if isinstance(load, ConstantLoad | PoissonLoad):
        found["duration"] = _seconds(wanted_ns)
    return found


def _as_written(model: BaseModel, numerator: int, denominator: int) -> dict[str, Any]:
    """Return a load or a stage under the names of the file, its durations times numerator/denominator, in seconds."""
    found: dict[str, Any] = {}
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, tuple):
            value = [_as_written(item, numerator, denominator) for item in value]
        elif name.endswith("_ns"):
            # Rounding down keeps a spike within its run; a stage never shrinks to nothing.
            value = _seconds(max(value * numerator // denominator, 1 if value else 0))
        if value is not None:
            found[field.alias or name] = value
    return found


def _seconds(duration_ns: int) -> float:
    return duration_ns / NS_PER_S
