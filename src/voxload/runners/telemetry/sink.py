"""A way out for figures that can never hold a run up: a thread of its own, one export under way at a time."""

from __future__ import annotations

import logging
import queue
import re
import threading
from collections.abc import Callable, Sequence

from voxload.clock import NS_PER_S, monotonic_ns
from voxload.measure.summary import TelemetryFacts
from voxload.runners.telemetry.figures import Figure, Figures
from voxload.runners.telemetry.origin import Level

Export = Callable[[list[Figure], int, int], str]
"""Sends figures that count from one Unix time in ns to another; returns what went wrong, or nothing."""

CLOSE_S = 5.0
"""So long the end of a run waits for the last export."""


class Sink:
    """Hands figures to an exporter.

    While an export is under way the next one is skipped, not queued: sums since the run's beginning lose nothing by
    that, and sums since the last export (`delta`) go on growing until they are handed over.
    """

    def __init__(self, kind: str, endpoint: str, export: Export, *, delta: bool, start_unix_ns: int) -> None:
        self.figures = Figures()
        self._kind, self._endpoint, self._export, self._delta = kind, endpoint, export, delta
        self._from_ns = start_unix_ns
        self._waiting: queue.Queue[tuple[list[Figure], int, int] | None] = queue.Queue(maxsize=1)
        self._busy = threading.Event()
        self._exports = self._failed = self._skipped = 0
        self._error = ""
        self._told = False
        self._last: tuple[Sequence[Level], int] | None = None
        self._thread = threading.Thread(target=self._work, name=f"telemetry-{kind}", daemon=True)
        self._thread.start()

    def offer(self, levels: Sequence[Level], now_ns: int) -> None:
        """Export what there is, unless the last export still goes on."""
        if self._busy.is_set():
            self._skipped += 1
            return
        self._hand_over(levels, now_ns)

    def _hand_over(self, levels: Sequence[Level], now_ns: int) -> None:
        self._busy.set()
        self._waiting.put_nowait((self.figures.all(levels), self._from_ns, now_ns))
        if self._delta:
            self.figures.clear()
            self._from_ns = now_ns

    def trouble(self) -> str:
        """Return what to tell the user, the first time that an export has failed."""
        if not self._error or self._told:
            return ""
        self._told = True
        return f"{self._kind}: {self._endpoint} takes no figures: {self._error}; the run goes on, it is tried again"

    def finish(self, levels: Sequence[Level], now_ns: int) -> None:
        """Export the last figures: at once, or in `close` when an export is under way."""
        self._last = levels, now_ns
        if not self._busy.is_set():
            self._hand_over_last()

    def _hand_over_last(self) -> None:
        if self._last is not None:
            self._hand_over(*self._last)
            self._waiting.put(None)
            self._last = None

    def close(self, deadline_ns: int) -> TelemetryFacts:
        """Wait for the last figures to be out until `deadline_ns` (monotonic clock), and say how it went."""
        gate = threading.Event()
        while self._last is not None and self._busy.is_set() and monotonic_ns() < deadline_ns:
            gate.wait(0.02)
        if self._last is not None and self._busy.is_set():
            self._skipped += 1
        else:
            self._hand_over_last()
            self._thread.join(max((deadline_ns - monotonic_ns()) / NS_PER_S, 0.1))
        complete = not self._thread.is_alive() and not self._last_failed
        if self._thread.is_alive() and not self._error:
            self._error = f"no answer within {CLOSE_S:g} s"
        return TelemetryFacts(
            self._kind, self._endpoint, self._exports, self._failed, self._skipped, complete, self._error
        )

    _last_failed = True

    def _work(self) -> None:
        while (item := self._waiting.get()) is not None:
            try:
                problem = self._export(*item)
            except Exception as error:  # noqa: BLE001  # whatever an exporter raises, the run goes on
                problem = f"{type(error).__name__}: {error}"
            self._exports += 1
            self._last_failed = bool(problem)
            if problem:
                self._failed += 1
                self._error = in_short(problem)
            self._busy.clear()


_SYSTEM_SAYS = re.compile(r"\[Errno -?\d+\] ([^\"')]+)|\(\d+, '([^']+)'\)")


def in_short(problem: str) -> str:
    """Return what went wrong: what the system said, where a library has put its own words around that."""
    found = _SYSTEM_SAYS.search(problem)
    said = (found[1] or found[2]) if found else problem
    return " ".join(said.split())[:300]


class Words(logging.Handler):
    """Keeps what an exporter logs, instead of letting it write over the live view; of each thread for itself."""

    def __init__(self, *loggers: str) -> None:
        super().__init__(logging.WARNING)
        self._first: dict[int, str] = {}
        for name in loggers:
            logger = logging.getLogger(name)
            logger.addHandler(self)
            logger.propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the first message of an export, which names the cause; later ones tell of retries and giving up."""
        self._first.setdefault(threading.get_ident(), record.getMessage())

    def take(self) -> str:
        """Return the message of this thread and forget it."""
        return self._first.pop(threading.get_ident(), "")
