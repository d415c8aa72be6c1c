"""What a test of Event Grid may be told: the topic, what is published, where the events are to arrive."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from voxload.clock import NS_PER_S
from voxload.model.base import Model
from voxload.model.units import DurationNs
from voxload.services.settings import ComponentSettings, Secret, host_and_port, http_url


class EventGridOptions(Model):
    """The topic, the events, the webhook."""

    endpoint: str = Field("", description="URL of the topic, …/api/events; without one the command starts a stand-in.")
    access_key: Secret = Secret()
    sas_token: Secret = Field(Secret(), description="Shared access signature instead of the key.")
    entra: bool = Field(False, description="Use Entra ID (DefaultAzureCredential) instead of a key.")
    client: Literal["sdk", "fast"] = Field("sdk", description="sdk: azure-eventgrid. fast: requests of our own.")
    event_schema: Literal["CloudEventSchemaV1_0", "EventGridSchema"] = Field("CloudEventSchemaV1_0", alias="schema")
    event_type: str = Field("Voxload.LoadTest", min_length=1)
    batch: int = Field(1, ge=1, le=5000, description="Events in one publish request.")
    payload_bytes: int = Field(200, ge=0, le=900_000, description="Size of each event's data, about.")
    receive: bool = Field(True, description="Follow the events to our webhook; false: only publish.")
    delivery_batch: int = Field(1, ge=1, le=5000, description="Events in one delivery, where a stand-in delivers.")
    listen: str = Field("127.0.0.1:0", description="Where our webhook listens; port 0: a free one.")
    webhook_key: Secret = Field(Secret(), description="Deliveries must carry it as ?code=; one of our own by default.")
    delivery_timeout_ns: DurationNs = Field(
        30 * NS_PER_S, alias="delivery_timeout", gt=0, description="An event that has not arrived by then is lost."
    )
    settle_ns: DurationNs = Field(
        NS_PER_S, alias="settle", description="Wait after the last event, for those that come twice."
    )
    request_timeout_ns: DurationNs = Field(10 * NS_PER_S, alias="request_timeout", gt=0)
    retries: int = Field(0, ge=0, le=10, description="Of a publish request that is answered 429 or 5xx.")
    service: dict[str, Any] = Field({}, description="Settings of the stand-in: limits, latencies, faults.")

    @field_validator("endpoint")
    @classmethod
    def _http(cls, value: str) -> str:
        return http_url(value)

    @field_validator("listen")
    @classmethod
    def _host_and_port(cls, value: str) -> str:
        return host_and_port(value)

    @model_validator(mode="after")
    def _one_credential(self) -> EventGridOptions:
        if self.endpoint and sum([self.access_key.given, self.sas_token.given, self.entra]) != 1:
            raise ValueError("a topic needs exactly one of access_key, sas_token, entra: true")
        if self.client == "fast" and self.entra:
            raise ValueError("entra: true needs client: sdk")
        return self


class EventGridTestSettings(ComponentSettings):
    """The file of `voxload component eventgrid`."""

    component: Literal["eventgrid"]
    options: EventGridOptions = EventGridOptions()
