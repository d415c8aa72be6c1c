"""Whether a run has found its target at all: one whose every call failed to connect says nothing of the agent."""

from __future__ import annotations

from voxload.measure.collector import Collector
from voxload.model.outcome import Outcome

UNREACHABLE = "the target cannot be reached: no call found a connection"


def out_of_contact(collector: Collector, calls_min: int = 1) -> bool:
    """Return whether so many calls were attempted and ended, and none of them had found a connection."""
    attempted = collector.attempted()
    none_found = collector.outcomes[Outcome.CONNECT_FAILED] == attempted
    return attempted >= calls_min and none_found and not any(collector.levels())


def unreachable_words(collector: Collector) -> str:
    """Return that the target cannot be reached, with the reason that most calls met."""
    errors = [error for error in collector.errors() if error.outcome == Outcome.CONNECT_FAILED]
    return f"{UNREACHABLE}; {errors[0].text}" if errors and errors[0].text else UNREACHABLE
