"""Chat completions under load, by the openai library and by requests of our own, against the stand-in."""

from __future__ import annotations

import asyncio
import json

import pytest
from aiohttp import web
from chat_services import (
    ASKED,
    CLIENTS,
    FREE,
    QUICK,
    chat_server,
    options_for,
    piece,
    requests,
    service,
    streamed,
    total,
    whole,
)
from component_runs import Ran, closed, constant

from voxload.errors import RunAbortedError
from voxload.measure.recorder import Recorder
from voxload.model.outcome import Outcome
from voxload.model.source import Source
from voxload.quotas import NS_PER_MINUTE
from voxload.services.base import ComponentRun, Operation, OperationFailedError
from voxload.services.openai.component import OpenaiComponent
from voxload.services.openai.options import OpenaiSettings
from voxload.services.settings import read_settings
from voxload.standins.openai.server import ChatStandIn
from voxload.standins.openai.settings import ChatSettings
from voxload.standins.serving import Server

# --- latencies ---


async def test_both_clients_measure_what_the_stand_in_was_told():
    told = {"first_token": "150ms", "inter_token": "20ms", "reply_tokens": 21, **FREE}
    found = {}
    for client in ("sdk", "fast"):
        ran = await Ran("openai", constant(8, "2s"), client=client, service={"deployments": {"gpt-4o": told}})()
        found[client] = ran
        assert ran.ended == {"completed": 16}, ran.errors()
        assert ran.count("inter_token_latency") == 16 * 20
        for metric in ("time_to_first_token", "time_to_first_token_uncorrected"):
            assert ran.collector.histogram(metric).minimum >= 149e6, metric
            assert 149 <= ran.ms(metric, 0.5) <= 165, metric
        # the gaps of a reply add up to the time from first to last text, in which a late wake-up counts once
        assert ran.collector.histogram("inter_token_latency").mean == pytest.approx(20e6, rel=0.05)
        assert ran.collector.histogram("output_speed").mean == pytest.approx(50e9, rel=0.05)
        assert 548 <= ran.ms("chat_latency", 0.5) <= 580
    sdk, fast = found["sdk"], found["fast"]
    for metric in ("prompt_tokens", "completion_tokens"):
        assert total(sdk, metric) == total(fast, metric) > 0
    assert sdk.ms("time_to_first_token", 0.5) == pytest.approx(fast.ms("time_to_first_token", 0.5), abs=10)
    for metric in ("inter_token_latency", "output_speed"):
        means = [each.collector.histogram(metric).mean for each in (sdk, fast)]
        assert means[0] == pytest.approx(means[1], rel=0.05), metric


@CLIENTS
async def test_whole_answers(client):
    told = {"first_token": "100ms", "inter_token": "10ms", "reply_tokens": 11, **FREE}
    async with service(deployments={"gpt-4o": told}) as stand_in:
        ran = await Ran("openai", constant(40, "250ms"), **options_for(stand_in, client=client, stream=False))()
        assert ran.ended == {"completed": 10}, ran.errors()
        assert ran.count("time_to_first_token") == 0
        assert 200 <= ran.ms("chat_latency", 0.5) * 1.002 <= 260
        assert total(ran, "completion_tokens") == 110
        assert ran.component.headline_of(ran.settings) == ("chat_latency",)


# --- quotas ---


