"""The stand-in for Event Grid: events by Microsoft's own client, webhooks as a backend has them."""

import asyncio
import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest
from aiohttp import web
from azure.core.credentials import AzureKeyCredential, AzureSasCredential
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError
from azure.core.messaging import CloudEvent
from azure.eventgrid import EventGridEvent, generate_sas
from azure.eventgrid.aio import EventGridPublisherClient

from voxload.standins.eventgrid.server import EventGridStandIn
from voxload.standins.eventgrid.settings import DEVELOPMENT_KEY, EventGridSettings
from voxload.standins.serving import Server

PLAIN = {"endpointType": "WebHook"}


class Webhook:
    """A backend's webhook: shakes hands, and answers events with the statuses that it is told."""

    def __init__(self, *, shakes=True):
        self.got = []
        self.deliveries = []
        self.statuses = []
        self.shakes = shakes

    def application(self):
        application = web.Application()
        application.router.add_route("*", "/hook", self.answer)
        return application

    async def answer(self, request):
        if request.method == "OPTIONS":
            origin = request.headers["WebHook-Request-Origin"]
            return web.Response(headers={"WebHook-Allowed-Origin": origin} if self.shakes else {})
        body = await request.json()
        if request.headers["aeg-event-type"] == "SubscriptionValidation":
            assert body[0]["eventType"] == "Microsoft.EventGrid.SubscriptionValidationEvent"
            return web.json_response({"validationResponse": body[0]["data"]["validationCode"] if self.shakes else "?"})
        status = self.statuses.pop(0) if self.statuses else 200
        self.deliveries.append((request.headers.copy(), body, request.query.copy()))
        if status == 200:
            self.got += body if isinstance(body, list) else [body]
        return web.Response(status=status)


@asynccontextmanager
async def topic(webhook=None, settings=None, **subscription):
    """A topic, a webhook subscribed to it, and a function that makes a client."""
    webhook = webhook or Webhook()
    stand_in = EventGridStandIn(EventGridSettings.model_validate({"retry_scale": 0.001, **(settings or {})}))
    async with Server(webhook.application()) as receiver, Server(stand_in.application()) as server:
        webhook.url = receiver.url
        stand_in.url = server.url
        stand_in.webhook = webhook
        settings = {
            "destination": {"endpointType": "WebHook", "properties": {"endpointUrl": f"{receiver.url}/hook?code=s3"}}
        }
        settings["destination"]["properties"] |= subscription.pop("webhook_properties", {})
        stand_in.answer = await put(stand_in, "calls", {"properties": settings | subscription})
        yield stand_in


async def put(stand_in, name, body, key=DEVELOPMENT_KEY):
    path = f"{stand_in.url}/subscriptions/s/providers/Microsoft.EventGrid/topics/t/eventSubscriptions/{name}"
    async with aiohttp.ClientSession() as http, http.put(path, json=body, headers={"aeg-sas-key": key}) as answer:
        return answer.status, await answer.json()


def client(stand_in, credential=None):
    return EventGridPublisherClient(
        f"{stand_in.url}/api/events", credential or AzureKeyCredential(DEVELOPMENT_KEY), retry_total=0
    )


def call_event(number):
    return EventGridEvent(
        subject=f"/calls/{number}", event_type="Call.Ended", data={"number": number}, data_version="1.0"
    )


async def until(condition, seconds=5.0):
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  # what is waited for is told by no event
            await asyncio.sleep(0.01)


async def test_events_of_the_grid_schema_are_delivered_with_the_services_headers():
    async with topic() as grid:
        assert grid.answer[0] == 201
        async with client(grid) as publisher:
            await publisher.send([call_event(1), call_event(2)])
        await until(lambda: len(grid.webhook.got) == 2)
        headers, body, query = grid.webhook.deliveries[0]
        assert (headers["aeg-event-type"], headers["aeg-subscription-name"]) == ("Notification", "CALLS")
        assert query["code"] == "s3"
        assert len(body) == 1
        assert body[0]["topic"] == grid.settings.topic
        assert body[0]["eventTime"]
        assert sorted(event["data"]["number"] for event in grid.webhook.got) == [1, 2]
        assert EventGridEvent.from_json(json.dumps(body[0])).event_type == "Call.Ended"


async def test_cloud_events_are_delivered_as_they_came():
    async with topic(eventDeliverySchema="CloudEventSchemaV1_0") as grid:
        async with client(grid) as publisher:
            await publisher.send(CloudEvent(source="/voxload", type="Call.Ended", data={"n": 1}, subject="c"))
            await publisher.send(call_event(7))
        await until(lambda: len(grid.webhook.got) == 2)
        first, second = sorted(grid.webhook.got, key=lambda event: event["data"].get("n", 9))
        assert CloudEvent.from_dict(first).data == {"n": 1}
        translated = CloudEvent.from_dict(second)
        assert (translated.type, translated.subject, translated.data) == ("Call.Ended", "/calls/7", {"number": 7})
        kinds = {headers["Content-Type"] for headers, _, _ in grid.webhook.deliveries}
        assert kinds == {"application/cloudevents+json; charset=utf-8"}


@pytest.mark.parametrize("schema", ["EventGridSchema", "CloudEventSchemaV1_0"])
async def test_a_webhook_that_does_not_shake_hands_gets_nothing(schema):
    async with topic(Webhook(shakes=False), eventDeliverySchema=schema) as grid:
        status, body = grid.answer
        assert (status, body["error"]["details"][0]["code"]) == (400, "URL validation")
        async with client(grid) as publisher:
            await publisher.send(call_event(1))
        await asyncio.sleep(0.05)
        assert grid.webhook.deliveries == []


