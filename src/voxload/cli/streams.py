"""Standard output and error that never end a command: a reader that leaves, a full disk, a stream that is closed."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import TextIO

from voxload.errors import ExitCode


class _Output(io.FileIO):
    """A standard stream: what cannot be written any more goes nowhere."""

    lost = ""
    """Why output is missing; empty while all is well, and where the reader has left (`voxload … | head`)."""

    def write(self, data: object) -> int:
        """Write what the system takes; after an error everything is thrown away."""
        try:
            return super().write(data)  # type: ignore[arg-type]  # any buffer, as the base takes it
        except OSError as error:
            if error.errno == errno.EAGAIN:
                raise
            if error.errno != errno.EPIPE:
                self.lost = error.strerror or str(error)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return len(memoryview(data).cast("B"))  # type: ignore[arg-type]


class Streams:
    """Puts such streams in the place of this process's own.

    Standard streams that are closed are opened on nothing, or the next file that is opened would be taken for one.
    Characters that the encoding of a stream lacks are shown as question marks.
    """

    def __init__(self) -> None:
        for number in range(3):
            try:
                os.fstat(number)
            except OSError:
                os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
        self._output = _Output(1, "wb", closefd=False)
        sys.stdout = _text(self._output, sys.stdout)
        sys.stderr = _text(_Output(2, "wb", closefd=False), sys.stderr)
        if sys.stdin is None:  # it was closed
            sys.stdin = open(0, closefd=False, encoding="utf-8")  # noqa: SIM115  # stays as long as the process

    def end(self, code: int) -> int:
        """Write out what is left; returns the exit code: output that is missing is no success."""
        sys.stdout.flush()
        if not self._output.lost:
            return code
        sys.stderr.write(f"voxload: standard output could not be written: {self._output.lost}\n")
        return code or ExitCode.ABORTED


def _text(output: _Output, before: TextIO | None) -> TextIO:
    encoding = before.encoding if before is not None else "utf-8"
    by_line = output.isatty() or output.fileno() == 2
    return io.TextIOWrapper(io.BufferedWriter(output), encoding=encoding, errors="replace", line_buffering=by_line)
