"""A component test in a child process, as the command that started it sees it."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from typing import IO

import msgspec

from voxload.measure.snapshot import Snapshot
from voxload.services.words import (
    LINE_BYTES_MAX,
    STOPPED,
    Failed,
    Finish,
    Go,
    Job,
    Over,
    Ready,
    Stop,
    ToProcess,
    decode_from_process,
    encode,
)
from voxload.start import start_command

READY_TIMEOUT_S = 40.0
"""For a service to be found and connected to, a stand-in of its own included."""
LEAVE_TIMEOUT_S = 5.0
_TAIL_CHARS = 800


class ComponentProcess:
    """Runs one component test beside this process, so that neither takes the other's time.

    `emit(snapshot)` hears of what it measures, once a second. It never outlives this process.
    """

    def __init__(self, job: Job, emit: Callable[[Snapshot], None]) -> None:
        self._job, self._emit = job, emit
        self._process: Process | None = None
        self._going = False
        self._reader: asyncio.Task[None] | None = None
        self._errors: IO[bytes] | None = None
        self._answered, self.ended = asyncio.Event(), asyncio.Event()
        self.problem = ""
        """Why it measures nothing, or nothing more; empty while all is well."""
        self.bad_input = False
        """Whether that is for want of something of the user's (a library, a setting)."""
        self.result: Over | None = None
        """How it ended, once it has."""

    @property
    def pid(self) -> int:
        """Process id of the child; 0 before it is started."""
        return self._process.pid if self._process is not None else 0

    async def start(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Start it and wait until it is ready, or has a `problem`."""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed by leave
        self._process = await asyncio.create_subprocess_exec(
            *start_command("voxload.services.process"),
            stdin=PIPE,
            stdout=PIPE,
            stderr=self._errors,
            limit=LINE_BYTES_MAX,
            start_new_session=True,  # Ctrl-C is for the parent, which ends the calls first
        )
        self._say(self._job)
        self._reader = asyncio.create_task(self._listen(self._process))
        try:
            async with asyncio.timeout(timeout_s):
                await self._answered.wait()
        except TimeoutError:
            self.problem = self.problem or f"was not ready within {timeout_s:g} s"
            self.stop()

    def go(self, start_ns: int) -> None:
        """Let the work begin at an instant of the monotonic clock."""
        self._going = True
        self._say(Go(start_ns))

    def finish(self) -> None:
        """Start no more work; what is in flight ends by itself."""
        self._say(Finish())

    def stop(self) -> None:
        """End what is in flight too."""
        self._say(Stop())

    def kill(self) -> None:
        """End the process at once; a service of its own ends with it, what it keeps elsewhere stays."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def leave(self, timeout_s: float) -> None:
        """Wait for its end, at most so long, then stop it, then kill it."""
        if self._process is None:
            return
        for patience_s, then in ((timeout_s, self.stop), (LEAVE_TIMEOUT_S, self.kill)):
            try:
                async with asyncio.timeout(patience_s):
                    await self.ended.wait()
                break
            except TimeoutError:
                then()
        if self._reader is not None:
            await asyncio.gather(self._reader, return_exceptions=True)
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()
        if self._errors is not None:
            self._errors.close()

    def _say(self, word: ToProcess) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(ConnectionError, RuntimeError):
            self._process.stdin.write(encode(word))

    async def _listen(self, process: Process) -> None:
        assert process.stdout is not None
        try:
            while line := await process.stdout.readline():
                self._take(line)
        except (ValueError, OSError, msgspec.MsgspecError) as error:
            self.problem = self.problem or f"its reports could not be read: {error}"
            self.kill()
        code = await process.wait()
        if self.result is None and not self.problem:
            self.problem = f"its process ended with code {code}{self._tail()}"
        self._answered.set()
        self.ended.set()

    def _take(self, line: bytes) -> None:
        match decode_from_process(line):
            case Ready():
                if self.problem:  # another attempt has found it
                    self.problem = f"not from the start on: {self.problem}" if self._going else ""
                self._answered.set()
            case Failed(detail=detail, bad_input=bad_input):
                self.problem, self.bad_input = detail, bad_input
                self._answered.set()
            case Over() as over:
                self.result = over
                if over.cut_short != STOPPED:
                    self.problem = self.problem or over.cut_short
            case Snapshot() as snapshot:
                self._emit(snapshot)

    def _tail(self) -> str:
        if self._errors is None:
            return ""
        self._errors.seek(0)
        text = self._errors.read().decode(errors="replace").strip()
        return f": {text[-_TAIL_CHARS:]}" if text else ""
