"""Events of OpenAI's Realtime API that a client reads, as far as it needs their fields."""

from __future__ import annotations

from typing import Any

import msgspec

from voxload.dialects.events import PeerError, Usage


class ErrorDetails(msgspec.Struct):
    """An error, or why a response failed."""

    type: str | None = ""
    code: str | None = ""
    message: str | None = ""

    def event(self) -> PeerError:
        """Return it as an event."""
        return PeerError(self.code or self.type or "error", self.message or "")


class TokenDetails(msgspec.Struct):
    """Tokens by what they stand for."""

    text_tokens: int | None = 0
    audio_tokens: int | None = 0
    cached_tokens_details: TokenDetails | None = None


class UsageFields(msgspec.Struct):
    """What a response has cost."""

    input_token_details: TokenDetails | None = None
    output_token_details: TokenDetails | None = None

    def event(self) -> Usage:
        """Return it as an event: text and audio apart, what was cached too."""
        read, written = self.input_token_details or TokenDetails(), self.output_token_details or TokenDetails()
        cached = read.cached_tokens_details or TokenDetails()
        return Usage(
            read.text_tokens or 0,
            written.text_tokens or 0,
            read.audio_tokens or 0,
            written.audio_tokens or 0,
            cached.text_tokens or 0,
            cached.audio_tokens or 0,
        )


class StatusDetails(msgspec.Struct):
    """Why a response is not complete."""

    reason: str | None = ""
    error: ErrorDetails | None = None


class ResponseState(msgspec.Struct):
    """A response as it is when the event is sent."""

    id: str | None = ""
    status: str | None = ""
    status_details: StatusDetails | None = None
    usage: UsageFields | None = None


class ServerEvent(msgspec.Struct):
    """Any event of the server; fields that a kind does not carry stay empty."""

    type: str = ""
    delta: str | None = ""
    response_id: str | None = ""
    item_id: str | None = ""
    transcript: str | None = ""
    text: str | None = ""
    response: ResponseState | None = None
    session: dict[str, Any] | None = None
    error: ErrorDetails | None = None


class _Kind(msgspec.Struct):
    type: str = ""


def event_kind(payload: bytes) -> str:
    """Return the type of an event whose other fields are not what they should be; empty when it has none."""
    try:
        return msgspec.json.decode(payload, type=_Kind).type
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""


decode_event = msgspec.json.Decoder(ServerEvent).decode
"""Return the event in a message.

Raises:
    msgspec.ValidationError: it is none.
    msgspec.DecodeError, UnicodeDecodeError: it is no JSON.
"""
