"""The dialect `json`: a simple protocol of JSON messages, described in the scenario instead of in code.

The scenario says which HTTP request opens a session, if any, where the socket is, what the caller's messages look like
(templates with `${audio}`, `${sequence}`, `${digit}`, …) and what the agent's mean (rules by the value of one field).
The agent's side follows from the same description, so that the embedded agent speaks the protocol too.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal
from urllib.parse import unquote, urlsplit

from pydantic import Field, field_validator, model_validator

from voxload.dialects.base import (
    AudioFormat,
    CallDesk,
    CallIdentity,
    Dialect,
    DialectOptions,
    HttpRequest,
    HttpResponse,
    Template,
)
from voxload.dialects.json_protocol import AGENT_FRAME_MS, Protocol
from voxload.dialects.json_sessions import JsonAgent, JsonCaller
from voxload.dialects.json_template import (
    AUDIO,
    STAMPS,
    DottedPath,
    JsonTemplate,
    MessageBody,
    checked_message,
    path_of,
    path_pattern,
    put,
    texts_of,
)
from voxload.errors import BadInputError, Problem

BINARY = "binary"
Meaning = Literal["ready", "speech_started", "interrupted", "reply_ended", "error", "ended", "ignored"]
JSON_HEADERS = {"content-type": "application/json"}


class StartOptions(DialectOptions):
    """The HTTP request that opens a session."""

    path: str = Field(description="Path on the target, or URL.")
    method: Literal["GET", "POST", "PUT"] = "POST"
    headers: dict[str, str] = Field({})
    body: MessageBody = Field({}, description="JSON body, with ${variable}.")
    take: dict[str, DottedPath] = Field(
        {}, description="Fields of the answer, by the name under which templates know them: {session_id: data.id}."
    )


class SocketOptions(DialectOptions):
    """The handshake of the media socket."""

    path: str = Field("/ws", description="Path on the target, or URL.")
    subprotocol: str = ""
    headers: dict[str, str] = Field({})


class SendOptions(DialectOptions):
    """What the caller's messages look like; what is left out is not sent."""

    audio: Any = Field(
        description="A message with ${audio}, and ${sequence}, ${media_ms}, ${timestamp_ms}, ${timestamp_s}; or binary."
    )
    connect: tuple[MessageBody, ...] = Field((), description="Sent when the socket is open.")
    start_of_speech: MessageBody | None = None
    end_of_speech: MessageBody | None = Field(None, description="Without it the agent listens for silence.")
    dtmf: MessageBody | None = Field(None, description="A key press, with ${digit}.")
    mark: MessageBody | None = Field(None, description="A mark of the agent's has been played, with ${mark}.")
    interrupt: MessageBody | None = Field(
        None, description="Sent when the caller speaks over the agent, whose unplayed audio is then dropped at once."
    )
    dropped: MessageBody | None = Field(
        None, description="Sent when the agent was interrupted, with ${unplayed_ms}, how much of it was not heard."
    )
    hang_up: MessageBody | None = None

    @field_validator("audio")
    @classmethod
    def _message_or_binary(cls, value: Any) -> Any:
        if value != BINARY and not isinstance(value, dict):
            raise ValueError(f"write a message with ${{{AUDIO}}} in one of its fields, or {BINARY}")
        return checked_message(value)

    def messages(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield every message with its name."""
        for name in type(self).model_fields:
            written = getattr(self, name)
            if name == "connect":
                yield from ((f"connect.{number}", body) for number, body in enumerate(written))
            elif isinstance(written, dict):
                yield name, written


class Rule(DialectOptions):
    """What a message of the agent means: fields to be read, or a meaning of its own, or both."""

    audio: DottedPath | None = Field(None, description="Field with audio in base64.")
    transcript: DottedPath | None = Field(None, description="Field with the caller's words, as understood.")
    reply_text: DottedPath | None = Field(None, description="Field with the agent's words.")
    final: DottedPath | None = Field(None, description="Field that says whether the words are final; else they are.")
    mark: DottedPath | None = Field(None, description="Field with the name of a mark to be sent back once played.")
    means: Meaning | None = None
    code: DottedPath | None = Field(None, description="Field with an error's code.")
    message: DottedPath | None = Field(None, description="Field with an error's text, or the reason of the end.")
    when: dict[DottedPath, Any] = Field({}, description="Values that the message must have for this rule.")
    expect: dict[DottedPath, Any] = Field(
        {}, description="Values that it must have, if it has the fields, or the call ends: sample_rate: 24000."
    )
    take: dict[str, DottedPath] = Field({}, description="Fields that templates shall know from now on.")
    answer: MessageBody | None = Field(None, description="Sent back at once, such as a pong.")

    @model_validator(mode="before")
    @classmethod
    def _a_word_alone(cls, value: Any) -> Any:
        return {"means": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _means_something(self) -> Rule:
        said = (self.audio, self.transcript, self.reply_text, self.mark, self.means, self.answer)
        if not any(said) and not self.take and not self.expect:
            raise ValueError("a rule needs one of audio, transcript, reply_text, mark, means, answer, take, expect")
        return self


class ReceiveOptions(DialectOptions):
    """What the agent's messages mean."""

    by: DottedPath = Field("type", description="The field that tells the kinds of messages apart.")
    binary: Literal["audio", "ignored"] = Field("ignored", description="What binary messages are.")
    messages: dict[str, tuple[Rule, ...]] = Field({}, description="Rules by the value of that field.")

    @model_validator(mode="before")
    @classmethod
    def _single_rules(cls, value: Any) -> Any:
        if not isinstance(value, dict) or not isinstance(value.get("messages"), dict):
            return value
        listed = {kind: rules if isinstance(rules, list) else [rules] for kind, rules in value["messages"].items()}
        return {**value, "messages": listed}


class JsonOptions(DialectOptions):
    """Options of the dialect `json`; texts may hold `${variable}`."""

    sample_rate: int = Field(16_000, ge=8_000, le=48_000, description="Of the caller's audio, in Hz.")
    encoding: Literal["pcm16", "mulaw"] = "pcm16"
    frame_ms: int = Field(20, ge=10, le=1000, description="Audio in one message of the caller.")
    agent_sample_rate: int | None = Field(None, ge=8_000, le=48_000, description="Of the agent's; the same by default.")
    agent_encoding: Literal["pcm16", "mulaw"] | None = None
    start: StartOptions | None = Field(None, description="HTTP request that opens a session before the socket.")
    socket: SocketOptions = SocketOptions()
    send: SendOptions
    receive: ReceiveOptions

    def taken(self) -> set[str]:
        """Return the names that the agent's answers and messages bring."""
        rules = [rule for rules in self.receive.messages.values() for rule in rules]
        return {
            name for take in (self.start.take if self.start else {}, *(rule.take for rule in rules)) for name in take
        }


MESSAGE_NAMES = {
    "audio": (AUDIO, *STAMPS),
    "dtmf": ("digit",),
    "mark": ("mark",),
    "dropped": ("unplayed_ms",),
}
"""Names that a message of the caller knows besides the variables and what was taken."""


def find_problems(dialect: str, options: JsonOptions) -> list[Problem]:
    """Return what is wrong with options whose parts are all valid: every mistake."""
    found: list[tuple[str, str]] = []
    for place, rate in (("sample_rate", options.sample_rate), ("agent_sample_rate", options.agent_sample_rate)):
        if rate is not None and rate * (options.frame_ms if place == "sample_rate" else AGENT_FRAME_MS) % 1000:
            found.append((place, f"{rate} Hz does not give whole samples in a frame"))
    found += _send_problems(options.send)
    rules = [rule for rules in options.receive.messages.values() for rule in rules]
    if options.receive.binary != "audio" and not any(rule.audio for rule in rules):
        found.append(("receive", "no message carries the agent's audio: give a rule with audio, or binary: audio"))
    if options.receive.binary == "audio" and any(rule.audio for rule in rules):
        found.append(("receive", "audio comes in binary messages or in fields of messages, not in both"))
    return [Problem(f"dialect {dialect}, option {place}: {text}") for place, text in found]


def _send_problems(send: SendOptions) -> Iterator[tuple[str, str]]:
    templates = {name: JsonTemplate(body) for name, body in send.messages()}
    for name, wanted in (("audio", AUDIO), ("dtmf", "digit"), ("mark", "mark")):
        if name in templates and list(templates[name].holes.values()).count(wanted) != 1:
            yield f"send.{name}", f'the message must have one field that is "${{{wanted}}}"'
    seen: dict[tuple[Any, ...], str] = {}
    for name, template in templates.items():
        marks = (sorted(map(repr, template.constants.items())), sorted(template.holes))
        twin = seen.setdefault((repr(marks),), name)
        if twin != name:
            yield f"send.{name}", f"cannot be told from send.{twin}: give each a field with a value of its own"


class JsonDialect(Dialect):
    """See the module's text.

    Raises:
        BadInputError: options that cannot work together; lists all such mistakes.
    """

    name: ClassVar[str] = "json"
    options_type: ClassVar[type[DialectOptions]] = JsonOptions

    def __init__(self, target: str, options: DialectOptions) -> None:
        super().__init__(target, options)
        self.fields = fields = self.describe()
        problems = find_problems(self.name, fields)
        if problems:
            raise BadInputError(problems)
        self.protocol = Protocol(fields)
        self.audio_is_text = fields.send.audio != BINARY
        self._admitted: deque[str] = deque(maxlen=10_000)
        self._sockets = 0
        self._socket = path_pattern(_path(fields.socket.path))
        self._start = path_pattern(_path(fields.start.path)) if fields.start else None

    def describe(self) -> JsonOptions:
        """Return the protocol; a dialect with options of its own makes it of them."""
        assert isinstance(self.options, JsonOptions)
        return self.options

    @property
    def agent_audio_is_text(self) -> bool:
        """As the rules say."""
        return self.fields.receive.binary != "audio"

    @property
    def caller_format(self) -> AudioFormat:
        """As the options say."""
        return AudioFormat(self.fields.sample_rate, self.fields.encoding, self.fields.frame_ms)

    @property
    def agent_format(self) -> AudioFormat:
        """As the options say, in frames of 20 ms."""
        fields = self.fields
        return AudioFormat(
            fields.agent_sample_rate or fields.sample_rate, fields.agent_encoding or fields.encoding, AGENT_FRAME_MS
        )

    def templates(self) -> Mapping[tuple[str | int, ...], Template]:
        """Return every text with a variable in it."""
        fields, taken = self.fields, sorted(self.fields.taken())
        found: dict[tuple[str | int, ...], Template] = {}

        def add(place: tuple[str | int, ...], written: Any, names: Sequence[str]) -> None:
            for path, text in texts_of(written):
                found[(*place, *path)] = Template(text, names)

        if fields.start is not None:
            for part in ("path", "headers", "body"):
                add(("start", part), getattr(fields.start, part), ())
        for part in ("path", "headers"):
            add(("socket", part), getattr(fields.socket, part), taken)
        for name, body in fields.send.messages():
            key, _, number = name.partition(".")
            place = ("send", key, int(number)) if number else ("send", key)
            add(place, body, [*taken, *MESSAGE_NAMES.get(key, ())])
        for kind, rules in fields.receive.messages.items():
            for rule in rules:
                add(("receive", "messages", kind, "answer"), rule.answer, taken)
        return found

    def prepare_caller(self, frames: Sequence[bytes]) -> list[bytes]:
        """Encode all but what differs from call to call."""
        audio = self.protocol.audio
        return list(frames) if audio is None else audio.prepare(frames)

    def caller(self, identity: CallIdentity) -> JsonCaller:
        """Return the caller's side of a new call."""
        return JsonCaller(self.target, self.protocol, identity)

    # --- the agent's side ---

    def prepare_agent(self, frames: Sequence[bytes]) -> list[bytes]:
        """Encode the whole message."""
        audio = self.protocol.agent_audio
        return list(frames) if audio is None else audio.prepare(frames)

    def agent(self, call_id: str) -> JsonAgent:
        """Return the agent's side of a call."""
        return JsonAgent(self.protocol)

    def subprotocol(self) -> str | None:
        """Return the one of the options."""
        return self.fields.socket.subprotocol or None

    def socket_call_id(self, path: str, headers: Mapping[str, str]) -> str | None:
        """Return the session in the path, or the one that was opened first, or a new id."""
        found = self._socket.fullmatch(path)
        if found is None:
            return None
        named = found.groupdict()
        own = [name for name in ("call_id", *(self.fields.start.take if self.fields.start else ())) if name in named]
        if own:
            return unquote(named[own[-1]])
        if self._admitted:
            return self._admitted.popleft()
        self._sockets += 1
        return f"socket-{self._sockets}"

    def answer(self, request: HttpRequest, desk: CallDesk) -> HttpResponse | None:
        """Open a session, with its id in every field that the caller takes from the answer."""
        start = self.fields.start
        if start is None or self._start is None or not self._start.fullmatch(request.url):
            return None
        if request.method != start.method:
            return HttpResponse(405, JSON_HEADERS, b'{"error":"another method"}')
        try:
            details = json.loads(request.body) if request.body else {}
        except ValueError:
            return HttpResponse(400, JSON_HEADERS, b'{"error":"the body is not JSON"}')
        admitted = desk.admit({"path": request.url, "body": details})
        if isinstance(admitted, HttpResponse):
            return admitted
        if not any(name in self._socket.groupindex for name in start.take):
            self._admitted.append(admitted)
        body: dict[str, Any] = {}
        for path in start.take.values():
            put(body, path_of(path), admitted)
        return HttpResponse(200, JSON_HEADERS, json.dumps(body).encode())


def _path(text: str) -> str:
    """Return the path and query of a path or URL."""
    if "://" not in text:
        return "/" + text.removeprefix("/")
    parts = urlsplit(text)
    return parts.path + (f"?{parts.query}" if parts.query else "")
