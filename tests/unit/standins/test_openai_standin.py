"""The stand-in for chat completions, used by OpenAI's own library."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from contextlib import asynccontextmanager

import aiohttp
import openai
import pytest
from openai import AsyncAzureOpenAI, AsyncOpenAI, AzureOpenAI, OpenAI
from pydantic import ValidationError

from voxload.quotas import NS_PER_MINUTE
from voxload.standins.openai.quota import Quota
from voxload.standins.openai.server import API_VERSION, ChatStandIn
from voxload.standins.openai.settings import DEVELOPMENT_KEY, ChatSettings, DeploymentSettings
from voxload.standins.serving import Server

HELLO = [{"role": "system", "content": "You answer calls."}, {"role": "user", "content": "Are you open?"}]
QUICK = {"first_token": "1ms", "inter_token": "0ms"}


@asynccontextmanager
async def service(**settings):
    stand_in = ChatStandIn(ChatSettings.model_validate(settings))
    async with Server.of(stand_in) as server:
        stand_in.url = server.url
        yield stand_in


def azure(stand_in, kind=AsyncAzureOpenAI, key=DEVELOPMENT_KEY, **more):
    options = {"max_retries": 0, "timeout": 10, **more}
    return kind(azure_endpoint=stand_in.url, api_key=key, api_version=API_VERSION, **options)


def plain(stand_in, kind=AsyncOpenAI, key=DEVELOPMENT_KEY, root="/v1", **more):
    return kind(base_url=stand_in.url + root, api_key=key, **{"max_retries": 0, "timeout": 10, **more})


async def read(stream):
    """The arrival of each token in s, the text, how it finished, the usage."""
    arrivals, text, finish, usage = [], "", None, None
    async for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            finish = choice.finish_reason or finish
            if choice.delta.content:
                arrivals.append(time.perf_counter())
                text += choice.delta.content
    return arrivals, text, finish, usage


# --- answers ---


@pytest.mark.parametrize("client", [azure, plain, lambda service: plain(service, root="/openai/v1")])
async def test_whole_and_streamed_answers(client):
    deployments = {"chat": {"model": "gpt-4o-mini", "reply_tokens": 12, **QUICK}}
    async with service(deployments=deployments) as stand_in, client(stand_in) as llm:
        whole = await llm.chat.completions.create(model="chat", messages=HELLO)
        assert whole.model == "gpt-4o-mini"
        assert whole.choices[0].finish_reason == "stop"
        assert len(whole.choices[0].message.content.split()) == whole.usage.completion_tokens == 12
        assert whole.usage.prompt_tokens == 8 + 2 * 4, "17 + 13 characters, two messages"
        assert whole.usage.total_tokens == 12 + 16
        options = {"stream": True, "stream_options": {"include_usage": True}}
        stream = await llm.chat.completions.create(model="chat", messages=HELLO, **options)
        arrivals, text, finish, usage = await read(stream)
        assert (len(arrivals), len(text.split()), finish, usage.completion_tokens) == (12, 12, "stop", 12)
        raw = await llm.chat.completions.with_raw_response.create(model="chat", messages=HELLO)
        assert raw.headers["x-ratelimit-limit-tokens"] == "240000"
        assert 240_000 - 3 * 28 <= int(raw.headers["x-ratelimit-remaining-tokens"]) <= 240_000 - 28
        assert raw.headers["x-ratelimit-limit-requests"] == "1440"
        assert stand_in.deployments["chat"].counts["answers"] == 3


async def test_clients_that_block():
    async with service(deployments={"chat": QUICK}) as stand_in:

        def talk(llm):
            chunks = llm.chat.completions.create(model="chat", messages=HELLO, stream=True)
            streamed = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
            return streamed, llm.chat.completions.create(model="chat", messages=HELLO).choices[0].message.content

        for llm in (azure(stand_in, AzureOpenAI), plain(stand_in, OpenAI)):
            assert all(await asyncio.to_thread(talk, llm))


async def test_latencies_are_those_that_are_stated():
    deployments = {"chat": {"first_token": "150ms", "inter_token": "10ms", "reply_tokens": 31}}
    async with service(deployments=deployments) as stand_in, azure(stand_in) as llm:
        await llm.chat.completions.create(model="chat", messages=HELLO, max_tokens=1)  # the connection is there now
        since = time.perf_counter()
        arrivals, *_ = await read(await llm.chat.completions.create(model="chat", messages=HELLO, stream=True))
        assert 0.149 <= arrivals[0] - since < 0.25
        assert 0.29 <= arrivals[-1] - arrivals[0] < 0.4
        since = time.perf_counter()
        await llm.chat.completions.create(model="chat", messages=HELLO)
        assert 0.449 <= time.perf_counter() - since < 0.6


def test_drawn_latencies_have_the_stated_distribution():
    spread = {"lognormal": {"median": "300ms", "p95": "900ms"}}
    settings = DeploymentSettings.model_validate(
        {"first_token": spread, "inter_token": {"gamma": {"mean": "20ms", "shape": 4}}}
    )
    stand_in = ChatStandIn(ChatSettings(deployments={"chat": settings}))
    deployment = stand_in.deployments["chat"]
    schedules = [deployment.schedule(number, 50, 10**9) for number in range(2000)]
    first = sorted(due[0] - 10**9 for due in schedules)
    assert first[1000] == pytest.approx(300e6, rel=0.05)
    assert first[1900] == pytest.approx(900e6, rel=0.1)
    gaps = [later - earlier for due in schedules for earlier, later in itertools.pairwise(due)]
    assert sum(gaps) / len(gaps) == pytest.approx(20e6, rel=0.01)
    assert schedules[7] == deployment.schedule(7, 50, 10**9), "the same request always takes as long"
    assert schedules[7] != schedules[8]


async def test_scripted_replies_tools_and_json():
    tool = {"type": "function", "function": {"name": "book", "parameters": {"type": "object", "properties": {}}}}
    replies = [
        {"match": "(?i)appointment", "tool": "book", "arguments": {"day": "Tuesday"}},
        {"match": "open", "text": "From eight until six."},
    ]
    async with service(replies=replies, deployments={"chat": QUICK}) as stand_in, azure(stand_in) as llm:
        said = await llm.chat.completions.create(model="chat", messages=HELLO)
        assert said.choices[0].message.content == "From eight until six."
        asked = [{"role": "user", "content": "An appointment, please"}]
        done = await llm.chat.completions.create(model="chat", messages=asked, tools=[tool])
        (call,) = done.choices[0].message.tool_calls
        assert (done.choices[0].finish_reason, call.function.name) == ("tool_calls", "book")
        assert json.loads(call.function.arguments) == {"day": "Tuesday"}
        async with llm.chat.completions.stream(model="chat", messages=asked, tools=[tool]) as stream:
            final = await stream.get_final_completion()
        (call,) = final.choices[0].message.tool_calls
        assert json.loads(call.function.arguments) == {"day": "Tuesday"}
        none = await llm.chat.completions.create(model="chat", messages=asked)
        assert none.choices[0].message.content, "without the tool there is a sentence"
        form = {"type": "json_object"}
        object_ = await llm.chat.completions.create(model="chat", messages=asked, response_format=form)
        assert json.loads(object_.choices[0].message.content)["reply"]


async def test_a_reply_is_cut_at_max_tokens():
    async with service(deployments={"chat": {"reply_tokens": "20..30", **QUICK}}) as stand_in, azure(stand_in) as llm:
        said = await llm.chat.completions.create(model="chat", messages=HELLO, max_completion_tokens=7)
        assert (said.usage.completion_tokens, said.choices[0].finish_reason) == (7, "length")


# --- quotas ---


@pytest.mark.parametrize("quota", ["bucket", "window"])
@pytest.mark.parametrize("request_tokens", [97, 1000, 7_777])
def test_a_quota_lets_through_what_it_should(quota, request_tokens):
    settings = DeploymentSettings(tokens_per_minute=240_000, requests_per_minute=0, quota=quota)
    door, now_ns, minutes, admitted = Quota(settings, 0), 0, 10, 0
    step_ns = NS_PER_MINUTE * request_tokens // 480_000  # twice as much as there is
    while now_ns < minutes * NS_PER_MINUTE:
        what, wait_ns = door.admit(request_tokens, now_ns)
        admitted += 0 if what else request_tokens
        assert (what == "") == (wait_ns == 0)
        now_ns += step_ns
    assert door.counts()["tokens_admitted"] == admitted
    if quota == "bucket":
        assert admitted == pytest.approx(240_000 * (minutes + 1), rel=0.01), "what flows in, and the full bucket"
    else:
        assert admitted == minutes * (240_000 // request_tokens * request_tokens), "whole requests, each minute"


def test_the_wait_that_a_quota_states_is_exact():
    settings = DeploymentSettings(tokens_per_minute=60_000, requests_per_minute=600)
    door = Quota(settings, 0)
    assert door.admit(60_000, 0) == ("", 0)
    assert door.admit(500, 0) == ("token", NS_PER_MINUTE // 120)
    assert door.admit(500, NS_PER_MINUTE // 120 - 1) == ("token", 1)
    assert door.admit(500, NS_PER_MINUTE // 120) == ("", 0)
    assert door.admit(60_001, 10 * NS_PER_MINUTE) == ("token", NS_PER_MINUTE), "never: told to wait a minute each time"
    for _ in range(100):
        assert door.admit(1, 20 * NS_PER_MINUTE) == ("", 0)
    assert door.admit(1, 20 * NS_PER_MINUTE) == ("request", 100_000_000), "600 a minute, 100 in ten seconds"
    assert door.headers(20 * NS_PER_MINUTE) == {
        "x-ratelimit-limit-requests": "600",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "10s",
        "x-ratelimit-limit-tokens": "60000",
        "x-ratelimit-remaining-tokens": "59900",
        "x-ratelimit-reset-tokens": "100ms",
    }


async def test_the_library_waits_as_it_is_told():
    deployments = {"chat": {"tokens_per_minute": 6000, "requests_per_minute": 0, **QUICK}}
    async with service(deployments=deployments) as stand_in:
        async with azure(stand_in) as llm:
            full = await llm.chat.completions.create(model="chat", messages=HELLO, max_tokens=6000 - 16)
            assert full.choices
            with pytest.raises(openai.RateLimitError) as caught:
                await llm.chat.completions.create(model="chat", messages=HELLO, max_tokens=34)
            answer = caught.value.response
            assert 400 <= int(answer.headers["retry-after-ms"]) <= 500, "50 tokens at 100 a second"
            assert answer.headers["retry-after"] == "1"
            assert caught.value.body["code"] == "429"
            assert "exceeded token rate limit" in caught.value.body["message"]
            assert "Please retry after 1 seconds" in caught.value.body["message"]
        async with azure(stand_in, max_retries=2) as llm:
            since = time.perf_counter()
            done = await llm.chat.completions.create(model="chat", messages=HELLO, max_tokens=34)
            assert done.choices
            assert 0.2 <= time.perf_counter() - since < 2
        assert stand_in.refused == {"429 429": 2}
        assert stand_in.deployments["chat"].quota.counts()["refused_by_tokens"] == 2


async def test_deployments_have_quotas_of_their_own():
    small = {"tokens_per_minute": 1000, "requests_per_minute": 60, **QUICK}
    async with service(deployments={"a": small, "b": small}) as stand_in, plain(stand_in) as llm:
        for _ in range(10):
            await llm.chat.completions.create(model="a", messages=HELLO, max_tokens=1)
        with pytest.raises(openai.RateLimitError) as caught:
            await llm.chat.completions.create(model="a", messages=HELLO, max_tokens=1)
        assert caught.value.body["code"] == "429" or caught.value.code == "rate_limit_exceeded"
        assert caught.value.body["type"] == "requests"
        assert (await llm.chat.completions.create(model="b", messages=HELLO)).choices
        assert [model.id for model in (await llm.models.list()).data] == ["a", "b"]


# --- refusals and faults ---


async def test_keys_and_tokens():
    async with service(deployments={"chat": QUICK}) as stand_in:
        for client in (azure, plain):
            with pytest.raises(openai.AuthenticationError, match="invalid subscription key"):
                await client(stand_in, key="wrong").chat.completions.create(model="chat", messages=HELLO)

        async def token():
            return "aaaa.bbbb.cccc"

        llm = azure(stand_in, key=None, azure_ad_token_provider=token)
        assert (await llm.chat.completions.create(model="chat", messages=HELLO)).choices
        with pytest.raises(openai.NotFoundError, match="deployment for this resource does not exist"):
            await azure(stand_in).chat.completions.create(model="other", messages=HELLO)
        with pytest.raises(openai.NotFoundError, match="model `other` does not exist"):
            await plain(stand_in).chat.completions.create(model="other", messages=HELLO)
    async with service(keys=[], entra_tokens=False) as stand_in:
        assert (await plain(stand_in, key="any").chat.completions.create(model="any", messages=HELLO)).choices


async def test_faults_strike_as_often_as_told():
    faults = {"error_rate": 0.2, "filter_rate": 0.2}
    async with service(faults=faults, deployments={"chat": QUICK}, seed=2) as stand_in, azure(stand_in) as llm:
        failed, filtered = 0, []
        for _ in range(100):
            try:
                await llm.chat.completions.create(model="chat", messages=HELLO, max_tokens=2)
            except openai.InternalServerError:
                failed += 1
            except openai.BadRequestError as error:
                filtered.append(error)
        counts = stand_in.deployments["chat"].counts
        assert counts["errors"] == failed == pytest.approx(20, abs=10)
        assert counts["filtered_prompts"] == len(filtered) == pytest.approx(16, abs=10)
        assert {error.code for error in filtered} == {"content_filter"}
        assert filtered[0].body["innererror"]["content_filter_result"]["violence"]["filtered"] is True


async def test_streams_that_break_off_stand_still_or_are_filtered():
    deployments = {"chat": {"reply_tokens": 10, **QUICK}}
    for faults, expected in (
        ({"disconnect_rate": 1}, "disconnects"),
        ({"filtered_reply_rate": 1}, "filtered_replies"),
        ({"stall": {"rate": 1, "for": "300ms"}}, "stalls"),
    ):
        async with service(faults=faults, deployments=deployments) as stand_in, azure(stand_in) as llm:
            stream = await llm.chat.completions.create(model="chat", messages=HELLO, stream=True)
            if expected == "disconnects":
                with pytest.raises(openai.APIConnectionError):
                    await read(stream)
                with pytest.raises(openai.APIConnectionError):
                    await llm.chat.completions.create(model="chat", messages=HELLO)
            else:
                arrivals, _, finish, _ = await read(stream)
                if expected == "stalls":
                    assert max(b - a for a, b in itertools.pairwise(arrivals)) > 0.28
                else:
                    assert (len(arrivals), finish) == (5, "content_filter")
            assert stand_in.deployments["chat"].counts[expected] >= 1


async def test_requests_that_make_no_sense():
    async with service() as stand_in, aiohttp.ClientSession(headers={"api-key": DEVELOPMENT_KEY}) as http:
        path = f"{stand_in.url}/openai/deployments/chat/chat/completions"
        for url, body, status in (
            (path + "?api-version=1", "no json", 400),
            (path + "?api-version=1", "[]", 400),
            (path + "?api-version=1", {"messages": []}, 400),
            (path + "?api-version=1", {"messages": HELLO, "n": 2}, 400),
            (path + "?api-version=1", {"messages": HELLO, "max_tokens": 0}, 400),
            (path, {"messages": HELLO}, 404),
            (f"{stand_in.url}/v1/chat/completions", {"messages": HELLO}, 404),
        ):
            data = body if isinstance(body, str) else json.dumps(body)
            async with http.post(url, data=data) as answer:
                assert answer.status == status, (url, body)
                assert (await answer.json())["error"]["message"]


@pytest.mark.parametrize(
    "settings",
    [
        {"deployments": {"a": {"reply_tokens": "9..3"}}},
        {"deployments": {"a": {"first_token": "soon"}}},
        {"replies": [{"match": "(", "text": "x"}]},
        {"replies": [{"match": "x"}]},
        {"faults": {"error_rate": 2}},
        {"faults": {"error_status": 418}},
    ],
)
def test_settings_that_cannot_work(settings):
    with pytest.raises(ValidationError):
        ChatSettings.model_validate(settings)
