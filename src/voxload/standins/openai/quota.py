"""The quota of one deployment: tokens and requests a minute, and the headers that tell what is left.

Source: Microsoft, "Manage Azure OpenAI quota": a request counts, when it is received, with the tokens that it may take
at most, the prompt's (estimated from its characters) and `max_tokens`.
"""

from __future__ import annotations

from voxload.clock import NS_PER_S
from voxload.quotas import NS_PER_MINUTE, TokenBucket, minute_quota
from voxload.standins.openai.settings import DeploymentSettings

REQUEST_WINDOW_S = 10
"""Requests a minute are held to over this time: the service wants them spread evenly."""


class Quota:
    """What a deployment lets through."""

    def __init__(self, settings: DeploymentSettings, now_ns: int) -> None:
        self.tokens = minute_quota(settings.quota, settings.tokens_per_minute, now_ns)
        limit = settings.requests_limit
        self.requests = TokenBucket(limit, now_ns, -(-limit * REQUEST_WINDOW_S // 60))

    def admit(self, tokens: int, now_ns: int) -> tuple[str, int]:
        """Let a request of so many tokens through, or return (`token` or `request`, ns to wait).

        A request that no minute has the tokens for is told to wait a minute, each time.
        """
        try:
            wait_ns = self.tokens.wait_ns(tokens, now_ns)
        except ValueError:
            self.tokens.refused += 1
            return "token", NS_PER_MINUTE
        request_wait_ns = self.requests.wait_ns(1, now_ns)
        if wait_ns or request_wait_ns:
            (self.requests if request_wait_ns > wait_ns else self.tokens).refused += 1
            return ("request", request_wait_ns) if request_wait_ns > wait_ns else ("token", wait_ns)
        self.tokens.take(tokens, now_ns)
        self.requests.take(1, now_ns)
        return "", 0

    def headers(self, now_ns: int) -> dict[str, str]:
        """Return the `x-ratelimit-…` headers."""
        found = {}
        for name, quota in (("requests", self.requests), ("tokens", self.tokens)):
            if quota.per_minute:
                found[f"x-ratelimit-limit-{name}"] = str(quota.per_minute)
                found[f"x-ratelimit-remaining-{name}"] = str(quota.remaining(now_ns))
                found[f"x-ratelimit-reset-{name}"] = _span(quota.full_in_ns(now_ns))
        return found

    def counts(self) -> dict[str, int]:
        """Return what was let through and refused."""
        return {
            "tokens_admitted": self.tokens.taken,
            "requests_admitted": self.requests.taken,
            "refused_by_tokens": self.tokens.refused,
            "refused_by_requests": self.requests.refused,
        }


def _span(wait_ns: int) -> str:
    """Return a wait as the service writes it: `6ms`, `1.5s`, `6m0s`."""
    if wait_ns < NS_PER_S:
        return f"{-(-wait_ns // 1_000_000)}ms"
    seconds = wait_ns / NS_PER_S
    return f"{int(seconds // 60)}m{seconds % 60:.0f}s" if seconds >= 60 else f"{seconds:.3g}s"
