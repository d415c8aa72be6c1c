"""How many calls were up at the end of each second: a number a second once it is settled, four bytes each."""

from __future__ import annotations

from array import array

OPEN_SECONDS = 90
"""So long a second waits for the reports of processes that are late."""


class Levels:
    """Sums what the processes report; one that says nothing of a second keeps its last level."""

    def __init__(self) -> None:
        self._settled = array("I")
        self._carried: dict[int, int] = {}
        """The last settled level of each process."""
        self._open: dict[int, dict[int, int]] = {}
        self._newest = -1

    def add(self, second: int, shard: int, active: int) -> None:
        """Take in the level of one process; of a second that is settled already it is ignored."""
        if second < len(self._settled):
            return
        self._open.setdefault(second, {})[shard] = active
        self._newest = max(self._newest, second)
        while len(self._settled) < self._newest - OPEN_SECONDS:
            self._carried.update(self._open.pop(len(self._settled), {}))
            self._settled.append(sum(self._carried.values()))

    def end(self, second: int, shard: int) -> None:
        """A process is lost: from this second on, the first of which it said nothing, its calls are not up."""
        if second < len(self._settled):
            self._carried[shard] = 0
        elif self._newest >= 0:
            self._open.setdefault(second, {})[shard] = 0

    def all(self) -> list[int]:
        """Return the level of every second from the first to the newest."""
        return [*self._settled, *self._unsettled()]

    def latest(self) -> int:
        """Return the level of the newest second; 0 before the first."""
        return self._unsettled()[-1] if self._open else 0

    def _unsettled(self) -> list[int]:
        last, found = dict(self._carried), []
        for second in range(len(self._settled), self._newest + 1):
            last.update(self._open.get(second, {}))
            found.append(sum(last.values()))
        return found
