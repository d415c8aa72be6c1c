"""What servers of voxload have in common: an address to listen on, and when to stop."""

from __future__ import annotations

import asyncio
import ipaddress
import signal
import socket
import sys

from voxload.errors import RunAbortedError
from voxload.process import FileWatch

BACKLOG = 4096
FILES_INTERVAL_S = 0.2


def listen(host: str, port: int, what: str = "the twin") -> tuple[socket.socket, str]:
    """Return a listening socket and the base URL to reach it; with port 0 the system chooses one.

    Raises:
        RunAbortedError: the address cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        raise RunAbortedError(f"{what} cannot listen on {host}:{port}: {error}") from None
    address = ipaddress.ip_address(listener.getsockname()[0])
    if address.is_unspecified:
        shown = "127.0.0.1" if address.version == 4 else "[::1]"
    else:
        shown = str(address) if address.version == 4 else f"[{address}]"
    return listener, f"http://{shown}:{listener.getsockname()[1]}"


def watch_files() -> FileWatch:
    """Look now and then whether this process can still open files, as long as its event loop runs."""
    watch, loop = FileWatch(), asyncio.get_running_loop()

    def look() -> None:
        watch.look()
        if not watch.used_up:
            loop.call_later(FILES_INTERVAL_S, look)

    look()
    return watch


async def stop_signal(parent: bool) -> asyncio.Event:
    """Return what is set on SIGTERM and SIGINT, and with `parent` when standard input ends: its writer is gone."""
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    if parent:
        await loop.connect_read_pipe(lambda: _ParentWatch(stopping), sys.stdin)
    return stopping


class _ParentWatch(asyncio.Protocol):
    """Reads a pipe that says nothing until its other end is closed."""

    def __init__(self, gone: asyncio.Event) -> None:
        self._gone = gone

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's signature
        self._gone.set()
