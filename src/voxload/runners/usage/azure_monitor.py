"""CPU and memory as Azure Monitor knows them: one value a minute, some minutes late."""

from __future__ import annotations

import asyncio
from typing import Any

from voxload.clock import NS_PER_S, Clock, minutes, unix_ns_of, utc_of
from voxload.measure.extra import require
from voxload.model.usage import AzureMonitorUsage
from voxload.runners.usage.source import Reading, UnreadableError, UsageSource

NS_PER_MINUTE = 60 * NS_PER_S
POLL_S = 15.0
LOCAL = ("http://127.0.0.1", "http://localhost", "http://[::1]")


class AzureMonitorSource(UsageSource):
    """Asks once a minute for the values since the run began, and after it for those that are still missing."""

    def __init__(self, name: str, settings: AzureMonitorUsage, wall_ns: Clock) -> None:
        super().__init__(name, NS_PER_MINUTE)
        self._settings, self._wall_ns = settings, wall_ns
        self._seen: set[tuple[str, int]] = set()
        self._start_ns = 0
        self._credential: Any = None
        self._client: Any = None

    async def open(self) -> None:
        """See that the metrics can be asked for."""
        module = require("azure.monitor.querymetrics.aio", "azure-monitor")
        self._credential = require("azure.identity.aio", "azure-monitor").DefaultAzureCredential()
        audience = "https://metrics.monitor.azure.com"
        self._client = module.MetricsClient(self._settings.endpoint, self._credential, audience=audience)
        self._start_ns = self._wall_ns()
        await self._ask(self._start_ns - 5 * NS_PER_MINUTE, self._start_ns)

    async def read(self) -> list[Reading]:
        """Return the values that have become known since the last reading."""
        return self._fresh(await self._ask(self._start_ns, self._wall_ns()))

    async def last(self, start_unix_ns: int, end_unix_ns: int) -> list[Reading]:
        """Wait until the last minute of the run is known, or long enough."""
        self._start_ns = start_unix_ns
        wanted_ns = end_unix_ns // NS_PER_MINUTE * NS_PER_MINUTE
        found: list[Reading] = []
        deadline_ns = self._wall_ns() + self._settings.wait_ns
        while True:
            found += self._fresh(await self._ask(start_unix_ns, end_unix_ns + NS_PER_MINUTE))
            known = {metric for metric, at_ns in self._seen if at_ns >= wanted_ns}
            if len(known) == len(self._metrics()) or self._wall_ns() >= deadline_ns:
                return [item for item in found if (item.unix_ns or 0) <= end_unix_ns]
            await asyncio.sleep(min(POLL_S, max((deadline_ns - self._wall_ns()) / NS_PER_S, 0.01)))

    def _metrics(self) -> dict[str, str]:
        named = {self._settings.cpu: "target_cpu", self._settings.memory: "target_memory"}
        return {name: metric for name, metric in named.items() if name}

    def _fresh(self, readings: list[Reading]) -> list[Reading]:
        found = [item for item in readings if (item.metric, item.unix_ns or 0) not in self._seen]
        self._seen |= {(item.metric, item.unix_ns or 0) for item in found}
        return found

    async def _ask(self, start_ns: int, end_ns: int) -> list[Reading]:
        settings, metrics = self._settings, self._metrics()
        begin_ns = start_ns // NS_PER_MINUTE * NS_PER_MINUTE
        try:
            answer = await self._client.query_resources(
                resource_ids=[settings.resource],
                metric_namespace=settings.metric_namespace,
                metric_names=list(metrics),
                timespan=(utc_of(begin_ns), utc_of(max(end_ns, begin_ns + NS_PER_MINUTE))),
                granularity=minutes(1),
                aggregations=[settings.aggregation],
                enforce_https=not settings.endpoint.startswith(LOCAL),
            )
        except Exception as error:  # noqa: BLE001  # the SDK raises of many kinds; none may end the run
            raise UnreadableError(f"Azure Monitor: {' '.join(str(error).split())[:300]}") from None
        found = []
        for metric in (item for result in answer for item in result.metrics):
            for value in (item for series in metric.timeseries for item in series.data):
                amount = value.maximum if settings.aggregation == "Maximum" else value.average
                if amount is not None and metric.name in metrics:
                    found.append(Reading(metrics[metric.name], float(amount), unix_ns=unix_ns_of(value.timestamp)))
        return found

    async def close(self) -> None:
        """Close the client and its credential."""
        for item in (self._client, self._credential):
            if item is not None:
                await item.close()
