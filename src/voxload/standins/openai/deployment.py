"""One deployment of the stand-in for chat completions: its quota, and how long its tokens take."""

from __future__ import annotations

from collections import Counter
from itertools import accumulate, chain

from voxload.draws import Sampler, build_sampler
from voxload.standins.openai.quota import Quota
from voxload.standins.openai.settings import DeploymentSettings


class Deployment:
    """One deployment: its quota, and how long its tokens take."""

    def __init__(self, name: str, settings: DeploymentSettings, seed: int, now_ns: int) -> None:
        self.name, self.settings = name, settings
        self.quota = Quota(settings, now_ns)
        self.requests = 0
        self.counts: Counter[str] = Counter()
        self._first: Sampler = build_sampler(settings.first_token, seed, f"{name}/first_token")
        self._inter: Sampler = build_sampler(settings.inter_token, seed, f"{name}/inter_token")

    def schedule(self, number: int, tokens: int, since_ns: int) -> list[int]:
        """Return when each token of a request's answer is due."""
        gaps = (self._inter(f"{self.name}/{number}", place) for place in range(1, tokens))
        return list(accumulate(chain((since_ns + self._first(self.name, number),), gaps)))
