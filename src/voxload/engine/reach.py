"""How the target is reached: whose certificates are trusted, from which address we come, through which proxy."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from functools import cached_property
from typing import Any

import aiohttp
from aiohttp_socks import ProxyConnector

from voxload.engine.proxies import SOCKS, is_plain, proxy_for
from voxload.engine.sources import family_of, socket_from
from voxload.load.workload import Workload

_UNKNOWN_AUTHORITY = {18, 19, 20, 21}
_EXPIRED, _NOT_YET = 10, 9
_OTHER_NAME = {62, 64}
"""Codes of X509_verify_cert_error_string(3)."""


def tls_context(authorities: str, insecure: bool) -> ssl.SSLContext:
    """Return what verifies targets: the system's authorities and those in `authorities` (PEM); nothing if insecure.

    Raises:
        ssl.SSLError: there is no certificate in `authorities`.
    """
    context = ssl.create_default_context()
    if authorities:
        context.load_verify_locations(cadata=authorities)
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class Web:
    """The HTTP clients of a process, one for each source address; beside them, one for each SOCKS proxy.

    `direct` are the clients for what is reached directly or by HTTP proxies, in the order of the `sources`; without
    `sources` it is one, and the system chooses the address.
    """

    def __init__(
        self, make_tls: Callable[[], ssl.SSLContext], direct: Sequence[aiohttp.ClientSession], sources: Sequence[str]
    ) -> None:
        self._make_tls = make_tls
        self._direct = direct
        self._factories = [_bound_to(address) for address in sources]
        self._by_proxy: dict[str, aiohttp.ClientSession] = {}

    @cached_property
    def tls(self) -> ssl.SSLContext:
        """What verifies targets; made once, when it is first wanted."""
        return self._make_tls()

    def tls_for(self, url: str) -> ssl.SSLContext | None:
        """Return what verifies the target at `url`; None where nothing on the way there speaks TLS."""
        return None if is_plain(url) else self.tls

    def socket_factory(self, call: int) -> Callable[[object], socket.socket] | None:
        """Return what makes the media socket of the call with this number, or None where the system does."""
        return self._factories[call % len(self._factories)] if self._factories else None

    def request(self, method: str, url: str, call: int = 0, **options: Any) -> Any:
        """Return aiohttp's context manager of a request of a call; redirects are not followed."""
        proxy = proxy_for(url)
        direct = self._direct[call % len(self._direct)]
        if proxy is None or not proxy.startswith(SOCKS):
            tls = self.tls_for(url) or True  # aiohttp's word for its default, which nothing asks for then
            return direct.request(method, url, proxy=proxy, allow_redirects=False, ssl=tls, **options)
        http = self._by_proxy.get(proxy)
        if http is None:
            connector = ProxyConnector.from_url(proxy, limit=0, ssl=self.tls)
            http = self._by_proxy[proxy] = aiohttp.ClientSession(
                connector=connector, timeout=direct.timeout, auto_decompress=False
            )
        return http.request(method, url, allow_redirects=False, **options)

    async def close(self) -> None:
        """Close the clients of proxies."""
        for http in self._by_proxy.values():
            await http.close()


@contextlib.asynccontextmanager
async def open_web(workload: Workload) -> AsyncIterator[Web]:
    """Open the HTTP clients with the scenario's time-outs and the plan's authorities and source addresses."""
    timeouts = workload.scenario.timeouts
    connect_s = timeouts.connect_ns / 1e9
    timeout = aiohttp.ClientTimeout(total=timeouts.setup_ns / 1e9, connect=connect_s, sock_connect=connect_s)
    async with contextlib.AsyncExitStack() as stack:
        clients = []
        for address in workload.source_addresses or ("",):
            bound: dict[str, Any] = (
                {"family": family_of(address), "socket_factory": _bound_to(address)} if address else {}
            )
            connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=300, **bound)
            client = aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False)
            clients.append(await stack.enter_async_context(client))
        web = Web(
            lambda: tls_context(workload.authorities, workload.scenario.tls.insecure),
            clients,
            workload.source_addresses,
        )
        # to read the system's authorities holds up the loop: before the calls, if they may need them
        for url in workload.target_urls:
            web.tls_for(url)
        try:
            yield web
        finally:
            await web.close()


def _bound_to(address: str) -> Callable[[object], socket.socket]:
    """Return a maker of sockets as aiohttp and picows take it; what they say of the other end is not needed."""
    return lambda _: socket_from(address)


def tls_words(error: BaseException) -> str:
    """Return what is wrong with the target's TLS and what to do about it; empty where `error` is about something else.

    `error` is the ssl module's, or aiohttp's around it.
    """
    # aiohttp's own error is an SSLError too, but one without the facts: look inside first.
    found: Any = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
    if isinstance(found, ssl.SSLCertVerificationError):
        message = found.verify_message
        if found.verify_code in _UNKNOWN_AUTHORITY:
            return f"the certificate's authority is not trusted ({message}): name its file by --ca, or use --insecure"
        if found.verify_code in {_EXPIRED, _NOT_YET}:
            return f"{message}: renew it, or use --insecure"
        if found.verify_code in _OTHER_NAME:
            return f"{message.rstrip('.')}: call the target by a name in it, or use --insecure"
        return f"the certificate is not valid: {message}"
    if isinstance(found, ssl.SSLError):
        if found.reason in {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"}:
            return "the target does not speak TLS there: is it http:// rather than https://?"
        return f"TLS: {found.reason or found}"
    return ""
