"""The source addresses of a run: whether they are this machine's and lead to the target, and how many `auto` means."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

import psutil

from voxload.engine.proxies import SOCKS, proxy_for
from voxload.engine.sources import is_here
from voxload.errors import BadInputError, Problem, RunAbortedError
from voxload.model.plan import PlannedTarget
from voxload.model.scenario import Scenario
from voxload.runners.checks import Findings

_PLACE = ("source_addresses",)
_SHOWN_MAX = 8
_FIRST = ipaddress.IPv4Address("127.0.0.1")


def check_sources(scenario: Scenario, target: str | tuple[PlannedTarget, ...], findings: Findings) -> tuple[str, ...]:
    """Check a scenario's source addresses against this machine and its targets; returns them, nothing for `auto`.

    `target` is as `check_scenario` returns it.
    """
    written = scenario.source_addresses
    if not written:
        return ()
    urls = [target] if isinstance(target, str) else [each.url for each in target]
    hosts = [_host(url) for url in urls]
    if any(_by_socks(url) for url in urls):
        findings.problem(_PLACE, "source_addresses: the environment leads to the target through a SOCKS proxy")
    if isinstance(written, str):
        for host in hosts:
            address = _address(host)
            if host != "localhost" and (address is None or address.version != 4 or not address.is_loopback):
                findings.problem(
                    _PLACE, f"source_addresses: auto is for a target at 127.0.0.0/8, and {host} is none", _own_ones()
                )
        return ()
    addresses = tuple(written)
    for text in addresses:
        source = ipaddress.ip_address(text)
        if not is_here(text):
            findings.problem(_PLACE, f"source_addresses: {text} is not an address of this machine", _own_ones())
            continue
        for host in hosts:
            if _cannot_reach(source, _address(host)):
                findings.problem(_PLACE, f"source_addresses: {host} cannot be reached from {text}", _own_ones())
    return addresses


def problems_of(addresses: Sequence[str]) -> list[Problem]:
    """Return which of the addresses are not this machine's."""
    return [
        Problem(f"--source-address: {text} is not an address of this machine", suggestion=_own_ones())
        for text in addresses
        if not is_here(text)
    ]


def auto_sources(count: int) -> tuple[str, ...]:
    """Return the first `count` addresses of 127.0.0.0/8; nothing for one, which the system chooses by itself.

    Raises:
        BadInputError: this machine has not so many (on Linux it has them all).
    """
    if count == 1:
        return ()
    found = tuple(str(_FIRST + number) for number in range(count))
    missing = [address for address in found if not is_here(address)]
    if missing:
        message = f"source_addresses: auto needs {count} addresses, and {missing[0]} is not one of this machine"
        raise BadInputError([Problem(message, suggestion=f"add it: ifconfig lo0 alias {missing[0]}")])
    return found


def _cannot_reach(
    source: ipaddress.IPv4Address | ipaddress.IPv6Address, target: ipaddress.IPv4Address | ipaddress.IPv6Address | None
) -> bool:
    if target is None:
        return False  # a name, which may lead anywhere
    return source.version != target.version or (source.is_loopback and not target.is_loopback)


def _by_socks(url: str) -> bool:
    try:
        return bool(url) and (proxy_for(url) or "").startswith(SOCKS)
    except RunAbortedError:  # said by the run itself
        return False


def _host(url: str) -> str:
    return (urlsplit(url).hostname or "") if url else str(_FIRST)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _own_ones() -> str:
    """Return this machine's addresses in words."""
    found = []
    for each in psutil.net_if_addrs().values():
        found += [item.address for item in each if _address(item.address) is not None]
    shown = ", ".join(found[:_SHOWN_MAX])
    return f"this machine has {shown}" + (", and more" if len(found) > _SHOWN_MAX else "")
