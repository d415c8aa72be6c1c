"""Serves a stand-in over HTTP, in this process."""

from __future__ import annotations

from aiohttp import web

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
            OSError: the port cannot be had.
        """
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port, backlog=4096)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"http://{self._host}:{port}"
        return self.url

    async def stop(self) -> None:
        """Stop listening and end what is open."""
        await self._runner.cleanup()

    async def __aenter__(self) -> Server:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