@CLIENTS
@pytest.mark.parametrize("limit", [{"tokens_per_minute": 6000, "requests_per_minute": 0}, {"requests_per_minute": 120}])
async def test_every_429_is_counted_and_waited_out(client, limit):
    async with service(deployments={"gpt-4o": {**QUICK, **limit}}) as stand_in:
        more = {"prompt_tokens": 96, "max_tokens": 100, "retries": 1, "client": client}
        ran = await Ran("openai", closed(8, "1500ms"), **options_for(stand_in, **more))()
        quota = stand_in.deployments["gpt-4o"].quota.counts()
        answers = requests(ran, "gpt-4o")
        assert set(ran.ended) == {"completed", "rejected"}, ran.errors()
        assert "gpt-4o: 429 429 Requests to the ChatCompletions_Create Operation" in ran.errors()
        assert answers["429"] == stand_in.refused["429 429"] == total(ran, "throttled") > 6
        assert answers["429"] == quota["refused_by_tokens"] + quota["refused_by_requests"]
        assert answers["200"] == ran.ended["completed"] == quota["requests_admitted"] - 1, (
            "one is asked before the load"
        )
        assert ran.count("throttled") == answers["200"] + answers["429"]
        assert answers["429"] == ran.count("throttle_wait") + ran.ended["rejected"]
        assert total(ran, "prompt_tokens") + 100 * answers["200"] == quota["tokens_admitted"] - 2 - 4 - 16
        corrected, uncorrected = (
            ran.collector.histogram(f"time_to_first_token{name}").maximum for name in ("", "_uncorrected")
        )
        assert corrected > uncorrected + 200e6, "the wait counts, but not for the request that was answered"
        usage = ran.component._usage["gpt-4o"]
        assert (usage.admitted, usage.refused) == (answers["200"], answers["429"])
        assert usage.quota_tokens == 200 * answers["200"]
        assert f"{answers['429']:,} answered 429" in ran.facts["gpt-4o: requests"]


@CLIENTS
@pytest.mark.parametrize(
    ("headers", "status", "wait_s"),
    [
        ({"retry-after-ms": "300", "retry-after": "9"}, 429, 0.3),
        ({"retry-after": "0.4"}, 429, 0.4),
        ({}, 503, 0.375),
    ],
)
async def test_the_wait_that_is_told_is_kept(client, headers, status, wait_s):
    async def answer(request, number):
        if number == 1:  # the first is asked before the load
            return web.json_response({"error": {"code": "busy", "message": "later"}}, status=status, headers=headers)
        return whole()

    application = chat_server(answer)
    async with Server(application) as server:
        options = {"endpoint": f"{server.url}/v1", "client": client, "stream": False}
        ran = await Ran("openai", constant(1), **options)()
        assert ran.ended == {"completed": 1}, ran.errors()
        (_, first, second) = (at for at, *_ in application[ASKED])
        assert wait_s <= second - first < wait_s + 0.4
        assert ran.ms("chat_latency", 0.5) >= wait_s * 1000 * 0.998, "from the intended instant"
        assert requests(ran, "gpt-4o") == {str(status): 1, "200": 1}
        assert ran.count("throttle_wait") == (status == 429)
        assert [moment.kind for moment in ran.calls[0].moments] == ["wait"]


@CLIENTS
async def test_a_quota_of_240_000_tokens_lets_through_what_it_should(client):
    """Ten minutes of twice the quota, minute by minute on a clock that the test turns."""
    now_ns, minutes, request_tokens = 0, 10, 16_000
    told = {**QUICK, "first_token": "0ms", "reply_tokens": 1, "requests_per_minute": 0, "tokens_per_minute": 240_000}

    def clock():
        return now_ns

    async with service(clock, deployments={"gpt-4o": told}) as stand_in:
        fields = options_for(stand_in, client=client, prompt_tokens=96, max_tokens=request_tokens - 100, retries=0)
        settings = read_settings(Source({"component": "openai", "options": fields}, ""), OpenaiSettings, {})
        component = OpenaiComponent(settings, ComponentRun("run", Recorder(), clock, clock))
        await component.set_up()
        completed = refused = 0
        while now_ns < minutes * NS_PER_MINUTE:
            operation = Operation(completed + refused, "x", "p", now_ns, clock, Recorder(), ())
            try:
                await component.operate(operation)
                completed += 1
            except OperationFailedError as failed:
                refused += (failed.outcome, "429" in failed.reason) == (Outcome.REJECTED, True)
            now_ns += NS_PER_MINUTE * request_tokens // 480_000
        await component.tear_down()
        quota = stand_in.deployments["gpt-4o"].quota.counts()
        usage = component._usage["gpt-4o"]
        assert usage.quota_tokens == completed * request_tokens == quota["tokens_admitted"] - 22
        assert usage.refused == refused == quota["refused_by_tokens"] > 90
        assert usage.quota_tokens == pytest.approx(240_000 * (minutes + 1), rel=0.01), (
            "and the full bucket at the start"
        )
        assert usage.tokens_per_minute == 240_000, "as the service's headers state it"


