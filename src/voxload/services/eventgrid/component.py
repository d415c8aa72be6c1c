"""`voxload component eventgrid`: events published at a rate and followed to a webhook of our own."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from voxload.clock import NS_PER_S, utc_text
from voxload.errors import RunAbortedError
from voxload.measure.recorder import Recorder
from voxload.model.outcome import Outcome
from voxload.services.base import Component, ComponentRun, Operation, OperationFailedError
from voxload.services.eventgrid.options import EventGridTestSettings
from voxload.services.eventgrid.publisher import Publisher, build_publisher
from voxload.services.eventgrid.tracking import Tracker, shares
from voxload.services.eventgrid.webhook import Webhook
from voxload.services.settings import ComponentSettings
from voxload.services.stand_in import OwnStandIn
from voxload.standins.eventgrid.settings import DEVELOPMENT_KEY


class EventGridComponent(Component[EventGridTestSettings]):
    """Publishes to a topic or, where none is named, to a stand-in of its own."""

    name: ClassVar[str] = "eventgrid"
    settings_type: ClassVar[type[ComponentSettings]] = EventGridTestSettings
    target_option: ClassVar[str] = "endpoint"
    headline: ClassVar[tuple[str, ...]] = ("event_delivery", "publish")
    lateness_limit_ms: ClassVar[float] = 20.0

    def __init__(self, settings: EventGridTestSettings, run: ComponentRun) -> None:
        super().__init__(settings, run)
        self._options = settings.options
        self._tracker = Tracker(run.run_id, run.clock)
        self._webhook = Webhook(self._arrive, self._options.webhook_key.value)
        self._probe_tracker = Tracker(f"{run.run_id}-probe", run.clock)
        self._stand_in = OwnStandIn("eventgrid")
        self._publisher: Publisher | None = None
        self._endpoint = self._options.endpoint

    @property
    def target(self) -> str:
        """The topic's endpoint."""
        return self._options.endpoint or "stand-in for Event Grid"

    def _arrive(self, event_id: str) -> None:
        tracker = self._probe_tracker if event_id.startswith(f"{self.run.run_id}-probe/") else self._tracker
        tracker.arrive(event_id)

    async def set_up(self) -> None:
        """Listen, start the stand-in if there is to be one, and see one event through."""
        options = self._options
        host, _, port = options.listen.rpartition(":")
        if options.receive:
            await self._webhook.open(host, int(port))
        key = options.access_key.value
        if not options.endpoint:
            key = DEVELOPMENT_KEY
            subscription = {
                "endpoint": self._webhook.url,
                "schema": options.event_schema,
                "batch_max": options.delivery_batch,
            }
            mine = {"subscriptions": {"voxload": subscription}} if options.receive else {}
            self._endpoint = f"{await self._stand_in.start({**mine, **options.service})}/api/events"
        self._publisher = build_publisher(self._endpoint, key, options)
        await self._probe()

    async def _probe(self) -> None:
        """Publish one event and wait until it arrives; what it measures is thrown away."""
        now_ns = self.run.clock()
        probe = Operation(0, "probe", "probe", now_ns, self.run.clock, Recorder(), ())
        try:
            await self._send(probe, self._probe_tracker, 1)
        except OperationFailedError as failed:
            raise RunAbortedError(f"{self._endpoint} cannot be used: {failed.reason}; {self._where()}") from None

    def _where(self) -> str:
        if not self._options.receive:
            return "only publishing was tried"
        address = self._webhook.url.partition("?")[0]
        return f"the topic needs an event subscription that leads to our webhook, {address}?code=WEBHOOK_KEY"

    async def operate(self, operation: Operation) -> None:
        """Publish one batch and wait until all of it has arrived."""
        operation.ready_ns = operation.clock()
        await self._send(operation, self._tracker, self._options.batch)

    async def _send(self, operation: Operation, tracker: Tracker, size: int) -> None:
        assert self._publisher is not None
        batch = tracker.open(operation, size)
        batch.published_ns = operation.clock()
        time_text = f"{utc_text(self.run.unix_ns() // NS_PER_S)}Z"
        ids = [tracker.event_id(batch, position) for position in range(size)]
        try:
            await self._publisher.publish(operation, ids, time_text)
        except BaseException:
            tracker.forget(batch)
            raise
        operation.latency("publish", operation.due_ns, operation.clock())
        tracker.counts["published"] += size
        if not self._options.receive:
            return
        timeout_s = self._options.delivery_timeout_ns / NS_PER_S
        try:
            async with asyncio.timeout(timeout_s):
                await batch.complete.wait()
        except TimeoutError:
            lost = tracker.give_up(batch)
            reason = f"delivery: {lost} of {size} events did not arrive within {timeout_s:g} s (delivery_timeout)"
            raise OperationFailedError(Outcome.STEP_FAILED, reason) from None
        except asyncio.CancelledError:
            tracker.forget(batch)
            raise

    async def settle(self) -> None:
        """Wait for events that come twice."""
        if self._options.receive:
            await asyncio.sleep(self._options.settle_ns / NS_PER_S)

    async def tear_down(self) -> None:
        """Close the client and the webhook, and stop the stand-in."""
        if self._publisher is not None:
            await self._publisher.close()
        await self._stand_in.stop()
        await self._webhook.close()

    def died(self) -> str:
        """Return whether the stand-in has died."""
        return self._stand_in.died()

    def doubt(self) -> str:
        """Return whether the stand-in met a limit of this machine."""
        return self._stand_in.doubt()

    def facts(self) -> dict[str, str]:
        """Tell what became of the events, and what came to our webhook."""
        facts = {"client": "azure-eventgrid" if self._options.client == "sdk" else "our own requests"}
        facts |= dict(shares(self._tracker.counts))
        if self._options.receive:
            counts = self._webhook.counts
            facts |= {
                "webhook: deliveries": f"{counts['deliveries']:,}",
                "webhook: handshakes": str(counts["handshakes"]),
            }
            for name in ("wrong key", "malformed"):
                if counts[name]:
                    facts[f"webhook: {name}"] = f"{counts[name]:,}"
        return facts
