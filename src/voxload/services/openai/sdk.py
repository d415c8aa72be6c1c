"""Chat completions by OpenAI's own library."""

from __future__ import annotations

from typing import Any

import openai

from voxload.clock import NS_PER_S, Clock
from voxload.model.outcome import Outcome
from voxload.services.base import OperationFailedError
from voxload.services.openai.client import ChatClient, RefusedError, Reply, TokenProvider, broken
from voxload.services.openai.options import OpenaiOptions
from voxload.services.openai.prompts import Ask


class SdkClient(ChatClient):
    """Uses the library, on as many connections as there are requests; its own retries, which count none, are off."""

    def __init__(self, url: str, key: str, token: TokenProvider | None, options: OpenaiOptions, clock: Clock) -> None:
        super().__init__(url, key, token, options, clock)
        limits = type(openai.DEFAULT_CONNECTION_LIMITS)(max_connections=None, max_keepalive_connections=None)
        http: Any = openai.DefaultAsyncHttpxClient(limits=limits)
        timeout = openai.Timeout(None, connect=options.connect_timeout_ns / NS_PER_S)
        common: dict[str, Any] = {"http_client": http, "timeout": timeout, "max_retries": 0}
        self._extra: dict[str, Any] = {}
        if options.azure:
            login: dict[str, Any] = {"azure_ad_token_provider": token} if token is not None else {"api_key": key}
            common |= {"azure_endpoint": url, "api_version": options.api_version, **login}
            self._openai: openai.AsyncOpenAI = openai.AsyncAzureOpenAI(**common)
            return
        if token is None and not key:  # the library insists on a key, unless each request says that it has none
            self._extra["extra_headers"] = {"Authorization": openai.omit}
        self._openai = openai.AsyncOpenAI(base_url=url, api_key=token or key or "none", **common)

    async def chat(self, ask: Ask, reply: Reply) -> None:
        """Make one request."""
        request = {"model": ask.deployment, "messages": ask.messages, "extra_body": self._fields(ask), **self._extra}
        try:
            await (self._streamed if self._options.stream else self._whole)(request, reply)
        except openai.APIStatusError as error:
            reply.name(error.response.headers)
            body = error.body if isinstance(error.body, dict) else {}
            code, words = body.get("code") or body.get("type") or "", body.get("message") or error.message
            raise RefusedError(error.status_code, f"{code} {words}".strip(), error.response.headers) from None
        except openai.APIResponseValidationError as error:
            raise broken(str(error)) from None
        except (openai.APITimeoutError, openai.APIConnectionError) as error:
            raise _lost(error.__cause__ or error) from None
        except openai.APIError as error:  # told within a stream
            raise OperationFailedError(Outcome.STEP_FAILED, f"{error.code or ''} {error.message}".strip()) from None
        except (ValueError, AttributeError, TypeError) as error:
            raise broken(f"{type(error).__name__}: {error}") from None
        except Exception as error:
            if type(error).__module__.startswith(("httpx", "httpcore")):  # older versions let these through
                raise _lost(error) from None
            raise

    async def _streamed(self, request: dict[str, Any], reply: Reply) -> None:
        clock, pieces_ns = self._clock, reply.pieces_ns
        async with await self._openai.chat.completions.create(**request, stream=True) as stream:
            reply.open(stream.response.headers)
            async for chunk in stream:
                now_ns = clock()
                for choice in chunk.choices:
                    reply.finish = choice.finish_reason or reply.finish
                    if choice.delta is not None and _says_something(choice.delta):
                        pieces_ns.append(now_ns)
                if chunk.usage is not None:
                    _note_usage(chunk.usage, reply)

    async def _whole(self, request: dict[str, Any], reply: Reply) -> None:
        answer = await self._openai.chat.completions.with_raw_response.create(**request)
        reply.open(answer.headers)
        completion = answer.parse()
        for choice in completion.choices:
            reply.finish = choice.finish_reason or reply.finish
        if completion.usage is not None:
            _note_usage(completion.usage, reply)

    async def close(self) -> None:
        """Close the client."""
        await self._openai.close()


def _says_something(delta: Any) -> bool:
    if delta.content or delta.refusal:
        return True
    return any(call.function is not None and call.function.arguments for call in delta.tool_calls or ())


def _note_usage(usage: Any, reply: Reply) -> None:
    reply.prompt_tokens, reply.completion_tokens = usage.prompt_tokens or 0, usage.completion_tokens or 0
    said, asked = usage.completion_tokens_details, usage.prompt_tokens_details
    reply.reasoning_tokens = (said.reasoning_tokens or 0) if said is not None else 0
    reply.cached_tokens = (asked.cached_tokens or 0) if asked is not None else 0


def _lost(error: BaseException) -> OperationFailedError:
    """Return what a failure of the transport means, by the name of its class: the library has had two transports."""
    name, text = type(error).__name__, str(error) or type(error).__name__
    if name == "ConnectTimeout":
        return OperationFailedError(Outcome.CONNECT_FAILED, "no connection in time (connect_timeout)")
    outcome = Outcome.CONNECT_FAILED if name == "ConnectError" else Outcome.DROPPED_BY_TARGET
    return OperationFailedError(outcome, text)
