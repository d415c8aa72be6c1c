"""A telephone call to a backend of Twilio: the webhook that answers with TwiML, then the Media Streams socket.

Caller: the form-encoded webhook request, signed (`X-Twilio-Signature`) where an auth token is given; the TwiML answer
`<Response><Connect><Stream url><Parameter/></Stream></Connect></Response>`; on the stream `connected`,
`start{streamSid,start{callSid,tracks,mediaFormat,customParameters}}`, every 20 ms `media{media{track,chunk,timestamp,
payload}}`, `dtmf`, `mark` once the audio before it has been played or cleared, `stop`.
Agent: `media{streamSid,media{payload}}`, `mark`, `clear`. Audio is µ-law at 8 kHz both ways.
"""

from __future__ import annotations

import binascii
import hmac
import json
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, ClassVar
from urllib.parse import quote, unquote, urljoin, urlsplit

import msgspec
import pybase64
from pydantic import Field

from voxload.dialects.base import (
    NO_EVENTS,
    AgentSession,
    AudioForm,
    AudioFormat,
    AudioIn,
    CallDesk,
    CallerSession,
    CallIdentity,
    Dial,
    Dialect,
    DialectOptions,
    Dtmf,
    Ended,
    Event,
    HttpRequest,
    HttpResponse,
    Interrupted,
    Malformed,
    Mark,
    Message,
    PeerError,
    SetupFailed,
    SetupStep,
    Template,
    Unknown,
)
from voxload.dialects.splice import COUNT, PREPARED, Blank, Splicer, new_splice
from voxload.dialects.twilio_webhook import SIGNATURE, Stream, Webhook, connect_stream, read_form, sign
from voxload.model.outcome import Outcome
from voxload.model.template import expand_known

STREAM_PREFIX = "/media-stream/"
FRAME_MS = 20

_MEDIA_FORMAT = {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}


class TwilioOptions(DialectOptions):
    """Options of the dialect `twilio`; texts may hold `${variable}`."""

    webhook: str = Field("/voice", description="Where the backend takes the call: path on the target, or URL.")
    stream_url: str = Field("", description="Dial this stream at once, without a webhook: path on the target, or URL.")
    parameters: dict[str, str] = Field({}, description="customParameters of a stream that is dialled at once.")
    caller_number: str = Field("${caller_number}", description="Who calls (From).")
    callee_number: str = Field("+18005550100", description="The number that is called (To).")
    account_sid: str = Field("AC" + "0" * 32, description="AccountSid of all requests.")
    auth_token: str = Field("", description="Signs the webhook request and the stream's handshake.")
    signed_url: str = Field(
        "", description="URL of the webhook as the backend knows it, for the signature, where it is called by another."
    )


def _sid(kind: str, call_id: str) -> str:
    return kind + blake2b(call_id.encode(), digest_size=16).hexdigest()


class _Media(msgspec.Struct):
    payload: str = ""


class _Mark(msgspec.Struct):
    name: str = ""


class _Dtmf(msgspec.Struct):
    digit: str = ""


class _Start(msgspec.Struct):
    mediaFormat: dict[str, Any] = {}  # noqa: N815  # as on the wire


class _Message(msgspec.Struct):
    """Any message of either side; parts that a kind does not carry stay empty."""

    event: str = ""
    streamSid: str = ""  # noqa: N815  # as on the wire
    media: _Media = msgspec.field(default_factory=_Media)
    mark: _Mark = msgspec.field(default_factory=_Mark)
    dtmf: _Dtmf = msgspec.field(default_factory=_Dtmf)
    start: _Start = msgspec.field(default_factory=_Start)


class _Kind(msgspec.Struct):
    event: str = ""


_decoder = msgspec.json.Decoder(_Message)
_KINDS = frozenset({"connected", "start", "media", "mark", "dtmf", "stop", "clear"})


def _decode(payload: bytes, text: bool) -> _Message | Unknown | Malformed:
    if not text:
        return Unknown("binary")
    try:
        return _decoder.decode(payload)
    except msgspec.ValidationError as error:
        kind = _kind(payload)
        if kind and kind not in _KINDS:
            return Unknown(kind)
        return Malformed(f"not a message of Media Streams: {error}")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return Malformed(f"not JSON: {error}")


def _kind(payload: bytes) -> str:
    """Return the event of a message whose fields are not those of the protocol; empty when it has none."""
    try:
        return msgspec.json.decode(payload, type=_Kind).event
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""


def _audio(encoded: str) -> AudioIn | Malformed:
    try:
        audio = pybase64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        return Malformed(f"audio is not base64: {error}")
    if audio.startswith(b"RIFF"):
        return Malformed("the agent sends a WAV file, and Twilio plays raw µ-law samples at 8 kHz without a header")
    return AudioIn(audio)


# --- the caller's side ------------------------------------------------------------------------------------------------


