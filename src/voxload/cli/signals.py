"""How a command that places load answers the signals that ask it to end: Ctrl-C, SIGTERM, a terminal that is gone."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Self

ENDING = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP"}
"""The signals, with what a user knows them by."""


def on_ending_signal(heard: Callable[[str], None]) -> None:
    """Call `heard` with the name of each such signal, while the running loop runs; `nohup` keeps its meaning."""
    loop = asyncio.get_running_loop()
    for number, name in ENDING.items():
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, heard, name)


class HeldBack:
    """Lets results be written though a signal asks to end; the second one ends at once, as Ctrl-C does.

    A context manager; or `begin` and `end`.
    """

    def __init__(self) -> None:
        self._heard = False

    def begin(self) -> Self:
        """Hold signals back from now on."""
        for number in ENDING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._hear)
        return self

    def end(self) -> None:
        """Let them through again."""
        for number in ENDING:
            if signal.getsignal(number) == self._hear:
                usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
                signal.signal(number, usual)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self._heard:
            signal.default_int_handler(number, frame)
        self._heard = True
        sys.stderr.write("voxload: writing the results; once more ends at once, without them\n")
        sys.stderr.flush()

    def __enter__(self) -> Self:
        return self.begin()

    def __exit__(self, *_: object) -> None:
        self.end()
