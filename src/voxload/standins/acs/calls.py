"""One call as the service knows it: from the first ring to CallDisconnected."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from voxload.clock import NS_PER_S
from voxload.dialects.acs_media import CONNECTION_ID_HEADER, CORRELATION_ID_HEADER
from voxload.model.outcome import Outcome
from voxload.standins.acs.bodies import Connecting, MediaStreaming, OneParticipant, Operation, SendTones
from voxload.standins.acs.callbacks import Outbox, Posting, cloud_event
from voxload.standins.acs.callee import draw_failure
from voxload.standins.acs.errors import NOT_ESTABLISHED, ApiError, bad_request
from voxload.standins.acs.identifiers import identifier, number_of
from voxload.standins.acs.media_ops import DONE, MediaOperations, Result, Timer
from voxload.standins.acs.party import Asked, MediaOrder, Party
from voxload.standins.acs.roster import Roster
from voxload.standins.acs.tokens import opaque
from voxload.standins.acs.tones import tone_name

if TYPE_CHECKING:
    from voxload.standins.acs.exchange import Exchange

TONE_NS = 100_000_000
"""How long a tone takes that the backend sends."""


class State(StrEnum):
    """The call connection state; ringing calls have no connection yet."""

    RINGING = "ringing"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    DISCONNECTED = "disconnected"


class Call:
    """One call. `source` and `targets` are raw ids; `headers` go with every request and handshake of the call."""

    def __init__(
        self, exchange: Exchange, source: str, targets: list[str], headers: Mapping[str, str], outbound: bool = False
    ) -> None:
        self._exchange = exchange
        self.party: Party
        self.source, self.targets = source, targets
        self.headers = dict(headers)
        self.outbound = outbound
        self.connection_id = str(uuid.uuid4())
        self.correlation_id = str(uuid.uuid4())
        self.server_call_id = opaque("https://conv.voxload.invalid/conv")
        self.group_key = ""
        """The id of the group or room that the call belongs to, where it does."""
        self.context = opaque("eyJhbGciOiJub25lIn0")
        """What the backend shows to answer, reject or redirect."""
        self.state = State.RINGING
        self.callback_uri = ""
        self.operation_context: str | None = None
        self.media: MediaStreaming | None = None
        self._wants_transcripts = False
        self.answered_by = ""
        self.caller_id_number = ""
        self.roster = Roster(self)
        self.media_ops = MediaOperations(self, exchange.settings.play_duration_ns)
        self._outbox = Outbox(exchange.postman, exchange.settings.callback_delay_ns, self.complain)
        self._streaming = ""  # "", opening, active
        self._stream_request: Operation = Operation()
        self._subscription_id = str(uuid.uuid4())
        self._tone_watch: OneParticipant | None = None
        self._tones_heard = 0
        self._timers: set[asyncio.TimerHandle] = set()

    # --- what the API shows ---

    def properties(self) -> dict[str, Any]:
        """Return the call connection properties."""
        body: dict[str, Any] = {
            "callConnectionId": self.connection_id,
            "serverCallId": self.server_call_id,
            "correlationId": self.correlation_id,
            "source": identifier(self.source),
            "targets": [identifier(target) for target in self.targets],
            "callConnectionState": self.state.value,
            "callbackUri": self.callback_uri,
        }
        if self.answered_by:
            body["answeredBy"] = {"id": self.answered_by}
        if self.caller_id_number:
            body["sourceCallerIdNumber"] = {"value": self.caller_id_number}
        if self.media is not None:
            state = "active" if self._streaming == "active" else "inactive"
            kinds = ["audio"]
            subscription = {"id": self._subscription_id, "state": state, "subscribedContentTypes": kinds}
            body["mediaStreamingSubscription"] = subscription
        return body

    def established(self) -> Call:
        """Return the call.

        Raises:
            ApiError: it is not connected yet.
        """
        if self.state is not State.CONNECTED:
            raise ApiError(409, NOT_ESTABLISHED, "The call is not in the Established state.")
        return self

    # --- callbacks ---

    def event(self, kind: str, result: Result = DONE, **data: Any) -> None:
        """Send a callback about the call as a whole."""
        self._post(kind, self.callback_uri, self.operation_context, result, data)

    def operation_event(self, kind: str, body: Operation, result: Result, **data: Any) -> None:
        """Send the callback of an operation to where its request wants it."""
        self._post(kind, body.operation_callback_uri or self.callback_uri, body.operation_context, result, data)

    def event_to(self, url: str | None, kind: str, **data: Any) -> None:
        """Send a callback to an address of its own."""
        self._post(kind, url or self.callback_uri, None, DONE, data)

    def _post(self, kind: str, url: str, context: str | None, result: Result, data: Mapping[str, Any]) -> None:
        code, sub_code, message = result
        body = {
            "operationContext": context,
            "resultInformation": {"code": code, "subCode": sub_code, "message": message},
            "callConnectionId": self.connection_id,
            "serverCallId": self.server_call_id,
            "correlationId": self.correlation_id,
            **data,
        }
        self._outbox.post(Posting(url, kind, cloud_event(kind, self.connection_id, body), self.headers))

    def complain(self, code: str, message: str) -> None:
        """Tell the other end of a fault of the backend."""
        self.party.complaint(code, message)

    # --- time ---

    def later(self, delay_ns: int, work: Callable[[], None]) -> Timer:
        """Do something later, unless the call is over by then."""

        def run() -> None:
            self._timers.discard(handle)
            if self.state is not State.DISCONNECTED:
                work()

        handle = asyncio.get_running_loop().call_later(delay_ns / NS_PER_S, run)
        self._timers.add(handle)
        return handle

    # --- the way up ---

    def accept(self, body: Connecting) -> None:
        """The backend has taken the call, or placed it: note what it wants."""
        self.state = State.CONNECTING
        self.callback_uri = body.callback_uri
        self.operation_context = body.operation_context
        self.media = body.media_streaming_options
        transcription = body.transcription_options
        self._wants_transcripts = transcription is not None and transcription.start_transcription

    def answered(self) -> None:
        """Connect a call that the backend has answered, after the service's usual time."""
        self.party.waiting("the exchange to connect the call")
        self.later(self._exchange.settings.connect_delay_ns, self.connect)

    def connect(self) -> None:
        """The call is established."""
        if self.state is not State.CONNECTING:
            return
        self.state = State.CONNECTED
        self._exchange.counters.calls["connected"] += 1
        self.event("CallConnected")
        self.roster.enter([self.source, *self.targets])
        if self._wants_transcripts:
            self.transcribe(Operation(operation_context=self.operation_context))
        if self.media is None:
            self.party.waiting("the backend to ask for media streaming: it answered without mediaStreamingOptions")
        elif self.media.start_media_streaming:
            self._open_media(Operation(operation_context=self.operation_context))
        else:
            self.party.waiting("the backend to start media streaming")

    def fail(self, failure: Result) -> None:
        """The call that the backend has placed is not answered."""
        code, _, message = failure
        self.event("CreateCallFailed", failure, sipDetails={"code": code, "message": message})
        self._over()

    # --- media ---

    def start_media(self, body: Operation) -> None:
        """Open the media socket.

        Raises:
            ApiError: the call has no media options, or the socket is open.
        """
        if self.media is None:
            raise bad_request("Media streaming is not configured for this call: answer it with mediaStreamingOptions.")
        if self._streaming:
            raise bad_request("Media streaming has been started already.")
        self._open_media(body)

    def _open_media(self, body: Operation) -> None:
        assert self.media is not None
        self._streaming, self._stream_request = "opening", body
        headers = {
            "Authorization": f"Bearer {self._exchange.tokens.service_token()}",
            CONNECTION_ID_HEADER: self.connection_id,
            CORRELATION_ID_HEADER: self.correlation_id,
            **self.headers,
        }
        media = self.media
        self.party.open_media(
            MediaOrder(
                self.connection_id,
                media.transport_url,
                headers,
                media.sample_rate_hz,
                self._subscription_id,
                media.enable_bidirectional,
                media.enable_dtmf_tones,
            )
        )

    def media_opened(self) -> None:
        """The backend has accepted the media socket."""
        if self._streaming == "opening":
            self._streaming = "active"
            self._exchange.counters.media["opened"] += 1
            self._stream_event("Started", "subscriptionStarted", DONE)

    def media_failed(self, reason: str) -> None:
        """The media socket could not be opened."""
        if self._streaming == "opening":
            self._streaming = ""
            self._exchange.counters.media["failed"] += 1
            self._stream_event("Failed", "initialWebSocketConnectionFailed", (500, 8581, reason))

    def media_lost(self) -> None:
        """The backend has closed the media socket, or lost it; the call goes on."""
        if self._streaming == "active":
            self._streaming = ""
            self._stream_event("Failed", "streamConnectionInterrupted", (500, 8581, "The media socket was closed."))

    def stop_media(self, body: Operation) -> None:
        """Close the media socket.

        Raises:
            ApiError: there is none.
        """
        if not self._streaming:
            raise bad_request("Media streaming has not been started.")
        self._streaming, self._stream_request = "", body
        self._exchange.counters.media["closed"] += 1
        self.party.close_media()
        self._stream_event("Stopped", "subscriptionStopped", DONE)

    def _stream_event(self, what: str, details: str, result: Result) -> None:
        update = {
            "contentType": "Audio",
            "mediaStreamingStatus": f"mediaStreaming{what}",
            "mediaStreamingStatusDetails": details,
        }
        self.operation_event(f"MediaStreaming{what}", self._stream_request, result, mediaStreamingUpdate=update)

    # --- keys and words ---

    def ask(self, wish: Asked) -> None:
        """Tell the other end what the backend wants to hear."""
        self.party.asked(wish)

    def pressed(self, digit: str) -> None:
        """The other end has pressed a key."""
        watch = self._tone_watch
        if watch is not None:
            self._tones_heard += 1
            tone = {"tone": tone_name(digit), "sequenceId": self._tones_heard}
            self.operation_event("ContinuousDtmfRecognitionToneReceived", watch, DONE, **tone)
        self.media_ops.pressed(digit)

    def said(self, text: str) -> None:
        """The other end has finished an utterance."""
        self.media_ops.said(text)

    def watch_tones(self, body: OneParticipant) -> None:
        """Report every key from now on."""
        self._tone_watch = body

    def stop_watching_tones(self, body: OneParticipant) -> None:
        """Report keys no more."""
        self._tone_watch = None
        self.operation_event("ContinuousDtmfRecognitionStopped", body, DONE)

    def send_tones(self, body: SendTones) -> None:
        """Send tones to the other end."""
        self.later(TONE_NS * len(body.tones), lambda: self.operation_event("SendDtmfTonesCompleted", body, DONE))

    def transcribe(self, body: Operation) -> None:
        """Say plainly that nobody transcribes: the exchange has no speech service."""
        update = {
            "transcriptionStatus": "transcriptionFailed",
            "transcriptionStatusDetails": "speechServicesConnectionError",
        }
        failure = (500, 8582, "The stand-in has no transcription.")
        self.operation_event("TranscriptionFailed", body, failure, transcriptionUpdate=update)

    # --- others ---

    def invite(self, done: Callable[[Result | None], None]) -> Timer:
        """Call somebody on the backend's behalf."""
        failure, delay_ns = draw_failure(self._exchange.settings, self._exchange.rng)
        return self.later(delay_ns, lambda: done(failure))

    def transfer(self, body: OneParticipant, target: str) -> None:
        """Transfer the other end, and end the backend's part when that has worked."""

        def done(failure: Result | None) -> None:
            if failure is not None:
                self.operation_event("CallTransferFailed", body, failure)
                return
            ids = {"transferTarget": identifier(target), "transferee": identifier(self.other_end)}
            self.operation_event("CallTransferAccepted", body, DONE, **ids)
            self.end_by_backend(f"the backend transferred the call to {number_of(target)}")

        self.invite(done)

    @property
    def other_end(self) -> str:
        """The raw id of whom the backend speaks with."""
        return self.targets[0] if self.outbound and self.targets else self.source

    # --- the end ---

    def end_by_backend(self, reason: str) -> None:
        """The backend has hung up."""
        self._disconnect((200, 0, "The call was ended by the application."))
        self.party.finished(reason)

    def end_by_party(self) -> None:
        """The other end has hung up, or never came up."""
        if self.state is State.RINGING:
            self._over()
        else:
            self.media_failed("The media socket could not be opened.")
            self._disconnect((200, 0, "The participant has left the call."))

    def refuse(self, outcome: Outcome, reason: str) -> None:
        """The call cannot be set up."""
        if self.state is State.RINGING:
            self._exchange.counters.calls["refused"] += 1
            self._over()
            self.party.refused(outcome, reason)

    def _disconnect(self, result: Result) -> None:
        if self.state is not State.DISCONNECTED:
            self.event("CallDisconnected", result)
            self._over()

    def _over(self) -> None:
        self.state = State.DISCONNECTED
        self.media_ops.close()
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self._exchange.forget(self)
