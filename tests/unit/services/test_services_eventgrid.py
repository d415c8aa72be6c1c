"""Events published by Microsoft's client and by ours, and followed to the webhook."""

from __future__ import annotations

import asyncio

import pytest
from component_runs import Ran, constant
from pydantic import ValidationError

from voxload.errors import RunAbortedError
from voxload.services.eventgrid.options import EventGridOptions
from voxload.standins.eventgrid.server import EventGridStandIn
from voxload.standins.eventgrid.settings import DEVELOPMENT_KEY, EventGridSettings, SubscriptionSettings
from voxload.standins.serving import Server

CLIENTS = ("sdk", "fast")


def share(ran, metric):
    histogram = ran.collector.histogram(metric)
    return histogram.mean / 1e9, histogram.count


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("schema", ["CloudEventSchemaV1_0", "EventGridSchema"])
async def test_every_event_is_followed_to_the_webhook(client, schema):
    latency = {"delivery_latency": "120ms"}
    ran = await Ran("eventgrid", constant(20), client=client, schema=schema, batch=3, settle="0s", service=latency)()
    assert ran.ended == {"completed": 20}, ran.errors()
    assert ran.count("event_delivery") == 60
    assert ran.count("publish") == 20
    assert 120 <= ran.ms("event_delivery", 0.1) < 300
    assert ran.ms("publish", 0.1) < 100
    assert share(ran, "event_loss") == (0.0, 60)
    assert share(ran, "event_duplicate") == (0.0, 60)
    assert (ran.facts["events published"], ran.facts["events delivered"]) == ("60", "60")
    assert ran.facts["webhook: handshakes"] == "1"
    assert ran.collector.totals().http_requests["publish"] == {"2xx": 20}


async def test_losses_duplicates_and_disorder_are_found():
    faults = {"loss_rate": 0.1, "duplicate_rate": 0.2, "shuffle": "100ms"}
    service = {"faults": faults, "seed": 3}
    options = {"client": "fast", "batch": 10, "delivery_timeout": "500ms", "settle": "400ms"}
    ran = await Ran("eventgrid", constant(30), service=service, **options)()
    lost, published = share(ran, "event_loss")
    assert published == 300
    assert 0.04 < lost < 0.18
    assert int(ran.facts["events lost"]) == round(lost * 300)
    assert int(ran.facts["events delivered"]) == 300 - round(lost * 300)
    duplicates, deliveries = share(ran, "event_duplicate")
    assert deliveries == int(ran.facts["webhook: deliveries"].replace(",", "")) - 1  # the probe
    assert 0.08 < duplicates < 0.26
    assert share(ran, "event_out_of_order")[0] > 0.2
    assert ran.ended["step_failed"] > 0
    assert "did not arrive within 0.5 s" in ran.errors()


@pytest.mark.parametrize("client", CLIENTS)
async def test_the_limit_of_the_topic_is_met(client):
    options = {"client": client, "batch": 10, "settle": "0s", "service": {"events_per_s": 100}}
    ran = await Ran("eventgrid", constant(40), **options)()
    # a bucket of 100 events less the probe, and 100 more in the second: 19 of 40 requests, give or take the clock
    assert 16 <= ran.ended["completed"] <= 21
    assert ran.ended["rejected"] == 40 - ran.ended["completed"]
    assert "publish: 429" in ran.errors()
    assert share(ran, "throttled")[0] == pytest.approx(ran.ended["rejected"] / 40)


@pytest.mark.parametrize("client", CLIENTS)
async def test_refusals_for_now_are_tried_again_where_that_is_asked_for(client):
    service = {"faults": {"refuse_rate": 0.3}}
    options = {"client": client, "retries": 8, "settle": "0s", "request_timeout": "10s"}
    ran = Ran("eventgrid", constant(10, "500ms"), service=service, **options)
    await ran()
    assert set(ran.ended) == {"completed"}, ran.errors()
    assert ran.collector.totals().http_requests["publish"].get("503", 0) > 0


async def test_a_topic_without_a_subscription_or_with_another_key():
    stand_in = EventGridStandIn()
    async with Server(stand_in.application()) as server:
        options = {"endpoint": f"{server.url}/api/events", "delivery_timeout": "300ms"}
        with pytest.raises(
            RunAbortedError, match=r"event subscription that leads to our webhook, http://127.0.0.1:\d+/events"
        ):
            await Ran("eventgrid", constant(5), access_key=DEVELOPMENT_KEY, **options)()
        with pytest.raises(RunAbortedError, match="publish: 401"):
            await Ran("eventgrid", constant(5), access_key="AAAA", **options)()
        ran = await Ran("eventgrid", constant(5), access_key=DEVELOPMENT_KEY, receive=False, **options)()
        assert ran.ended == {"completed": 5}


async def test_deliveries_of_others_are_not_taken_for_ours():
    stand_in = EventGridStandIn(EventGridSettings(retry_scale=0.0))
    async with Server(stand_in.application()) as server:
        ran = Ran(
            "eventgrid",
            constant(10),
            endpoint=f"{server.url}/api/events",
            access_key=DEVELOPMENT_KEY,
            webhook_key="the-key",
            delivery_timeout="5s",
            settle="0s",
        )
        running = asyncio.ensure_future(ran())
        async with asyncio.timeout(5):
            while not ran.component._webhook.url:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        url = ran.component._webhook.url
        with pytest.raises(Exception, match="401"):
            await stand_in.subscribe("wrong", SubscriptionSettings(endpoint=url.replace("the-key", "another")))
        await stand_in.subscribe("right", SubscriptionSettings(endpoint=url, schema="CloudEventSchemaV1_0"))
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert ran.component._webhook.counts["wrong key"] == 1
        assert ran.component._webhook.counts["handshakes"] == 1


async def test_a_stand_in_that_dies_ends_the_run():
    ran = Ran("eventgrid", constant(20, "20s"))
    asyncio.get_running_loop().call_later(1.5, lambda: ran.component._stand_in._process._child.kill())  # noqa: PLW0108
    await ran()
    assert ran.result.cut_short == "the stand-in for Event Grid died"


@pytest.mark.parametrize(
    "options",
    [
        {"endpoint": "https://x/api/events"},
        {"endpoint": "https://x/api/events", "access_key": "a", "entra": True},
        {"endpoint": "x"},
        {"listen": "8080"},
        {"client": "fast", "endpoint": "https://x", "entra": True},
        {"batch": 0},
    ],
)
def test_settings_that_cannot_work(options):
    with pytest.raises(ValidationError):
        EventGridOptions.model_validate(options)
