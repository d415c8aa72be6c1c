"""What a stand-in was asked and how it answered: counters, and the last requests one by one."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from voxload.clock import Clock, monotonic_ns, unix_ns, utc_of

COUNTERS_PATH = "/voxload/counters"
REQUESTS_PATH = "/voxload/requests"
KEPT_MAX = 1000

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class RequestLog:
    """Counts every request by `METHOD ROUTE STATUS` and keeps the last `KEPT_MAX` of them.

    `own` returns what the stand-in itself counts, told beside the requests.
    """

    def __init__(self, own: Callable[[], Mapping[str, Any]] = dict, clock: Clock = monotonic_ns) -> None:
        self.counts: Counter[str] = Counter()
        self.recent: deque[dict[str, Any]] = deque(maxlen=KEPT_MAX)
        self._own, self._clock = own, clock

    def note(self, method: str, route: str, path: str, status: int, since_ns: int, **details: Any) -> None:
        """Note one request that is over; `since_ns` is when it came, `details` what else is worth telling."""
        self.counts[f"{method} {route} {status}"] += 1
        at = utc_of(unix_ns()).isoformat(timespec="milliseconds")
        took_ms = round((self._clock() - since_ns) / 1e6, 3)
        self.recent.append(
            {"over_at": at, "method": method, "path": path, "status": status, "took_ms": took_ms, **details}
        )

    def add_to(self, application: web.Application) -> None:
        """Note what an application is asked, and serve what was noted."""
        application.middlewares.insert(0, self._middleware)
        application.router.add_get(COUNTERS_PATH, self._show_counters)
        application.router.add_get(REQUESTS_PATH, self._show_requests)

    @web.middleware
    async def _middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path in {COUNTERS_PATH, REQUESTS_PATH}:
            return await handler(request)
        since_ns, status = self._clock(), 499  # the client has gone, unless something else comes
        try:
            answer = await handler(request)
            status = answer.status
        except web.HTTPException as refusal:
            status = refusal.status
            raise
        except Exception:
            status = 500
            raise
        finally:
            resource = request.match_info.route.resource
            route = resource.canonical if resource is not None else "?"
            self.note(request.method, route, request.path_qs, status, since_ns)
        return answer

    async def _show_counters(self, _: web.Request) -> web.Response:
        return web.json_response({"requests": dict(sorted(self.counts.items())), **self._own()})

    async def _show_requests(self, _: web.Request) -> web.Response:
        return web.json_response(list(self.recent))
