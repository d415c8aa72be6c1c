"""The load of a scenario: when calls are to start, as an open arrival process or a fixed number of callers."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

from pydantic import Field, model_validator

from voxload.model.base import Model
from voxload.model.units import DurationNs, RatePerS


class Phase(NamedTuple):
    """A stretch of the run with an arrival rate that goes linearly from `rate_start_per_s` to `rate_end_per_s`."""

    name: str
    duration_ns: int
    rate_start_per_s: float
    rate_end_per_s: float

    @property
    def calls(self) -> float:
        """Expected number of arrivals (the area under the rate)."""
        return (self.rate_start_per_s + self.rate_end_per_s) / 2 * self.duration_ns / 1e9


Process = Annotated[
    Literal["even", "poisson"],
    Field(description="even: evenly spaced. poisson: independent callers, as a telephone exchange sees them."),
]


class ConstantLoad(Model):
    """Open: a constant arrival rate, evenly spaced."""

    shape: Literal["constant"]
    arrival_rate_per_s: RatePerS = Field(alias="arrival_rate", gt=0)
    duration_ns: DurationNs = Field(alias="duration", gt=0)
    process: Process = "even"

    def phases(self) -> tuple[Phase, ...]:
        """Return the run as phases."""
        return (Phase("constant", self.duration_ns, self.arrival_rate_per_s, self.arrival_rate_per_s),)


class PoissonLoad(Model):
    """Open: a constant mean arrival rate with exponential gaps (a Poisson process)."""

    shape: Literal["poisson"]
    arrival_rate_per_s: RatePerS = Field(alias="arrival_rate", gt=0)
    duration_ns: DurationNs = Field(alias="duration", gt=0)

    @property
    def process(self) -> Literal["poisson"]:
        """Arrivals are always Poisson."""
        return "poisson"

    def phases(self) -> tuple[Phase, ...]:
        """Return the run as phases."""
        return (Phase("poisson", self.duration_ns, self.arrival_rate_per_s, self.arrival_rate_per_s),)


class RampLoad(Model):
    """Open: the rate climbs (or falls) linearly over `duration`, then stays for `hold`."""

    shape: Literal["ramp"]
    arrival_rate_per_s: RatePerS = Field(0.0, alias="arrival_rate", description="Rate at the start.")
    ramp_to_per_s: RatePerS = Field(alias="ramp_to", description="Rate at the end of the ramp.")
    duration_ns: DurationNs = Field(alias="duration", gt=0)
    hold_ns: DurationNs = Field(0, alias="hold")
    process: Process = "even"

    def phases(self) -> tuple[Phase, ...]:
        """Return the run as phases."""
        ramp = Phase("ramp", self.duration_ns, self.arrival_rate_per_s, self.ramp_to_per_s)
        hold = Phase("hold", self.hold_ns, self.ramp_to_per_s, self.ramp_to_per_s)
        return (ramp, hold) if self.hold_ns else (ramp,)


class SpikeLoad(Model):
    """Open: a base rate with one sudden stretch at a higher rate."""

    shape: Literal["spike"]
    arrival_rate_per_s: RatePerS = Field(alias="arrival_rate", description="The base rate.")
    spike_rate_per_s: RatePerS = Field(alias="spike_rate", gt=0)
    spike_at_ns: DurationNs = Field(alias="spike_at", description="Start of the spike.")
    spike_duration_ns: DurationNs = Field(alias="spike_duration", gt=0)
    duration_ns: DurationNs = Field(alias="duration", gt=0, description="Of the whole run, the spike included.")
    process: Process = "even"

    @model_validator(mode="after")
    def _spike_inside(self) -> SpikeLoad:
        if self.spike_at_ns + self.spike_duration_ns > self.duration_ns:
            raise ValueError("the spike must end within duration (spike_at + spike_duration <= duration)")
        return self

    def phases(self) -> tuple[Phase, ...]:
        """Return the run as phases."""
        base, after_ns = self.arrival_rate_per_s, self.duration_ns - self.spike_at_ns - self.spike_duration_ns
        phases = (
            Phase("before", self.spike_at_ns, base, base),
            Phase("spike", self.spike_duration_ns, self.spike_rate_per_s, self.spike_rate_per_s),
            Phase("after", after_ns, base, base),
        )
        return tuple(phase for phase in phases if phase.duration_ns)


class Stage(Model):
    """One stretch of a staged load."""

    name: str = Field("", description="Shown in reports and usable in gates; stage1, stage2, … by default.")
    duration_ns: DurationNs = Field(alias="duration", gt=0)
    arrival_rate_per_s: RatePerS = Field(alias="arrival_rate")
    ramp_to_per_s: RatePerS | None = Field(None, alias="ramp_to", description="Rate at the end of the stage.")


class StagesLoad(Model):
    """Open: any sequence of stages, each constant or ramped."""

    shape: Literal["stages"]
    stages: tuple[Stage, ...] = Field(min_length=1)
    process: Process = "even"

    @model_validator(mode="after")
    def _some_calls(self) -> StagesLoad:
        if not any(phase.calls for phase in self.phases()):
            raise ValueError("the stages place no call: every arrival_rate is 0")
        names = [phase.name for phase in self.phases()]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two stages are named {name!r}; names must differ")
        return self

    def phases(self) -> tuple[Phase, ...]:
        """Return the run as phases."""
        return tuple(
            Phase(
                stage.name or f"stage{number}",
                stage.duration_ns,
                stage.arrival_rate_per_s,
                stage.arrival_rate_per_s if stage.ramp_to_per_s is None else stage.ramp_to_per_s,
            )
            for number, stage in enumerate(self.stages, 1)
        )


WEEKDAY = (2, 1, 1, 1, 1, 3, 10, 30, 80, 130, 150, 120, 80, 85, 100, 85, 55, 30, 15, 8, 5, 4, 2, 2)
"""Calls of each hour in a thousand of a day: quiet nights, 15 % in the busiest hour, a second peak in the afternoon."""


class DayLoad(Model):
    """Open: a day of calls, hour by hour, as a call centre sees them."""

    shape: Literal["day"]
    calls: int = Field(gt=0, le=100_000_000, description="In the whole day.")
    hours: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        WEEKDAY,
        min_length=24,
        max_length=24,
        description="Weights of the hours from midnight on; 15 % of the calls between 10 and 11 by default.",
    )
    process: Process = "poisson"

    @model_validator(mode="after")
    def _some_calls(self) -> DayLoad:
        if not sum(self.hours):
            raise ValueError("the hours place no call: every weight is 0")
        return self

    def phases(self) -> tuple[Phase, ...]:
        """Return the run as phases, an hour each: h00 to h23."""
        rates = [self.calls * weight / sum(self.hours) / 3600 for weight in self.hours]
        return tuple(Phase(f"h{hour:02d}", 3600 * 10**9, rate, rate) for hour, rate in enumerate(rates))


class ConcurrencyLoad(Model):
    """Closed: a fixed number of callers, each of whom calls again when its call has ended.

    A closed load slows down with the target and so hides part of its delays (coordinated omission); reports label it.
    """

    shape: Literal["concurrency"]
    concurrency: int = Field(gt=0, le=1_000_000)
    duration_ns: DurationNs = Field(alias="duration", gt=0, description="No call starts after this.")
    ramp_up_ns: DurationNs = Field(0, alias="ramp_up", description="Spread of the callers' first calls.")
    pause_ns: DurationNs = Field(0, alias="pause", description="Between a caller's calls.")
    redial_ns: DurationNs = Field(
        1_000_000_000, alias="redial", description="Least pause after a call that could not be set up."
    )

    def pause_after_ns(self, set_up: bool) -> int:
        """Return how long a caller waits after a call that was set up, or was not."""
        return self.pause_ns if set_up else max(self.pause_ns, self.redial_ns)

    @model_validator(mode="after")
    def _ramp_inside(self) -> ConcurrencyLoad:
        if self.ramp_up_ns > self.duration_ns:
            raise ValueError("ramp_up must not be longer than duration")
        return self

    def phases(self) -> tuple[Phase, ...]:
        """Return the stretches of the run; a closed load has no arrival rate of its own beyond its ramp."""
        rate = self.concurrency / (self.ramp_up_ns / 1e9) if self.ramp_up_ns else 0.0
        ramp = Phase("ramp", self.ramp_up_ns, rate, rate)
        hold = Phase("hold", self.duration_ns - self.ramp_up_ns, 0.0, 0.0)
        return tuple(phase for phase in (ramp, hold) if phase.duration_ns)


OpenLoad = ConstantLoad | PoissonLoad | RampLoad | SpikeLoad | StagesLoad | DayLoad
Load = Annotated[OpenLoad | ConcurrencyLoad, Field(discriminator="shape")]
