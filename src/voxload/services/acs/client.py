"""The vendor's client, and how its requests are made: each attempt timed and counted, refusals for now waited out."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import aiohttp
from azure.communication.callautomation.aio import CallAutomationClient
from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ServiceRequestError,
    ServiceResponseError,
)
from azure.core.pipeline import PipelineRequest
from azure.core.pipeline.policies import SansIOHTTPPolicy
from azure.core.pipeline.transport import AioHttpTransport

from voxload.errors import BadInputError, Problem
from voxload.measure.extra import require
from voxload.model.outcome import Outcome
from voxload.services.acs.options import AcsOptions
from voxload.services.base import ComponentRun, Operation, OperationFailedError

Answer = TypeVar("Answer")

RETRIED = (429, 503)
BACK_OFF_S, BACK_OFF_S_MAX = 0.5, 30.0
"""Before the first repetition, doubled each time; the service's own retry-after goes first. At most so long."""


class _PlainHttp(SansIOHTTPPolicy[Any, Any]):
    """Lets a bearer token go over plain http, which azure-core refuses: for stand-ins on this machine."""

    def on_request(self, request: PipelineRequest[Any]) -> None:
        """Mark the request."""
        request.context.options["enforce_https"] = False


def parse_connection_string(text: str) -> tuple[str, str]:
    """Return (endpoint, access key) of `endpoint=https://…;accesskey=…`.

    Raises:
        BadInputError: one of them is missing.
    """
    parts = {name.strip().lower(): value for name, _, value in (part.partition("=") for part in text.split(";"))}
    if not parts.get("endpoint") or not parts.get("accesskey"):
        hint = "endpoint=https://NAME.communication.azure.com/;accesskey=…"
        raise BadInputError([Problem("options.connection_string lacks endpoint or accesskey", suggestion=hint)])
    return parts["endpoint"].rstrip("/"), parts["accesskey"]


class RefusedError(OperationFailedError):
    """The service has answered a request with an error."""

    def __init__(self, reason: str, status: int) -> None:
        super().__init__(Outcome.REJECTED, reason)
        self.status = status


