"""A telephone call to a backend of Azure Communication Services: rung by Event Grid, answered over REST, media dialled.

The callers ring through an exchange (the stand-in for the service, `voxload acs serve`; a run starts its own unless it
is given one): it posts `IncomingCall` to the webhook, takes the answer over the Call Automation API, posts the
callbacks, and says when and where the media socket is to be dialled. From then on the frames are those of `acs_media`.

The agent's side is a small backend: it answers every call through the same API and serves the socket that it names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import quote, unquote, urlsplit

import msgspec
from pydantic import Field, field_validator

from voxload.dialects import acs_trunk as trunk
from voxload.dialects.acs_media import (
    AcsMediaAgent,
    AcsMediaCaller,
    AcsMediaDialect,
    AcsMediaOptions,
    Casing,
    check_sample_rate,
)
from voxload.dialects.acs_signing import sign
from voxload.dialects.base import (
    AudioForm,
    AudioFormat,
    AudioIn,
    CallDesk,
    CallIdentity,
    Dial,
    Dialect,
    DialectOptions,
    Ended,
    Event,
    ExchangeJob,
    HttpRequest,
    HttpResponse,
    Outgoing,
    PeerError,
    SetupFailed,
    SetupStep,
    Signal,
)
from voxload.model.exchange import DEVELOPMENT_KEY, check_access_key, check_exchange_settings
from voxload.model.outcome import Outcome

API_VERSION = "2024-09-15"
CALLBACKS_PREFIX = "/api/callbacks/"
SOCKET_PREFIX = "/ws/"
VALIDATION = "Microsoft.EventGrid.SubscriptionValidationEvent"
INCOMING_CALL = "Microsoft.Communication.IncomingCall"

_JSON_HEADERS = {"content-type": "application/json"}


class AcsOptions(DialectOptions):
    """Options of the dialect `acs`; texts may hold `${variable}`."""

    webhook: str = Field("/api/incomingCall", description="Where the backend takes Event Grid events: path or URL.")
    caller_number: str = Field("${caller_number}", description="Who calls.")
    callee_number: str = Field("+18005550100", description="The number that is called.")
    sample_rate: int = Field(16_000, description="Of the media stream, as the backend asks for it: 16000 or 24000.")
    listen: str = Field("127.0.0.1:8181", description="Where the run's own exchange listens: the ACS endpoint.")
    exchange: str = Field("", description="URL of an exchange that runs already (voxload acs serve).")
    access_key: str = Field(DEVELOPMENT_KEY, description="The backend's access key for the exchange, base64.")
    service: dict[str, Any] = Field({}, description="Further settings of the run's own exchange: limits, delays.")
    casing: Casing = Field("pascal", description="How the embedded agent writes its messages.")

    @field_validator("sample_rate")
    @classmethod
    def _known_rate(cls, value: int) -> int:
        return check_sample_rate(value)

    @field_validator("access_key")
    @classmethod
    def _base64(cls, value: str) -> str:
        return check_access_key(value)

    @field_validator("exchange")
    @classmethod
    def _url(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("exchange is a URL, such as http://127.0.0.1:8181")
        return value

    @field_validator("service")
    @classmethod
    def _settings(cls, value: dict[str, Any]) -> dict[str, Any]:
        return check_exchange_settings(value)

    @field_validator("listen")
    @classmethod
    def _host_and_port(cls, value: str) -> str:
        host, _, port = value.rpartition(":")
        if not host or not port.isdecimal() or int(port) > 65535:
            raise ValueError("listen is written HOST:PORT, such as 127.0.0.1:8181 (port 0: a free one)")
        return value


class AcsCaller(AcsMediaCaller):
    """The caller's side of one call: first on the trunk, then on the media socket."""

    def __init__(self, webhook: str, media: AcsMediaOptions, options: AcsOptions, identity: CallIdentity) -> None:
        super().__init__("", media, identity)
        self._webhook = webhook
        self._acs = options
        self._identity = identity
        self._waiting_for = "the exchange"
        self._tones_on_socket = False
        self._one_way = self._one_way_told = False

    def open(self) -> SetupStep:
        """Ring."""
        values, options = self._identity.values, self._acs
        ring = trunk.Ring(
            call_id=self._identity.call_id,
            webhook=self._webhook,
            caller=values.get("caller_number", options.caller_number),
            callee=values.get("callee_number", options.callee_number),
            headers=dict(self._identity.headers),
        )
        return Signal(trunk.encode(ring))

    def on_signal(self, payload: bytes) -> Sequence[SetupStep | Event]:
        """Follow what the exchange says."""
        match trunk.decode_from_exchange(payload):
            case trunk.Waiting(step=step):
                self._waiting_for = step
            case trunk.Refused(outcome=outcome, reason=reason):
                return (SetupFailed(Outcome(outcome), reason),)
            case trunk.OpenMedia() as opening:
                return (self._dial(opening),)
            case trunk.CloseMedia():
                return (Ended("the backend has stopped the media streaming"),)
            case trunk.Finished(reason=reason):
                return (Ended(reason),)
            case trunk.Complaint(code=code, message=message):
                return (PeerError(code, message),)
        return ()

    def _dial(self, opening: trunk.OpenMedia) -> SetupStep:
        if opening.sample_rate_hz != self._acs.sample_rate:
            rate = opening.sample_rate_hz
            reason = f"the backend asks for media at {rate} Hz: write sample_rate: {rate} under dialect"
            return SetupFailed(Outcome.PROTOCOL_ERROR, reason)
        self.connection_id = opening.connection_id
        self._tones_on_socket, self._one_way = opening.dtmf, not opening.bidirectional
        self.subscription_id = opening.subscription_id
        self._waiting_for = f"the media socket {opening.url}"
        return Dial(opening.url, (), {**self._identity.headers, **opening.headers})

    def waiting_for(self) -> str:
        """Return the step at which the set-up stands."""
        return self._waiting_for

    def on_connected(self) -> Sequence[Outgoing]:
        """Say how the audio travels, and tell the exchange that the socket is open."""
        return (*super().on_connected(), Signal(trunk.encode(trunk.MediaOpened(self._identity.call_id))))

    def decode(self, payload: bytes, text: bool) -> Sequence[Event]:
        """Return what the backend says; on a stream that it has asked for one way, the service drops its audio."""
        events = super().decode(payload, text)
        if not self._one_way or not any(isinstance(event, AudioIn) for event in events):
            return events
        if self._one_way_told:
            return ()
        self._one_way_told = True
        return (PeerError("one-way stream", "the backend sends audio, but answered without enable_bidirectional"),)

    @property
    def audio_form(self) -> AudioForm | None:
        """As over the media socket alone, unless audio is not wanted."""
        return None if self._one_way else super().audio_form

    def said(self, text: str) -> Sequence[Outgoing]:
        """Tell the exchange, which may have been asked to recognise speech."""
        return (Signal(trunk.encode(trunk.Said(self._identity.call_id, text))),)

    def dtmf(self, digit: str) -> Sequence[Outgoing]:
        """Press a key: heard by the exchange, and on the media socket where the backend wants tones there."""
        pressed = Signal(trunk.encode(trunk.Pressed(self._identity.call_id, digit)))
        return (*super().dtmf(digit), pressed) if self._tones_on_socket else (pressed,)

    def released(self) -> Sequence[Signal]:
        """Hang up."""
        return (Signal(trunk.encode(trunk.HungUp(self._identity.call_id))),)


