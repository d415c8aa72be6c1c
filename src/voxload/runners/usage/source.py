"""What a source of usage figures is to the sampler."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

from voxload.clock import NS_PER_S


class Reading(NamedTuple):
    """One value: `metric` is target_cpu or target_memory, in percent."""

    metric: str
    percent: float
    part: str = ""
    """Which part of the resource, where the source tells several apart."""
    unix_ns: int | None = None
    """When it was, where that is not now."""


class UnreadableError(Exception):
    """A source has no values now; the message says why."""


class UsageSource(ABC):
    """Reads the usage of one resource. Raises `UnreadableError` where it cannot."""

    def __init__(self, name: str, interval_ns: int = NS_PER_S) -> None:
        self.name, self.interval_ns = name, interval_ns

    @abstractmethod
    async def open(self) -> None:
        """See that there is something to read."""

    @abstractmethod
    async def read(self) -> list[Reading]:
        """Return what is known anew since the last reading."""

    async def last(self, start_unix_ns: int, end_unix_ns: int) -> list[Reading]:  # noqa: ARG002  # for those that are late
        """Return what becomes known only after the run."""
        return []

    async def close(self) -> None:  # noqa: B027  # some have none
        """Give connections back."""
