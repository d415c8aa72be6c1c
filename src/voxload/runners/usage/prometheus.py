"""CPU and memory as Prometheus knows them, by its HTTP API."""

from __future__ import annotations

import math
from typing import Any

import aiohttp

from voxload.model.usage import PrometheusUsage
from voxload.runners.usage.source import Reading, UnreadableError, UsageSource

TIMEOUT_S = 5.0
PART_LABELS = ("instance", "pod", "container", "node")


class PrometheusSource(UsageSource):
    """Asks the queries anew at every interval."""

    def __init__(self, name: str, settings: PrometheusUsage, token: str) -> None:
        super().__init__(name, settings.interval_ns)
        self._settings, self._token = settings, token
        self._http: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Ask once."""
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        self._http = aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=TIMEOUT_S))
        await self.read()

    async def read(self) -> list[Reading]:
        """Return what the queries say now."""
        found: list[Reading] = []
        for metric, query in (("target_cpu", self._settings.cpu), ("target_memory", self._settings.memory)):
            if query:
                found += [Reading(metric, percent, part) for part, percent in await self._ask(query)]
        return found

    async def _ask(self, query: str) -> list[tuple[str, float]]:
        assert self._http is not None
        url = f"{self._settings.url.rstrip('/')}/api/v1/query"
        try:
            async with self._http.get(url, params={"query": query}) as answer:
                status, body = answer.status, await answer.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise UnreadableError(f"{self._settings.url}: {error or type(error).__name__}") from None
        if status != 200 or not isinstance(body, dict) or body.get("status") != "success":
            words = body.get("error", "") if isinstance(body, dict) else ""
            raise UnreadableError(f"{self._settings.url} answered {status} to {query!r} {words}".rstrip())
        try:
            values = _values(body["data"])
        except (KeyError, TypeError, ValueError, IndexError):
            raise UnreadableError(f"{self._settings.url} answered what is no number to {query!r}") from None
        if not values:
            raise UnreadableError(f"{self._settings.url} has no values for {query!r}")
        return values

    async def close(self) -> None:
        """Close the connection."""
        if self._http is not None:
            await self._http.close()


def _values(data: dict[str, Any]) -> list[tuple[str, float]]:
    """Return (part, value) of an instant query's answer; what is not a number (0/0) is left out."""
    if data["resultType"] == "scalar":
        found = [("", float(data["result"][1]))]
    else:
        several = len(data["result"]) > 1
        found = [(_part(item["metric"]) if several else "", float(item["value"][1])) for item in data["result"]]
    return [(part, value) for part, value in found if math.isfinite(value) and value >= 0]


def _part(labels: dict[str, str]) -> str:
    named = next((labels[name] for name in PART_LABELS if name in labels), "")
    return named or ",".join(f"{name}={value}" for name, value in sorted(labels.items()))[:80]
