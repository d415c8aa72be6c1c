"""Environments of `voxload.toml`: where tests may run, and how much load each one may get."""

from __future__ import annotations

from pydantic import Field, field_validator, model_validator

from voxload.model.base import Model

FILE_NAME = "voxload.toml"
BUILT_IN: dict[str, dict[str, float]] = {
    "dev": {"calls_max": 10},
    "staging": {"calls_max": 500},
    "preprod": {"calls_max": 10_000},
    "prod": {"canary_share": 0.05},
}
"""Ceilings of the specification: development 5 to 10 calls at once, staging 100 to 500, pre-production 1,000 and more
(its peak is 10,000), production canary only."""


class Environment(Model):
    """One environment."""

    target: str = Field("", description="Base URL of the agent there; --target overrides it.")
    calls_max: int | None = Field(None, gt=0, description="Calls at once; more need --yes.")
    canary_share: float | None = Field(
        None, gt=0, le=1, description="Only this share of a scenario's load is placed there."
    )

    @field_validator("target")
    @classmethod
    def _a_url(cls, value: str) -> str:
        if value and value != "twin" and not value.startswith(("http://", "https://")):
            raise ValueError(f"{value!r} does not start with http:// or https://, and is not twin")
        return value


class Environments(Model):
    """The whole file."""

    default: str = Field("", description="The environment that is meant when --env is not given.")
    environments: dict[str, Environment] = Field({}, description="By name.")

    @model_validator(mode="after")
    def _known_and_limited(self) -> Environments:
        if self.default and self.default not in self.names():
            raise ValueError(f"default names no environment; there are {', '.join(self.names())}")
        for name, environment in self.environments.items():
            if name not in BUILT_IN and environment.calls_max is None and environment.canary_share is None:
                raise ValueError(f"the environment {name!r} needs calls_max or canary_share")
        return self

    def names(self) -> list[str]:
        """Return the names of all environments, the built-in ones first."""
        return list(dict.fromkeys([*BUILT_IN, *self.environments]))

    def get(self, name: str) -> Environment:
        """Return an environment by name, over the built-in one of that name."""
        written = self.environments.get(name, Environment.model_validate({}))
        changes = {field: getattr(written, field) for field in written.model_fields_set}
        return Environment.model_validate({**BUILT_IN.get(name, {}), **changes})
