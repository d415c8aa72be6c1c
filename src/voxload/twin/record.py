"""The numbers of one call at the agent, kept small so that many ended calls can be asked about."""

from __future__ import annotations

from typing import Any

TURNS_KEPT = 50


class CallRecord:
    """What the agent counted in one call; times in ns of the agent's monotonic clock."""

    __slots__ = (
        "admitted_ns", "call_id", "connected_ns", "ended_ns", "faults", "frames_in", "frames_out", "interruptions",
        "latencies_ns", "outcome", "rate_limited", "turns", "unknown",
    )  # fmt: skip

    def __init__(self, call_id: str, admitted_ns: int) -> None:
        self.call_id = call_id
        self.admitted_ns = admitted_ns
        self.connected_ns = 0
        self.ended_ns = 0
        self.outcome = ""
        self.turns = 0
        self.frames_in = 0
        self.frames_out = 0
        self.interruptions = 0
        self.rate_limited = 0
        self.unknown = 0
        self.faults: dict[str, int] = {}
        """How often each fault has struck, by its name."""
        self.latencies_ns: list[dict[str, int]] = []
        """Of the first turns: the stages that were drawn, and `reply`, measured from the end of speech to the reply."""

    def keep(self, turn: dict[str, int]) -> None:
        """Keep the latencies of one turn, in ns by name, unless there are enough."""
        if len(self.latencies_ns) < TURNS_KEPT:
            self.latencies_ns.append(turn)

    def as_metrics(self, origin_ns: int, now_ns: int) -> dict[str, Any]:
        """Return the call's numbers as plain JSON values; `origin_ns` is when the agent's process started."""
        end_ns = self.ended_ns or now_ns
        return {
            "session_id": self.call_id,
            "status": "ended" if self.ended_ns else "active" if self.connected_ns else "pending",
            "outcome": self.outcome,
            "started_offset_ms": _ms(self.admitted_ns - origin_ns),
            "duration_ms": _ms(end_ns - self.admitted_ns),
            "turns": self.turns,
            "frames_in": self.frames_in,
            "frames_out": self.frames_out,
            "interruptions": self.interruptions,
            "rate_limited": self.rate_limited,
            "unknown_messages": self.unknown,
            "faults": dict(self.faults),
            "latency_ms": [{name: _ms(value) for name, value in turn.items()} for turn in self.latencies_ns],
        }


def _ms(duration_ns: int) -> float:
    return round(duration_ns / 1e6, 3)
