"""A component test in a process of its own, told what to do by its parent: `python -m voxload.services.process`."""

from __future__ import annotations

import asyncio
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


class _Parent:
    """The two pipes to the process that started this one."""

    def __init__(self, output: BinaryIO) -> None:
        self._output = output
        self.start_ns: asyncio.Future[int] = asyncio.get_running_loop().create_future()

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

    async def listen(self, reader: asyncio.StreamReader, runner: ComponentRunner) -> None:
        """Do as the parent says; its end is a word to stop."""
        while line := await reader.readline():
            match decode_to_process(line):
                case Go(start_ns=start_ns):
                    if not self.start_ns.done():
                        self.start_ns.set_result(start_ns)
                case Finish():
                    runner.finish()
                case _:
                    break
        runner.stop(STOPPED)


async def _run(output: BinaryIO) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(LINE_BYTES_MAX)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    job = decode_to_process(await reader.readline() or b"null")
    assert isinstance(job, Job)
    parent = _Parent(output)
    try:
        found = component_type(job.settings["component"])
        settings = read_settings(Source(job.settings, job.file), found.settings_type, os.environ)
        recorder = Recorder(lateness_metric="loop_lateness")
        component = found(settings, ComponentRun(job.run_id, recorder, monotonic_ns, unix_ns))
        runner = ComponentRunner(
            component,
            recorder,
            parent.report,
            on_ready=freeze_garbage,
            start_at=parent.wait_for_start,
            gives_up=job.gives_up,
        )
        listening = asyncio.ensure_future(parent.listen(reader, runner))
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, runner.stop, STOPPED)
        result = await runner.run()
        listening.cancel()
    except VoxloadError as error:
        parent.say(Failed(str(error), isinstance(error, BadInputError)))
        return
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
