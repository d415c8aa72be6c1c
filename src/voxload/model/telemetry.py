"""Where a run sends its figures while it goes on: an OpenTelemetry collector, Prometheus, Azure Monitor."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator

from voxload.clock import NS_PER_S
from voxload.model.base import Model
from voxload.model.units import DurationNs

FAILED, OFF = "failed", "off"


def parse_spans(value: object) -> float | None:
    """Return which share of the calls that did not fail goes out as spans; None: no call does, failed ones neither.

    It is written `10%` or `0.1`, `failed` (0) or `off` (None).

    Raises:
        ValueError: it is none of them.
    """
    text = str(value).strip().lower()
    if value is None or value is False or text == OFF:  # YAML reads off as false
        return None
    if text == FAILED:
        return 0.0
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if isinstance(value, bool) or not 0 < share <= 1:
        raise ValueError(f"{value!r} is no share of the calls; write for example 10%, failed or off")
    return share


class TelemetrySettings(Model):
    """Live figures of a run; each way out works alone or beside the others (extra: telemetry)."""

    otlp: str = Field("", description="Base address of an OTLP/HTTP receiver, such as http://collector:4318.")
    prometheus: str = Field("", description="HOST:PORT at which Prometheus finds the figures while the run goes on.")
    azure_monitor: bool = Field(
        False, description="Send to Application Insights: APPLICATIONINSIGHTS_CONNECTION_STRING says to which."
    )
    spans: Annotated[
        float | None, BeforeValidator(parse_spans), WithJsonSchema({"type": ["string", "number", "boolean", "null"]})
    ] = Field(None, description="Calls as trace spans: a share (10%) and all that failed, failed (only those), or off.")
    prefix: str = Field("voxload", pattern=r"^[A-Za-z][A-Za-z0-9_.]*$", description="First part of all names.")
    interval_ns: DurationNs = Field(NS_PER_S, alias="interval", ge=NS_PER_S, description="Between two exports.")

    @field_validator("otlp")
    @classmethod
    def _otlp_address(cls, value: str) -> str:
        return checked_otlp(value)

    @field_validator("prometheus", mode="before")
    @classmethod
    def _prometheus_address(cls, value: Any) -> Any:
        if isinstance(value, str) and value:
            listen_address(value)
        return value


def checked_otlp(text: object) -> str:
    """Return the base address of an OTLP/HTTP receiver without a slash at its end.

    Raises:
        ValueError: it is none.
    """
    value = str(text).strip()
    if not value:
        return value
    if not value.startswith(("http://", "https://")):
        raise ValueError(f"{value!r} does not start with http:// or https://")
    try:
        parts = urlsplit(value)
        named = bool(parts.hostname) and parts.port != 0
    except ValueError:  # of the port, or an address in brackets that is none
        named = False
    if not named or any(character.isspace() for character in value) or parts.query or parts.fragment:
        raise ValueError(f"{value!r} is no address such as http://collector:4318")
    return value.rstrip("/").removesuffix("/v1/metrics").removesuffix("/v1/traces")


def listen_address(text: object) -> tuple[str, int]:
    """Return host and port of `127.0.0.1:9464`; port 0: any that is free.

    Raises:
        ValueError: it is no such address.
    """
    host, colon, port = str(text).rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{text!r} is no HOST:PORT such as 127.0.0.1:9464")
    return host, int(port)
