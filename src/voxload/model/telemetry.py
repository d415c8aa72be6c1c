"""Where a run sends its figures while it goes on: an OpenTelemetry collector, Prometheus, Azure Monitor."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from voxload.clock import NS_PER_S
from voxload.model.base import Model
from voxload.model.units import DurationNs


class TelemetrySettings(Model):
    """Live figures of a run; each way out works alone or beside the others (extra: telemetry)."""

    otlp: str = Field("", description="Base address of an OTLP/HTTP receiver, such as http://collector:4318.")
    prometheus: str = Field("", description="HOST:PORT at which Prometheus finds the figures while the run goes on.")
    azure_monitor: bool = Field(
        False, description="Send to Application Insights: APPLICATIONINSIGHTS_CONNECTION_STRING says to which."
    )
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

    @property
    def wanted(self) -> bool:
        """Whether figures go anywhere."""
        return bool(self.otlp or self.prometheus or self.azure_monitor)


def checked_otlp(text: object) -> str:
    """Return the base address of an OTLP/HTTP receiver without a slash at its end.

    Raises:
        ValueError: it is none.
    """
    value = str(text)
    if value and not value.startswith(("http://", "https://")):
        raise ValueError(f"{value!r} does not start with http:// or https://")
    return value.rstrip("/").removesuffix("/v1/metrics")


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
