"""Microsoft's client for Blob Storage, and what its errors mean."""

from __future__ import annotations

from typing import Any

import aiohttp
from azure.core.exceptions import (
    AzureError,
    HttpResponseError,
    IncompleteReadError,
    ServiceRequestError,
    ServiceRequestTimeoutError,
    ServiceResponseTimeoutError,
)
from azure.core.pipeline.transport import AioHttpTransport
from azure.storage.blob.aio import BlobServiceClient

from voxload.clock import NS_PER_S
from voxload.errors import BadInputError, Problem
from voxload.measure.extra import require
from voxload.model.outcome import Outcome
from voxload.services.base import OperationFailedError
from voxload.services.blob.options import BlobOptions


class BlobClients:
    """The client of an account, with as many connections as it takes, and the credential that it was given."""

    def __init__(self, options: BlobOptions, connection_string: str) -> None:
        self._credential: Any = None
        timeout_s = options.request_timeout_ns / NS_PER_S
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            auto_decompress=False,
            trust_env=True,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        common: dict[str, Any] = {
            "transport": AioHttpTransport(session=session),
            "retry_total": options.retries,
            "connection_timeout": timeout_s,
            "read_timeout": timeout_s,
            "max_single_put_size": options.block,
            "max_block_size": options.block,
            "max_single_get_size": options.block,
            "max_chunk_get_size": options.block,
        }
        try:
            if connection_string:
                self.account = BlobServiceClient.from_connection_string(connection_string, **common)
            else:
                self.account = BlobServiceClient(options.account_url, self._login(options), **common)
        except (ValueError, AttributeError) as error:
            hint = "DefaultEndpointsProtocol=https;AccountName=…;AccountKey=…;EndpointSuffix=core.windows.net"
            raise BadInputError(
                [Problem(f"options: no account can be made of this: {error}", suggestion=hint)]
            ) from None

    def _login(self, options: BlobOptions) -> Any:
        if options.entra:
            self._credential = require("azure.identity.aio", "acs").DefaultAzureCredential()
            return self._credential
        return options.access_key.value or options.sas_token.value

    async def close(self) -> None:
        """Close the client and its credential."""
        await self.account.close()
        if self._credential is not None:
            await self._credential.close()


def failure(error: Exception, step: str) -> OperationFailedError:
    """Return what an error of the client means for a unit of work; `step` names what was being done."""
    text = " ".join(str(error).split())[:200] or type(error).__name__
    if isinstance(error, HttpResponseError) and not isinstance(error, IncompleteReadError) and error.status_code:
        code = getattr(error, "error_code", "") or ""
        code = getattr(code, "value", code)  # an enumeration, where the client knows the code
        words = str(error.message).split("RequestId:", maxsplit=1)[0]
        text = f"{error.status_code} {code} {' '.join(words.split())[:160]}"
        return OperationFailedError(Outcome.REJECTED, f"{step}: {text}")
    if isinstance(error, ServiceRequestTimeoutError | ServiceResponseTimeoutError | TimeoutError):
        return OperationFailedError(Outcome.TIMEOUT, f"{step}: no answer in time: {text}")
    if isinstance(error, ServiceRequestError):
        return OperationFailedError(Outcome.CONNECT_FAILED, f"{step}: {text}")
    return OperationFailedError(Outcome.DROPPED_BY_TARGET, f"{step}: {text}")


ERRORS = (AzureError, aiohttp.ClientError, OSError, TimeoutError)
"""What a call of the client may raise."""
