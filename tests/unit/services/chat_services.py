"""Services of chat completions for tests: the stand-in in this process, and servers that answer as a test wants."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from voxload.standins.openai.server import ChatStandIn
from voxload.standins.openai.settings import DEVELOPMENT_KEY, ChatSettings
from voxload.standins.serving import Server

CLIENTS = pytest.mark.parametrize("client", ["sdk", "fast"])
QUICK = {"first_token": "1ms", "inter_token": "0ms", "reply_tokens": 10}
ASKED = web.AppKey("asked", list)
FREE = {"tokens_per_minute": 0, "requests_per_minute": 0}


@asynccontextmanager
async def service(clock=None, **settings):
    stand_in = ChatStandIn(ChatSettings.model_validate(settings), *([clock] if clock else []))
    async with Server.of(stand_in) as server:
        stand_in.url = server.url
        yield stand_in


def options_for(stand_in, **more):
    return {"endpoint": stand_in.url, "api_key": DEVELOPMENT_KEY, **more}


def total(ran, metric, **labels):
    """The sum of a metric's values."""
    found = [each for each in ran.collector.series() if each.metric == metric and labels.items() <= each.labels.items()]
    return sum(each.histogram.total for each in found) / 1e9


def requests(ran, deployment):
    return ran.collector.totals().http_requests.get(f"chat {deployment}", {})


def chat_server(answer):
    """A server of OpenAI's API that `answer(number, body)` speaks for; it keeps what it was asked and when."""
    application = web.Application()
    asked = application[ASKED] = []

    async def handle(request):
        asked.append((asyncio.get_running_loop().time(), await request.json(), request.headers))
        return await answer(request, len(asked) - 1)

    application.router.add_post("/v1/chat/completions", handle)
    return application


def whole(text="Hello there", **more):
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return web.json_response(
        {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], **more}
    )


async def streamed(request, *lines):
    answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await answer.prepare(request)
    for line in lines:
        text = line if isinstance(line, str) else json.dumps(line)
        await answer.write(f"data: {text}\r\n\r\n".encode())
    await answer.write_eof()
    return answer


def piece(text, finish=None, **delta):
    return {"id": "1", "choices": [{"index": 0, "delta": {"content": text, **delta}, "finish_reason": finish}]}
