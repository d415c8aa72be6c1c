"""Side traffic: the plain HTTP requests that a caller's client makes while its call is up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from voxload.dialects.base import HttpRequest
from voxload.engine.context import CallContext
from voxload.engine.samples import CallSamples
from voxload.load.workload import expand
from voxload.model.scenario import SideRequest, SideTraffic

if TYPE_CHECKING:
    from voxload.engine.call import Call


class SideTasks:
    """Draws a task at each interval, as Locust does: no request by `voice_weight`, else one of the requests."""

    __slots__ = ("_call", "_choices", "_context", "_samples", "_traffic", "_values", "_weights")

    def __init__(
        self, traffic: SideTraffic, call: Call, context: CallContext, values: Mapping[str, str], samples: CallSamples
    ) -> None:
        self._traffic = traffic
        self._call = call
        self._context = context
        self._samples = samples
        self._values = {**call.spec.values, **values}
        self._choices: list[SideRequest | None] = [None, *traffic.requests]
        self._weights = [traffic.voice_weight, *(request.weight for request in traffic.requests)]

    def start(self, now_ns: int) -> None:
        """Draw the first wait."""
        self._context.wheel.at(now_ns + self._wait_ns(), self._on_task)

    def _wait_ns(self) -> int:
        return self._call.spec.rng.randint(*self._traffic.interval_ns)

    def _on_task(self, due_ns: int) -> int:
        if not self._call.up:
            return 0
        chosen = self._call.spec.rng.choices(self._choices, self._weights)[0]
        if chosen is not None:
            self._send(chosen, due_ns)
        return due_ns + max(self._wait_ns(), 1)

    def _send(self, request: SideRequest, due_ns: int) -> None:
        recorder = self._context.recorder
        name = request.name or request.get
        labels = (*self._context.labels(self._call.spec), ("request", name))

        def answered(status: str, now_ns: int) -> None:
            recorder.http_answer(name, status)
            good = status[0] in "123"
            recorder.observe("http_success", labels, good)
            self._samples.add("http_success", good)
            if status != "error":
                recorder.latency("http_latency", labels, now_ns - due_ns)
                self._samples.add("http_latency", (now_ns - due_ns) / 1e6)

        url = self._context.dialect_of(self._call.spec).target + expand(request.get, self._values)
        http = HttpRequest("GET", url)
        trace = self._call.trace
        self._call.line.side_request(http if trace is None else trace.on(http), answered)
