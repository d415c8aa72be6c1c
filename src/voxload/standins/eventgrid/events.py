"""Events in the two schemas that Event Grid takes: what they must hold, and one as the other."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

EVENTS_MAX = 5000
CHUNK_BYTES = 64 * 1024
"""An event counts once for each so many bytes."""

_EVENT_GRID = ("id", "subject", "eventType", "eventTime", "data")
_CLOUD = ("id", "source", "specversion", "type")


class MalformedError(Exception):
    """A body is not what the topic takes."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event as it came; `cloud` says in which schema."""

    body: dict[str, Any]
    cloud: bool

    @property
    def kind(self) -> str:
        """Its type."""
        return str(self.body["type" if self.cloud else "eventType"])


def read_events(body: bytes, content_type: str, allowed: str) -> list[Event]:
    """Return the events of a publish request.

    Raises:
        MalformedError: they are not, with the service's words.
    """
    cloud = content_type.partition(";")[0].strip().lower().startswith("application/cloudevents")
    schema = "CloudEventSchemaV1_0" if cloud else "EventGridSchema"
    if allowed not in ("any", schema):
        raise MalformedError(f"This resource is configured to receive event in '{allowed}' schema.")
    try:
        found = json.loads(body)
    except ValueError:
        raise MalformedError("The request body is not valid JSON.") from None
    items = [found] if cloud and isinstance(found, dict) else found
    if not isinstance(items, list):
        raise MalformedError("The JSON received does not conform to the expected schema: expected an array of events.")
    if len(items) > EVENTS_MAX:
        raise MalformedError(f"The request holds {len(items)} events; the most is {EVENTS_MAX}.")
    for item in items:
        _check(item, _CLOUD if cloud else _EVENT_GRID, schema)
    return [Event(item, cloud) for item in items]


def _check(item: object, required: tuple[str, ...], schema: str) -> None:
    missing = [name for name in required if not isinstance(item, dict) or item.get(name) is None]
    if schema == "EventGridSchema" and isinstance(item, dict) and "data" in item and "data" in missing:
        missing.remove("data")  # null is data
    if missing:
        raise MalformedError(
            f"This resource is configured to receive event in '{schema}' schema. "
            f"The JSON received does not conform to the expected schema: {', '.join(missing)} missing."
        )


def as_delivered(event: Event, schema: str, topic: str) -> dict[str, Any]:
    """Return an event as a webhook gets it; a CloudEvent stays one."""
    body = event.body
    if event.cloud:
        return body
    if schema == "EventGridSchema":
        return {**body, "topic": topic, "metadataVersion": "1", "dataVersion": body.get("dataVersion", "")}
    return {
        "id": body["id"],
        "source": topic,
        "specversion": "1.0",
        "type": body["eventType"],
        "subject": body["subject"],
        "time": body["eventTime"],
        "dataschema": f"#{body.get('dataVersion', '')}",
        "data": body["data"],
    }
