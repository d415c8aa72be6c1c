"""Settings of the exchange, the stand-in for Azure Communication Services: delays, limits, who picks up."""

from __future__ import annotations

import base64
import binascii
from typing import Any, Literal, get_args

from pydantic import Field, ValidationError, field_validator

from voxload.model.base import Model
from voxload.model.units import DurationNs, SpanNs

DEVELOPMENT_KEY = base64.b64encode(b"voxload development access key").decode()
"""The access key of the stand-in unless it is told another one: no secret, so that a backend can be tried at once."""

CalleeOutcome = Literal["answered", "busy", "no_answer", "declined"]


def check_access_key(value: str) -> str:
    """Return an access key.

    Raises:
        ValueError: it is not base64, or empty.
    """
    try:
        if base64.b64decode(value, validate=True):
            return value
    except (binascii.Error, ValueError):
        pass
    raise ValueError("the access key must be base64")


class CalleeSettings(Model):
    """Who is called when the backend itself places a call, or adds somebody to one."""

    outcomes: dict[CalleeOutcome, float] = Field(
        {"answered": 1.0}, description="Weights of answered, busy, no_answer and declined."
    )
    answer_delay_ns: SpanNs = Field(
        (1_000_000_000, 1_000_000_000), alias="answer_delay", description="From the call to its outcome."
    )
    digits: str = Field("1234", pattern=r"^[0-9A-D*#]*$", description="Keys pressed when a recognition asks for them.")
    words: str = Field("yes", description="What is said when a recognition asks for speech or a choice.")
    reaction_ns: SpanNs = Field(
        (300_000_000, 300_000_000), alias="reaction", description="Before each key, and before the words."
    )
    speaks: bool = Field(False, description="Recorded speech with pauses on the media socket; else silence.")
    hang_up_after_ns: SpanNs | None = Field(None, alias="hang_up_after", description="From the answer; else never.")

    @field_validator("outcomes")
    @classmethod
    def _weights(cls, value: dict[CalleeOutcome, float]) -> dict[CalleeOutcome, float]:
        if any(weight < 0 for weight in value.values()) or not any(value.values()):
            raise ValueError(f"outcomes are weights of {', '.join(get_args(CalleeOutcome))}, at least one above 0")
        return value


class LimitSettings(Model):
    """What the service refuses; 0 means no limit."""

    concurrent_calls: int = Field(0, ge=0, description="Calls at once; further ones are refused.")
    requests_per_s: int = Field(0, ge=0, description="REST requests a second; beyond it 429 with Retry-After.")


class ExchangeSettings(Model):
    """The stand-in for Azure Communication Services: what `service:` of the dialect `acs` holds."""

    access_key: str = Field(DEVELOPMENT_KEY, description="The key that signs requests, base64.")
    resource_id: str = Field("6f0f9a4e-5d2b-4c6e-9a55-000000000001", description="Audience of the tokens.")
    identity_header: str = Field("", description="Secret of the managed identity's endpoint; made up when empty.")
    webhook_timeout_ns: DurationNs = Field(
        30_000_000_000, alias="webhook_timeout", gt=0, description="How long the webhook may take, as in Event Grid."
    )
    ring_timeout_ns: DurationNs = Field(
        30_000_000_000, alias="ring_timeout", gt=0, description="A phone rings so long."
    )
    callback_timeout_ns: DurationNs = Field(10_000_000_000, alias="callback_timeout", gt=0)
    callback_retries: int = Field(3, ge=0, le=10, description="After no answer, 408, 429 and 5xx.")
    api_delay_ns: DurationNs = Field(0, alias="api_delay", description="Before every REST answer.")
    connect_delay_ns: DurationNs = Field(
        20_000_000, alias="connect_delay", description="From the answered request to CallConnected."
    )
    callback_delay_ns: DurationNs = Field(10_000_000, alias="callback_delay", description="Before every callback.")
    play_duration_ns: DurationNs = Field(
        1_000_000_000, alias="play_duration", description="How long any prompt is played (callers do not hear it)."
    )
    callee: CalleeSettings = CalleeSettings()
    limits: LimitSettings = LimitSettings()
    tls: bool = Field(False, description="The API speaks https too, with certificates of its own authority.")
    certificates: str = Field(".voxload-acs", description="Folder of the certificates; made when it is not there.")
    seed: int = 1

    @field_validator("access_key")
    @classmethod
    def _base64(cls, value: str) -> str:
        return check_access_key(value)


def check_exchange_settings(value: dict[str, Any]) -> dict[str, Any]:
    """Return settings of the stand-in as they were written.

    Raises:
        ValueError: they are wrong; says where.
    """
    try:
        ExchangeSettings.model_validate(value)
    except ValidationError as error:
        found = [(".".join(map(str, detail["loc"])), detail["msg"]) for detail in error.errors()]
        raise ValueError("; ".join(f"{place}: {message}" for place, message in found)) from None
    return value
