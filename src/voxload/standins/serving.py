"""Serves a stand-in over HTTP and, where it has them, WebSockets, in this process."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from aiohttp import web

from voxload.serving import BACKLOG, listen, watch_files
from voxload.standins.log import RequestLog

if TYPE_CHECKING:
    from voxload.front import Front, OpenSocket

BODY_BYTES_MAX = 300 * 1024 * 1024

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def new_application(
    own_counters: Callable[[], Mapping[str, Any]] = dict, log: RequestLog | None = None
) -> web.Application:
    """Return an application that takes bodies as large as the services do, and keeps a log of its requests."""
    application = web.Application(client_max_size=BODY_BYTES_MAX)
    (log or RequestLog(own_counters)).add_to(application)
    return application


class StandIn(ABC):
    """A service as its clients see it."""

    @abstractmethod
    def application(self) -> web.Application:
        """Return what answers its HTTP requests."""

    def open_socket(self) -> OpenSocket | None:
        """Return what answers WebSocket handshakes; None where the service has none, or leaves them to HTTP."""
        return None

    @abstractmethod
    def environment(self, url: str) -> dict[str, str]:
        """Return the variables that lead a backend to it, at its base address."""


class Server:
    """An application on a port of its own; an async context manager."""

    def __init__(
        self,
        application: web.Application,
        host: str = "127.0.0.1",
        port: int = 0,
        open_socket: OpenSocket | None = None,
    ) -> None:
        if open_socket is not None:
            application.middlewares.insert(0, self._free_front)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0, handler_cancellation=True)
        self._host, self._port = host, port
        self._open_socket = open_socket
        self._fronts: dict[web.RequestHandler, Front] = {}
        self._listening: asyncio.Server | None = None
        self.url = ""
        """Base address, once started."""

    @classmethod
    def of(cls, stand_in: StandIn, host: str = "127.0.0.1", port: int = 0) -> Server:
        """Return the server of a stand-in."""
        return cls(stand_in.application(), host, port, stand_in.open_socket())

    async def start(self) -> str:
        """Listen; returns the base address.

        Raises:
            RunAbortedError: the port cannot be had.
        """
        await self._runner.setup()
        listener, self.url = listen(self._host, self._port, "the stand-in")
        files = watch_files()
        if self._open_socket is None:
            await web.SockSite(self._runner, listener, backlog=BACKLOG).start()
            return self.url
        from voxload.front import Front  # noqa: PLC0415  # picows, for the services that have sockets

        http, open_socket = self._runner.server, self._open_socket
        assert http is not None
        self._listening = await asyncio.get_running_loop().create_server(
            lambda: Front(http, self._fronts, open_socket, files.opened), sock=listener, backlog=BACKLOG
        )
        return self.url

    async def stop(self) -> None:
        """Stop listening and end what is open."""
        if self._listening is not None:
            self._listening.close()
        await self._runner.cleanup()

    async def __aenter__(self) -> Server:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @web.middleware
    async def _free_front(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let the connection look at heads again, once its request is answered."""
        try:
            return await handler(request)
        finally:
            front = self._fronts.get(request.protocol)
            if front is not None:
                front.busy = False
