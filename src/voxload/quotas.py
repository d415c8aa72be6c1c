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
    """A bucket that is full at the start and refilled evenly, `per_minute` tokens a minute; 0 means no limit.

    It holds `burst` tokens, as many as a minute brings by default. The level is kept in integer units of 1/60e9 token,
    of which `per_minute` flow in each nanosecond: no rounding ever.
    """

    __slots__ = ("_level", "_updated_ns", "burst", "per_minute", "refused", "taken")

    def __init__(self, per_minute: int, now_ns: int, burst: int = 0) -> None:
        self.per_minute = per_minute
        self.burst = burst or per_minute
        self.refused = 0
        self.taken = 0
        self._level = self.burst * NS_PER_MINUTE
        self._updated_ns = now_ns

    def wait_ns(self, tokens: int, now_ns: int) -> int:
        """Return after how many ns `tokens` will be there, 0 if they are; takes none.

        Raises:
            ValueError: more than a full bucket was asked for, which no wait can give.
        """
        if not self.per_minute:
            return 0
        if tokens > self.burst:
            raise ValueError(f"{tokens} tokens can never be taken from a bucket of {self.burst}")
        self._refill(now_ns)
        missing = tokens * NS_PER_MINUTE - self._level
        return -(-missing // self.per_minute) if missing > 0 else 0

    def take(self, tokens: int, now_ns: int) -> int:
        """Take `tokens` and return 0; or take none and return after how many ns they will be there.

        Raises:
            ValueError: more than a full bucket was asked for, which no wait can give.
        """
        wait_ns = self.wait_ns(tokens, now_ns)
        if wait_ns:
            self.refused += 1
            return wait_ns
        self.taken += tokens
        if self.per_minute:
            self._level -= tokens * NS_PER_MINUTE
        return 0

    def remaining(self, now_ns: int) -> int:
        """Return how many whole tokens are there."""
        self._refill(now_ns)
        return self._level // NS_PER_MINUTE

    def full_in_ns(self, now_ns: int) -> int:
        """Return after how many ns it will be full again."""
        self._refill(now_ns)
        missing = self.burst * NS_PER_MINUTE - self._level
        return -(-missing // self.per_minute) if self.per_minute else 0

    def _refill(self, now_ns: int) -> None:
        if now_ns > self._updated_ns:
            flowed = (now_ns - self._updated_ns) * self.per_minute
            self._level = min(self._level + flowed, self.burst * NS_PER_MINUTE)
            self._updated_ns = now_ns


class MinuteWindow:
    """Gives `per_minute` tokens in each minute, counted anew when the minute is over; 0 means no limit."""

    __slots__ = ("_used", "_window", "burst", "per_minute", "refused", "start_ns", "taken")

    def __init__(self, per_minute: int, now_ns: int) -> None:
        self.per_minute = self.burst = per_minute
        self.start_ns = now_ns
        self.refused = 0
        self.taken = 0
        self._window = 0
        self._used = 0

    def wait_ns(self, tokens: int, now_ns: int) -> int:
        """As `TokenBucket.wait_ns`."""
        if not self.per_minute:
            return 0
        if tokens > self.per_minute:
            raise ValueError(f"{tokens} tokens can never be taken where a minute has {self.per_minute}")
        self._turn(now_ns)
        return 0 if self._used + tokens <= self.per_minute else self.full_in_ns(now_ns)

    def take(self, tokens: int, now_ns: int) -> int:
        """As `TokenBucket.take`."""
        wait_ns = self.wait_ns(tokens, now_ns)
        if wait_ns:
            self.refused += 1
            return wait_ns
        self.taken += tokens
        self._used += tokens
        return 0

    def remaining(self, now_ns: int) -> int:
        """Return how many tokens are left in this minute."""
        self._turn(now_ns)
        return self.per_minute - self._used

    def full_in_ns(self, now_ns: int) -> int:
        """Return after how many ns the next minute begins; 0 when nothing has been taken in this one."""
        self._turn(now_ns)
        return self.start_ns + (self._window + 1) * NS_PER_MINUTE - now_ns if self._used else 0

    def _turn(self, now_ns: int) -> None:
        window = (now_ns - self.start_ns) // NS_PER_MINUTE
        if window > self._window:
            self._window, self._used = window, 0


def minute_quota(kind: str, per_minute: int, now_ns: int) -> TokenBucket | MinuteWindow:
    """Return a quota per minute: `bucket` refills evenly, `window` counts anew each minute."""
    return TokenBucket(per_minute, now_ns) if kind == "bucket" else MinuteWindow(per_minute, now_ns)
