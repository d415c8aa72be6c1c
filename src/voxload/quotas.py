"""Limits of the services behind an agent: how many at once, and how many tokens a minute; no clock, no waiting."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from voxload.clock import NS_PER_S

NS_PER_MINUTE = 60 * NS_PER_S


class ConcurrencyLimit:
    """Counts what is in use at once; a `limit` of 0 means none.

    Whoever is refused may `wait`: the slots that come free go to the waiting in order of arrival.
    """

    __slots__ = ("_waiting", "in_use", "limit", "peak", "refused")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.in_use = 0
        self.peak = 0
        self.refused = 0
        self._waiting: deque[Callable[[], bool]] = deque()

    def acquire(self) -> bool:
        """Take a slot, or count a refusal and return False."""
        if self.limit and self.in_use >= self.limit:
            self.refused += 1
            return False
        self.in_use += 1
        self.peak = max(self.peak, self.in_use)
        return True

    def wait(self, granted: Callable[[], bool]) -> None:
        """Call `granted` with a slot as soon as one is free; it returns False when it no longer wants the slot."""
        self._waiting.append(granted)

    def release(self) -> None:
        """Give a slot back: the longest waiting gets it, else it is free.

        Raises:
            RuntimeError: no slot is in use.
        """
        if not self.in_use:
            raise RuntimeError("released a slot that nobody held")
        while self._waiting:
            if self._waiting.popleft()():
                return
        self.in_use -= 1

    @property
    def waiting(self) -> int:
        """How many wait for a slot."""
        return len(self._waiting)


class TokenBucket:
    """A bucket of `per_minute` tokens, full at the start and refilled evenly; 0 means no limit.

    The level is kept in integer units of 1/60e9 token, of which `per_minute` flow in each nanosecond: no rounding ever.
    """

    __slots__ = ("_level", "_updated_ns", "per_minute", "refused", "taken")

    def __init__(self, per_minute: int, now_ns: int) -> None:
        self.per_minute = per_minute
        self.refused = 0
        self.taken = 0
        self._level = per_minute * NS_PER_MINUTE
        self._updated_ns = now_ns

    def take(self, tokens: int, now_ns: int) -> int:
        """Take `tokens` and return 0; or take none and return after how many ns they will be there.

        Raises:
            ValueError: more than a full bucket was asked for, which no wait can give.
        """
        if not self.per_minute:
            self.taken += tokens
            return 0
        if tokens > self.per_minute:
            raise ValueError(f"{tokens} tokens can never be taken from a bucket of {self.per_minute}")
        if now_ns > self._updated_ns:
            flowed = (now_ns - self._updated_ns) * self.per_minute
            self._level = min(self._level + flowed, self.per_minute * NS_PER_MINUTE)
            self._updated_ns = now_ns
        missing = tokens * NS_PER_MINUTE - self._level
        if missing <= 0:
            self._level = -missing
            self.taken += tokens
            return 0
        self.refused += 1
        return -(-missing // self.per_minute)
