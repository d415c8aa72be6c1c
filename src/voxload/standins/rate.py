"""A limit on how much a service takes a second: a token bucket without rounding, no clock of its own."""

from __future__ import annotations

from voxload.clock import NS_PER_S


class RateLimit:
    """Lets `per_s` units a second through, `burst` (by default as many) at once; a rate of 0 means no limit.

    The level is kept in units of 1/NS_PER_S, of which `per_s` flow in each nanosecond: whole numbers, no drift.
    """

    __slots__ = ("_level", "_top", "_updated_ns", "per_s", "refused")

    def __init__(self, per_s: int, now_ns: int, burst: int = 0) -> None:
        self.per_s = per_s
        self.refused = 0
        self._top = (burst or per_s) * NS_PER_S
        self._level = self._top
        self._updated_ns = now_ns

    def wait_ns(self, units: int, now_ns: int) -> int:
        """Return after how many ns `units` will be there, 0 if they are; takes nothing.

        More than a full bucket is let through when the bucket is full.
        """
        if not self.per_s:
            return 0
        if now_ns > self._updated_ns:
            self._level = min(self._level + (now_ns - self._updated_ns) * self.per_s, self._top)
            self._updated_ns = now_ns
        missing = min(units * NS_PER_S, self._top) - self._level
        return -(-missing // self.per_s) if missing > 0 else 0

    def take(self, units: int) -> None:
        """Take `units`, for which there was no wait."""
        if self.per_s:
            self._level -= units * NS_PER_S
