"""The steps of setting a call up: HTTP requests, signals to an exchange, and the dial of the media socket."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from voxload.model.outcome import Outcome

PROXY_WANTS_PASSWORD = 407


class HttpRequest(NamedTuple):
    """An HTTP request; the engine sends it and hands the answer to `CallerSession.on_response`."""

    method: str
    url: str
    headers: Mapping[str, str] = {}
    body: bytes = b""


class HttpResponse(NamedTuple):
    """An HTTP answer; header names are lower case."""

    status: int
    headers: Mapping[str, str] = {}
    body: bytes = b""
    follow_ups: Sequence[HttpRequest] = ()
    """Requests that the agent makes once this answer is out, such as taking the call that it was told of."""


class Dial(NamedTuple):
    """Open the media WebSocket to `url`; when it is open the call is ready, or waits for `Ready` if told so."""

    url: str
    subprotocols: Sequence[str] = ()
    headers: Mapping[str, str] = {}
    await_ready: bool = False


class SetupFailed(NamedTuple):
    """The target's answer ends the attempt."""

    outcome: Outcome
    reason: str


def refused(what: str, status: int) -> SetupFailed:
    """Return the end of an attempt whose request `what` got an error for an answer; 407 is a proxy's."""
    if status == PROXY_WANTS_PASSWORD:
        return SetupFailed(
            Outcome.CONNECT_FAILED, f"{what}: the proxy of the environment wants another user or password"
        )
    return SetupFailed(Outcome.REJECTED, f"{what} answered {status}")


class Signal(NamedTuple):
    """A message on the trunk, the one connection between all callers of a process and the exchange that rings agents.

    As a step of the set-up it means: send it, and wait for `CallerSession.on_signal`.
    """

    payload: bytes


class ExchangeJob(NamedTuple):
    """The exchange that a run must start for its callers: where it listens, and its settings."""

    host: str
    port: int
    settings: Mapping[str, Any]


SetupStep = HttpRequest | Dial | SetupFailed | Signal
