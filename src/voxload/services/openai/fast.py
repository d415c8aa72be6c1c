"""Chat completions by requests of our own: aiohttp, and each message of a stream decoded straight into what is used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import msgspec

from voxload.clock import NS_PER_S, Clock
from voxload.model.outcome import Outcome
from voxload.services.base import OperationFailedError
from voxload.services.openai.client import ChatClient, RefusedError, Reply, TokenProvider, broken
from voxload.services.openai.options import OpenaiOptions
from voxload.services.openai.prompts import Ask

DONE = b"[DONE]"


class _Function(msgspec.Struct):
    arguments: str | None = None


class _ToolCall(msgspec.Struct):
    function: _Function | None = None


class _Text(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None

    def says_something(self) -> bool:
        if self.content or self.refusal:
            return True
        return any(call.function is not None and call.function.arguments for call in self.tool_calls or ())


class _Choice(msgspec.Struct):
    delta: _Text | None = None
    finish_reason: str | None = None


class _Details(msgspec.Struct):
    reasoning_tokens: int | None = None


class _PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    completion_tokens_details: _Details | None = None
    prompt_tokens_details: _PromptDetails | None = None


class _Message(msgspec.Struct):
    """A completion, whole or one message of its stream."""

    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None


_MESSAGES = msgspec.json.Decoder(_Message)
_ENCODER = msgspec.json.Encoder()


class FastClient(ChatClient):
    """Makes the requests itself, on as many connections as there are requests."""

    def __init__(self, url: str, key: str, token: TokenProvider | None, options: OpenaiOptions, clock: Clock) -> None:
        super().__init__(url, key, token, options, clock)
        headers = {"Content-Type": "application/json"}
        if key:
            headers |= {"api-key": key} if options.azure else {"Authorization": f"Bearer {key}"}
        self._urls = {each.name: self._address(each.name) for each in options.deployments}
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=60),
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=options.connect_timeout_ns / NS_PER_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=True,
        )

    def _address(self, deployment: str) -> str:
        if not self._options.azure:
            return f"{self._url}/chat/completions"
        query = urlencode({"api-version": self._options.api_version})
        return f"{self._url}/openai/deployments/{quote(deployment, safe='')}/chat/completions?{query}"

    async def chat(self, ask: Ask, reply: Reply) -> None:
        """Make one request."""
        stream = self._options.stream
        fields = {"model": ask.deployment, "messages": ask.messages, "stream": stream, **self._fields(ask)}
        headers = {"Authorization": f"Bearer {await self._token()}"} if self._token is not None else None
        try:
            async with self._http.post(
                self._urls[ask.deployment], data=_ENCODER.encode(fields), headers=headers, allow_redirects=False
            ) as answer:
                if answer.status != 200:
                    reply.name(answer.headers)
                    raise RefusedError(answer.status, _words(await answer.read()), answer.headers)
                reply.open(answer.headers)
                if stream:
                    await self._read_stream(answer, reply)
                else:
                    _take(await answer.read(), reply)
        except aiohttp.ClientConnectorError as error:
            raise OperationFailedError(Outcome.CONNECT_FAILED, str(error)) from None
        except aiohttp.ServerTimeoutError:
            raise OperationFailedError(Outcome.CONNECT_FAILED, "no connection in time (connect_timeout)") from None
        except (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError, OSError) as error:
            raise OperationFailedError(Outcome.DROPPED_BY_TARGET, str(error) or type(error).__name__) from None
        except aiohttp.ClientError as error:
            raise OperationFailedError(Outcome.PROTOCOL_ERROR, str(error) or type(error).__name__) from None
        except msgspec.DecodeError as error:
            raise broken(str(error)) from None

    async def _read_stream(self, answer: aiohttp.ClientResponse, reply: Reply) -> None:
        events = ServerSentEvents()
        done = False
        async for data in answer.content.iter_any():  # to its end, so that the connection can be used again
            now_ns = self._clock()
            for event in events.feed(data):
                if event == DONE:
                    done = True
                elif not done and _take(event, reply):
                    reply.pieces_ns.append(now_ns)

    async def close(self) -> None:
        """Close the session."""
        await self._http.close()


class ServerSentEvents:
    """Takes the data lines out of a stream of server-sent events, which chat completions write one an event."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the data of the lines that are complete now."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield line[5:].strip()


def _take(data: bytes, reply: Reply) -> bool:
    """Note what a message says; returns whether it carries text."""
    message = _MESSAGES.decode(data)
    if message.error:
        raise OperationFailedError(Outcome.STEP_FAILED, _words(data))
    if message.choices is None:
        raise broken(data[:100].decode(errors="replace"))
    text = False
    for choice in message.choices:
        reply.finish = choice.finish_reason or reply.finish
        text = text or (choice.delta is not None and choice.delta.says_something())
    if message.usage is not None:
        usage = message.usage
        reply.prompt_tokens, reply.completion_tokens = usage.prompt_tokens or 0, usage.completion_tokens or 0
        if usage.completion_tokens_details is not None:
            reply.reasoning_tokens = usage.completion_tokens_details.reasoning_tokens or 0
        if usage.prompt_tokens_details is not None:
            reply.cached_tokens = usage.prompt_tokens_details.cached_tokens or 0
    return text


def _words(body: bytes) -> str:
    """Return code and message of an error, or the body as it is."""
    try:
        error = msgspec.json.decode(body)["error"]
        return f"{error.get('code') or error.get('type') or ''} {error.get('message') or ''}".strip()
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        return body[:400].decode(errors="replace")