# --- answers of all kinds ---


@CLIENTS
async def test_streams_of_other_servers(client):
    """Several tokens in one message, no usage, messages without text, comments; tokens are then counted by pieces."""
    filtered = {"id": "", "choices": [], "prompt_filter_results": []}
    lines = [filtered, piece("", role="assistant"), piece("Hello"), piece(" there"), piece(None, "stop"), "[DONE]"]
    application = chat_server(lambda request, number: streamed(request, *lines))
    async with Server(application) as server:
        options = {"endpoint": f"{server.url}/v1", "client": client, "stream_usage": False, "max_tokens": None}
        more = {"prompt_tokens": 20, "system": "Be brief.", "body": {"temperature": 0.5}}
        ran = await Ran("openai", constant(40, "250ms"), **options, **more)()
        assert ran.ended == {"completed": 10}, ran.errors()
        assert (ran.count("time_to_first_token"), ran.count("inter_token_latency")) == (10, 10)
        assert total(ran, "completion_tokens") == 20
        assert total(ran, "prompt_tokens") == 10 * (20 + 2), "a quarter of the characters"
        assert ran.facts["tokens estimated"].startswith("of 10 requests")
        assert "no quota known" in ran.facts["gpt-4o: tokens that the quota counts"]
        body = application[ASKED][-1][1]
        assert "stream_options" not in body and "max_completion_tokens" not in body
        assert (body["temperature"], body["stream"], body["model"]) == (0.5, True, "gpt-4o")
        assert [message["role"] for message in body["messages"]] == ["system", "user"]


@CLIENTS
@pytest.mark.parametrize(
    ("lines", "outcome", "words"),
    [
        (
            [piece("Hel"), {"error": {"code": "overloaded", "message": "try later"}}],
            "step_failed",
            "overloaded try later",
        ),
        ([piece("Hel")], "dropped_by_target", "the stream ended before the answer did"),
        ([piece("Hel"), "no json"], "protocol_error", "not a chat completion"),
        ([{"hello": 1}], "protocol_error", "not a chat completion"),
    ],
)
async def test_answers_that_go_wrong(client, lines, outcome, words):
    good = [piece("Hi"), piece("", "stop"), "[DONE]"]
    application = chat_server(lambda request, number: streamed(request, *(lines if number else good)))
    async with Server(application) as server:
        ran = await Ran("openai", constant(20, "250ms"), endpoint=f"{server.url}/v1", client=client)()
        assert ran.ended == {outcome: 5}, ran.errors()
        assert words in ran.errors()
        assert ran.count("chat_latency") == 0


@CLIENTS
async def test_connections_that_are_lost_and_calls_of_tools(client):
    faults = {"disconnect_rate": 1}
    async with service(deployments={"gpt-4o": QUICK}, faults=faults) as stand_in:
        with pytest.raises(RunAbortedError, match="cannot be used"):
            await Ran("openai", constant(20, "250ms"), **options_for(stand_in, client=client))()
    tool = {"type": "function", "function": {"name": "book", "parameters": {"type": "object", "properties": {}}}}
    replies = [{"tool": "book", "arguments": {"day": "Tuesday", "time": "ten", "name": "Ann"}}]
    async with service(deployments={"gpt-4o": QUICK}, replies=replies) as stand_in:
        ran = await Ran(
            "openai", constant(20, "250ms"), **options_for(stand_in, client=client, body={"tools": [tool]})
        )()
        assert ran.ended == {"completed": 5}, ran.errors()
        assert ran.count("time_to_first_token") == 5
        assert ran.facts["answers ended by"] == "tool_calls 5"


