"""What the server says of itself before, during and after a run: `INFO`, in few words."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from redis.exceptions import RedisError

from voxload.clock import Clock
from voxload.services.redis.client import AnyRedis

_SUMMED = (
    "used_memory",
    "maxmemory",
    "connected_clients",
    "maxclients",
    "evicted_keys",
    "expired_keys",
    "rejected_connections",
    "total_connections_received",
    "total_commands_processed",
)


class Watch:
    """Asks for INFO; of a cluster, the sum over its primaries."""

    def __init__(self, client: AnyRedis, clock: Clock, *, cluster: bool) -> None:
        self._client, self._clock, self._cluster = client, clock, cluster
        self._looked_ns = 0
        self._lock = asyncio.Lock()
        self.first: dict[str, int] = {}
        self.last: dict[str, int] = {}
        self.most_clients = self.most_memory = 0
        self.version = ""

    async def look(self) -> None:
        """Take one look; errors of redis-py are the caller's. One at a time: a second connection might be refused."""
        async with self._lock:
            await self._look()

    async def _look(self) -> None:
        started_ns = self._clock()
        if self._cluster:
            answer = await self._client.info(target_nodes=self._client.PRIMARIES)
        else:
            answer = await self._client.info()
        nodes = list(answer.values()) if _by_node(answer) else [answer]
        found = {name: sum(int(node.get(name, 0)) for node in nodes) for name in _SUMMED}
        if not self._cluster and not found["maxclients"]:
            found["maxclients"] = await self._configured_maxclients()
        self._looked_ns = started_ns
        self.version = str(nodes[0].get("redis_version", "?"))
        self.first = self.first or found
        self.last = found
        self.most_clients = max(self.most_clients, found["connected_clients"])
        self.most_memory = max(self.most_memory, found["used_memory"])

    async def refusals(self) -> int:
        """Return how many connections the server has refused since the first look, as of now."""
        asked_ns = self._clock()
        async with self._lock:  # one look answers all who asked before it
            if self._looked_ns <= asked_ns:
                try:
                    await self._look()
                except (RedisError, OSError, TimeoutError):
                    return 0
        return self.gained("rejected_connections")

    async def _configured_maxclients(self) -> int:
        if self.last:
            return self.last["maxclients"]
        try:
            answer = await self._client.config_get("maxclients")
        except RedisError:  # managed services do not let one ask
            return 0
        return int(answer.get("maxclients", 0))

    def gained(self, name: str) -> int:
        """Return by how much a count grew since the first look."""
        return self.last.get(name, 0) - self.first.get(name, 0)

    def facts(self) -> dict[str, str]:
        """Return it all in words."""
        if not self.first:
            return {}
        first, last = self.first, self.last
        limit = f"{last['maxclients']:,}" if last["maxclients"] else "not told"
        facts = {
            "server": f"Redis {self.version}",
            "memory before, most, after": " · ".join(
                f"{amount / 2**20:.2f} MiB" for amount in (first["used_memory"], self.most_memory, last["used_memory"])
            ),
            "clients before, most, after": (
                f"{first['connected_clients']:,} · {self.most_clients:,} · {last['connected_clients']:,} "
                f"(maxclients {limit})"
            ),
            "connections refused (maxclients)": f"{self.gained('rejected_connections'):,}",
            "keys evicted": f"{self.gained('evicted_keys'):,}",
            "commands processed": f"{self.gained('total_commands_processed'):,}",
        }
        if last["maxmemory"]:
            facts["maxmemory"] = f"{last['maxmemory'] / 2**20:.2f} MiB"
        return facts


def _by_node(answer: Mapping[str, Any]) -> bool:
    return bool(answer) and all(isinstance(value, dict) and "redis_version" in value for value in answer.values())
