"""What the stand-in for Event Grid may be told: keys, limits, subscriptions, how it delivers, faults."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from voxload.clock import NS_PER_S
from voxload.model.base import Model
from voxload.model.units import DurationNs, SpanNs
from voxload.standins.keys import check_base64

DEVELOPMENT_KEY = "dm94bG9hZC1kZXZlbG9wbWVudC1ldmVudC1ncmlkLWtleQ=="
"""The access key of a stand-in that is told none; no secret."""

DeliverySchema = Literal["EventGridSchema", "CloudEventSchemaV1_0"]


class SubscriptionSettings(Model):
    """A webhook that is to get the events."""

    endpoint: str = Field(pattern=r"^https?://", description="URL of the webhook, with its own key if it has one.")
    delivery_schema: DeliverySchema = Field("EventGridSchema", alias="schema")
    event_types: tuple[str, ...] = Field((), description="Only these; all by default.")
    headers: dict[str, str] = Field({}, description="Sent with every delivery.")
    batch_max: int = Field(1, ge=1, le=5000, description="Events in one delivery at most.")
    attempts_max: int = Field(30, ge=1, le=30)
    time_to_live_ns: DurationNs = Field(24 * 3600 * NS_PER_S, alias="time_to_live", gt=0)


class EventGridFaults(Model):
    """What goes wrong on the way to a webhook; shares of all deliveries, 0 to 1."""

    loss_rate: float = Field(0.0, ge=0, le=1, description="Events that are taken and never delivered.")
    duplicate_rate: float = Field(0.0, ge=0, le=1, description="Events that are delivered twice.")
    shuffle_ns: DurationNs = Field(0, alias="shuffle", description="Each event waits up to so long: order is lost.")
    refuse_rate: float = Field(0.0, ge=0, le=1, description="Publish requests answered 503.")


class EventGridSettings(Model):
    """A topic and its subscriptions."""

    keys: tuple[str, ...] = Field((DEVELOPMENT_KEY,), min_length=1)
    topic: str = "/subscriptions/voxload/resourceGroups/voxload/providers/Microsoft.EventGrid/topics/voxload"
    input_schema: DeliverySchema | Literal["any"] = Field("any", description="What may be published.")
    subscriptions: dict[str, SubscriptionSettings] = Field({}, description="Webhooks, by name.")
    events_per_s: int = Field(5_000, ge=0, description="Publish limit; one event counts once per 64 KB. 0: none.")
    bytes_per_s: int = Field(1_000_000, ge=0, description="Likewise for bytes. 0: no limit.")
    publish_latency_ns: SpanNs = Field((0, 0), alias="publish_latency")
    delivery_latency_ns: SpanNs = Field((0, 0), alias="delivery_latency", description="Taken to first attempt.")
    response_timeout_ns: DurationNs = Field(30 * NS_PER_S, alias="response_timeout", gt=0)
    retry_scale: float = Field(1.0, ge=0, le=1, description="Factor to the service's waits between attempts.")
    deliveries_max: int = Field(64, ge=1, description="Deliveries to one webhook at once.")
    faults: EventGridFaults = EventGridFaults()
    seed: int = Field(1, ge=0)

    @field_validator("keys")
    @classmethod
    def _keys_are_base64(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(check_base64, value))
