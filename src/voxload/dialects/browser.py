"""The sockets of voice front ends in a browser: binary PCM frames up, JSON with audio in base64 down.

Caller: optionally a first JSON message, then binary messages of 16-bit PCM at the frame rate; optionally a message at
the end of an utterance, and one when the caller speaks over the agent.
Agent: `{"type":"audio","data":b64}` (or binary audio), transcripts, the text of replies, a message that stops the
playback, one that ends the reply, errors. The names of types and fields are options.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from voxload.dialects.base import DialectOptions, Template
from voxload.dialects.json_fields import BINARY, JsonDialect, JsonOptions
from voxload.dialects.json_template import DottedPath, MessageBody, literal, path_of, put, texts_of


class BrowserOptions(DialectOptions):
    """Options of the dialect `browser`; texts may hold `${variable}`. A type that is empty is not used."""

    path: str = Field("/ws", description="Where the socket is: path on the target, or URL.")
    subprotocol: str = ""
    sample_rate: int = Field(16_000, ge=8_000, le=48_000, description="Of the caller's audio, in Hz.")
    agent_sample_rate: int | None = Field(
        None, ge=8_000, le=48_000, description="Of the agent's audio; the same by default."
    )
    frame_ms: int = Field(20, ge=10, le=1000, description="Audio in one binary message of the caller.")
    agent_audio: Literal["json", "binary"] = Field("json", description="How the agent's audio comes.")
    connect: MessageBody = Field({}, description="JSON message that the caller sends first; none by default.")
    type_field: DottedPath = "type"
    audio_type: str = Field("audio", min_length=1)
    audio_field: DottedPath = "data"
    rate_field: DottedPath | None = Field(
        None,
        description="Field with the sample rate of audio messages; another than agent_sample_rate ends the call.",
    )
    text_field: DottedPath = "text"
    ready_type: str = Field("", description="The call is up when this has come, else when the socket is open.")
    transcript_type: str = Field("transcript", description="What the agent has understood.")
    reply_type: str = Field("response", description="What the agent says, as text.")
    stop_types: tuple[str, ...] = Field(("interrupt",), description="Audio that was not yet played is to be dropped.")
    done_type: str = Field("done", description="The audio of the reply is complete.")
    error_type: str = "error"
    error_field: DottedPath = "message"
    code_field: DottedPath = "code"
    end_of_speech_type: str = Field("", description="Sent when an utterance is over.")
    interrupt_type: str = Field(
        "", description="Sent when the caller speaks over the agent, whose unplayed audio is dropped at once."
    )
    ignored_types: tuple[str, ...] = Field((), description="Messages that are known and mean nothing.")

    @field_validator("stop_types", "ignored_types", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value


class BrowserDialect(JsonDialect):
    """See the module's text; the protocol is described to the dialect `json`."""

    name: ClassVar[str] = "browser"
    options_type: ClassVar[type[DialectOptions]] = BrowserOptions

    def describe(self) -> JsonOptions:
        """Return the protocol that the options stand for."""
        options = self.options
        assert isinstance(options, BrowserOptions)
        described = {
            "sample_rate": options.sample_rate,
            "agent_sample_rate": options.agent_sample_rate,
            "frame_ms": options.frame_ms,
            "socket": {"path": options.path, "subprotocol": options.subprotocol},
            "send": _send(options),
            "receive": {
                "by": options.type_field,
                "binary": "audio" if options.agent_audio == "binary" else "ignored",
                "messages": _rules(options),
            },
        }
        return JsonOptions.model_validate(described)

    def templates(self) -> dict[tuple[str | int, ...], Template]:
        """Return the texts of the first message."""
        assert isinstance(self.options, BrowserOptions)
        return {("connect", *path): Template(text) for path, text in texts_of(self.options.connect)}


def _send(options: BrowserOptions) -> dict[str, Any]:
    typed = {"end_of_speech": options.end_of_speech_type, "interrupt": options.interrupt_type}
    messages: dict[str, Any] = {"audio": BINARY, "connect": [options.connect] if options.connect else []}
    for name, kind in typed.items():
        if kind:
            messages[name] = {}
            put(messages[name], path_of(options.type_field), literal(kind))
    return messages


def _rules(options: BrowserOptions) -> dict[str, list[dict[str, Any]]]:
    wanted: list[tuple[str, dict[str, Any]]] = [
        (options.ready_type, {"means": "ready"}),
        (options.transcript_type, {"transcript": options.text_field}),
        (options.reply_type, {"reply_text": options.text_field}),
        *((kind, {"means": "interrupted"}) for kind in options.stop_types),
        (options.done_type, {"means": "reply_ended"}),
        (options.error_type, {"means": "error", "code": options.code_field, "message": options.error_field}),
        *((kind, {"means": "ignored"}) for kind in options.ignored_types),
    ]
    if options.agent_audio == "json":
        rate_hz = options.agent_sample_rate or options.sample_rate
        expect = {} if options.rate_field is None else {options.rate_field: rate_hz}
        wanted.append((options.audio_type, {"audio": options.audio_field, "expect": expect}))
    rules: dict[str, list[dict[str, Any]]] = {}
    for kind, rule in wanted:
        if kind:
            rules.setdefault(kind, []).append(rule)
    return rules
