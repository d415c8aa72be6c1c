"""Event Grid towards the backend: the validation of its webhook, then the event of an incoming call."""

from __future__ import annotations

import asyncio
import json
import secrets
import uuid
from collections.abc import Mapping
from typing import Any, NamedTuple

import aiohttp

from voxload.clock import NS_PER_S, unix_ns, utc_text
from voxload.model.exchange import ExchangeSettings
from voxload.model.outcome import Outcome
from voxload.standins.acs.identifiers import identifier

TOPIC = "/subscriptions/voxload/resourcegroups/voxload/providers/microsoft.communication/communicationservices/voxload"
VALIDATION = "Microsoft.EventGrid.SubscriptionValidationEvent"
INCOMING_CALL = "Microsoft.Communication.IncomingCall"


class Failure(NamedTuple):
    """Why a webhook cannot be used; the reason names the step."""

    outcome: Outcome
    reason: str


class IncomingCall(NamedTuple):
    """What the event of an incoming call says."""

    caller: str
    callee: str
    server_call_id: str
    context: str
    correlation_id: str


class Webhooks:
    """Posts events to webhooks, each validated before its first event as a subscription is."""

    def __init__(self, http: aiohttp.ClientSession, settings: ExchangeSettings) -> None:
        self._http = http
        self._timeout_s = settings.webhook_timeout_ns / NS_PER_S
        self._timeout = aiohttp.ClientTimeout(total=self._timeout_s)
        self._validated: dict[str, asyncio.Future[Failure | None]] = {}

    async def ring(self, url: str, call: IncomingCall, headers: Mapping[str, str]) -> Failure | None:
        """Tell a webhook of a call; returns what went wrong."""
        failure = await self._validate(url)
        if failure is not None:
            return failure
        data = {
            "to": identifier(call.callee),
            "from": identifier(call.caller),
            "serverCallId": call.server_call_id,
            "callerDisplayName": "",
            "incomingCallContext": call.context,
            "correlationId": call.correlation_id,
        }
        event = _event(INCOMING_CALL, f"/caller/{call.caller}/recipient/{call.callee}", data, "1.0")
        failure, _ = await self._post(url, "Notification", event, "IncomingCall", headers)
        return failure

    async def _validate(self, url: str) -> Failure | None:
        """Validate a webhook once; a failure is tried again by the next call."""
        known = self._validated.get(url)
        if known is not None:
            return await asyncio.shield(known)
        promise: asyncio.Future[Failure | None] = asyncio.get_running_loop().create_future()
        self._validated[url] = promise
        failure: Failure | None = Failure(Outcome.CANCELLED, "the exchange was stopped")
        try:
            failure = await self._handshake(url)
        finally:
            if failure is not None:
                del self._validated[url]
            promise.set_result(failure)
        return failure

    async def _handshake(self, url: str) -> Failure | None:
        code = secrets.token_hex(16).upper()
        data = {"validationCode": code, "validationUrl": ""}
        event = _event(VALIDATION, "", data, "2")
        failure, answer = await self._post(url, "SubscriptionValidation", event, "the subscription validation", {})
        if failure is not None:
            return failure
        try:
            echoed = json.loads(answer)["validationResponse"]
        except (ValueError, KeyError, TypeError):
            echoed = None
        if echoed == code:
            return None
        reason = "the webhook failed the subscription validation: it must answer {'validationResponse': CODE}"
        return Failure(Outcome.PROTOCOL_ERROR, f"{reason}, and answered {answer[:80]!r}")

    async def _post(
        self, url: str, kind: str, event: Mapping[str, Any], step: str, headers: Mapping[str, str]
    ) -> tuple[Failure | None, bytes]:
        sent = {
            "Content-Type": "application/json; charset=utf-8",
            "aeg-event-type": kind,
            "aeg-subscription-name": "VOXLOAD",
            "aeg-delivery-count": "0",
            "aeg-data-version": str(event["dataVersion"]),
            "aeg-metadata-version": "1",
            **headers,
        }
        try:
            async with self._http.post(
                url, data=json.dumps([event]), headers=sent, timeout=self._timeout, allow_redirects=False
            ) as answer:
                body = await answer.read()
        except aiohttp.ConnectionTimeoutError:
            return Failure(
                Outcome.CONNECT_FAILED, f"the webhook {url} cannot be reached within {self._timeout_s:g} s"
            ), b""
        except TimeoutError:
            return Failure(
                Outcome.SETUP_TIMEOUT, f"the webhook did not answer {step} within {self._timeout_s:g} s"
            ), b""
        except aiohttp.InvalidURL:
            return Failure(Outcome.CONNECT_FAILED, f"the webhook {url} is no URL"), b""
        except (aiohttp.ClientError, OSError, ValueError) as error:
            words = str(error) or type(error).__name__
            return Failure(Outcome.CONNECT_FAILED, f"the webhook {url} cannot be reached for {step}: {words}"), b""
        if answer.status >= 300:
            return Failure(Outcome.REJECTED, f"the webhook answered {answer.status} to {step}"), body
        return None, body


def _event(kind: str, subject: str, data: Mapping[str, Any], version: str) -> dict[str, Any]:
    now_ns = unix_ns()
    return {
        "id": str(uuid.uuid4()),
        "topic": TOPIC,
        "subject": subject,
        "data": data,
        "eventType": kind,
        "dataVersion": version,
        "metadataVersion": "1",
        "eventTime": f"{utc_text(now_ns // NS_PER_S)}.{now_ns % NS_PER_S // 100:07d}Z",
    }
