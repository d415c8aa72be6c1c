"""A stand-in for a backend's plain HTTP endpoints: start a call, its metrics, its end, health."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable

from aiohttp import web
from pydantic import Field

from voxload.clock import NS_PER_S
from voxload.model.base import Model
from voxload.model.units import SpanNs
from voxload.standins.serving import StandIn, new_application

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class PlainSettings(Model):
    """How the backend behaves."""

    latency_ns: SpanNs = Field((0, 0), alias="latency", description="Time to work on a request: 5ms or 2ms..20ms.")
    error_rate: float = Field(0.0, ge=0, le=1, description="Requests answered 500.")
    requests_at_once: int = Field(0, ge=0, description="More are answered 429. 0: no limit.")
    seed: int = Field(1, ge=0)


class PlainStandIn(StandIn):
    """Keeps calls by session id."""

    def __init__(self, settings: PlainSettings | None = None) -> None:
        self.settings = settings or PlainSettings()
        self.calls: set[str] = set()
        self.counts: Counter[str] = Counter()
        """Requests by `METHOD ROUTE STATUS`."""
        self._random = random.Random(self.settings.seed)
        self._working = 0

    def application(self) -> web.Application:
        """Return what serves it."""
        application = new_application(lambda: {"calls": len(self.calls)})
        application.middlewares.append(self._behave)
        application.router.add_get("/health", self._health)
        application.router.add_post("/api/v1/calls/start", self._start)
        application.router.add_get("/api/v1/calls/{id}/metrics", self._metrics)
        application.router.add_delete("/api/v1/calls/{id}", self._end)
        return application

    def environment(self, url: str) -> dict[str, str]:
        """Return the variable that leads a client to it."""
        return {"API_BASE_URL": url}

    @web.middleware
    async def _behave(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        settings = self.settings
        route = request.match_info.route.resource
        if settings.requests_at_once and self._working >= settings.requests_at_once:
            answer: web.StreamResponse = web.json_response({"detail": "too many requests"}, status=429)
        elif self._random.random() < settings.error_rate:
            answer = web.json_response({"detail": "internal error"}, status=500)
        else:
            self._working += 1
            try:
                low_ns, high_ns = settings.latency_ns
                if high_ns:
                    await asyncio.sleep(self._random.randint(low_ns, high_ns) / NS_PER_S)
                answer = await handler(request)
            finally:
                self._working -= 1
        self.counts[f"{request.method} {route.canonical if route else request.path} {answer.status}"] += 1
        return answer

    async def _health(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "healthy", "calls": len(self.calls)})

    async def _start(self, request: web.Request) -> web.Response:
        try:
            body = await request.json()
        except ValueError:
            body = None
        if not isinstance(body, dict) or "agent_type" not in body:
            return web.json_response({"detail": "agent_type is missing"}, status=422)
        session_id = str(uuid.uuid4())
        self.calls.add(session_id)
        return web.json_response({"session_id": session_id}, status=201)

    async def _metrics(self, request: web.Request) -> web.Response:
        if request.match_info["id"] not in self.calls:
            return web.json_response({"detail": "no such call"}, status=404)
        return web.json_response({"session_id": request.match_info["id"], "turns": 0})

    async def _end(self, request: web.Request) -> web.Response:
        if request.match_info["id"] not in self.calls:
            return web.json_response({"detail": "no such call"}, status=404)
        self.calls.discard(request.match_info["id"])
        return web.Response(status=204)
