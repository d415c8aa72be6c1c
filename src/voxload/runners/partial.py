"""What a run has measured so far, written while it goes on: a run that is killed keeps it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec

from voxload.clock import NS_PER_S, monotonic_ns
from voxload.errors import RunAbortedError
from voxload.measure.summary import PARTIAL_FILE, Summary, TimelinePoint
from voxload.runners.results import write_atomically

INTERVAL_S = 10.0
FIRST_S = 1.0
"""A short run is written more often: after one second, two, four, and so on up to the interval."""
COST_SHARE_MAX = 0.02
"""The interval grows with the run, so that writing takes no more of the runner's time than this."""


class PartialSummary:
    """Writes `summary.partial.json`; call `on_tick` now and then, and `done` when the real summary is written.

    `summarise(elapsed_s)` makes it without the time line, whose `points` are written one by one: all of them at once
    would take more and more memory, the longer the run.
    """

    def __init__(
        self,
        folder: Path,
        summarise: Callable[[float], Summary],
        points: Callable[[], Iterable[TimelinePoint]],
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._file = folder / PARTIAL_FILE
        self._summarise = summarise
        self._points = points
        self._interval_s = interval_s
        self._next_s = 0.0

    def on_tick(self, elapsed_s: float) -> None:
        """Write what there is, if it is time. A full disk ends nothing: the numbers are in memory still."""
        if elapsed_s < self._next_s:
            return
        begun_ns = monotonic_ns()
        with contextlib.suppress(RunAbortedError):
            write_atomically(self._file, _in_pieces(self._summarise(elapsed_s), self._points()))
        cost_s = (monotonic_ns() - begun_ns) / NS_PER_S
        interval_s = min(self._interval_s, max(FIRST_S, elapsed_s))
        self._next_s = elapsed_s + max(interval_s, cost_s / COST_SHARE_MAX)

    def done(self) -> None:
        """Remove it: `summary.json` says more."""
        self._file.unlink(missing_ok=True)


def _in_pieces(summary: Summary, points: Iterable[TimelinePoint]) -> Iterator[bytes]:
    """Yield the JSON of a summary with these points as its time line."""
    encode = msgspec.json.Encoder().encode
    yield b"{"
    for name in summary.__struct_fields__:
        if name != "timeline":
            yield encode(name) + b":" + encode(getattr(summary, name)) + b",\n"
    yield b'"timeline":[\n'
    for number, point in enumerate(points):
        yield (b",\n" if number else b"") + encode(point)
    yield b"\n]}\n"
