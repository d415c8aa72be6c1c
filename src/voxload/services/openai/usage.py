"""What a run takes of a deployment's quota: requests and tokens, a second at a time.

A quota counts a request when it comes, with the tokens that it may take at most, the prompt's and `max_tokens`,
whatever it then says (Microsoft, "Manage Azure OpenAI quota"); what is billed is what `usage` states. Both are kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from voxload.clock import NS_PER_S
from voxload.services.openai.options import DeploymentLoad

MINUTE_S = 60
SHARE_AFTER_S = 10
"""A pace over less time than this says nothing yet: the service holds requests a minute to over ten seconds."""


class Shares(NamedTuple):
    """Pace ÷ quota in percent; None where no quota is known."""

    tokens: float | None
    requests: float | None


class DeploymentUsage:
    """Counts what one deployment let through; a request counts in the second in which it was sent.

    How many tokens it took is known when it is over, so a second is told when nothing that was sent in it is open.
    """

    def __init__(self, deployment: DeploymentLoad) -> None:
        self.name = deployment.name
        self.tokens_per_minute = deployment.tokens_per_minute
        self.requests_per_minute = deployment.requests_per_minute
        self.admitted = self.refused = 0
        """Requests: let through; answered 429."""
        self.prompt_tokens = self.cached_tokens = self.completion_tokens = self.quota_tokens = 0
        self._sent = self._start_ns = self._last_ns = self._told_s = 0
        self._open: dict[int, int] = {}
        self._counted: dict[int, tuple[int, int]] = {}
        self._minute: deque[tuple[int, int]] = deque()
        self._sums = (0, 0)

    def start(self, start_ns: int) -> None:
        """Begin: the first second starts at this instant, if none has."""
        self._start_ns = self._start_ns or start_ns

    def learn(self, tokens_per_minute: int, requests_per_minute: int) -> None:
        """Take the quota that the service states, where none was given."""
        self.tokens_per_minute = self.tokens_per_minute or tokens_per_minute
        self.requests_per_minute = self.requests_per_minute or requests_per_minute

    def sent(self, request: int, sent_ns: int) -> None:
        """Note that a request is on its way, under a number of its own."""
        self._open[request] = max((sent_ns - self._start_ns) // NS_PER_S, 0)
        self._last_ns = max(self._last_ns, sent_ns)
        self._sent += 1

    def over(self, request: int, quota_tokens: int, now_ns: int) -> Iterator[Shares]:
        """Note that it is over and what it took, 0 if it was not let through; yields what is complete by now."""
        second = self._open.pop(request)
        if quota_tokens:
            self.admitted += 1
            self.quota_tokens += quota_tokens
            tokens, requests = self._counted.get(second, (0, 0))
            self._counted[second] = (tokens + quota_tokens, requests + 1)
        yield from self._tell(next(iter(self._open.values()), (now_ns - self._start_ns) // NS_PER_S))

    @property
    def elapsed_s(self) -> float:
        """Time in which requests were sent, with the pause that followed the last of them; at least 1 s."""
        pauses = max(self._sent - 1, 1)
        return max((self._last_ns - self._start_ns) / NS_PER_S * self._sent / pauses, 1.0)

    def end(self) -> Iterator[Shares]:
        """Yield what is left once nothing is open; of a run shorter than `SHARE_AFTER_S`, one share for all of it."""
        yield from self._tell(int(self.elapsed_s))
        if self._told_s < SHARE_AFTER_S and self.admitted:
            yield self.shares()

    def shares(self) -> Shares:
        """Return the shares over all the time in which requests were sent."""
        return self._shares(self.quota_tokens, self.admitted, self.elapsed_s)

    def _tell(self, until_s: int) -> Iterator[Shares]:
        """Yield for each second that is complete the pace of the minute that it ends, or of the run up to it."""
        while self._told_s < until_s:
            new = self._counted.pop(self._told_s, (0, 0))
            self._told_s += 1
            self._minute.append(new)
            old = self._minute.popleft() if len(self._minute) > MINUTE_S else (0, 0)
            self._sums = (self._sums[0] + new[0] - old[0], self._sums[1] + new[1] - old[1])
            if self._told_s >= SHARE_AFTER_S:
                yield self._shares(self._sums[0], self._sums[1], len(self._minute))

    def _shares(self, tokens: int, requests: int, time_s: float) -> Shares:
        def share(count: int, quota: int) -> float | None:
            return count * MINUTE_S / time_s / quota * 100 if quota else None

        return Shares(share(tokens, self.tokens_per_minute), share(requests, self.requests_per_minute))
