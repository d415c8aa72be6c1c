"""One outbound call: create, connected, recognise, media, hang up, disconnected."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from azure.communication.callautomation import (
    AudioFormat,
    CommunicationUserIdentifier,
    MediaStreamingAudioChannelType,
    MediaStreamingContentType,
    MediaStreamingOptions,
    PhoneNumberIdentifier,
    RecognizeInputType,
    StreamingTransportType,
)
from azure.communication.callautomation.aio import CallConnectionClient
from azure.core.exceptions import AzureError, HttpResponseError

from voxload.clock import NS_PER_S
from voxload.model.outcome import Outcome
from voxload.services.acs.client import AcsClient, RefusedError
from voxload.services.acs.options import AcsOptions, RecognizeSettings
from voxload.services.acs.receiver import FIRST_AUDIO, CallEvent, CallEvents, Receiver
from voxload.services.base import Operation, OperationFailedError

GONE_NS = NS_PER_S
"""For the callback of a call that the API no longer knows."""
CLEAN_UP_S = 5.0
"""For a call that must be hung up because its script cannot go on."""


class OutboundCall:
    """The life of one call; `changed(+1 or -1)` is told when it is connected and when it is over."""

    def __init__(
        self, operation: Operation, client: AcsClient, receiver: Receiver, options: AcsOptions, callee: str
    ) -> None:
        self._operation, self._client, self._receiver, self._options = operation, client, receiver, options
        self._callee = _identifier(callee)
        self._events: CallEvents = receiver.expect(operation.operation_id)
        self._connection: CallConnectionClient | None = None
        self._creation: asyncio.Future[Any] | None = None

    async def run(self, changed: Callable[[int], None]) -> None:
        """Live the call to its end.

        Raises:
            OperationFailedError: it ends otherwise than completed; it has been hung up then.
        """
        connected = False
        try:
            await self._connect()
            connected = True
            changed(1)
            await self._talk()
            await self._hang_up()
        finally:
            try:
                await self._clean_up()
            finally:
                self._receiver.forget(self._operation.operation_id)
                if connected:
                    changed(-1)

    # --- steps ---

    async def _connect(self) -> None:
        operation = self._operation
        created = await self._create()
        operation.target_id = str(created.call_connection_id)
        self._connection = self._client.sdk.get_call_connection(operation.target_id)
        timeouts = self._options.timeouts
        try:
            event = await self._events.first(
                "CallConnected", "CreateCallFailed", "CallDisconnected", within_ns=timeouts.connected_ns
            )
        except TimeoutError:
            reason = f"created, but no callback within {timeouts.connected_ns / 1e9:g} s: is callback_url reachable?"
            raise OperationFailedError(Outcome.SETUP_TIMEOUT, reason) from None
        if event.kind != "CallConnected":
            operation.recorder.peer_error(f"{event.kind} {_code_of(event)}")
            raise OperationFailedError(Outcome.REJECTED, f"not connected: {event.kind} {_result_of(event)}")
        operation.ready_ns = event.at_ns
        operation.latency("call_setup", operation.due_ns, event.at_ns)
        operation.latency("call_setup_uncorrected", operation.started_ns, event.at_ns)

    async def _create(self) -> Any:
        """Create the call; when we are cancelled meanwhile, wait for its name so that it can be hung up."""
        name, options = self._operation.operation_id, self._options

        def send() -> Any:
            return self._client.sdk.create_call(
                self._callee,
                self._receiver.callback_url(name),
                source_caller_id_number=PhoneNumberIdentifier(options.source),
                operation_context=name,
                media_streaming=self._media_streaming(),
            )

        self._creation = asyncio.ensure_future(self._client.request(self._operation, "create", send))
        return await asyncio.shield(self._creation)

    def _media_streaming(self) -> MediaStreamingOptions | None:
        rate = self._options.media
        if not rate:
            return None
        return MediaStreamingOptions(
            transport_url=self._receiver.media_url(self._operation.operation_id),
            transport_type=StreamingTransportType.WEBSOCKET,
            content_type=MediaStreamingContentType.AUDIO,
            audio_channel_type=MediaStreamingAudioChannelType.MIXED,
            start_media_streaming=True,
            audio_format=AudioFormat.PCM16_K_MONO if rate == 16000 else AudioFormat.PCM24_K_MONO,
        )

    async def _talk(self) -> None:
        operation, options = self._operation, self._options
        if options.recognize is not None:
            await self._recognize(options.recognize)
        if options.media:
            until_ns = operation.ready_ns + options.timeouts.media_ns
            event = await self._await("media", FIRST_AUDIO, until_ns - operation.clock(), "MediaStreamingFailed")
            operation.latency("media_start", operation.ready_ns, event.at_ns)
        with contextlib.suppress(TimeoutError):
            hold_ns = operation.ready_ns + options.hold_ns - operation.clock()
            event = await self._events.first("CallDisconnected", within_ns=max(hold_ns, 0))
            raise OperationFailedError(Outcome.DROPPED_BY_TARGET, f"while it was up: {_result_of(event)}")

    async def _recognize(self, settings: RecognizeSettings) -> None:
        since_ns = self._operation.clock()
        await self._ask(
            "recognize",
            lambda: self._required().start_recognizing_media(
                RecognizeInputType.DTMF,
                self._callee,
                initial_silence_timeout=max(round(settings.silence_ns / 1e9), 1),
                dtmf_max_tones_to_collect=settings.tones_max,
                operation_context=self._operation.operation_id,
            ),
        )
        within_ns = self._options.timeouts.recognized_ns
        event = await self._await("recognition", "RecognizeCompleted", within_ns, "RecognizeFailed")
        self._operation.latency("recognize", since_ns, event.at_ns)
        tones = (event.data.get("dtmfResult") or {}).get("tones") or []
        self._operation.moment("dtmf", " ".join(str(tone) for tone in tones))

    async def _await(self, what: str, wanted: str, within_ns: int, failing: str) -> CallEvent:
        """Wait for an event that belongs to a call that is up."""
        try:
            event = await self._events.first(wanted, failing, "CallDisconnected", within_ns=max(within_ns, 0))
        except TimeoutError:
            raise OperationFailedError(Outcome.TIMEOUT, f"{what}: no {wanted} in time") from None
        if event.kind == failing:
            self._operation.recorder.peer_error(f"{failing} {_code_of(event)}")
            raise OperationFailedError(Outcome.STEP_FAILED, f"{what}: {failing} {_result_of(event)}")
        if event.kind == "CallDisconnected":
            raise OperationFailedError(Outcome.DROPPED_BY_TARGET, f"{what}: {_result_of(event)}")
        return event

    async def _hang_up(self) -> None:
        operation, since_ns = self._operation, self._operation.clock()
        await self._ask("hang_up", lambda: self._required().hang_up(is_for_everyone=True))
        within_ns = self._options.timeouts.disconnected_ns
        try:
            event = await self._events.first("CallDisconnected", within_ns=within_ns)
        except TimeoutError:
            reason = f"hung up, but no CallDisconnected within {within_ns / 1e9:g} s"
            raise OperationFailedError(Outcome.TIMEOUT, reason) from None
        operation.latency("hang_up", since_ns, event.at_ns)
        operation.latency("call_duration", operation.ready_ns, event.at_ns)

    async def _ask(self, name: str, send: Callable[[], Awaitable[None]]) -> None:
        """Make a request about a call that is up; when the call is gone, the service's word for it counts."""
        try:
            await self._client.request(self._operation, name, send)
        except RefusedError as refused:
            if refused.status != HTTPStatus.NOT_FOUND:
                raise
            with contextlib.suppress(TimeoutError):
                event = await self._events.first("CallDisconnected", within_ns=GONE_NS)
                reason = f"before {name}: {_result_of(event)}"
                raise OperationFailedError(Outcome.DROPPED_BY_TARGET, reason) from None
            raise

    # --- whatever happens, no call stays up ---

    async def _clean_up(self) -> None:
        if self._events.get("CallDisconnected") or self._events.get("CreateCallFailed"):
            return
        with contextlib.suppress(TimeoutError, AzureError, OperationFailedError):
            async with asyncio.timeout(CLEAN_UP_S):
                if self._connection is None and self._creation is not None:
                    await self._name_of_creation()
                if self._connection is not None:
                    await self._end(self._connection)

    async def _name_of_creation(self) -> None:
        """Find out which call was created for us although we no longer wait for it."""
        assert self._creation is not None
        name = self._events.connection_id
        if not name:
            name = str((await self._creation).call_connection_id)
        self._operation.target_id = name
        self._connection = self._client.sdk.get_call_connection(name)

    async def _end(self, connection: CallConnectionClient) -> None:
        try:
            await connection.hang_up(is_for_everyone=True)
        except HttpResponseError as error:
            if error.status_code != 404:  # it is over already
                raise

    def _required(self) -> CallConnectionClient:
        assert self._connection is not None, "the call has been created"
        return self._connection


def _identifier(raw_id: str) -> PhoneNumberIdentifier | CommunicationUserIdentifier:
    """Return the SDK's form of `4:+15550100000` or `8:acs:…`."""
    if raw_id.startswith("4:"):
        return PhoneNumberIdentifier(raw_id.removeprefix("4:"), raw_id=raw_id)
    return CommunicationUserIdentifier(raw_id, raw_id=raw_id)


def _code_of(event: CallEvent) -> str:
    """Return the code and subcode of an event's result."""
    result = event.data.get("resultInformation") or {}
    return f"{result.get('code', '')}/{result.get('subCode', '')}"


def _result_of(event: CallEvent) -> str:
    """Return an event's result in words."""
    result = event.data.get("resultInformation") or {}
    return f"{_code_of(event)} {result.get('message') or ''}".strip()
