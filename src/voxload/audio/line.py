"""The caller's line, frame by frame: which ones are lost, held back or muted."""

from __future__ import annotations

import bisect
import random
from collections.abc import Sequence
from functools import cache
from typing import Literal

import numpy as np

from voxload.model.line import Jitter, LineSettings, LineWindow

Action = Literal["send", "drop", "mute"]
"""send: the frame itself. mute: a frame of silence in its place. drop: nothing."""

_POOL_BITS = 14


class LineImpairment:
    """Decides the fate of each frame of one call; the same seed gives the same fates.

    The chance draws depend on the seed and the frame's number alone: frames that were never asked for change nothing
    for the later ones. Windows (`stall`, `mute`) count from `start_ns`.
    """

    __slots__ = ("_bad", "_bits", "_delays", "_last_ns", "_loss", "_mutes", "_next", "_p", "_r", "_random", "_stalls")

    def __init__(self, settings: LineSettings, seed: int, start_ns: int = 0) -> None:
        rng = random.Random(seed)
        self._random, self._bits = rng.random, rng.getrandbits
        loss = settings.loss
        burst = loss.burst if loss is not None else None
        # One state machine for both: independent loss is a chain that never leaves the good state.
        self._p, self._r = (burst.p, burst.r) if burst is not None else (0.0, 0.0)
        self._loss = (
            (burst.good_loss, burst.bad_loss)
            if burst is not None
            else ((loss.random or 0.0) if loss is not None else 0.0, 0.0)
        )
        self._bad = burst is not None and rng.random() < burst.bad_share  # in the long run from the first frame on
        self._delays = _delay_pool(settings.jitter) if settings.jitter is not None else ()
        self._stalls = _edges(settings.stall, start_ns)
        self._mutes = _edges(settings.mute, start_ns)
        self._next = 0
        self._last_ns = 0

    def plan(self, sequence: int, due_ns: int) -> tuple[Action, int]:
        """Return what becomes of a frame and how long after `due_ns` it leaves; ask in order, once a frame.

        A frame is muted when it is due in (at, at + for], that is, when its samples were spoken from `at` to
        `at + for`; nothing leaves from `at` to just before `at + for` of a stall. No frame leaves before an earlier
        one. The delay of a dropped frame is 0.
        """
        lost, delay_ns = False, 0
        while self._next <= sequence:
            self._next += 1
            lost, delay_ns = self._draw()
        if lost:
            return "drop", 0
        leave_ns = due_ns + delay_ns
        stalls = self._stalls
        if stalls:
            edge = bisect.bisect_right(stalls, leave_ns)
            if edge & 1:
                leave_ns = stalls[edge]
        leave_ns = max(leave_ns, self._last_ns)
        self._last_ns = leave_ns
        if self._mutes and bisect.bisect_left(self._mutes, due_ns) & 1:
            return "mute", leave_ns - due_ns
        return "send", leave_ns - due_ns

    def _draw(self) -> tuple[bool, int]:
        """Step the loss chain by one frame; return whether the frame is lost, and its jitter in ns."""
        if self._p:
            self._bad = self._random() >= self._r if self._bad else self._random() < self._p
        chance = self._loss[self._bad]
        lost = chance > 0 and self._random() < chance
        return lost, self._delays[self._bits(_POOL_BITS)] if self._delays else 0


def _edges(windows: Sequence[LineWindow], start_ns: int) -> list[int]:
    """Return starts and ends of windows in turn, overlapping ones merged: an instant after an odd number is inside."""
    edges: list[int] = []
    for window in sorted(windows, key=lambda item: item.at_ns):
        begin_ns = start_ns + window.at_ns
        end_ns = begin_ns + window.for_ns
        if edges and begin_ns <= edges[-1]:
            edges[-1] = max(edges[-1], end_ns)
        else:
            edges += [begin_ns, end_ns]
    return edges


@cache
def _delay_pool(jitter: Jitter) -> tuple[int, ...]:
    """Return 2^14 delays in ns to pick from, shared by all calls: one pick costs far less than a gamma variate."""
    size = 1 << _POOL_BITS
    if jitter.span_ns is not None:
        values = np.linspace(*jitter.span_ns, size)
    else:
        assert jitter.mean_ns is not None
        assert jitter.std_ns is not None
        # Gamma with shape k = (mean/std)² and scale θ = std²/mean has this mean and deviation and is never negative.
        shape, scale = (jitter.mean_ns / jitter.std_ns) ** 2, jitter.std_ns**2 / jitter.mean_ns
        values = np.random.default_rng(0).gamma(shape, scale, size)
    return tuple(int(value) for value in np.rint(values))