class AcsClient:
    """The SDK's asynchronous client over connections of our own, without a limit on their number.

    The SDK's own repetitions are off: they would hide in the latency what the service really said.
    """

    def __init__(self, options: AcsOptions, endpoint: str, key: str, run: ComponentRun) -> None:
        self._options, self._run = options, run
        self.endpoint = endpoint
        self.counts: Counter[str] = Counter()
        """`throttled` answers (429)."""
        self.back_off_s = 0.0
        """Waited because the service asked for it, over all calls."""
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=300))
        self._credential: Any = AzureKeyCredential(key)
        plain = endpoint.startswith("http://")
        if options.entra:
            self._credential = require("azure.identity.aio", "acs").DefaultAzureCredential()
        self.sdk = CallAutomationClient(
            endpoint,
            self._credential,
            transport=AioHttpTransport(session=self._session, session_owner=False),
            retry_total=0,
            per_call_policies=[_PlainHttp()] if plain and options.entra else [],
        )

    async def close(self) -> None:
        """Give connections and credentials back."""
        with contextlib.suppress(AzureError):
            await self.sdk.close()
        if self._options.entra:
            await self._credential.close()
        await self._session.close()

    async def probe(self) -> None:
        """Ask for a call that does not exist: shows whether the service is there and takes our credential.

        Raises:
            OperationFailedError: it is not, or does not.
        """
        try:
            async with asyncio.timeout(self._options.timeouts.request_ns / 1e9):
                await self.sdk.get_call_connection("00000000-0000-0000-0000-000000000000").get_call_properties()
        except (AzureError, TimeoutError) as error:
            if not isinstance(error, HttpResponseError) or error.status_code in {None, 401, 403}:
                raise _failure("the service", error, self._options) from None

    async def request(self, operation: Operation, name: str, send: Callable[[], Awaitable[Answer]]) -> Answer:
        """Make one request; an answer of 429 or 503 is waited out and repeated as the options allow.

        Raises:
            OperationFailedError: the service said no, or did not answer in time.
        """
        for attempt in range(self._options.retries + 1):
            try:
                return await self._attempt(operation, name, send)
            except HttpResponseError as error:
                wait_s = retry_after_s(error)
                if error.status_code not in RETRIED or (error.status_code == 503 and wait_s is None):
                    raise _failure(name, error, self._options) from None
                if attempt == self._options.retries:
                    raise _failure(f"{name}, {attempt + 1} times", error, self._options) from None
                if wait_s is None:
                    jitter = random.Random(f"{operation.operation_id} {name} {attempt}").uniform(0.75, 1.25)
                    wait_s = BACK_OFF_S * 2**attempt * jitter
                wait_s = min(wait_s, BACK_OFF_S_MAX)
                operation.moment("throttled", f"{name}: {error.status_code}, again in {wait_s:.2f} s")
                self.back_off_s += wait_s
                await asyncio.sleep(wait_s)
            except (AzureError, TimeoutError) as error:
                raise _failure(name, error, self._options) from None
        raise AssertionError("the last attempt returns or raises")

    async def _attempt(self, operation: Operation, name: str, send: Callable[[], Awaitable[Answer]]) -> Answer:
        recorder, since_ns, status = self._run.recorder, self._run.clock(), "error"
        try:
            async with asyncio.timeout(self._options.timeouts.request_ns / 1e9):
                answer = await send()
            status = "2xx"
        except HttpResponseError as error:
            status = str(error.status_code or "error")
            raise
        except TimeoutError:
            status = "timeout"
            raise
        except asyncio.CancelledError:
            status = ""
            raise
        finally:
            if status:
                throttled = status == "429"
                self.counts["throttled"] += throttled
                recorder.http_answer(name, status)
                operation.observe("http_success", status == "2xx", request=name)
                operation.observe("throttled", throttled, request=name)
                if status not in {"error", "timeout"}:
                    operation.latency("http_latency", since_ns, self._run.clock(), request=name)
        return answer


def retry_after_s(error: HttpResponseError) -> float | None:
    """Return how long the service asks us to wait (`retry-after-ms`, `x-ms-retry-after-ms`, `retry-after`)."""
    headers: Mapping[str, str] = getattr(error.response, "headers", {})
    for name, factor in (("retry-after-ms", 1e-3), ("x-ms-retry-after-ms", 1e-3), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            return max(float(value) * factor, 0.0)
        except ValueError:
            with contextlib.suppress(ValueError, TypeError):
                at = parsedate_to_datetime(value)
                return max((at - parsedate_to_datetime(headers["date"])).total_seconds(), 0.0)
    return None


def _failure(name: str, error: Exception, options: AcsOptions) -> OperationFailedError:
    """Return what a request that failed means for the call."""
    if isinstance(error, TimeoutError):
        seconds = options.timeouts.request_ns / 1e9
        return OperationFailedError(Outcome.TIMEOUT, f"{name}: no answer within {seconds:g} s (timeouts.request)")
    if isinstance(error, ServiceRequestError | ServiceResponseError):
        return OperationFailedError(Outcome.CONNECT_FAILED, f"{name}: {_first_line(error)}")
    if isinstance(error, HttpResponseError) and error.status_code:
        code = getattr(error.error, "code", None) or ""
        words = getattr(error.error, "message", None) or _first_line(error)
        return RefusedError(f"{name}: {error.status_code} {code} {words}".replace("  ", " "), error.status_code)
    if isinstance(error, ClientAuthenticationError):
        return OperationFailedError(Outcome.REJECTED, f"{name}: no credential: {_first_line(error)}")
    return OperationFailedError(Outcome.PROTOCOL_ERROR, f"{name}: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
