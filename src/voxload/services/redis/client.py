"""Connects to Redis in its several forms by redis-py, and says what its errors mean."""

from __future__ import annotations

from typing import Any

from redis import exceptions
from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from voxload.clock import NS_PER_S
from voxload.model.outcome import Outcome
from voxload.services.base import OperationFailedError
from voxload.services.redis.options import Address, RedisOptions

CONNECTIONS_MAX = 1_000_000
"""As many connections as there are sessions: what limits them is counted, not hidden by a pool."""

AnyRedis = Any
"""`Redis` or `RedisCluster`; their types do not say what they share."""


def connect(address: Address, options: RedisOptions) -> AnyRedis:
    """Return a client; it connects when it is first used. Nothing is tried twice: an error is an error."""
    common: dict[str, Any] = {
        "username": options.username or address.username or None,
        "password": options.password.value or address.password or None,
        "socket_timeout": options.command_timeout_ns / NS_PER_S,
        "socket_connect_timeout": options.connect_timeout_ns / NS_PER_S,
        "socket_keepalive": True,
        "decode_responses": True,
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
        **(_tls(options) if address.tls else {}),
    }
    if address.kind == "cluster":
        nodes = [ClusterNode(host, port) for host, port in address.hosts]
        return RedisCluster(startup_nodes=nodes, max_connections=CONNECTIONS_MAX, **common)
    if address.kind == "sentinel":
        login = {"password": common["password"]} if common["password"] else {}
        to_sentinels = {"socket_timeout": common["socket_timeout"], **(_tls(options) if address.tls else {})}
        sentinel: Any = Sentinel(  # type: ignore[no-untyped-call]
            list(address.hosts), sentinel_kwargs=to_sentinels, **(common | login)
        )
        return sentinel.master_for(address.service, db=address.database, max_connections=CONNECTIONS_MAX)
    common["max_connections"] = CONNECTIONS_MAX
    if address.path:
        del common["socket_keepalive"]
        return Redis(unix_socket_path=address.path, **common)
    host, port = address.hosts[0]
    return Redis(host=host, port=port, db=address.database, **common)


def _tls(options: RedisOptions) -> dict[str, Any]:
    tls = options.tls
    return {
        "ssl": True,
        "ssl_ca_certs": tls.ca_file or None,
        "ssl_cert_reqs": "required" if tls.verify else "none",
        "ssl_check_hostname": tls.verify,
        "ssl_certfile": tls.cert_file or None,
        "ssl_keyfile": tls.key_file or None,
    }


def failure(error: Exception, step: str) -> OperationFailedError:
    """Return what an error of redis-py means for a session; `step` names what was being done."""
    text = " ".join(str(error).split())[:300] or type(error).__name__
    outcome = Outcome.STEP_FAILED
    if "max number of clients" in text:
        outcome, text = Outcome.REJECTED, f"the server's limit of connections (maxclients) is reached: {text}"
    elif isinstance(error, exceptions.AuthenticationError | exceptions.NoPermissionError):
        outcome = Outcome.REJECTED
    elif isinstance(error, exceptions.OutOfMemoryError):
        outcome, text = Outcome.REJECTED, f"the server's memory is full (maxmemory): {text}"
    elif isinstance(error, exceptions.TimeoutError | TimeoutError):
        outcome = Outcome.TIMEOUT
    elif isinstance(error, exceptions.ConnectionError | exceptions.RedisClusterException | OSError):
        outcome = Outcome.CONNECT_FAILED
    return OperationFailedError(outcome, f"{step}: {text}")
