"""What a test of chat completions may be told: where the models are, what they are asked, what is good enough."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from voxload.clock import NS_PER_S
from voxload.errors import BadInputError, Problem
from voxload.model.base import Model, ShortModel
from voxload.model.source import Source
from voxload.model.units import DurationNs
from voxload.services.openai.lengths import Lengths
from voxload.services.openai.prompts import read_prompts
from voxload.services.settings import ComponentSettings, Secret, http_url

OURS = frozenset({"model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "n"})
"""Fields of a request that the component sets itself."""


class DeploymentLoad(ShortModel):
    """A deployment (of Azure) or a model (elsewhere), its share of the requests, its quota."""

    short_field: ClassVar[str] = "name"

    name: str = Field(min_length=1, max_length=200)
    weight: float = Field(1.0, gt=0, description="Share of the requests, relative to the other weights.")
    tokens_per_minute: int = Field(
        0, ge=0, description="Its quota; what the service's headers state by default. 0: none is known."
    )
    requests_per_minute: int = Field(0, ge=0, description="Likewise.")


class ServiceObjective(Model):
    """When a request counts for goodput: it is answered whole, and each limit that is given is kept."""

    time_to_first_token_ns: DurationNs | None = Field(None, alias="time_to_first_token", gt=0)
    total_ns: DurationNs | None = Field(None, alias="total", gt=0)

    @model_validator(mode="after")
    def _some(self) -> ServiceObjective:
        if self.time_to_first_token_ns is None and self.total_ns is None:
            raise ValueError("give time_to_first_token, total or both")
        return self


class OpenaiOptions(Model):
    """The service, the requests, the objective."""

    endpoint: str = Field(
        "",
        description="An Azure resource (https://NAME.openai.azure.com), or with its path the base URL of anything that "
        "speaks OpenAI's API (https://api.openai.com/v1); without one the command starts a stand-in.",
    )
    api_version: str = Field("2024-10-21", min_length=1, description="Of Azure's API, where endpoint has no path.")
    api_key: Secret = Secret()
    entra: bool = Field(False, description="Use Entra ID (DefaultAzureCredential) instead of a key.")
    entra_scope: str = Field("https://cognitiveservices.azure.com/.default", min_length=1)
    client: Literal["sdk", "fast"] = Field("sdk", description="sdk: the openai library. fast: requests of our own.")
    deployments: tuple[DeploymentLoad, ...] = Field((DeploymentLoad(name="gpt-4o"),), min_length=1)
    stream: bool = Field(True, description="Have answers streamed; only then there is a first token to time.")
    stream_usage: bool = Field(True, description="Ask streams for their usage; false for servers that refuse that.")
    prompts: str = Field("", description="File of prompts, taken in turn: JSON Lines (.jsonl), or text, one a line.")
    prompt_tokens: Lengths | None = Field(
        None, description="Without prompts: length of made-up prompts, in tokens; 100..400 by default."
    )
    max_tokens: Lengths | None = Field(Lengths(span=(60, 60)), description="Longest answer, in tokens. null: no limit.")
    max_tokens_field: Literal["max_completion_tokens", "max_tokens"] = Field(
        "max_completion_tokens", description="How the limit is called; max_tokens for older models and servers."
    )
    system: str = Field("", description="System message before each prompt.")
    body: dict[str, Any] = Field({}, description="Further fields of each request: temperature, tools, …")
    retries: int = Field(2, ge=0, le=10, description="Of a request that is answered 408, 409, 429 or 5xx.")
    connect_timeout_ns: DurationNs = Field(5 * NS_PER_S, alias="connect_timeout", gt=0)
    request_timeout_ns: DurationNs = Field(60 * NS_PER_S, alias="request_timeout", gt=0)
    slo: ServiceObjective | None = Field(None, description="What goodput counts: time_to_first_token, total.")
    service: dict[str, Any] = Field({}, description="Settings of the stand-in: latencies, quotas, faults.")

    @field_validator("endpoint")
    @classmethod
    def _http(cls, value: str) -> str:
        return http_url(value)

    @field_validator("deployments")
    @classmethod
    def _named_once(cls, value: tuple[DeploymentLoad, ...]) -> tuple[DeploymentLoad, ...]:
        names = [each.name for each in value]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{twice[0]} is there twice; give it a weight instead")
        return value

    @field_validator("body")
    @classmethod
    def _not_ours(cls, value: dict[str, Any]) -> dict[str, Any]:
        taken = sorted(OURS & value.keys())
        if taken:
            raise ValueError(f"{taken[0]} is set by the component itself")
        return value

    @property
    def azure(self) -> bool:
        """Whether the endpoint is an Azure resource, whose paths name the deployment."""
        return not urlsplit(self.endpoint).path

    @model_validator(mode="after")
    def _makes_sense(self) -> OpenaiOptions:
        if self.api_key.given and self.entra:
            raise ValueError("give api_key or entra: true, not both")
        if self.endpoint and self.azure and not self.api_key.given and not self.entra:
            raise ValueError("an Azure resource needs api_key or entra: true (elsewhere: write the path, …/v1)")
        if self.prompts and self.prompt_tokens is not None:
            raise ValueError("prompt_tokens is the length of made-up prompts; there are none with prompts")
        if self.slo is not None and self.slo.time_to_first_token_ns is not None and not self.stream:
            raise ValueError("slo: time_to_first_token needs stream: true")
        return self


class OpenaiSettings(ComponentSettings):
    """The file of `voxload component openai`."""

    component: Literal["openai"]
    options: OpenaiOptions = OpenaiOptions()

    @classmethod
    def problems_outside(cls, source: Source) -> Iterable[Problem]:
        """Return what is wrong with the file of prompts."""
        options = source.data.get("options")
        name = options.get("prompts") if isinstance(options, dict) else None
        if not name or not isinstance(name, str):
            return ()
        try:
            read_prompts(Path(source.file).parent / name)
        except BadInputError as error:
            return error.problems
        return ()
