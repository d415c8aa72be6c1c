"""The only place that reads a clock: monotonic nanoseconds for measuring, wall time for naming."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000

Clock = Callable[[], int]
"""A monotonic clock: a function that returns integer nanoseconds.

On Linux `CLOCK_MONOTONIC` is shared by all processes of a machine, so one start instant serves every shard.
"""

monotonic_ns: Clock = time.monotonic_ns
unix_ns: Clock = time.time_ns
sleep_s = time.sleep


def utc_now() -> datetime:
    """Return the wall-clock time in UTC, for names and time stamps; never for a latency."""
    return datetime.now(UTC)


def utc_in(hours: float) -> datetime:
    """Return a time of day some hours from now (before now: negative), for what is valid from then or until then."""
    return utc_now() + timedelta(hours=hours)


def utc_text(unix_s: int) -> str:
    """Return a time of day as `2026-11-30T12:00:00`, without a fraction and a zone."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def utc_ago(seconds: float) -> datetime:
    """Return the wall-clock time in UTC so many seconds ago."""
    return datetime.now(UTC) - timedelta(seconds=seconds)


def process_cpu_ns() -> int:
    """Return the CPU time that this process has used, in nanoseconds."""
    return time.process_time_ns()


def parse_utc_s(text: str) -> float:
    """Return the Unix time of a date as ISO 8601 or as `1/31/2026 10:00:00 AM` writes it; UTC where no zone is given.

    Raises:
        ValueError: the text is neither.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = datetime.strptime(text, "%m/%d/%Y %I:%M:%S %p")  # noqa: DTZ007  # the zone is set below
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def utc_of(unix_time_ns: int) -> datetime:
    """Return a Unix time in ns as a date, for clients that want one."""
    return datetime.fromtimestamp(unix_time_ns / NS_PER_S, UTC)


def unix_ns_of(date: datetime) -> int:
    """Return the Unix time of a date; UTC where it has no zone."""
    return round((date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() * NS_PER_S)


def minutes(count: int) -> timedelta:
    """Return a span of time, for clients that want one."""
    return timedelta(minutes=count)
