"""The recogniser's process as the agent's event loop sees it: utterances go in, callbacks bring the words."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
from collections import deque
from collections.abc import Callable, Iterable

from voxload.errors import RunAbortedError
from voxload.twin.recogniser import HEADER

START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 2.0
_log = logging.getLogger("voxload.twin")

Heard = Callable[[str | None], None]
"""Told the words of an utterance, empty when there were none; None: the recogniser is gone."""


class RecogniserWorker:
    """Starts `python -m voxload.twin.recogniser`, which ends with this process; utterances are answered in order."""

    def __init__(self) -> None:
        self._child: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._waiting: deque[Heard] = deque()

    async def start(self, texts: Iterable[str]) -> None:
        """Start the process and wait until it can hear the texts.

        Raises:
            RunAbortedError: it did not start.
        """
        self._child = child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "voxload.twin.recogniser",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the agent, which ends the calls first
        )
        if child.stdin is None or child.stdout is None:
            raise RunAbortedError("the recogniser has no pipes")
        child.stdin.write(json.dumps(list(texts)).encode() + b"\n")
        try:
            ready = await asyncio.wait_for(child.stdout.readline(), START_TIMEOUT_S)
        except TimeoutError:
            ready = b""
        if not ready:
            await self.stop()
            raise RunAbortedError("the recogniser of the embedded agent did not start")
        self._reader = asyncio.create_task(self._read(child.stdout))

    def recognise(self, pcm: bytes, heard: Heard) -> None:
        """Have an utterance recognised (16-bit PCM at 16 kHz); `heard` is called later, never at once."""
        child = self._child
        if child is None or child.stdin is None or self._reader is None or self._reader.done():
            asyncio.get_running_loop().call_soon(heard, None)
            return
        self._waiting.append(heard)
        child.stdin.write(HEADER.pack(len(pcm)) + pcm)

    @property
    def pid(self) -> int:
        """Process id; 0 when there is none."""
        return self._child.pid if self._child is not None else 0

    async def stop(self) -> None:
        """End the process."""
        child, self._child = self._child, None
        if child is not None:
            if child.stdin is not None:
                child.stdin.close()
            try:
                await asyncio.wait_for(child.wait(), STOP_TIMEOUT_S)
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    child.kill()
                await child.wait()
        if self._reader is not None:
            await self._reader
            self._reader = None

    async def _read(self, answers: asyncio.StreamReader) -> None:
        with contextlib.suppress(ConnectionError):
            while line := await answers.readline():
                self._waiting.popleft()(json.loads(line))
        if self._child is not None:
            _log.error("the recogniser is gone")
        while self._waiting:
            self._waiting.popleft()(None)