@CLIENTS
async def test_a_service_that_vanishes_ends_the_run(client):
    told = {"first_token": "100ms", "inter_token": "10ms", "reply_tokens": 20, **FREE}
    stand_in = ChatStandIn(ChatSettings.model_validate({"deployments": {"gpt-4o": told}}))
    server = Server.of(stand_in)
    stand_in.url = await server.start()
    ran = Ran("openai", constant(30, "20s"), **options_for(stand_in, client=client))
    running = asyncio.ensure_future(ran())
    await asyncio.sleep(1)
    await server.stop()
    await running
    assert "is gone since" in ran.result.cut_short
    assert ran.ended["completed"] >= 3
    assert ran.ended["connect_failed"] >= 20
    assert ran.count("time_to_first_token") >= ran.ended["completed"]
    assert ran.result.duration_s < 10
    assert ran.facts["gpt-4o: requests"]


@CLIENTS
async def test_answers_that_take_too_long(client):
    told = {"first_token": "50ms", "inter_token": "300ms", "reply_tokens": 20, **FREE}
    async with service(deployments={"gpt-4o": told}) as stand_in:
        more = {"request_timeout": "500ms", "slo": {"total": "10s"}, "max_tokens": None, "client": client}
        ran = await Ran("openai", constant(10, "500ms"), **options_for(stand_in, **more))()
        assert ran.ended == {"timeout": 5}
        assert "no whole answer in time (request_timeout)" in ran.errors()
        assert (ran.count("slo_met"), total(ran, "slo_met")) == (5, 0)
        assert ran.count("time_to_first_token") == 5, "those had come"


@CLIENTS
async def test_waits_for_a_quota_end_with_the_time_that_a_unit_of_work_has(client):
    async def answer(request, number):
        headers = {"retry-after": "30", "x-request-id": f"request-{number}"}
        return web.json_response({"error": {"code": "429", "message": "later"}}, status=429, headers=headers)

    async with Server(chat_server(answer)) as server:
        options = {"endpoint": f"{server.url}/v1", "client": client, "slo": {"total": "10s"}}
        ran = await Ran("openai", constant(4, "500ms"), timeout="400ms", **options)()
        assert ran.ended == {"timeout": 2}
        assert (ran.count("slo_met"), total(ran, "slo_met")) == (2, 0)
        assert {call.target_id for call in ran.calls} == {"request-1", "request-2"}


# --- the objective ---


@CLIENTS
@pytest.mark.parametrize(
    ("slo", "share"),
    [
        ({"time_to_first_token": "5s", "total": "5s"}, 1),
        ({"time_to_first_token": "80ms", "total": "5s"}, 0),
        ({"total": "150ms"}, 0),
    ],
)
async def test_goodput_counts_what_keeps_every_limit(client, slo, share):
    told = {"first_token": "100ms", "inter_token": "10ms", "reply_tokens": 11, **FREE}
    async with service(deployments={"gpt-4o": told}, faults={"error_rate": 0.2}) as stand_in:
        ran = await Ran("openai", constant(40, "400ms"), **options_for(stand_in, slo=slo, client=client, retries=0))()
        assert set(ran.ended) == {"completed", "rejected"}, ran.errors()
        assert ran.count("slo_met") == 16
        assert total(ran, "slo_met") == share * ran.ended["completed"], "what fails keeps no objective"


async def test_prompts_of_a_file_are_taken_in_turn(tmp_path):
    path = tmp_path / "prompts.jsonl"
    talk = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "?"},
    ]
    path.write_text('"Are you open?"\n\n' + json.dumps({"prompt": "Book", "max_tokens": 7}) + "\n")
    path.write_text(path.read_text() + json.dumps({"messages": talk}))
    application = chat_server(lambda request, number: streamed(request, piece("Hi"), piece("", "stop"), "[DONE]"))
    async with Server(application) as server:
        await Ran("openai", constant(24, "250ms"), endpoint=f"{server.url}/v1", prompts=str(path), max_tokens=30)()
        bodies = [body for _, body, _ in application[ASKED][1:]]
        assert [body["messages"][-1]["content"] for body in bodies] == ["Are you open?", "Book", "?"] * 2
        assert [body["max_completion_tokens"] for body in bodies] == [30, 7, 30] * 2
        assert bodies[2]["messages"] == talk