class TwilioCaller(CallerSession):
    """The caller's side of one call: Twilio, as the backend sees it."""

    splice: Splicer

    def __init__(self, target: str, options: TwilioOptions, identity: CallIdentity) -> None:
        values = identity.values
        self._target = target
        self._stream_url = values.get("stream_url", options.stream_url)
        self._token = values.get("auth_token", options.auth_token)
        self._account_sid = values.get("account_sid", options.account_sid)
        self._call_sid = _sid("CA", identity.call_id)
        self._stream_sid = _sid("MZ", identity.call_id)
        self._parameters = {name: expand_known(text, values) for name, text in options.parameters.items()}
        self.splice = new_splice(
            f'{{"event":"media","streamSid":"{self._stream_sid}","sequenceNumber":"'.encode(), COUNT,
            b'","media":{"track":"inbound","chunk":"', Blank("sequence", 1, 1),
            b'","timestamp":"', Blank("sequence", FRAME_MS, 0), b'",', PREPARED,
            count=1,  # of the next message; `connected` has none
        )  # fmt: skip
        caller = values.get("caller_number", options.caller_number)
        callee = values.get("callee_number", options.callee_number)
        details = {
            "AccountSid": self._account_sid,
            "ApiVersion": "2010-04-01",
            "CallSid": self._call_sid,
            "CallStatus": "ringing",
            "Called": callee,
            "Caller": caller,
            "Direction": "inbound",
            "From": caller,
            "To": callee,
        }
        webhook = urljoin(target + "/", values.get("webhook", options.webhook).removeprefix("/"))
        signed_url = values.get("signed_url", options.signed_url)
        self._webhook = Webhook(webhook, details, self._token, signed_url)

    # --- set-up ---

    def open(self) -> SetupStep:
        """Tell the backend of the call."""
        if self._stream_url:
            return self._dial(urljoin(self._target + "/", self._stream_url.removeprefix("/")))
        return self._webhook.ask()

    def on_response(self, response: HttpResponse) -> SetupStep:
        """Do what the TwiML says, up to the stream."""
        step = self._webhook.read(response)
        if not isinstance(step, Stream):
            return step
        self._parameters = dict(step.parameters)
        return self._dial(step.url)

    def _dial(self, url: str) -> SetupStep:
        scheme, _, rest = url.partition("://")
        scheme = {"http": "ws", "https": "wss"}.get(scheme, scheme)
        if scheme not in {"ws", "wss"}:
            return SetupFailed(Outcome.PROTOCOL_ERROR, f"the url of the stream is no WebSocket: {url!r}")
        url = f"{scheme}://{rest}"
        return Dial(url, (), {SIGNATURE: sign(self._token, url, {})} if self._token else {})

    # --- the stream ---

    def on_connected(self) -> Sequence[Message]:
        """Introduce the stream."""
        start = {
            "accountSid": self._account_sid,
            "streamSid": self._stream_sid,
            "callSid": self._call_sid,
            "tracks": ["inbound"],
            "mediaFormat": _MEDIA_FORMAT,
            "customParameters": self._parameters,
        }
        connected = Message(b'{"event":"connected","protocol":"Call","version":"1.0.0"}')
        return (connected, *self._say("start", start))

    def _say(self, event: str, content: Mapping[str, Any]) -> Sequence[Message]:
        fields = {"event": event, "sequenceNumber": self._next(), event: content, "streamSid": self._stream_sid}
        return (Message(json.dumps(fields).encode()),)

    def _next(self) -> str:
        self.splice.count += 1
        return str(self.splice.count - 1)

    def decode(self, payload: bytes, text: bool) -> Sequence[Event]:
        """Return what the backend says; Twilio leaves out what names another stream."""
        message = _decode(payload, text)
        if not isinstance(message, _Message):
            return (message,)
        if message.event in {"media", "mark", "clear"} and message.streamSid != self._stream_sid:
            return (PeerError("streamSid", f"{message.event} for the stream {message.streamSid!r}: Twilio ignores it"),)
        match message.event:
            case "media":
                return (_audio(message.media.payload),) if message.media.payload else NO_EVENTS
            case "mark":
                return (Mark(message.mark.name),)
            case "clear":
                return (Interrupted(),)
            case kind:
                return (Unknown(kind),)

    @property
    def audio_form(self) -> AudioForm:
        """Audio for this stream, with its fields in the order of Twilio's documentation, spaced or not."""
        head = f'{{"event":"media","streamSid":"{self._stream_sid}","media":{{"payload":"'.encode()
        heads = (head, head.replace(b":", b": ").replace(b",", b", "))
        return AudioForm(heads, b'"}}', refused=b"RIFF")

    def played(self, mark: str) -> Sequence[Message]:
        """Send the mark back."""
        return self._say("mark", {"name": mark})

    def dtmf(self, digit: str) -> Sequence[Message]:
        """Press a key."""
        return self._say("dtmf", {"track": "inbound_track", "digit": digit})

    def hang_up(self) -> Sequence[Message]:
        """Say that the stream ends."""
        return self._say("stop", {"accountSid": self._account_sid, "callSid": self._call_sid})

    def template_values(self) -> Mapping[str, str]:
        """Return `call_sid` and `stream_sid`."""
        return {"call_sid": self._call_sid, "stream_sid": self._stream_sid}


# --- the agent's side -------------------------------------------------------------------------------------------------


