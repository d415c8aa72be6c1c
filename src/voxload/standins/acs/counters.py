"""What the exchange has seen and done, for tests and for people who wonder."""

from __future__ import annotations

from collections import Counter
from typing import Any


class Counters:
    """Counts by name, in groups."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        """rung, answered, created, connected, ended, refused."""
        self.requests: Counter[str] = Counter()
        """REST requests by operation."""
        self.statuses: Counter[str] = Counter()
        """REST answers by status."""
        self.limited: Counter[str] = Counter()
        """Refusals by limit: requests_per_s, concurrent_calls."""
        self.events: Counter[str] = Counter()
        """Callbacks that were delivered, by type."""
        self.callbacks: Counter[str] = Counter()
        """delivered, retried, lost."""
        self.media: Counter[str] = Counter()
        """opened, failed, closed; of the exchange's own callees frames_sent, frames_received."""

    def as_data(self, active_calls: int) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "active_calls": active_calls,
            **{name: dict(sorted(group.items())) for name, group in vars(self).items()},
        }
