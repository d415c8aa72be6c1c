"""The HTTP face of the stand-in for Event Grid: publish, subscribe, count."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
from aiohttp import web
from pydantic import ValidationError

from voxload.clock import NS_PER_S, Clock, monotonic_ns, unix_ns
from voxload.errors import RunAbortedError
from voxload.standins.eventgrid.access import TOPIC_PATH, why_refused
from voxload.standins.eventgrid.delivery import HandshakeError, Subscription
from voxload.standins.eventgrid.events import CHUNK_BYTES, MalformedError, read_events
from voxload.standins.eventgrid.settings import EventGridSettings, SubscriptionSettings
from voxload.standins.rate import RateLimit
from voxload.standins.serving import StandIn, new_application

BODY_BYTES_MAX = 1024 * 1024
HANDSHAKE_TIMEOUT_S = 30.0


class EventGridStandIn(StandIn):
    """A topic at `/api/events`; subscriptions at `/eventSubscriptions/NAME`; counters at `/voxload/counters`."""

    def __init__(
        self,
        settings: EventGridSettings | None = None,
        clock: Clock = monotonic_ns,
        wall_ns: Callable[[], int] = unix_ns,
    ) -> None:
        self.settings = settings or EventGridSettings()
        self.counts: Counter[str] = Counter()
        """published (events), requests, refused (by status)."""
        self.subscriptions: dict[str, Subscription] = {}
        self._clock, self._wall_ns = clock, wall_ns
        self._random = random.Random(self.settings.seed)
        now_ns = clock()
        self._events = RateLimit(self.settings.events_per_s, now_ns)
        self._bytes = RateLimit(self.settings.bytes_per_s, now_ns)
        self._http: aiohttp.ClientSession | None = None

    def application(self) -> web.Application:
        """Return what serves it."""
        application = new_application(self._counters)
        application.router.add_post(TOPIC_PATH, self._publish)
        application.router.add_put("/{scope:.*}eventSubscriptions/{name}", self._subscribe)
        application.router.add_get("/{scope:.*}eventSubscriptions/{name}", self._show)
        application.router.add_delete("/{scope:.*}eventSubscriptions/{name}", self._unsubscribe)
        application.cleanup_ctx.append(self._live)
        return application

    def environment(self, url: str) -> dict[str, str]:
        """Return the variables that lead a backend to it."""
        return {"EVENTGRID_TOPIC_ENDPOINT": f"{url}{TOPIC_PATH}", "EVENTGRID_ACCESS_KEY": self.settings.keys[0]}

    async def _live(self, _: web.Application) -> AsyncIterator[None]:
        self._http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        try:
            for name, settings in self.settings.subscriptions.items():
                try:
                    await self.subscribe(name, settings)
                except HandshakeError as error:
                    raise RunAbortedError(f"event subscription {name}: {error}") from None
            yield
        finally:
            for subscription in self.subscriptions.values():
                await subscription.close()
            await self._http.close()

    async def subscribe(self, name: str, settings: SubscriptionSettings) -> Subscription:
        """Start to deliver to a webhook, once it has shaken hands.

        Raises:
            HandshakeError: it does not.
        """
        assert self._http is not None
        subscription = Subscription(name, settings, self.settings, self._http, self._clock)
        try:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
                await subscription.shake_hands(self._wall_ns() // NS_PER_S)
        except TimeoutError:
            raise HandshakeError(f"the webhook did not answer within {HANDSHAKE_TIMEOUT_S:g} s") from None
        before = self.subscriptions.pop(name, None)
        if before is not None:
            await before.close()
        self.subscriptions[name] = subscription
        return subscription

    # --- publishing ---

    async def _publish(self, request: web.Request) -> web.Response:
        self.counts["requests"] += 1
        refused = self._refusal(request)
        if refused is not None:
            return refused
        body = await request.read()
        if len(body) > BODY_BYTES_MAX:
            return self._error(413, "PayloadTooLarge", f"The request is larger than {BODY_BYTES_MAX} bytes.")
        try:
            events = read_events(body, request.headers.get("Content-Type", ""), self.settings.input_schema)
        except MalformedError as error:
            return self._error(400, "BadRequest", str(error), "InputJsonInvalid")
        # one event of n bytes counts as ⌈n / 64 KB⌉; within a batch their mean size is taken
        size = -(-len(body) // max(len(events), 1))
        units = len(events) * -(-size // CHUNK_BYTES)
        now_ns = self._clock()
        wait_ns = max(self._events.wait_ns(units, now_ns), self._bytes.wait_ns(len(body), now_ns))
        if wait_ns:
            message = "The topic has received more events than its limit; retry later."
            answer = self._error(429, "TooManyRequests", message)
            answer.headers["Retry-After"] = str(-(-wait_ns // NS_PER_S))
            return answer
        self._events.take(units)
        self._bytes.take(len(body))
        low_ns, high_ns = self.settings.publish_latency_ns
        if high_ns:
            await asyncio.sleep(self._random.randint(low_ns, high_ns) / NS_PER_S)
        self.counts["published"] += len(events)
        for subscription in self.subscriptions.values():
            for event in events:
                subscription.take(event)
        return web.Response(headers={"x-ms-request-id": str(uuid.uuid4()), "api-supported-versions": "2018-01-01"})

    def _refusal(self, request: web.Request) -> web.Response | None:
        reason = why_refused(request.headers, self.settings.keys, self._wall_ns() / NS_PER_S)
        if reason:
            return self._error(401, "Unauthorized", reason)
        if (request.content_length or 0) > BODY_BYTES_MAX:
            return self._error(413, "PayloadTooLarge", f"The request is larger than {BODY_BYTES_MAX} bytes.")
        if self._random.random() < self.settings.faults.refuse_rate:
            return self._error(503, "ServerBusy", "The service is busy; retry later.")
        return None

    def _error(self, status: int, code: str, message: str, detail: str = "") -> web.Response:
        self.counts[f"refused {status}"] += 1
        request_id = str(uuid.uuid4())
        words = f"{message} Report '{request_id}' to our forums for assistance or raise a support ticket."
        error = {"code": code, "message": words, "details": [{"code": detail or code, "message": words}]}
        return web.json_response({"error": error}, status=status, headers={"x-ms-request-id": request_id})

    # --- subscriptions ---

    async def _subscribe(self, request: web.Request) -> web.Response:
        refused = self._refusal(request)
        if refused is not None:
            return refused
        name = request.match_info["name"]
        try:
            settings = _subscription_settings(await request.json())
        except (ValueError, ValidationError, AttributeError) as error:
            return self._error(400, "InvalidRequest", f"No event subscription: {error}")
        try:
            subscription = await self.subscribe(name, settings)
        except HandshakeError as error:
            message = f"Webhook validation handshake failed for {settings.endpoint}: {error}."
            return self._error(400, "Endpoint validation", message, "URL validation")
        return web.json_response(_described(subscription), status=201)

    async def _show(self, request: web.Request) -> web.Response:
        subscription = self.subscriptions.get(request.match_info["name"])
        if subscription is None:
            return self._error(404, "ResourceNotFound", "The event subscription was not found.")
        return web.json_response(_described(subscription))

    async def _unsubscribe(self, request: web.Request) -> web.Response:
        refused = self._refusal(request)
        if refused is not None:
            return refused
        subscription = self.subscriptions.pop(request.match_info["name"], None)
        if subscription is not None:
            await subscription.close()
        return web.Response(status=200 if subscription else 204)

    def _counters(self) -> dict[str, Any]:
        found = {
            name: {**subscription.counts, "pending": subscription.pending}
            for name, subscription in self.subscriptions.items()
        }
        return {"topic": dict(self.counts), "subscriptions": found}


def _subscription_settings(body: dict[str, Any]) -> SubscriptionSettings:
    """Return what Azure's management API calls an event subscription.

    Raises:
        ValueError: it is none, or not for a webhook.
    """
    properties = body.get("properties", body)
    destination = properties.get("destination") or {}
    if destination.get("endpointType") != "WebHook":
        raise ValueError("properties.destination.endpointType must be WebHook")
    webhook = destination.get("properties") or {}
    mappings = webhook.get("deliveryAttributeMappings") or []
    retry = properties.get("retryPolicy") or {}
    return SubscriptionSettings.model_validate(
        {
            "endpoint": webhook.get("endpointUrl", ""),
            "schema": properties.get("eventDeliverySchema", "EventGridSchema"),
            "event_types": tuple((properties.get("filter") or {}).get("includedEventTypes") or ()),
            "headers": {item["name"]: item["properties"]["value"] for item in mappings if item.get("type") == "Static"},
            "batch_max": webhook.get("maxEventsPerBatch", 1),
            "attempts_max": retry.get("maxDeliveryAttempts", 30),
            "time_to_live": 60 * retry.get("eventTimeToLiveInMinutes", 1440),
        }
    )


def _described(subscription: Subscription) -> dict[str, Any]:
    return {
        "name": subscription.name,
        "type": "Microsoft.EventGrid/eventSubscriptions",
        "properties": {
            "provisioningState": "Succeeded",
            "eventDeliverySchema": subscription.settings.delivery_schema,
            "destination": {
                "endpointType": "WebHook",
                "properties": {"endpointBaseUrl": subscription.settings.endpoint.partition("?")[0]},
            },
        },
    }
