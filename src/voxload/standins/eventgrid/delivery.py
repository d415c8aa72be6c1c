"""Delivery to webhooks: the handshake, attempts and their waits, and the faults on the way.

Source: Microsoft, "Event Grid message delivery and retry" and "Endpoint validation" (CloudEvents: by OPTIONS).
"""

from __future__ import annotations

import asyncio
import json
import random
import uuid
from collections import Counter, deque
from dataclasses import dataclass

import aiohttp

from voxload.clock import NS_PER_S, Clock, utc_text
from voxload.standins.eventgrid.events import Event, as_delivered
from voxload.standins.eventgrid.settings import EventGridSettings, SubscriptionSettings

ORIGIN = "eventgrid.azure.net"
WAITS_S = (10, 30, 60, 300, 600, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600)
WAIT_MIN_S = {404: 300, 408: 120, 503: 30}
NO_RETRY = frozenset({400, 401, 403, 413})
SUCCESS = frozenset({200, 201, 202, 203, 204})
DUPLICATE_WITHIN_S = 0.1


class HandshakeError(Exception):
    """A webhook does not prove that it wants the events."""


@dataclass(slots=True)
class _Parcel:
    """An event on its way to one webhook."""

    event: Event
    taken_ns: int
    attempts: int = 0


class Subscription:
    """Takes events for one webhook and delivers each at least once, or counts why not."""

    def __init__(
        self,
        name: str,
        settings: SubscriptionSettings,
        service: EventGridSettings,
        http: aiohttp.ClientSession,
        clock: Clock,
    ) -> None:
        self.name, self.settings = name, settings
        self.counts: Counter[str] = Counter()
        """taken, attempts, delivered, duplicated, retried, lost (by a fault), dropped (given up)."""
        self.pending = 0
        """Events that are neither delivered nor given up."""
        self._service, self._http, self._clock = service, http, clock
        self._random = random.Random(f"{service.seed} {name}")
        self._ready: deque[_Parcel] = deque()
        self._working = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def cloud(self) -> bool:
        """Whether the webhook gets CloudEvents."""
        return self.settings.delivery_schema == "CloudEventSchemaV1_0"

    # --- the handshake ---

    async def shake_hands(self, now_s: int) -> None:
        """See whether the webhook wants the events.

        Raises:
            HandshakeError: it does not say so.
        """
        try:
            if self.cloud:
                await self._ask_by_options()
            else:
                await self._ask_by_event(now_s)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise HandshakeError(f"the webhook cannot be reached: {error}") from None

    async def _ask_by_options(self) -> None:
        headers = {**self.settings.headers, "WebHook-Request-Origin": ORIGIN}
        async with self._http.options(self.settings.endpoint, headers=headers) as answer:
            allowed = answer.headers.get("WebHook-Allowed-Origin", "")
            if answer.status not in SUCCESS or allowed not in (ORIGIN, "*"):
                raise HandshakeError(f"OPTIONS was answered {answer.status}, WebHook-Allowed-Origin: {allowed!r}")

    async def _ask_by_event(self, now_s: int) -> None:
        code = str(uuid.uuid4())
        event = {
            "id": str(uuid.uuid4()),
            "topic": self._service.topic,
            "subject": "",
            "data": {"validationCode": code},
            "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
            "eventTime": f"{utc_text(now_s)}Z",
            "metadataVersion": "1",
            "dataVersion": "2",
        }
        headers = {**self._headers(0), "aeg-event-type": "SubscriptionValidation"}
        async with self._http.post(self.settings.endpoint, json=[event], headers=headers) as answer:
            try:
                body = await answer.json(content_type=None)
            except ValueError:
                body = None
            if answer.status != 200 or not isinstance(body, dict) or body.get("validationResponse") != code:
                raise HandshakeError(f"the validation event was answered {answer.status} without its code")

    # --- events ---

    def take(self, event: Event) -> None:
        """Take an event that was published."""
        if self.settings.event_types and event.kind not in self.settings.event_types:
            return
        self.counts["taken"] += 1
        faults, draw = self._service.faults, self._random
        if draw.random() < faults.loss_rate:
            self.counts["lost"] += 1
            return
        low_ns, high_ns = self._service.delivery_latency_ns
        wait_s = draw.randint(low_ns, high_ns) / NS_PER_S + draw.random() * faults.shuffle_ns / NS_PER_S
        self._send_after(wait_s, _Parcel(event, self._clock()))
        if draw.random() < faults.duplicate_rate:
            self.counts["duplicated"] += 1
            self._send_after(wait_s + draw.random() * DUPLICATE_WITHIN_S, _Parcel(event, self._clock()))

    def _send_after(self, wait_s: float, parcel: _Parcel) -> None:
        self.pending += 1
        if wait_s > 0:
            asyncio.get_running_loop().call_later(wait_s, self._send, parcel)
        else:
            self._send(parcel)

    def _send(self, parcel: _Parcel) -> None:
        if self._closed:
            return
        self._ready.append(parcel)
        if self._working < self._service.deliveries_max:
            self._working += 1
            task = asyncio.ensure_future(self._work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _work(self) -> None:
        try:
            while self._ready:
                count = min(len(self._ready), self.settings.batch_max)
                await self._deliver([self._ready.popleft() for _ in range(count)])
        finally:
            self._working -= 1

    async def _deliver(self, parcels: list[_Parcel]) -> None:
        bodies = [as_delivered(item.event, self.settings.delivery_schema, self._service.topic) for item in parcels]
        cloud = all(item.event.cloud for item in parcels) or self.cloud
        single = cloud and self.settings.batch_max == 1
        data = json.dumps(bodies[0] if single else bodies, separators=(",", ":")).encode()
        kind = f"application/cloudevents{'' if single else '-batch'}+json" if cloud else "application/json"
        headers = {**self._headers(parcels[0].attempts), "Content-Type": f"{kind}; charset=utf-8"}
        self.counts["attempts"] += 1
        timeout = aiohttp.ClientTimeout(total=self._service.response_timeout_ns / NS_PER_S)
        try:
            async with self._http.post(self.settings.endpoint, data=data, headers=headers, timeout=timeout) as answer:
                status = answer.status
        except (aiohttp.ClientError, TimeoutError, OSError):
            status = 0
        for parcel in parcels:
            self._after_attempt(parcel, status)

    def _after_attempt(self, parcel: _Parcel, status: int) -> None:
        parcel.attempts += 1
        self.pending -= 1
        if status in SUCCESS:
            self.counts["delivered"] += 1
            return
        self.counts[f"answered {status or 'nothing'}"] += 1
        wait_s = self._wait_s(parcel.attempts, status)
        age_ns = self._clock() - parcel.taken_ns + round(wait_s * NS_PER_S)
        over = parcel.attempts >= self.settings.attempts_max or age_ns > self.settings.time_to_live_ns
        if status in NO_RETRY or over:
            self.counts["dropped"] += 1
            return
        self.counts["retried"] += 1
        self._send_after(wait_s, parcel)

    def _wait_s(self, attempts: int, status: int) -> float:
        wait_s = max(WAITS_S[min(attempts, len(WAITS_S)) - 1], WAIT_MIN_S.get(status, 0))
        return wait_s * (1 + 0.1 * self._random.random()) * self._service.retry_scale

    def _headers(self, attempts: int) -> dict[str, str]:
        headers = {
            **self.settings.headers,
            "aeg-event-type": "Notification",
            "aeg-subscription-name": self.name.upper(),
            "aeg-delivery-count": str(attempts),
        }
        if self.cloud:
            headers["WebHook-Request-Origin"] = ORIGIN
        else:
            headers.update({"aeg-metadata-version": "1", "aeg-data-version": ""})
        return headers

    async def close(self) -> None:
        """Deliver nothing more."""
        self._closed = True
        self._ready.clear()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
