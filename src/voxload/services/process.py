"""A component test in a process of its own, told what to do by its parent."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from typing import BinaryIO

import uvloop

from voxload.clock import monotonic_ns, unix_ns
from voxload.errors import BadInputError, VoxloadError
from voxload.measure.recorder import Recorder
from voxload.measure.snapshot import Snapshot
from voxload.model.source import Source
from voxload.process import freeze_garbage, raise_file_limit
from voxload.services.base import ComponentRun
from voxload.services.registry import component_type
from voxload.services.runner import ComponentRunner
from voxload.services.settings import read_settings
from voxload.services.words import (
    LINE_BYTES_MAX,
    STOPPED,
    Failed,
    Finish,
    FromProcess,
    Go,
    Job,
    Over,
    Ready,
    decode_to_process,
    encode,
)

PAUSE_S, PAUSE_S_MAX = 2.0, 30.0
"""Between two attempts to find the service, doubled each time; for work that does not give up."""


class _Parent:
    """The two pipes to the process that started this one."""

    def __init__(self, output: BinaryIO) -> None:
        self._output = output
        self.start_ns: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.runner: ComponentRunner | None = None
        """That of the present attempt."""
        self.over = asyncio.Event()
        """Set when nothing more is to be started."""

    def say(self, word: FromProcess) -> None:
        """Say something; nobody listens any more when the parent is gone."""
        try:
            self._output.write(encode(word))
            self._output.flush()
        except OSError:
            pass

    def report(self, snapshot: Snapshot) -> None:
        """Pass on what was measured; the single units of work stay here."""
        snapshot.calls = []
        self.say(snapshot)

    async def wait_for_start(self) -> int:
        """Say that all is ready, and wait for the first instant of the run."""
        self.say(Ready())
        return await self.start_ns

    async def listen(self, reader: asyncio.StreamReader) -> None:
        """Do as the parent says; its end is a word to stop."""
        while line := await reader.readline():
            match decode_to_process(line):
                case Go(start_ns=start_ns):
                    if not self.start_ns.done():
                        self.start_ns.set_result(start_ns)
                case Finish():
                    self.over.set()
                    if self.runner is not None and self.runner.start_ns:
                        self.runner.finish()
                    else:
                        self.stop()
                case _:
                    break
        self.stop()

    def stop(self) -> None:
        """Start nothing more, and end what is in flight."""
        self.over.set()
        if self.runner is not None:
            self.runner.stop(STOPPED)


async def _run(output: BinaryIO) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(LINE_BYTES_MAX)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    job = decode_to_process(await reader.readline() or b"null")
    assert isinstance(job, Job)
    parent = _Parent(output)
    listening = asyncio.ensure_future(parent.listen(reader))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, parent.stop)
    pause_s = 0.0
    while not parent.over.is_set():
        try:
            await _attempt(job, parent, joins_late=pause_s > 0)
            break
        except VoxloadError as error:
            bad_input = isinstance(error, BadInputError)
            parent.say(Failed(str(error), bad_input))
            if job.gives_up or bad_input:
                break
        pause_s = min(max(2 * pause_s, PAUSE_S), PAUSE_S_MAX)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await parent.over.wait()
    listening.cancel()


async def _attempt(job: Job, parent: _Parent, *, joins_late: bool) -> None:
    """Set the component up and do its work to the end.

    Raises:
        BadInputError, RunAbortedError: it cannot be set up.
    """
    found = component_type(job.settings["component"])
    settings = read_settings(Source(job.settings, job.file), found.settings_type, os.environ)
    recorder = Recorder(lateness_metric="loop_lateness")
    component = found(settings, ComponentRun(job.run_id, recorder, monotonic_ns, unix_ns))
    parent.runner = ComponentRunner(
        component,
        recorder,
        parent.report,
        on_ready=freeze_garbage,
        start_at=parent.wait_for_start,
        gives_up=job.gives_up,
        joins_late=joins_late,
    )
    result = await parent.runner.run()
    parent.say(Over(result.cut_short, result.warnings, component.facts()))


def main() -> int:
    """Serve the parent; returns the exit code."""
    # what a library prints must not get among the words
    output = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    raise_file_limit()
    uvloop.run(_run(output))
    return 0


if __name__ == "__main__":
    sys.exit(main())
