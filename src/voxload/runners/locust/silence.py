"""How long a peer has not been heard of, whatever is done to the machine's wall clock meanwhile."""

from __future__ import annotations

from voxload.clock import NS_PER_S


class Silence:
    """Watches a stamp that changes each time the peer is heard of, such as Locust's wall-clock time of a heartbeat.

    Only whether the stamp has changed counts: a clock that is set ahead by an hour has not made the peer silent.
    """

    def __init__(self) -> None:
        self._stamp: float | None = None
        self._since_ns = 0

    def lasted_s(self, stamp: float | None, now_ns: int) -> float:
        """Return the seconds, on the monotonic clock, since the stamp last changed; 0 before the first one."""
        if stamp is None or stamp != self._stamp:
            self._stamp, self._since_ns = stamp, now_ns
        return (now_ns - self._since_ns) / NS_PER_S
