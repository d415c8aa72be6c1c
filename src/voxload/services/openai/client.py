"""A client of chat completions: what it is given, what it brings back, and what its failures mean."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from email.utils import mktime_tz, parsedate_tz
from typing import Any

from voxload.clock import NS_PER_MS, NS_PER_S, Clock, unix_ns
from voxload.measure.extra import require
from voxload.model.outcome import Outcome
from voxload.services.base import OperationFailedError
from voxload.services.openai.options import OpenaiOptions
from voxload.services.openai.prompts import Ask

TokenProvider = Callable[[], Awaitable[str]]
RETRIED = frozenset({408, 409, 429})
"""Statuses that are worth another try, beside those from 500 on."""


class RefusedError(Exception):
    """The service has answered with an error; `wait_ns` is for how long it asks to wait, 0 if it does not."""

    def __init__(self, status: int, text: str, headers: Mapping[str, str]) -> None:
        super().__init__(text)
        self.status, self.text = status, " ".join(text.split())[:200]
        self.wait_ns = told_wait_ns(headers)

    @property
    def worth_retrying(self) -> bool:
        """Whether another try may help."""
        return self.status in RETRIED or self.status >= 500


@dataclass(slots=True)
class Reply:
    """What came back of a request, filled while it comes; instants on the client's clock."""

    pieces_ns: list[int] = field(default_factory=list)
    """When each piece of text came; of a stream alone."""
    admitted: bool = False
    """Whether the service has let the request through."""
    finish: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    """Of the completion's, those before the text."""
    cached_tokens: int = 0
    """Of the prompt's, those that the service knew."""
    request_id: str = ""
    """The service's own name of the request, also of one that it refused."""
    tokens_limit: int = 0
    requests_limit: int = 0
    """The quota a minute, where the service's headers state it."""

    def name(self, headers: Mapping[str, str]) -> None:
        """Note how the service calls the request."""
        self.request_id = (headers.get("apim-request-id") or headers.get("x-request-id") or "")[:80]

    def open(self, headers: Mapping[str, str]) -> None:
        """Note that the request was let through."""
        self.admitted = True
        self.name(headers)
        self.tokens_limit = _number(headers.get("x-ratelimit-limit-tokens"))
        self.requests_limit = _number(headers.get("x-ratelimit-limit-requests"))


class ChatClient(ABC):
    """Asks for chat completions; every request is made once."""

    def __init__(self, url: str, key: str, token: TokenProvider | None, options: OpenaiOptions, clock: Clock) -> None:
        """`url` is an Azure resource or a base URL, as `options.azure` says; without key and token none is sent."""
        self._url, self._key, self._token, self._options, self._clock = url, key, token, options, clock

    def _fields(self, ask: Ask) -> dict[str, Any]:
        """Return what a request says beside its model, its messages and whether it streams."""
        fields = dict(self._options.body)
        if ask.max_tokens:
            fields[self._options.max_tokens_field] = ask.max_tokens
        if self._options.stream and self._options.stream_usage:
            fields["stream_options"] = {"include_usage": True}
        return fields

    @abstractmethod
    async def chat(self, ask: Ask, reply: Reply) -> None:
        """Make one request and read its whole answer into `reply`, also as far as one came that failed.

        Raises:
            RefusedError: the service says no.
            OperationFailedError: no connection, a lost one, or what came is no chat completion.
        """

    @abstractmethod
    async def close(self) -> None:
        """Close the connections."""


def told_wait_ns(headers: Mapping[str, str]) -> int:
    """Return for how long an answer asks to wait, by `retry-after-ms` or else `retry-after`; 0 if it does not."""
    for name, unit_ns in (("retry-after-ms", NS_PER_MS), ("retry-after", NS_PER_S)):
        try:
            value = float(headers.get(name) or "")
        except ValueError:
            continue
        if 0 <= value < 1e9:
            return round(value * unit_ns)
    date = parsedate_tz(headers.get("retry-after") or "")
    return max(mktime_tz(date) * NS_PER_S - unix_ns(), 0) if date else 0


def broken(what: str) -> OperationFailedError:
    """Return the failure of an answer that is no chat completion."""
    return OperationFailedError(Outcome.PROTOCOL_ERROR, f"not a chat completion: {what}"[:300])


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() and len(text) < 19 else 0


class EntraTokens:
    """Tokens of Entra ID by DefaultAzureCredential, kept until they are about to end."""

    def __init__(self, scope: str) -> None:
        identity: Any = require("azure.identity.aio", "openai")
        self._credential = identity.DefaultAzureCredential()
        self.provider: TokenProvider = identity.get_bearer_token_provider(self._credential, scope)

    async def close(self) -> None:
        """Close the credential."""
        await self._credential.close()


def build_client(url: str, key: str, token: TokenProvider | None, options: OpenaiOptions, clock: Clock) -> ChatClient:
    """Return the client that the options ask for.

    Raises:
        BadInputError: it is not installed.
    """
    if options.client == "fast":
        from voxload.services.openai.fast import FastClient  # noqa: PLC0415  # each is imported when it is used

        return FastClient(url, key, token, options, clock)
    require("openai", "openai")
    from voxload.services.openai.sdk import SdkClient  # noqa: PLC0415  # the extra

    return SdkClient(url, key, token, options, clock)
