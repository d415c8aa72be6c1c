"""A calling service of set manners, in a thread: what the stand-in does not do wrong on purpose."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web


@dataclass
class Manners:
    """What the service does; the defaults are good manners."""

    connects: str = "CallConnected"
    """The event that follows a create, or nothing."""
    connect_s: float = 0.05
    recognizes: str = "RecognizeCompleted"
    disconnects: bool = True
    drops_after_s: float = 0.0
    throttle_first: int = 0
    """So many creates are answered 429 with a retry-after of `retry_after_s`."""
    retry_after_s: float = 0.2
    create_s: float = 0.0
    status: int = 201
    twice: bool = False
    garbage: bool = False


@dataclass
class Service:
    """Its state: every call that it holds."""

    manners: Manners
    calls: dict[str, str] = field(default_factory=dict)
    """Callback URL by call connection id."""
    requests: Counter[str] = field(default_factory=Counter)
    targets: list[str] = field(default_factory=list)
    url: str = ""
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/calling/callConnections", self.create)
        app.router.add_get("/calling/callConnections/{id}", self.get)
        app.router.add_post("/calling/callConnections/{rest:.+}", self.act)
        app.router.add_delete("/calling/callConnections/{id}", self.act)
        return app

    async def get(self, request: web.Request) -> web.Response:
        return web.json_response({"error": {"code": "8522", "message": "Call not found."}}, status=404)

    async def create(self, request: web.Request) -> web.Response:
        self.requests["create"] += 1
        manners, body = self.manners, await request.json()
        if self.requests["create"] <= manners.throttle_first:
            return web.json_response(
                {"error": {"code": "TooManyRequests", "message": "slow down"}},
                status=429,
                headers={"retry-after-ms": str(round(manners.retry_after_s * 1000))},
            )
        if manners.status != 201:
            return web.json_response({"error": {"code": "8523", "message": "no"}}, status=manners.status)
        name = str(uuid.uuid4())
        self.calls[name] = body["callbackUri"]
        self.targets += [target["rawId"] for target in body["targets"]]
        await asyncio.sleep(manners.create_s)
        if manners.connects:
            self.later(manners.connect_s, name, manners.connects)
        if manners.drops_after_s:
            self.later(manners.drops_after_s, name, "CallDisconnected")
        return web.json_response({"callConnectionId": name, "targets": body["targets"]}, status=201)

    async def act(self, request: web.Request) -> web.Response:
        path = request.match_info.get("rest", request.match_info.get("id", ""))
        name, _, verb = path.partition(":")
        self.requests[verb or "hang_up"] += 1
        if name not in self.calls:
            return await self.get(request)
        if verb == "recognize":
            if self.manners.recognizes:
                self.later(0.03, name, self.manners.recognizes)
            return web.Response(status=202)
        if self.manners.disconnects:
            self.later(0.02, name, "CallDisconnected")
        self.calls.pop(name)
        return web.Response(status=204)

    def later(self, delay_s: float, name: str, kind: str) -> None:
        task = asyncio.ensure_future(self.tell(delay_s, name, kind, self.calls[name]))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def tell(self, delay_s: float, name: str, kind: str, url: str) -> None:
        await asyncio.sleep(delay_s)
        if kind in {"CallDisconnected", "CreateCallFailed"}:
            self.calls.pop(name, None)
        data: dict[str, Any] = {
            "callConnectionId": name,
            "resultInformation": {"code": 486, "subCode": 5486, "message": "busy"},
        }
        if kind == "RecognizeCompleted":
            data |= {"recognitionType": "dtmf", "dtmfResult": {"tones": ["five"]}}
        event = {"type": f"Microsoft.Communication.{kind}", "source": name, "id": "1", "data": data}
        async with aiohttp.ClientSession() as session:
            for _ in range(2 if self.manners.twice else 1):
                with contextlib.suppress(aiohttp.ClientError):
                    body = "nonsense" if self.manners.garbage else None
                    await session.post(url, json=None if body else [event], data=body)


@contextlib.contextmanager
def serve(manners: Manners, port: int = 0) -> Iterator[Service]:
    """Serve until the block ends, or `service.stop()`."""
    loop = asyncio.new_event_loop()
    started = threading.Event()
    service, stop = Service(manners), asyncio.Event()

    async def main() -> None:
        runner = web.AppRunner(service.app(), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        service.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        started.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: loop.run_until_complete(main()), daemon=True)
    thread.start()
    assert started.wait(10)
    service.stop = lambda: loop.call_soon_threadsafe(stop.set)  # type: ignore[attr-defined]
    try:
        yield service
    finally:
        service.stop()  # type: ignore[attr-defined]
        thread.join(10)
