"""What must hold, as a user writes it: gates, the limits of a `quality-gates.yml`, regressions, conditions to stop."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from voxload.model.base import Model, ShortModel
from voxload.model.units import DurationNs

Severity = Annotated[
    Literal["fail", "warn"],
    Field(description="fail: decides the verdict. warn: is reported, and decides nothing."),
]


class GateSettings(Model):
    """A gate with more than its expression."""

    expression: str
    name: str = ""
    severity: Severity = "fail"
    per: str = Field(
        "",
        pattern=r"^([A-Za-z_]\w*)?$",
        description="A label: the gate must hold for each of its values (phase, call).",
    )


class Limit(ShortModel):
    """The limit of a performance gate; a plain number means `limit`."""

    short_field: ClassVar[str] = "limit"

    limit: float = Field(gt=0)
    severity: Severity = "fail"


class PercentLimit(Limit):
    """A limit in percent."""

    limit: float = Field(gt=0, le=100)


class PerformanceGates(Model):
    """Gates by well-known names, as a `quality-gates.yml` has them."""

    response_time_p95: Limit | None = Field(None, description="ms: p95(voice_response) must be below.")
    success_rate: PercentLimit | None = Field(None, description="Percent: call_success must reach it.")
    concurrent_capacity: Limit | None = Field(None, description="Calls at once that must be held for 5 s.")
    resource_cpu_max: PercentLimit | None = Field(None, description="Percent: the target's CPU must stay below.")
    resource_memory_max: PercentLimit | None = Field(None, description="Percent: the target's memory, likewise.")

    @model_validator(mode="after")
    def _not_empty(self) -> PerformanceGates:
        if not self.model_fields_set:
            raise ValueError("holds no gate; write for example response_time_p95: 150")
        return self


class RegressionThresholds(Model):
    """How much worse than a baseline a run may be."""

    response_time_degradation: float = Field(10.0, ge=0, description="Percent by which latencies may grow.")
    throughput_degradation: float = Field(5.0, ge=0, le=100, description="Percent by which throughput may fall.")
    error_rate_increase: float = Field(
        2.0, ge=0, le=100, description="Percentage points by which the share of failed calls may grow."
    )


class StopCondition(Model):
    """When to end a run early: a condition over the last seconds that has held for a while."""

    condition: str = Field(description="Like a gate, without labels: error_rate > 5%, p95(turn_latency) > 4s.")
    for_ns: DurationNs = Field(10_000_000_000, alias="for", ge=0, description="How long it must have held.")
    over_ns: DurationNs = Field(
        10_000_000_000, alias="over", gt=0, le=60_000_000_000, description="The last seconds that are looked at."
    )


class GateRules(Model):
    """What a file of gates may hold, and a scenario too."""

    gates: tuple[str | GateSettings, ...] = ()
    performance_gates: PerformanceGates | None = Field(None, description="Gates by well-known names.")
    regression_thresholds: RegressionThresholds | None = Field(
        None, description="How much worse than a baseline a run may be."
    )
    stop_when: tuple[StopCondition, ...] = Field((), description="Ends the run early, and fails it.")

    def thresholds(self) -> RegressionThresholds:
        """Return the thresholds, those of the specification where none are set."""
        return self.regression_thresholds or RegressionThresholds.model_validate({})
