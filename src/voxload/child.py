"""A part of voxload in a child process that cannot outlive its parent."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from types import TracebackType
from typing import IO, Any, Self

from voxload.errors import BadInputError, ExitCode, RunAbortedError
from voxload.process import OUT_OF_FILES
from voxload.start import start_command

START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 5.0
_TAIL_CHARS = 2000
_ERRORS_MAX = 1 << 20


class ChildProcess:
    """Starts a module of ours (`voxload.start`) and stops it; a context manager.

    The child reads its job, one line, from standard input, writes one line of JSON when it is ready (`ready`), and
    stays until it is told to stop or that input ends, which happens also when this process dies in whatever way; so no
    child is ever left behind.

    Raises (from `start` and on entering):
        BadInputError: the job is wrong.
        RunAbortedError: the child did not get ready; the message holds the end of what it wrote.
    """

    def __init__(self, module: str, what: str, job: str, start_timeout_s: float = START_TIMEOUT_S) -> None:
        self._module = module
        self._what = what
        self._job = job
        self._start_timeout_s = start_timeout_s
        self._child: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None
        self.ready: dict[str, Any] = {}
        """What the child said when it was ready; empty when there is none."""

    @property
    def pid(self) -> int:
        """Process id of the child; 0 when there is none."""
        return self._child.pid if self._child else 0

    @property
    def running(self) -> bool:
        """Whether the child is alive."""
        return self._child is not None and self._child.poll() is None

    def died(self) -> str:
        """Return that the child has died, in words; empty while it lives, and once it was stopped."""
        code = self._child.poll() if self._child is not None else None
        return "" if code is None else f"{self._what} died (exit code {code}){self._tail()}"

    def doubt(self) -> str:
        """Return why what was measured against the child says nothing of it, in words; empty while all is well."""
        found = next((line for line in self._written().splitlines() if line.startswith(OUT_OF_FILES)), "")
        return f"{self._what} was {found}" if found else ""

    @property
    def url(self) -> str:
        """Base address of the child's server, once started."""
        return str(self.ready.get("url", ""))

    def start(self) -> Self:
        """Start the child and wait until it is ready."""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed by stop
        self._child = subprocess.Popen(  # noqa: S603  # our own modules
            start_command(self._module),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,  # Ctrl-C is for the parent, which ends the calls first
        )
        try:
            self.ready = self._await_ready(self._child)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop the child: SIGTERM first, SIGKILL when it does not leave in time. Does nothing when there is none."""
        child, self._child = self._child, None
        if child is not None:
            child.terminate()
            with contextlib.suppress(OSError):
                if child.stdin is not None:
                    child.stdin.close()
            try:
                child.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            if child.stdout is not None:
                child.stdout.close()
        if self._errors is not None:
            self._errors.close()
            self._errors = None
        self.ready = {}

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _await_ready(self, child: subprocess.Popen[bytes]) -> dict[str, Any]:
        if child.stdin is None or child.stdout is None:
            raise RunAbortedError(f"{self._what} has no pipes")
        with contextlib.suppress(BrokenPipeError):  # it has died already; the missing ready line tells
            child.stdin.write(self._job.encode() + b"\n")
            child.stdin.flush()
        lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=_forward_line, args=(child.stdout, lines), daemon=True).start()
        try:
            line = lines.get(timeout=self._start_timeout_s)
        except queue.Empty:
            raise RunAbortedError(
                f"{self._what} was not ready within {self._start_timeout_s:g} s{self._tail()}"
            ) from None
        try:
            ready = json.loads(line)
        except ValueError:
            ready = None
        if isinstance(ready, dict):
            return ready
        try:
            code = child.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            code = None
        tail = self._tail()
        if code == ExitCode.BAD_INPUT:
            raise BadInputError(f"{self._what}: {tail.removeprefix(': ') or 'bad settings'}")
        raise RunAbortedError(f"{self._what} did not start (exit code {code}){tail}")

    def _written(self) -> str:
        if self._errors is None:
            return ""
        content = os.pread(self._errors.fileno(), _ERRORS_MAX, 0)  # the child writes on where its own position is
        return content.decode(errors="replace")

    def _tail(self) -> str:
        text = self._written().strip()
        return f": {text[-_TAIL_CHARS:]}" if text else ""


def read_job() -> str | None:
    """Return the child's job, the first line of standard input; None when the parent has gone already."""
    line = bytearray()
    while not line.endswith(b"\n"):  # byte by byte: nothing beyond the line may be taken from the pipe
        byte = os.read(0, 1)
        if not byte:
            return None
        line += byte
    return line.decode()


def announce(**ready: Any) -> None:
    """Tell the parent that the child is ready."""
    sys.stdout.write(json.dumps({"ready": True, "pid": os.getpid(), **ready}) + "\n")
    sys.stdout.flush()


def _forward_line(stream: IO[bytes], lines: queue.SimpleQueue[bytes]) -> None:
    try:
        lines.put(stream.readline(65_536))
    except (OSError, ValueError):  # closed under our feet by stop
        lines.put(b"")
