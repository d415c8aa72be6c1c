"""A backend that notes what the exchange tells it, a caller on the trunk, and the vendor's SDK, sync and aio."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
import time
from collections.abc import Iterator
from typing import Any

from aiohttp import web
from azure.communication.callautomation import CallAutomationClient
from azure.communication.callautomation.aio import CallAutomationClient as AioClient
from azure.core.credentials import AzureKeyCredential
from azure.core.messaging import CloudEvent
from azure.eventgrid import EventGridEvent, SystemEventNames
from websockets.sync.client import connect

from voxload.dialects import acs_trunk as words
from voxload.model.exchange import DEVELOPMENT_KEY

WAIT_S = 10.0


class Noted:
    """What has come, in order; waiting for what is still to come."""

    def __init__(self) -> None:
        self.callbacks: list[CloudEvent] = []
        self.callback_headers: list[dict[str, str]] = []
        self.incoming: list[EventGridEvent] = []
        self.sockets: list[dict[str, str]] = []
        self.socket_messages: list[str] = []
        self.callback_statuses: list[int] = []
        """Answers to the next callbacks; 200 afterwards."""

    def types(self, connection_id: str) -> list[str]:
        return [
            event.type.removeprefix("Microsoft.Communication.")
            for event in list(self.callbacks)
            if event.data["callConnectionId"] == connection_id
        ]

    def wait(self, connection_id: str, kind: str, count: int = 1) -> dict[str, Any]:
        """Return the data of the last of `count` callbacks of a kind."""

        def found() -> dict[str, Any] | None:
            matching = [
                event.data
                for event in list(self.callbacks)
                if event.data["callConnectionId"] == connection_id and event.type == f"Microsoft.Communication.{kind}"
            ]
            return matching[count - 1] if len(matching) >= count else None

        return until(found, lambda: f"{kind} x {count}; there came {self.types(connection_id)}")


def until(found: Any, words: Any) -> Any:
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        value = found()
        if value:
            return value
        time.sleep(0.005)
    raise AssertionError(f"waited for {words()}")


@contextlib.contextmanager
def backend() -> Iterator[tuple[str, Noted]]:
    """Serve a backend in a thread; gives its base URL and what it notes."""
    noted = Noted()

    async def callback(request: web.Request) -> web.Response:
        noted.callback_headers.append(dict(request.headers))
        status = noted.callback_statuses.pop(0) if noted.callback_statuses else 200
        if status == 200:
            noted.callbacks += [CloudEvent.from_dict(event) for event in await request.json()]
        return web.Response(status=status)

    async def incoming(request: web.Request) -> web.Response:
        for event in [EventGridEvent.from_dict(found) for found in await request.json()]:
            if event.event_type == SystemEventNames.EventGridSubscriptionValidationEventName:
                return web.json_response({"validationResponse": event.data["validationCode"]})
            noted.incoming.append(event)
        return web.Response()

    async def media(request: web.Request) -> web.WebSocketResponse:
        noted.sockets.append({name.lower(): value for name, value in request.headers.items()})
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            noted.socket_messages.append(message.data)
        return socket

    async def main() -> None:
        app = web.Application()
        app.router.add_post("/callbacks", callback)
        app.router.add_post("/incoming", incoming)
        app.router.add_get("/ws", media)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        urls.append(f"http://127.0.0.1:{runner.addresses[0][1]}")
        started.set()
        await stop.wait()
        await runner.cleanup()

    urls: list[str] = []
    started = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(main()), daemon=True)
    thread.start()
    assert started.wait(WAIT_S)
    yield urls[0], noted
    loop.call_soon_threadsafe(stop.set)
    thread.join(WAIT_S)


class Sdk:
    """The vendor's client, in one of its two forms, called in one way."""

    def __init__(self, url: str, aio: bool, credential: Any = None, **options: Any) -> None:
        self._loop = asyncio.new_event_loop() if aio else None
        kind = AioClient if aio else CallAutomationClient
        self.client = kind(url, credential or AzureKeyCredential(DEVELOPMENT_KEY), **options)

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the client."""
        return self._result(getattr(self.client, method)(*args, **kwargs))

    def on(self, connection_id: str, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of a call's connection."""
        connection = self.client.get_call_connection(connection_id)
        return self._result(getattr(connection, method)(*args, **kwargs))

    def _result(self, value: Any) -> Any:
        if self._loop is None:
            return list(value) if hasattr(value, "by_page") else value
        if hasattr(value, "__aiter__"):
            return self._loop.run_until_complete(_collect(value))
        return self._loop.run_until_complete(value) if inspect.isawaitable(value) else value

    def close(self) -> None:
        self._result(self.client.close())
        if self._loop is not None:
            self._loop.close()


async def _collect(values: Any) -> list[Any]:
    return [value async for value in values]


class Trunk:
    """A caller on the trunk."""

    def __init__(self, url: str) -> None:
        self._socket = connect(url.replace("http", "ws", 1) + words.TRUNK_PATH, proxy=None)

    def __enter__(self) -> Trunk:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def say(self, word: words.ToExchange) -> None:
        self._socket.send(words.encode(word))

    def hear(self, kind: type[Any]) -> Any:
        """Return the next word of a kind; others are passed over."""
        while True:
            word = words.decode_from_exchange(self._socket.recv(WAIT_S))
            if isinstance(word, kind):
                return word
