"""The words between callers and the telephone exchange that plays Azure Communication Services to a backend.

One WebSocket a process of callers (`TRUNK_PATH` on the exchange), one binary message a word, MessagePack. Every word
names its call by the caller's own `call_id`.
"""

from __future__ import annotations

import msgspec

TRUNK_PATH = "/voxload/trunk"


class Ring(msgspec.Struct, tag="ring"):
    """Caller: ring the backend (`webhook` is the full URL for its Event Grid events)."""

    call_id: str
    webhook: str
    caller: str
    """Telephone number of the caller, `+15550000001`; or another raw id, `8:acs:…`, `4:+1…`."""
    callee: str
    headers: dict[str, str] = {}
    """For every request and handshake that belongs to the call: trace context, the scenario's headers."""


class Pressed(msgspec.Struct, tag="pressed"):
    """Caller: a key was pressed (the caller itself sends it on the media socket, where tones are wanted there)."""

    call_id: str
    digit: str


class Said(msgspec.Struct, tag="said"):
    """Caller: an utterance is over; these were its words (for a recognition that the backend has asked for)."""

    call_id: str
    text: str


class MediaOpened(msgspec.Struct, tag="media_opened"):
    """Caller: the media socket is open."""

    call_id: str


class HungUp(msgspec.Struct, tag="hung_up"):
    """Caller: the call is over for it, however it ended; nothing more is to be sent for it."""

    call_id: str


class Waiting(msgspec.Struct, tag="waiting"):
    """Exchange: what the set-up now waits for, in words that name the step."""

    call_id: str
    step: str


class Refused(msgspec.Struct, tag="refused"):
    """Exchange: the call cannot be set up; `outcome` is a value of `Outcome`, the reason names the step."""

    call_id: str
    outcome: str
    reason: str


class OpenMedia(msgspec.Struct, tag="open_media"):
    """Exchange: the backend has answered and wants media: dial `url` with `headers`."""

    call_id: str
    connection_id: str
    url: str
    headers: dict[str, str]
    sample_rate_hz: int
    subscription_id: str
    bidirectional: bool = True
    dtmf: bool = False
    """Key presses are to be sent on the media socket too."""


class CloseMedia(msgspec.Struct, tag="close_media"):
    """Exchange: the backend has stopped the media streaming; the call itself goes on."""

    call_id: str


class Finished(msgspec.Struct, tag="finished"):
    """Exchange: the backend has ended the call (hung up, transferred it away)."""

    call_id: str
    reason: str


class Complaint(msgspec.Struct, tag="complaint"):
    """Exchange: the backend has done something wrong that does not end the call (such as answering twice)."""

    call_id: str
    code: str
    message: str


ToExchange = Ring | MediaOpened | Pressed | Said | HungUp
FromExchange = Waiting | Refused | OpenMedia | CloseMedia | Finished | Complaint


class _Address(msgspec.Struct):
    call_id: str


_encoder = msgspec.msgpack.Encoder()
_to_exchange: msgspec.msgpack.Decoder[ToExchange] = msgspec.msgpack.Decoder(ToExchange)
_from_exchange: msgspec.msgpack.Decoder[FromExchange] = msgspec.msgpack.Decoder(FromExchange)
_address = msgspec.msgpack.Decoder(_Address)


def encode(word: ToExchange | FromExchange) -> bytes:
    """Return a word as one message."""
    return _encoder.encode(word)


def decode_to_exchange(payload: bytes) -> ToExchange:
    """Return what a caller says.

    Raises:
        msgspec.MsgspecError: it is no such word.
    """
    return _to_exchange.decode(payload)


def decode_from_exchange(payload: bytes) -> FromExchange:
    """Return what the exchange says.

    Raises:
        msgspec.MsgspecError: it is no such word.
    """
    return _from_exchange.decode(payload)


def addressee(payload: bytes) -> str:
    """Return the call that a word is for."""
    return _address.decode(payload).call_id