async def test_a_subscription_that_makes_no_sense_is_refused():
    async with topic() as grid:
        assert (await put(grid, "x", {"properties": {"destination": {"endpointType": "ServiceBusQueue"}}}))[0] == 400
        assert (
            await put(grid, "x", {"properties": {"destination": {**PLAIN, "properties": {"endpointUrl": "ftp:"}}}})
        )[0] == 400
        assert (await put(grid, "x", {}, key="wrong"))[0] == 401


async def test_key_and_token_are_checked():
    async with topic() as grid:
        url, later = f"{grid.url}/api/events", datetime.now(UTC) + timedelta(hours=1)
        good = AzureSasCredential(generate_sas(url, DEVELOPMENT_KEY, later))
        async with client(grid, good) as publisher:
            await publisher.send(call_event(1))
        old = generate_sas(url, DEVELOPMENT_KEY, datetime.now(UTC) - timedelta(minutes=1))
        other_key = generate_sas(url, "AAAA", later)
        elsewhere = generate_sas("http://elsewhere/", DEVELOPMENT_KEY, later)
        for wrong in (AzureKeyCredential("no"), *map(AzureSasCredential, (old, other_key, elsewhere, "r=1"))):
            async with client(grid, wrong) as publisher:
                with pytest.raises(ClientAuthenticationError):
                    await publisher.send(call_event(2))
        assert grid.counts["published"] == 1


async def test_deliveries_are_tried_again_unless_the_answer_is_final():
    hook = Webhook()
    hook.statuses = [500, 503, 200, 400]
    async with topic(hook, settings={"deliveries_max": 1}) as grid, client(grid) as publisher:
        await publisher.send(call_event(1))
        await until(lambda: len(hook.got) == 1)
        assert [headers["aeg-delivery-count"] for headers, _, _ in hook.deliveries] == ["0", "1", "2"]
        await publisher.send(call_event(2))
        counts = grid.subscriptions["calls"].counts
        await until(lambda: counts["dropped"] == 1)
        assert (counts["delivered"], counts["retried"], counts["attempts"]) == (1, 2, 4)
        assert grid.subscriptions["calls"].pending == 0


async def test_attempts_are_bounded():
    hook = Webhook()
    hook.statuses = [500] * 50
    async with topic(hook, retryPolicy={"maxDeliveryAttempts": 3}) as grid, client(grid) as publisher:
        await publisher.send(call_event(1))
        await until(lambda: grid.subscriptions["calls"].counts["dropped"] == 1)
        assert len(hook.deliveries) == 3


async def test_losses_duplicates_and_order_are_as_told():
    faults = {"loss_rate": 0.1, "duplicate_rate": 0.2, "shuffle": "50ms"}
    async with topic(settings={"faults": faults}) as grid, client(grid) as publisher:
        await publisher.send([call_event(number) for number in range(400)])
        counts = grid.subscriptions["calls"].counts
        await until(lambda: counts["taken"] == 400 and grid.subscriptions["calls"].pending == 0)
        assert 20 <= counts["lost"] <= 65
        assert 40 <= counts["duplicated"] <= 110
        numbers = [event["data"]["number"] for event in grid.webhook.got]
        assert len(numbers) == 400 - counts["lost"] + counts["duplicated"]
        assert len(set(numbers)) == 400 - counts["lost"]
        assert numbers != sorted(numbers)


async def test_batches_and_filters():
    small = {"webhook_properties": {"maxEventsPerBatch": 50}, "filter": {"includedEventTypes": ["Call.Ended"]}}
    async with topic(settings={"deliveries_max": 1}, **small) as grid, client(grid) as publisher:
        other = EventGridEvent(subject="s", event_type="Other", data={}, data_version="1")
        await publisher.send([other, *(call_event(number) for number in range(100))])
        await until(lambda: len(grid.webhook.got) == 100)
        assert len(grid.webhook.deliveries) < 10


@pytest.mark.parametrize(
    ("content_type", "body", "words"),
    [
        ("application/json", b"{", "not valid JSON"),
        ("application/json", b"{}", "expected an array"),
        ("application/json", b'[{"id": "1"}]', "subject, eventType, eventTime, data missing"),
        ("application/cloudevents-batch+json", b'[{"id": "1", "source": "s"}]', "specversion, type missing"),
    ],
)
async def test_malformed_events_are_refused(content_type, body, words):
    async with topic() as grid, aiohttp.ClientSession() as http:
        headers = {"aeg-sas-key": DEVELOPMENT_KEY, "Content-Type": content_type}
        async with http.post(f"{grid.url}/api/events", data=body, headers=headers) as answer:
            error = (await answer.json())["error"]
            assert (answer.status, error["code"]) == (400, "BadRequest")
            assert words in error["message"]


async def test_the_publish_limits_are_exact():
    now_ns = 0
    stand_in = EventGridStandIn(EventGridSettings(events_per_s=100, bytes_per_s=0), clock=lambda: now_ns)
    async with Server(stand_in.application()) as server:
        stand_in.url = server.url
        async with client(stand_in) as publisher:
            await publisher.send([call_event(number) for number in range(100)])
            with pytest.raises(HttpResponseError) as caught:
                await publisher.send(call_event(1))
            assert caught.value.status_code == 429
            assert caught.value.response.headers["Retry-After"] == "1"
            now_ns = 10_000_000  # one event flows in
            await publisher.send(call_event(1))
            with pytest.raises(HttpResponseError):
                await publisher.send(call_event(1))
            with pytest.raises(HttpResponseError) as caught:
                await publisher.send(EventGridEvent("s", "t", "x" * 1_100_000, "1"))
            assert caught.value.status_code == 413
    assert stand_in.counts["published"] == 101
