"""Marks: points in the agent's audio whose playing the agent wants to hear of."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from voxload.wheel import Wheel

MARKS_MAX = 1000
"""An agent that asks for more at once gets no answer to the oldest ones."""


def _ignore(_name: str) -> None:
    pass


class Marks:
    """The marks of one call that wait for the audio before them; `played(name)` is called once for each, in order."""

    __slots__ = ("_pending", "_played", "_wheel")

    def __init__(self, wheel: Wheel, played: Callable[[str], None]) -> None:
        self._wheel = wheel
        self._played = played
        self._pending: deque[tuple[int, str]] = deque(maxlen=MARKS_MAX)

    def add(self, name: str, plays_until_ns: int, now_ns: int) -> None:
        """Note a mark behind audio that plays until `plays_until_ns`."""
        due_ns = max(plays_until_ns, now_ns)
        self._pending.append((due_ns, name))
        if due_ns <= now_ns:
            self.on_due(now_ns)
        else:
            self._wheel.at(due_ns, self.on_due)

    def on_due(self, due_ns: int) -> int:
        """Report the marks whose audio has been played."""
        while self._pending and self._pending[0][0] <= due_ns:
            self._played(self._pending.popleft()[1])
        return 0

    def flush(self) -> None:
        """Report all marks: the audio before them has been dropped."""
        while self._pending:
            self._played(self._pending.popleft()[1])

    def clear(self) -> None:
        """The call is over: report nothing more, and hold nothing of it."""
        self._pending.clear()
        self._played = _ignore
