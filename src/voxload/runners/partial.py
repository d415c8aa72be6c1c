"""What a run has measured so far, written while it goes on: a run that is killed keeps it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from voxload.clock import NS_PER_S, monotonic_ns
from voxload.errors import RunAbortedError
from voxload.measure.summary import PARTIAL_FILE, Summary, encode_summary
from voxload.runners.results import write_atomically

INTERVAL_S = 10.0
COST_SHARE_MAX = 0.02
"""The interval grows with the run, so that writing takes no more of the runner's time than this."""


class PartialSummary:
    """Writes `summary.partial.json`; call `on_tick` now and then, and `done` when the real summary is written."""

    def __init__(self, folder: Path, summarise: Callable[[float], Summary], interval_s: float = INTERVAL_S) -> None:
        self._file = folder / PARTIAL_FILE
        self._summarise = summarise
        self._interval_s = interval_s
        self._next_s = 0.0

    def on_tick(self, elapsed_s: float) -> None:
        """Write what there is, if it is time. A full disk ends nothing: the numbers are in memory still."""
        if elapsed_s < self._next_s:
            return
        begun_ns = monotonic_ns()
        with contextlib.suppress(RunAbortedError):
            write_atomically(self._file, encode_summary(self._summarise(elapsed_s)))
        cost_s = (monotonic_ns() - begun_ns) / NS_PER_S
        self._next_s = elapsed_s + max(self._interval_s, cost_s / COST_SHARE_MAX)

    def done(self) -> None:
        """Remove it: `summary.json` says more."""
        self._file.unlink(missing_ok=True)
