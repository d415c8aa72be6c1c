"""Commands as processes of their own that need not import voxload again: each is a fork of one that has.

A command has its own arguments, folder, environment, output, signals, children and end, as if started from a shell.
Only the start of Python and the imports, most of what a short command costs, are paid once by each process of pytest.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

AT_START = ("PYTHON", "VOXLOAD_")
"""How the names of variables begin that count when Python starts or a module is imported."""
REQUEST_BYTES = 1 << 18


def _at_start() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(AT_START)}


class WarmStart:
    """Starts commands one after another, by a process that has imported them all."""

    def __init__(self) -> None:
        self._owner, self._began_with = os.getpid(), _at_start()
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self._channel, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, REQUEST_BYTES)
        command = [sys.executable, __file__, str(theirs.fileno())]
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        theirs.close()
        atexit.register(self._end)

    def can(self) -> bool:
        """Whether a command would find the environment that its modules were imported in."""
        return _at_start() == self._began_with and os.getpid() == self._owner and self._process.poll() is None

    def run(self, arguments: tuple[str, ...], folder: Path, timeout_s: float) -> subprocess.CompletedProcess[str]:
        """Run `voxload` with these arguments and this process's environment; `TimeoutExpired` after it was killed."""
        request = json.dumps({"arguments": arguments, "folder": str(folder), "environment": dict(os.environ)})
        (out, theirs_out), (err, theirs_err) = os.pipe(), os.pipe()
        socket.send_fds(self._channel, [request.encode()], [theirs_out, theirs_err])
        os.close(theirs_out)
        os.close(theirs_err)
        pid = 0
        try:
            pid = int(self._channel.recv(64))
            told = _read_all({out: b"", err: b""}, time.monotonic() + timeout_s)
            if told is None:
                with contextlib.suppress(ProcessLookupError):  # a child of it may still hold the pipes
                    os.kill(pid, signal.SIGKILL)
            code = int(self._channel.recv(64))
        except BaseException:  # a test's time is up: what comes next on the channel is no answer to the next command
            self._process.kill()
            if pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            raise
        if told is None:
            raise subprocess.TimeoutExpired(["voxload", *arguments], timeout_s)
        return subprocess.CompletedProcess(arguments, code, told[out].decode(), told[err].decode())

    def _end(self) -> None:
        self._channel.close()
        self._process.wait()


def _read_all(told: dict[int, bytes], until: float) -> dict[int, bytes] | None:
    """Read these pipes to their ends and close them; None when they have not ended in time."""
    with selectors.DefaultSelector() as selector:
        for pipe in told:
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map() and time.monotonic() < until:
            for key, _ in selector.select(until - time.monotonic()):
                data = os.read(key.fd, 1 << 16)
                told[key.fd] += data
                if not data:
                    selector.unregister(key.fd)
        ended = not selector.get_map()
    for pipe in told:
        os.close(pipe)
    return told if ended else None


def _serve(channel: socket.socket) -> Callable[[], None] | None:
    """Fork for each request until there are no more; returns what a fork has to do, None at the end."""
    while True:
        request, pipes, _, _ = socket.recv_fds(channel, REQUEST_BYTES, 2)
        if not request:
            return None
        pid = os.fork()
        if pid == 0:
            channel.close()
            return _command(json.loads(request), pipes)
        for pipe in pipes:
            os.close(pipe)
        channel.send(b"%d" % pid)
        channel.send(b"%d" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def _command(request: dict, pipes: list[int]) -> Callable[[], None]:
    from voxload.__main__ import main

    for number, pipe in enumerate(pipes, 1):
        os.dup2(pipe, number)
        os.close(pipe)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    tempfile.tempdir = None  # it is taken from the environment once
    sys.argv = ["voxload", *request["arguments"]]
    return main


def _import_commands() -> None:
    from voxload.process import settle_libraries

    settle_libraries()
    from voxload.cli.main import COMMANDS

    for place in COMMANDS.values():
        importlib.import_module(place.split(":")[0])
    gc.freeze()  # pages that no collection writes to are shared by all


if __name__ == "__main__":
    sys.path.pop(0)  # this folder
    _import_commands()
    told = _serve(socket.socket(fileno=int(sys.argv[1])))
    if told is not None:
        told()
