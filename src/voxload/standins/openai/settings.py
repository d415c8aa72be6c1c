"""What the stand-in for chat completions may be told: keys, deployments with latencies and quotas, replies, faults."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from voxload.model.base import Model
from voxload.model.twin import LatencySettings, Share
from voxload.model.units import DurationNs

DEVELOPMENT_KEY = "voxload-development-key"
"""The key of a stand-in that is told none; no secret."""


class ChatStall(Model):
    """Streams that stand still once, in the middle."""

    rate: Share = Field(description="Share of streamed replies.")
    for_ns: DurationNs = Field(alias="for", gt=0)


class ChatFaults(Model):
    """What goes wrong; shares of requests that the quota lets through."""

    error_rate: Share = Field(0.0, description="Answered with `error_status`.")
    error_status: Literal[408, 409, 500, 502, 503, 504] = 500
    filter_rate: Share = Field(0.0, description="Prompts that the content filter refuses (400 content_filter).")
    filtered_reply_rate: Share = Field(0.0, description="Replies that the content filter cuts in the middle.")
    disconnect_rate: Share = Field(0.0, description="Connections lost in the middle of the reply.")
    stall: ChatStall | None = None


class Reply(Model):
    """What is answered to messages that match."""

    match: str = Field("", description="Regular expression, looked for in the last message; empty: any.")
    text: str = Field("", description="The answer.")
    tool: str = Field("", description="Call this tool of the request instead.")
    arguments: dict[str, Any] = Field({}, description="Of the tool.")

    @field_validator("match")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"{value!r} is not a regular expression: {error}") from None
        return value

    @model_validator(mode="after")
    def _one_kind(self) -> Reply:
        if bool(self.text) == bool(self.tool):
            raise ValueError("a reply has either text or tool")
        return self


class DeploymentSettings(Model):
    """A deployment of a model."""

    model: str = Field("gpt-4o", description="Name of the model in answers.")
    first_token: LatencySettings = Field(
        LatencySettings.model_validate("350ms"), description="From the request to the first token."
    )
    inter_token: LatencySettings = Field(
        LatencySettings.model_validate("20ms"), description="From each token to the next."
    )
    reply_tokens: tuple[int, int] = Field((30, 60), description="Length of replies that no text of `replies` sets.")
    tokens_per_minute: int = Field(240_000, ge=0, description="0: no limit.")
    requests_per_minute: int | None = Field(
        None, ge=0, description="6 for each 1,000 tokens by default, as the service sets it. 0: no limit."
    )
    quota: Literal["bucket", "window"] = Field(
        "bucket", description="bucket: refilled evenly, full at the start. window: counted anew each minute."
    )

    @field_validator("reply_tokens", mode="before")
    @classmethod
    def _span(cls, value: Any) -> Any:
        if isinstance(value, str):
            low, dots, high = value.partition("..")
            return [low, high if dots else low]
        return [value, value] if isinstance(value, int) else value

    @field_validator("reply_tokens")
    @classmethod
    def _ordered(cls, value: tuple[int, int]) -> tuple[int, int]:
        if not 1 <= value[0] <= value[1] <= 100_000:
            raise ValueError("expected a number of tokens, or two as in 30..60, from 1 to 100,000")
        return value

    @property
    def requests_limit(self) -> int:
        """Requests a minute; 0: no limit."""
        if self.requests_per_minute is None:
            return self.tokens_per_minute * 6 // 1000
        return self.requests_per_minute


class ChatSettings(Model):
    """The stand-in for chat completions."""

    keys: tuple[str, ...] = Field((DEVELOPMENT_KEY,), description="API keys; none: requests need no key.")
    entra_tokens: bool = Field(True, description="Take any bearer token that has the form of a JSON Web Token, too.")
    deployments: dict[str, DeploymentSettings] = Field(
        {}, description="By name; none: every name is a deployment with a quota of its own."
    )
    replies: tuple[Reply, ...] = Field((), description="The first that matches is answered; else a sentence or more.")
    faults: ChatFaults = ChatFaults()
    seed: int = Field(1, ge=0)
