"""Serves a stand-in over HTTP, in this process."""

from __future__ import annotations

from aiohttp import web

from voxload.serving import listen

BODY_BYTES_MAX = 300 * 1024 * 1024


def new_application() -> web.Application:
    """Return an application that takes bodies as large as the services do."""
    return web.Application(client_max_size=BODY_BYTES_MAX)


class Server:
    """An application on a port of its own; an async context manager."""

    def __init__(self, application: web.Application, host: str = "127.0.0.1", port: int = 0) -> None:
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0, handler_cancellation=True)
        self._host, self._port = host, port
        self.url = ""
        """Base address, once started."""

    async def start(self) -> str:
        """Listen; returns the base address.

        Raises:
            RunAbortedError: the port cannot be had.
        """
        await self._runner.setup()
        listener, self.url = listen(self._host, self._port, "the stand-in")
        await web.SockSite(self._runner, listener).start()
        return self.url

    async def stop(self) -> None:
        """Stop listening and end what is open."""
        await self._runner.cleanup()

    async def __aenter__(self) -> Server:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
