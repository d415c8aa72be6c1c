"""Which proxy the environment names for a target, and whether there is need of TLS."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from voxload.errors import RunAbortedError

SOCKS = ("socks4", "socks5")
KNOWN_SCHEMES = ("http", "https", *SOCKS)
_ALIASES = {"socks5h": "socks5", "socks4a": "socks4", "socks": "socks5"}
_WEB_SCHEME = {"ws": "http", "wss": "https"}


def proxy_for(url: str) -> str | None:
    """Return the proxy that the environment names for `url` (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY).

    Addresses of this machine are reached directly, whatever the environment says.

    Raises:
        RunAbortedError: it names a proxy of a kind that is not known.
    """
    parts = urlsplit(url)
    scheme = _WEB_SCHEME.get(parts.scheme, parts.scheme)
    return _proxy_for(scheme, parts.hostname or "", parts.netloc.rpartition("@")[2])


@lru_cache(maxsize=1024)
def is_plain(url: str) -> bool:
    """Return whether nothing speaks TLS on the way to `url`, which then is an address of this machine."""
    parts = urlsplit(url)
    return parts.scheme in {"http", "ws"} and _is_here(parts.hostname or "")


@lru_cache(maxsize=1024)
def _proxy_for(scheme: str, host: str, authority: str) -> str | None:
    proxies = getproxies_environment()
    found = proxies.get(scheme) or proxies.get("all")
    if not found or _is_here(host) or proxy_bypass(authority, proxies):
        return None
    return _normal(found)


def _normal(proxy: str) -> str:
    scheme, separator, rest = proxy.partition("://")
    if not separator:
        return f"http://{proxy}"
    scheme = _ALIASES.get(scheme.lower(), scheme.lower())
    if scheme not in KNOWN_SCHEMES:
        known = ", ".join(f"{name}://" for name in KNOWN_SCHEMES)
        raise RunAbortedError(f"the environment names a proxy with {scheme}://, which is none of {known}")
    return f"{scheme}://{rest}"


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
