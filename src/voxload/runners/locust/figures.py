"""Our live figures as Locust's requests, for its page and its listeners; gates never read them (Locust rounds)."""

from __future__ import annotations

from typing import Any

from voxload.clock import unix_ns
from voxload.measure.snapshot import Snapshot
from voxload.runners.requests import requests_of


class CallFailedError(Exception):
    """What Locust shows as the failure of a call: its outcome and the error's text."""


def show(snapshot: Snapshot, environment: Any) -> None:
    """Fire `events.request` for what a snapshot holds: latencies by metric, calls by kind, failures by outcome.

    Must be called in a greenlet of Locust's thread.
    """
    for request in requests_of(snapshot):
        for _ in range(request.times):
            environment.events.request.fire(
                request_type=request.type,
                name=request.name,
                response_time=request.latency_ms,
                response_length=0,
                response=None,
                context={},
                exception=CallFailedError(request.error) if request.error else None,
                start_time=unix_ns() / 1e9 - request.latency_ms / 1e3,
                url=None,
            )
