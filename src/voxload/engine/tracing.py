"""Trace context of calls (W3C Trace Context and Baggage), by which a slow turn is found in the target's traces."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import TypeVar
from urllib.parse import quote

from voxload.dialects.base import Dial, HttpRequest
from voxload.load.workload import Workload

TRACEPARENT, BAGGAGE = "traceparent", "baggage"
CALL_ID_KEY = "voxload.call_id"
"""The member of the baggage that holds the call's id."""

AnyRequest = TypeVar("AnyRequest", HttpRequest, Dial)


class Tracing:
    """Gives each call of a run a trace of its own.

    The ids come from the run's id, its seed and the call's index: the same in whichever process a call is placed, and
    never those of another run, whose calls would else end up in the same traces. All are marked as sampled.
    """

    def __init__(self, run_id: str, seed: int, headers: Mapping[str, str]) -> None:
        self._stem = f"{run_id}\0{seed}\0".encode()
        self._name, self._before = next(
            ((name, f"{value},") for name, value in headers.items() if name.lower() == BAGGAGE), (BAGGAGE, "")
        )

    @classmethod
    def of(cls, workload: Workload) -> Tracing | None:
        """Return the tracing of a run's calls, or None where the scenario turns it off."""
        if workload.scenario.tracing == "off":
            return None
        return cls(workload.run_id, workload.scenario.seed, workload.headers())

    def call(self, index: int, call_id: str) -> CallTrace:
        """Return the trace of a call."""
        baggage = f"{self._before}{CALL_ID_KEY}={quote(call_id, safe='')}"
        return CallTrace(_hex(self._stem + b"%d" % index, 16), self._name, baggage)


class CallTrace:
    """The trace of one call. The call is its only span: what the target does for any request is a child of that."""

    __slots__ = ("_headers", "trace_id")

    def __init__(self, trace_id: str, baggage_name: str, baggage: str) -> None:
        self.trace_id = trace_id
        """32 hexadecimal digits."""
        self._headers = {TRACEPARENT: f"00-{trace_id}-{span_id(trace_id)}-01", baggage_name: baggage}

    def headers(self) -> dict[str, str]:
        """Return the headers by which a request belongs to the call."""
        return self._headers

    def on(self, request: AnyRequest) -> AnyRequest:
        """Return the request or the dial as one of the call."""
        return request._replace(headers={**request.headers, **self._headers})


def trace_id_of(key: str) -> str:
    """Return a trace id, always the same, for what was placed without one."""
    return _hex(key.encode(), 16)


def span_id(trace_id: str, number: int = 0) -> str:
    """Return a span's id (16 hexadecimal digits) in a call's trace: the call itself is 0, its turns count from 1."""
    return _hex(f"{trace_id}{number}".encode(), 8)


def _hex(text: bytes, size: int) -> str:
    return blake2b(text, digest_size=size).hexdigest()
