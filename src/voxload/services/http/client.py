"""Two clients with one face: aiohttp for HTTP/1.1, httpx for HTTP/2."""

from __future__ import annotations

import ssl
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

import aiohttp

from voxload.clock import NS_PER_S
from voxload.errors import BadInputError, Problem
from voxload.measure.extra import require
from voxload.model.outcome import Outcome
from voxload.services.base import OperationFailedError
from voxload.services.http.options import HttpOptions


class Answer(NamedTuple):
    """What came back."""

    status: int
    body: bytes
    version: str
    """`1.1` or `2`."""


class HttpClient(ABC):
    """Makes requests; every failure is an `OperationFailedError` that says what happened, not to which request."""

    @abstractmethod
    async def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        """Make one request and read the whole answer."""

    @abstractmethod
    async def close(self) -> None:
        """Close the connections."""


def tls_context(options: HttpOptions) -> ssl.SSLContext:
    """Return how certificates are checked.

    Raises:
        BadInputError: the file of the authority cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=options.ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise BadInputError([Problem(f"options.ca_file: {options.ca_file}: {error}")]) from None
    if not options.verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


class Http1Client(HttpClient):
    """HTTP/1.1 by aiohttp, on as many connections as there are requests."""

    def __init__(self, options: HttpOptions) -> None:
        total_s, connect_s = options.request_timeout_ns / NS_PER_S, options.connect_timeout_ns / NS_PER_S
        connector = aiohttp.TCPConnector(
            limit=0, ssl=tls_context(options), force_close=not options.keep_alive, ttl_dns_cache=60
        )
        self._http = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=total_s, sock_connect=connect_s),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        """Make one request."""
        try:
            async with self._http.request(method, url, headers=headers, data=body, allow_redirects=False) as answer:
                content = await answer.read()
                version = answer.version or aiohttp.HttpVersion11
                return Answer(answer.status, content, f"{version.major}.{version.minor}")
        except (aiohttp.ServerTimeoutError, TimeoutError):
            raise OperationFailedError(Outcome.TIMEOUT, "no answer in time (request_timeout)") from None
        except aiohttp.ClientConnectorError as error:
            raise OperationFailedError(Outcome.CONNECT_FAILED, str(error)) from None
        except (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError, OSError) as error:
            raise OperationFailedError(Outcome.DROPPED_BY_TARGET, str(error) or type(error).__name__) from None
        except aiohttp.ClientError as error:
            raise OperationFailedError(Outcome.PROTOCOL_ERROR, str(error) or type(error).__name__) from None

    async def close(self) -> None:
        """Close the session."""
        await self._http.close()


class Http2Client(HttpClient):
    """HTTP/2 alone, by httpx: requests share a connection as far as the server lets them."""

    def __init__(self, options: HttpOptions) -> None:
        self._httpx: Any = require("httpx", "http2")
        require("h2", "http2")
        total_s, connect_s = options.request_timeout_ns / NS_PER_S, options.connect_timeout_ns / NS_PER_S
        self._http = self._httpx.AsyncClient(
            http1=False,
            http2=True,
            verify=tls_context(options),
            timeout=self._httpx.Timeout(total_s, connect=connect_s),
            limits=self._httpx.Limits(
                max_connections=None, max_keepalive_connections=None if options.keep_alive else 0
            ),
        )

    async def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        """Make one request."""
        httpx = self._httpx
        try:
            answer = await self._http.request(method, url, headers=dict(headers), content=body)
        except httpx.ConnectTimeout:
            raise OperationFailedError(Outcome.CONNECT_FAILED, "no connection in time (connect_timeout)") from None
        except httpx.TimeoutException:
            raise OperationFailedError(Outcome.TIMEOUT, "no answer in time (request_timeout)") from None
        except httpx.ConnectError as error:
            raise OperationFailedError(Outcome.CONNECT_FAILED, str(error)) from None
        except (httpx.NetworkError, httpx.RemoteProtocolError) as error:
            raise OperationFailedError(Outcome.DROPPED_BY_TARGET, str(error) or type(error).__name__) from None
        except httpx.HTTPError as error:
            raise OperationFailedError(Outcome.PROTOCOL_ERROR, str(error) or type(error).__name__) from None
        return Answer(answer.status_code, answer.content, answer.http_version.removeprefix("HTTP/"))

    async def close(self) -> None:
        """Close the client."""
        await self._http.aclose()
