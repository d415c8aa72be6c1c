"""The agent's side of OpenAI's Realtime API: a session's events, responses and usage, in either version."""

from __future__ import annotations

import binascii
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
import pybase64

from voxload.dialects.base import (
    NO_EVENTS,
    AgentSession,
    AudioIn,
    EndOfSpeech,
    Event,
    Interrupted,
    Malformed,
    Message,
    PeerError,
    ReplyWanted,
    Respond,
    Transcript,
    TurnTaking,
    Unknown,
    Usage,
)
from voxload.dialects.openai_realtime_session import (
    AUDIO_FORMATS,
    build_session,
    merged,
    names_turn_detection,
    spoken_format,
    transcribes,
    turn_detection,
)

INPUT_TOKEN_MS, OUTPUT_TOKEN_MS = 100, 50
"""A token of audio, as OpenAI's guide to the costs of its realtime models counts them."""
FRAME_MS = 20
PREFIX_MS = 300
"""Audio before the speech that belongs to the utterance, where the server finds it; silence costs nothing."""
BYTES_PER_MS = {"pcm16": 48, "g711_ulaw": 8}
BETA_NAMES = {
    "response.output_audio.delta": "response.audio.delta",
    "response.output_audio.done": "response.audio.done",
    "response.output_audio_transcript.delta": "response.audio_transcript.delta",
    "response.output_audio_transcript.done": "response.audio_transcript.done",
    "conversation.item.added": "conversation.item.created",
}
"""What the beta version calls some events."""
GA_ONLY = frozenset({"conversation.item.done"})

Form = Literal["pcm16", "g711_ulaw"]


class _ClientEvent(msgspec.Struct):
    """Any event of the client; fields that a kind does not carry stay empty."""

    type: str = ""
    event_id: str | None = None
    audio: str = ""
    item_id: str = ""
    content_index: int = 0
    audio_end_ms: int = 0
    item: dict[str, Any] = {}
    session: dict[str, Any] = {}


_decoder = msgspec.json.Decoder(_ClientEvent)