class AcsDialect(Dialect):
    """See the module's text."""

    name: ClassVar[str] = "acs"
    options_type: ClassVar[type[DialectOptions]] = AcsOptions
    options: AcsOptions

    def __init__(self, target: str, options: DialectOptions) -> None:
        super().__init__(target, options)
        media = AcsMediaOptions(sample_rate=self.options.sample_rate, casing=self.options.casing)
        self._media = AcsMediaDialect(target, media)
        self._media_options = media

    @property
    def caller_format(self) -> AudioFormat:
        """PCM in 20 ms frames at the rate of the options."""
        return self._media.caller_format

    def prepare_caller(self, frames: Sequence[bytes]) -> list[bytes]:
        """Encode as the media socket wants it."""
        return self._media.prepare_caller(frames)

    def caller(self, identity: CallIdentity) -> AcsCaller:
        """Return the caller's side of a new call."""
        webhook = identity.values.get("webhook", self.options.webhook)
        url = webhook if "://" in webhook else self.target + webhook
        return AcsCaller(url, self._media_options, self.options, identity)

    def trunk(self) -> Dial:
        """Return the exchange's address."""
        scheme, _, rest = self.options.exchange.partition("://")
        return Dial(f"{'wss' if scheme == 'https' else 'ws'}://{rest.rstrip('/')}{trunk.TRUNK_PATH}")

    def exchange_job(self) -> ExchangeJob | None:
        """Return the exchange that the run starts, unless it was given one."""
        if self.options.exchange:
            return None
        host, _, port = self.options.listen.rpartition(":")
        return ExchangeJob(host, int(port), {"access_key": self.options.access_key, **self.options.service})

    def signal_call_id(self, payload: bytes) -> str:
        """Return the call that a word of the exchange is for."""
        try:
            return trunk.addressee(payload)
        except msgspec.MsgspecError:
            return ""

    # --- the agent's side ---

    def prepare_agent(self, frames: Sequence[bytes]) -> list[bytes]:
        """Encode as the media socket wants it."""
        return self._media.prepare_agent(frames)

    def agent(self, call_id: str) -> AcsMediaAgent:
        """Return the agent's side of a call."""
        return self._media.agent(call_id)

    def socket_call_id(self, path: str, headers: Mapping[str, str]) -> str | None:
        """Return the session id in `/ws/{session_id}`."""
        clean = urlsplit(path).path
        return unquote(clean[len(SOCKET_PREFIX) :]) or None if clean.startswith(SOCKET_PREFIX) else None

    def answer(self, request: HttpRequest, desk: CallDesk) -> HttpResponse | None:
        """Serve the webhook for Event Grid events, and the callbacks."""
        path = urlsplit(request.url).path
        if path.startswith(CALLBACKS_PREFIX):
            return HttpResponse(200)
        if path != urlsplit(self.options.webhook).path:
            return None
        try:
            events = json.loads(request.body)
            return self._take_events(events if isinstance(events, list) else [events], desk)
        except (ValueError, KeyError, TypeError, AttributeError):
            return HttpResponse(400, _JSON_HEADERS, b'{"error":"not Event Grid events"}')

    def _take_events(self, events: Sequence[Mapping[str, Any]], desk: CallDesk) -> HttpResponse:
        follow_ups: list[HttpRequest] = []
        for event in events:
            data = event["data"]
            if event["eventType"] == VALIDATION:
                body = json.dumps({"validationResponse": data["validationCode"]}).encode()
                return HttpResponse(200, _JSON_HEADERS, body)
            if event["eventType"] == INCOMING_CALL:
                admitted = desk.admit({"from": data["from"]["rawId"], "to": data["to"]["rawId"]})
                if isinstance(admitted, HttpResponse):
                    return admitted
                follow_ups.append(self._take_call(data["incomingCallContext"], admitted, desk))
        return HttpResponse(200, follow_ups=follow_ups)

    def _take_call(self, context: str, call_id: str, desk: CallDesk) -> HttpRequest:
        """Return the signed request that answers a call, with media streaming to our own socket."""
        place = quote(call_id, safe="")
        scheme, _, rest = self.target.partition("://")
        body = {
            "incomingCallContext": context,
            "callbackUri": f"{self.target}{CALLBACKS_PREFIX}{place}",
            "mediaStreamingOptions": {
                "transportUrl": f"{'wss' if scheme == 'https' else 'ws'}://{rest}{SOCKET_PREFIX}{place}",
                "transportType": "websocket",
                "contentType": "audio",
                "audioChannelType": "mixed",
                "startMediaStreaming": True,
                "enableBidirectional": True,
                "audioFormat": f"pcm{self.options.sample_rate // 1000}KMono",
                "enableDtmfTones": True,
            },
        }
        url = f"{self.options.exchange.rstrip('/')}/calling/callConnections:answer?api-version={API_VERSION}"
        encoded = json.dumps(body).encode()
        signed = sign("POST", url, encoded, self.options.access_key, desk.unix_s())
        return HttpRequest("POST", url, {**_JSON_HEADERS, **signed}, encoded)
