"""Publishes events: by Microsoft's client, or by plain requests that cost a fraction of its time."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import aiohttp
import msgspec

from voxload.clock import NS_PER_S
from voxload.errors import BadInputError
from voxload.measure.extra import require
from voxload.model.outcome import Outcome
from voxload.services.base import Operation, OperationFailedError
from voxload.services.eventgrid.options import EventGridOptions

SUBJECT = "/voxload/load-test"
RETRIED = frozenset({408, 429, 500, 502, 503, 504})
BACK_OFF_S = 0.5


class Publisher(ABC):
    """Publishes events of one kind; every attempt is counted by its status."""

    def __init__(self, endpoint: str, key: str, options: EventGridOptions) -> None:
        self._endpoint, self._key, self._options = endpoint, key, options
        self._payload = "." * max(options.payload_bytes - len('{"text":""}'), 0)

    @abstractmethod
    async def publish(self, operation: Operation, event_ids: Sequence[str], time_text: str) -> None:
        """Publish events with these ids.

        Raises:
            OperationFailedError: the service does not take them.
        """

    @abstractmethod
    async def close(self) -> None:
        """Close the connections."""

    @staticmethod
    def _note(operation: Operation, status: int) -> None:
        operation.recorder.http_answer("publish", "2xx" if 200 <= status < 300 else str(status))
        operation.observe("throttled", status == 429)

    @staticmethod
    def _refused(status: int, text: str) -> OperationFailedError:
        return OperationFailedError(Outcome.REJECTED, f"publish: {status} {' '.join(text.split())[:200]}")


class SdkPublisher(Publisher):
    """Uses azure-eventgrid."""

    def __init__(self, endpoint: str, key: str, options: EventGridOptions) -> None:
        super().__init__(endpoint, key, options)
        require("azure.eventgrid.aio", "eventgrid")
        from azure.core.credentials import AzureKeyCredential, AzureSasCredential  # noqa: PLC0415  # the extra
        from azure.eventgrid.aio import EventGridPublisherClient  # noqa: PLC0415  # the extra

        self._credential: Any = None
        if options.entra:
            self._credential = credential = require("azure.identity.aio", "acs").DefaultAzureCredential()
        elif options.sas_token.given:
            credential = AzureSasCredential(options.sas_token.value)
        else:
            credential = AzureKeyCredential(key)
        from azure.core.pipeline.transport import AioHttpTransport  # noqa: PLC0415  # the extra

        timeout_s = options.request_timeout_ns / NS_PER_S
        # as many connections as requests: the client's own limit of 100 would make them wait unseen
        session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False)
        self._client: Any = EventGridPublisherClient(
            endpoint,
            credential,
            transport=AioHttpTransport(session=session),
            retry_total=options.retries,
            connection_timeout=timeout_s,
            read_timeout=timeout_s,
        )

    def _events(self, event_ids: Sequence[str]) -> list[Any]:
        from azure.core.messaging import CloudEvent  # noqa: PLC0415  # the extra
        from azure.eventgrid import EventGridEvent  # noqa: PLC0415  # the extra

        kind, data = self._options.event_type, {"text": self._payload}
        if self._options.event_schema == "CloudEventSchemaV1_0":
            return [CloudEvent(source=SUBJECT, type=kind, data=data, id=event_id) for event_id in event_ids]
        return [EventGridEvent(SUBJECT, kind, data, "1.0", id=event_id) for event_id in event_ids]

    async def publish(self, operation: Operation, event_ids: Sequence[str], time_text: str) -> None:  # noqa: ARG002
        """Publish by the SDK, which stamps the events itself."""
        from azure.core.exceptions import (  # noqa: PLC0415  # the extra
            AzureError,
            HttpResponseError,
            ServiceRequestError,
            ServiceRequestTimeoutError,
            ServiceResponseTimeoutError,
        )

        def note(response: Any) -> None:
            self._note(operation, response.http_response.status_code)

        try:
            await self._client.send(self._events(event_ids), raw_response_hook=note)
        except HttpResponseError as error:
            raise self._refused(error.status_code or 0, error.message) from None
        except (ServiceRequestTimeoutError, ServiceResponseTimeoutError, TimeoutError) as error:
            raise OperationFailedError(Outcome.TIMEOUT, f"publish: no answer in time: {error}") from None
        except ServiceRequestError as error:
            raise OperationFailedError(Outcome.CONNECT_FAILED, f"publish: {error}") from None
        except AzureError as error:
            raise OperationFailedError(Outcome.DROPPED_BY_TARGET, f"publish: {error}") from None

    async def close(self) -> None:
        """Close the client and its credential."""
        await self._client.close()
        if self._credential is not None:
            await self._credential.close()


class FastPublisher(Publisher):
    """Makes the requests itself."""

    def __init__(self, endpoint: str, key: str, options: EventGridOptions) -> None:
        super().__init__(endpoint, key, options)
        cloud = options.event_schema == "CloudEventSchemaV1_0"
        kind = "application/cloudevents-batch+json" if cloud else "application/json"
        login = {"aeg-sas-token": options.sas_token.value} if options.sas_token.given else {"aeg-sas-key": key}
        timeout = aiohttp.ClientTimeout(total=options.request_timeout_ns / NS_PER_S)
        headers = {"Content-Type": f"{kind}; charset=utf-8", **login}
        connector = aiohttp.TCPConnector(limit=0)
        self._http = aiohttp.ClientSession(headers=headers, timeout=timeout, connector=connector)
        self._url = endpoint if "api-version=" in endpoint else f"{endpoint}?api-version=2018-01-01"
        self._template: dict[str, Any] = (
            {"specversion": "1.0", "source": SUBJECT, "type": options.event_type}
            if cloud
            else {"subject": SUBJECT, "eventType": options.event_type, "dataVersion": "1.0"}
        )
        self._time_name = "time" if cloud else "eventTime"

    async def publish(self, operation: Operation, event_ids: Sequence[str], time_text: str) -> None:
        """Publish by a request of our own."""
        common = {**self._template, self._time_name: time_text, "data": {"text": self._payload}}
        body = msgspec.json.encode([{**common, "id": event_id} for event_id in event_ids])
        for attempt in range(self._options.retries + 1):
            try:
                async with self._http.post(self._url, data=body) as answer:
                    status, text = answer.status, await answer.text()
                    wait_s = float(answer.headers.get("Retry-After", BACK_OFF_S * 2**attempt))
            except TimeoutError:
                raise OperationFailedError(Outcome.TIMEOUT, "publish: no answer in time") from None
            except aiohttp.ClientConnectorError as error:
                raise OperationFailedError(Outcome.CONNECT_FAILED, f"publish: {error}") from None
            except (aiohttp.ClientError, OSError) as error:
                raise OperationFailedError(Outcome.DROPPED_BY_TARGET, f"publish: {error!r}") from None
            self._note(operation, status)
            if 200 <= status < 300:
                return
            if status not in RETRIED or attempt == self._options.retries:
                raise self._refused(status, text)
            await asyncio.sleep(wait_s)

    async def close(self) -> None:
        """Close the session."""
        await self._http.close()


def build_publisher(endpoint: str, key: str, options: EventGridOptions) -> Publisher:
    """Return the client that the options ask for.

    Raises:
        BadInputError: it is not installed, or cannot use what it is given.
    """
    try:
        return (FastPublisher if options.client == "fast" else SdkPublisher)(endpoint, key, options)
    except ValueError as error:
        raise BadInputError(f"options.endpoint: {error}") from None