class OpenaiRealtimeAgent(AgentSession):
    """The server's side of one session. It speaks only when asked to, as the API does."""

    greets_unasked = False

    def __init__(self, form: Form, detection: Literal["server_vad", "semantic_vad", "none"], call_id: str) -> None:
        self._form: Form = form
        self._beta = call_id.startswith("beta-")
        self._id = call_id
        fresh = build_session(beta=self._beta, form=form, turn_detection=detection)
        self._session = {"id": f"sess_{call_id}", "object": "realtime.session", "model": "gpt-realtime", **fresh}
        self._by_message = detection == "none"
        self._count = 0  # of ids given
        self._heard_bytes = 0
        self._uncommitted_bytes = 0
        self._unpaid_bytes = 0  # of the caller's audio since the last response
        self._committed = False  # something was said that no response answers yet
        self._item = ""  # the caller's present or last utterance
        self._hears = False
        self._last_item: str | None = None
        self._response = ""
        self._reply_item = ""
        self._reply_text = ""
        self._reply_ms = 0
        self._head = b""
        self._cancelled = False
        self._usage: Usage | None = None

    # --- what the client says ---

    def decode(self, payload: bytes, text: bool) -> Sequence[Event]:
        """Return what the client says; what the API answers by itself is answered."""
        if not text:
            return (Unknown("binary"),)
        try:
            return self._mean(_decoder.decode(payload))
        except msgspec.ValidationError as error:
            return (self._invalid(str(error)),)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return (Malformed(f"not JSON: {error}"),)

    def _mean(self, event: _ClientEvent) -> Sequence[Event]:
        match event.type:
            case "input_audio_buffer.append":
                return self._append(event)
            case "session.update":
                return self._update(event)
            case "input_audio_buffer.commit":
                return self._commit(event)
            case "input_audio_buffer.clear":
                self._uncommitted_bytes = 0
                return (Respond(self._say("input_audio_buffer.cleared")),)
            case "response.create":
                committed, self._committed = self._committed, False
                return (EndOfSpeech(),) if committed and self._by_message else (ReplyWanted(),)
            case "response.cancel":
                return self._cancel(event)
            case "conversation.item.create":
                return self._create(event)
            case "conversation.item.truncate":
                fields = {"item_id": event.item_id, "content_index": event.content_index}
                return (Respond(self._say("conversation.item.truncated", **fields, audio_end_ms=event.audio_end_ms)),)
            case "conversation.item.delete":
                return (Respond(self._say("conversation.item.deleted", item_id=event.item_id)),)
            case kind:
                return (Unknown(kind), self._invalid(f"Invalid value: {kind!r}.", event, "type"))

    def _append(self, event: _ClientEvent) -> Sequence[Event]:
        try:
            audio = pybase64.b64decode(event.audio, validate=True)
        except (binascii.Error, ValueError):
            return (self._invalid("Invalid 'audio'. Expected base64-encoded audio bytes.", event, "audio"),)
        self._heard_bytes += len(audio)
        self._uncommitted_bytes += len(audio)
        return (AudioIn(audio),) if audio else NO_EVENTS

    def _update(self, event: _ClientEvent) -> Sequence[Event]:
        others = spoken_format(event.session) - {AUDIO_FORMATS[self._form]}
        if others:
            hint = f"This agent speaks {AUDIO_FORMATS[self._form]} only, not {', '.join(sorted(others))}."
            return (self._invalid(hint, event, "session.audio"),)
        self._session = merged(self._session, event.session)
        self._session.pop("client_secret", None)
        answer = Respond(self._say("session.updated", session=self._session))
        if not names_turn_detection(event.session):
            return (answer,)
        self._by_message = turn_detection(event.session) is None
        return (answer, TurnTaking(self._by_message))

    def _commit(self, event: _ClientEvent) -> Sequence[Event]:
        if not self._uncommitted_bytes:
            hint = "Error committing input audio buffer: buffer too small."
            return (self._invalid(hint, event, None, "input_audio_buffer_commit_empty"),)
        self._committed = True
        self._item = self._new("item")
        return (Respond(self._committed_messages()),)

    def _cancel(self, event: _ClientEvent) -> Sequence[Event]:
        if not self._response:
            hint = "Cancellation failed: no active response found"
            return (self._invalid(hint, event, None, "response_cancel_not_active"),)
        self._cancelled = True
        return (Interrupted(),)

    def _create(self, event: _ClientEvent) -> Sequence[Event]:
        item = {"id": self._new("item"), "object": "realtime.item", "status": "completed", **event.item}
        if item.get("type") == "message" and item.get("role") not in {"user", "assistant", "system"}:
            return (self._invalid("Invalid value for 'item.role'.", event, "item.role"),)
        return (Respond(self._item_messages(item)),)

    def _invalid(
        self, message: str, event: _ClientEvent | None = None, param: str | None = None, code: str = "invalid_value"
    ) -> Respond:
        error = {
            "type": "invalid_request_error",
            "code": code,
            "message": message,
            "param": param,
            "event_id": event.event_id if event else None,
        }
        return Respond(self._say("error", error=error))

    # --- what the server says ---

    def on_connected(self) -> Sequence[Message]:
        """Show the session."""
        created = self._say("session.created", session=self._session)
        if not self._beta:
            return created
        conversation = {"id": f"conv_{self._id}", "object": "realtime.conversation"}
        return (*created, *self._say("conversation.created", conversation=conversation))

    def stamp(self, prepared: bytes, sequence: int, unix_ns: int) -> bytes:
        """Add the ids of the event, the response and its message."""
        self._count += 1
        self._reply_ms += FRAME_MS
        return b"%b%d%b" % (self._head, self._count, b'",') + prepared

    def speech_started(self) -> Sequence[Message]:
        """Say once for each utterance that the caller is heard."""
        if self._hears or self._by_message:
            return ()
        self._hears = True
        self._item = self._new("item")
        self._uncommitted_bytes = min(self._uncommitted_bytes, PREFIX_MS * BYTES_PER_MS[self._form])
        return self._say("input_audio_buffer.speech_started", audio_start_ms=self._heard_ms(), item_id=self._item)

    def speech_ended(self) -> Sequence[Message]:
        """Commit the utterance."""
        if not self._hears:
            return ()
        self._hears = False
        stopped = self._say("input_audio_buffer.speech_stopped", audio_end_ms=self._heard_ms(), item_id=self._item)
        return (*stopped, *self._committed_messages())

    def _heard_ms(self) -> int:
        return self._heard_bytes // BYTES_PER_MS[self._form]

    def _committed_messages(self) -> Sequence[Message]:
        self._unpaid_bytes += self._uncommitted_bytes
        self._uncommitted_bytes = 0
        previous = self._last_item
        committed = self._say("input_audio_buffer.committed", item_id=self._item, previous_item_id=previous)
        item = _message_item(self._item, "user", "completed", {"type": "input_audio", "transcript": None})
        return (*committed, *self._item_messages(item))

    def _item_messages(self, item: Mapping[str, Any]) -> Sequence[Message]:
        previous, self._last_item = self._last_item, item["id"]
        added = self._say("conversation.item.added", item=item, previous_item_id=previous)
        return (*added, *self._say("conversation.item.done", item=item, previous_item_id=previous))

    def transcript(self, transcript: Transcript) -> Sequence[Message]:
        """Say what was understood, where the session asks for it."""
        if transcript.speaker != "caller" or not transcribes(self._session):
            return ()
        return self._say(
            "conversation.item.input_audio_transcription.completed",
            item_id=self._item,
            content_index=0,
            transcript=transcript.text,
            usage={"type": "duration", "seconds": round(self._unpaid_bytes / BYTES_PER_MS[self._form] / 1000, 3)},
        )

    def reply_started(self, text: str) -> Sequence[Message]:
        """Open a response with one spoken message."""
        self._response, self._reply_item, self._reply_text = self._new("resp"), self._new("item"), text
        self._reply_ms, self._cancelled, self._committed = 0, False, False
        where = {"response_id": self._response, "output_index": 0}
        fields = {"response_id": self._response, "item_id": self._reply_item, "output_index": 0, "content_index": 0}
        name = self._name("response.output_audio.delta")
        start = json.dumps({"type": name, **fields}, separators=(",", ":")).encode()[:-1]
        self._head = start + b',"event_id":"event_'
        item = _message_item(self._reply_item, "assistant", "in_progress")
        previous, self._last_item = self._last_item, self._reply_item
        return (
            *self._say("response.created", response=self._state("in_progress")),
            *self._say("response.output_item.added", **where, item=item),
            *self._say("conversation.item.added", item=item, previous_item_id=previous),
            *self._say("response.content_part.added", **fields, part={"type": "audio", "transcript": ""}),
            *self._say("response.output_audio_transcript.delta", **fields, delta=text),
        )

    def note_usage(self, usage: Usage) -> None:
        """Tell the cost when the response closes."""
        self._usage = usage

    def reply_ended(self) -> Sequence[Message]:
        """Close the response."""
        if not self._response:
            return ()
        fields = {
            "response_id": self._response,
            "item_id": self._reply_item,
            "output_index": 0,
            "content_index": 0,
        }
        part = {"type": "audio", "transcript": self._reply_text}
        item = self._reply("completed")
        limits = [{"name": "tokens", "limit": 1_000_000, "remaining": 999_000, "reset_seconds": 0.1}]
        closing = (
            *self._say("response.output_audio.done", **fields),
            *self._say("response.output_audio_transcript.done", **fields, transcript=self._reply_text),
            *self._say("response.content_part.done", **fields, part=part),
            *self._say("response.output_item.done", response_id=self._response, output_index=0, item=item),
            *self._say("conversation.item.done", item=item, previous_item_id=None),
            *self._say("response.done", response=self._state("completed")),
            *self._say("rate_limits.updated", rate_limits=limits),
        )
        self._response = ""
        return closing

    def interrupted(self) -> Sequence[Message]:
        """Stop for the caller's voice, or because the client cancelled the response."""
        started = () if self._cancelled else self.speech_started()
        if not self._response:
            return started
        done = self._say("response.done", response=self._state("cancelled"))
        self._response = ""
        return (*started, *done)

    def error(self, error: PeerError) -> Sequence[Message]:
        """Report an error."""
        details = {"type": "server_error", "code": error.code, "message": error.message, "param": None}
        return self._say("error", error={**details, "event_id": None})

    # --- inside ---

    def _new(self, kind: str) -> str:
        self._count += 1
        return f"{kind}_{self._id}_{self._count}"

    def _name(self, name: str) -> str:
        return BETA_NAMES.get(name, name) if self._beta else name

    def _say(self, name: str, **fields: Any) -> Sequence[Message]:
        if self._beta and name in GA_ONLY:
            return ()
        return (Message(json.dumps({"type": self._name(name), "event_id": self._new("event"), **fields}).encode()),)

    def _reply(self, status: str) -> dict[str, Any]:
        kind = "audio" if self._beta else "output_audio"
        return _message_item(self._reply_item, "assistant", status, {"type": kind, "transcript": self._reply_text})

    def _state(self, status: str) -> dict[str, Any]:
        """Return the response as it is now, with its usage once it is over."""
        state: dict[str, Any] = {
            "object": "realtime.response",
            "id": self._response,
            "status": status,
            "status_details": None,
            "output": [],
            "conversation_id": f"conv_{self._id}",
            "usage": None,
        }
        if status == "in_progress":
            return state
        state["output"] = [self._reply("completed" if status == "completed" else "incomplete")]
        state["usage"] = self._paid()
        if status == "cancelled":
            reason = "client_cancelled" if self._cancelled else "turn_detected"
            state["status_details"] = {"type": "cancelled", "reason": reason}
        return state

    def _paid(self) -> dict[str, Any]:
        """Return what the response has cost: the twin's own text tokens, and audio by its length."""
        noted, self._usage = self._usage or Usage(0, 0), None
        heard = -(-self._unpaid_bytes // (BYTES_PER_MS[self._form] * INPUT_TOKEN_MS))
        spoken = -(-self._reply_ms // OUTPUT_TOKEN_MS)
        self._unpaid_bytes = 0
        nothing = {"text_tokens": 0, "audio_tokens": 0, "image_tokens": 0}
        read = {"text_tokens": noted.input_tokens, "audio_tokens": heard, "image_tokens": 0}
        written = {"text_tokens": noted.output_tokens, "audio_tokens": spoken}
        return {
            "total_tokens": noted.input_tokens + noted.output_tokens + heard + spoken,
            "input_tokens": noted.input_tokens + heard,
            "output_tokens": noted.output_tokens + spoken,
            "input_token_details": {**read, "cached_tokens": 0, "cached_tokens_details": nothing},
            "output_token_details": written,
        }


def _message_item(item_id: str, role: str, status: str, *content: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": item_id,
        "object": "realtime.item",
        "type": "message",
        "status": status,
        "role": role,
        "content": list(content),
    }
