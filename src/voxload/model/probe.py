"""Probes: services behind the agent that are asked now and then while a run's calls are up."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from voxload.clock import NS_PER_S
from voxload.model.base import Model
from voxload.model.units import DurationNs, RatePerS

RATE_PER_S_MAX = 20.0
"""A probe looks; what loads a service is `voxload component`."""


class ProbeSettings(Model):
    """One component test in the background of a run, at a low rate."""

    component: str = Field(description="Which kind of service, as in voxload component: redis, http, openai, …")
    name: str = Field(
        "",
        pattern=r"^([A-Za-z_][\w.-]*)?$",
        description="Label `probe` of its figures in gates and reports; the component's name by default.",
    )
    rate_per_s: RatePerS = Field(1.0, alias="rate", gt=0, le=RATE_PER_S_MAX, description="Units of work a second.")
    timeout_ns: DurationNs = Field(30 * NS_PER_S, alias="timeout", gt=0, description="Longest unit of work.")
    options: dict[str, Any] = Field({}, description="The component's own options, as in its file.")

    @property
    def label(self) -> str:
        """Its name in gates and reports."""
        return self.name or self.component