class TwilioAgent(AgentSession):
    """The agent's side of one call: a backend, as Twilio sees it."""

    def __init__(self) -> None:
        self._stream_sid = ""
        self._head = b""
        self._replies = 0

    def decode(self, payload: bytes, text: bool) -> Sequence[Event]:
        """Return what the caller says."""
        message = _decode(payload, text)
        if not isinstance(message, _Message):
            return (message,)
        match message.event:
            case "media":
                return (_audio(message.media.payload),) if message.media.payload else NO_EVENTS
            case "start":
                return self._start(message)
            case "dtmf":
                return (Dtmf(message.dtmf.digit),)
            case "stop":
                return (Ended("stop"),)
            case "connected" | "mark":
                return NO_EVENTS
            case kind:
                return (Unknown(kind),)

    def _start(self, message: _Message) -> Sequence[Event]:
        if message.start.mediaFormat != _MEDIA_FORMAT:
            return (Malformed(f"a stream of {message.start.mediaFormat}"),)
        self._stream_sid = message.streamSid
        self._head = b'{"event":"media","streamSid":%b,' % json.dumps(message.streamSid).encode()
        return NO_EVENTS

    def stamp(self, prepared: bytes, sequence: int, unix_ns: int) -> bytes:
        """Add the stream."""
        return self._head + prepared

    def reply_ended(self) -> Sequence[Message]:
        """Ask to be told when the reply has been played, as backends do."""
        self._replies += 1
        return self._say({"event": "mark", "mark": {"name": f"reply-{self._replies}"}})

    def interrupted(self) -> Sequence[Message]:
        """Drop what has not been played."""
        return self._say({"event": "clear"})

    def _say(self, fields: Mapping[str, Any]) -> Sequence[Message]:
        return (Message(json.dumps({**fields, "streamSid": self._stream_sid}).encode()),)


class TwilioDialect(Dialect):
    """See the module's text."""

    name: ClassVar[str] = "twilio"
    options_type: ClassVar[type[DialectOptions]] = TwilioOptions
    options: TwilioOptions

    def __init__(self, target: str, options: DialectOptions) -> None:
        super().__init__(target, options)
        self._sockets = 0

    @property
    def caller_format(self) -> AudioFormat:
        """µ-law at 8 kHz in frames of 20 ms."""
        return AudioFormat(8_000, "mulaw", FRAME_MS)

    def prepare_caller(self, frames: Sequence[bytes]) -> list[bytes]:
        """Encode all but what numbers the message."""
        return [b'"payload":"' + pybase64.b64encode(frame) + b'"}}' for frame in frames]

    def templates(self) -> Mapping[tuple[str | int, ...], Template]:
        """Return the parameters of a stream that is dialled at once."""
        return {("parameters", name): Template(text) for name, text in self.options.parameters.items()}

    def caller(self, identity: CallIdentity) -> TwilioCaller:
        """Return the caller's side of a new call."""
        return TwilioCaller(self.target, self.options, identity)

    def prepare_agent(self, frames: Sequence[bytes]) -> list[bytes]:
        """Encode all but the stream."""
        return [b'"media":{"payload":"' + pybase64.b64encode(frame) + b'"}}' for frame in frames]

    def agent(self, call_id: str) -> TwilioAgent:
        """Return the agent's side of a call."""
        return TwilioAgent()

    def socket_call_id(self, path: str, headers: Mapping[str, str]) -> str | None:
        """Return the session id in `/media-stream/{id}`; a stream that is dialled at once gets one of its own."""
        clean = urlsplit(path).path
        if self.options.stream_url:
            if clean != urlsplit("/" + self.options.stream_url.removeprefix("/")).path:
                return None
            self._sockets += 1
            return f"stream-{self._sockets}"
        return unquote(clean[len(STREAM_PREFIX) :]) or None if clean.startswith(STREAM_PREFIX) else None

    def answer(self, request: HttpRequest, desk: CallDesk) -> HttpResponse | None:
        """Serve the webhook: TwiML that connects the call to a stream of ours."""
        parts = urlsplit(request.url)
        if self.options.stream_url or parts.path != urlsplit(self.options.webhook).path:
            return None
        if request.method != "POST":
            return HttpResponse(405, {}, b"use POST")
        try:
            details = read_form(request.body)
        except ValueError:
            return HttpResponse(400, {}, b"not a form")
        token = self.options.auth_token
        if token:
            signed = sign(token, self.options.signed_url or self.target + request.url, details)
            if not hmac.compare_digest(signed.encode(), request.headers.get(SIGNATURE, "").encode()):
                return HttpResponse(403, {}, b"wrong X-Twilio-Signature")
        admitted = desk.admit({"from": details.get("From", ""), "to": details.get("To", "")})
        if isinstance(admitted, HttpResponse):
            return admitted
        scheme, _, rest = self.target.partition("://")
        url = f"{'wss' if scheme == 'https' else 'ws'}://{rest}{STREAM_PREFIX}{quote(admitted, safe='')}"
        twiml = connect_stream(url, {"caller": details.get("From", "")})
        return HttpResponse(200, {"content-type": "text/xml"}, twiml)
