"""Both sides of a call of a protocol that the scenario describes (see `json_fields`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urljoin

from voxload.dialects.base import (
    NO_EVENTS,
    AgentSession,
    AudioForm,
    AudioIn,
    CallerSession,
    CallIdentity,
    Dial,
    Dtmf,
    Ended,
    EndOfSpeech,
    Event,
    HttpRequest,
    HttpResponse,
    Interrupted,
    Malformed,
    Mark,
    Message,
    PeerError,
    Ready,
    ReplyEnded,
    Respond,
    SetupFailed,
    SetupStep,
    SpeechStarted,
    Transcript,
    Unknown,
    refused,
)
from voxload.dialects.json_protocol import CompiledRule, Protocol, decode_audio, decode_json
from voxload.dialects.json_template import AUDIO, JsonTemplate, fill_text, get, literal, put
from voxload.dialects.splice import PREPARED, Splicer, new_splice
from voxload.model.outcome import Outcome

RAW_AUDIO = AudioForm((b"",), text=False, base64=False)
SIGNS: dict[str, Event] = {
    "ready": Ready(),
    "speech_started": SpeechStarted(),
    "interrupted": Interrupted(),
    "reply_ended": ReplyEnded(),
}


class JsonCaller(CallerSession):
    """The caller's side of one call."""

    splice: Splicer

    def __init__(self, target: str, protocol: Protocol, identity: CallIdentity) -> None:
        self._target = target
        self._protocol = protocol
        self._values: dict[str, Any] = {**identity.values, "call_id": identity.call_id}
        self.stops_agent = protocol.fields.send.interrupt is not None
        self._told_to_stop = False  # the agent itself has said that its audio is to be dropped
        self._last_error = ""
        self.splice = new_splice(PREPARED)
        self._bind()

    def _bind(self) -> None:
        """Make the messages of what is known now."""
        audio = self._protocol.audio
        if audio is not None:
            self.splice.lay_out(audio.layout(self._values))

    # --- set-up ---

    def open(self) -> SetupStep:
        """Open a session over HTTP, or dial at once."""
        start = self._protocol.fields.start
        if start is None:
            return self._dial()
        body = self._protocol.start_body
        headers = {name: fill_text(text, self._values) for name, text in start.headers.items()}
        url = urljoin(self._target + "/", fill_text(start.path, self._values, quoting=True).removeprefix("/"))
        if start.method == "GET" or body is None:
            return HttpRequest(start.method, url, headers)
        return HttpRequest(
            start.method, url, {"content-type": "application/json", **headers}, body.render(self._values)
        )

    def on_response(self, response: HttpResponse) -> SetupStep:
        """Take the session's values and dial."""
        start = self._protocol.fields.start
        assert start is not None
        what = f"{start.method} {start.path}"
        if response.status >= 300:
            return refused(what, response.status)
        data = decode_json(response.body) if self._protocol.start_take else None
        for name, path in self._protocol.start_take:
            value = get(data, path)
            if not isinstance(value, str | int) or value == "":
                return SetupFailed(Outcome.PROTOCOL_ERROR, f"{what} answered without {'.'.join(path)}")
            self._values[name] = value
        self._bind()
        return self._dial()

    def _dial(self) -> SetupStep:
        socket = self._protocol.fields.socket
        url = urljoin(self._target + "/", fill_text(socket.path, self._values, quoting=True).removeprefix("/"))
        scheme, _, rest = url.partition("://")
        headers = {name: fill_text(text, self._values) for name, text in socket.headers.items()}
        subprotocols = (socket.subprotocol,) if socket.subprotocol else ()
        scheme = {"http": "ws", "https": "wss"}.get(scheme, scheme)
        return Dial(f"{scheme}://{rest}", subprotocols, headers, await_ready=self._protocol.awaits_ready)

    def waiting_for(self) -> str:
        """Return what the set-up is waiting for."""
        after = f" (the agent said: {self._last_error})" if self._last_error else ""
        return f"the message that means ready{after}" if self._protocol.awaits_ready else ""

    # --- the caller's words ---

    def on_connected(self) -> Sequence[Message]:
        """Send what the description says."""
        names = [name for name in self._protocol.sent if name.startswith("connect.")]
        return [message for name in names for message in self._say(name)]

    def _say(self, name: str, **values: Any) -> Sequence[Message]:
        template = self._protocol.sent.get(name)
        return () if template is None else (Message(template.render({**self._values, **values})),)

    def start_of_speech(self) -> Sequence[Message]:
        """Send `start_of_speech`."""
        return self._say("start_of_speech")

    def end_of_speech(self, unix_ns: int) -> Sequence[Message]:
        """Send `end_of_speech`."""
        return self._say("end_of_speech")

    def dtmf(self, digit: str) -> Sequence[Message]:
        """Send `dtmf`."""
        return self._say("dtmf", digit=digit)

    def played(self, mark: str) -> Sequence[Message]:
        """Send `mark`."""
        return self._say("mark", mark=mark)

    def dropped(self, unplayed_ns: int) -> Sequence[Message]:
        """Send `dropped`, or `interrupt` where it was the caller who stopped the agent."""
        told, self._told_to_stop = self._told_to_stop, False
        stop = () if told else self._say("interrupt")
        return (*stop, *self._say("dropped", unplayed_ms=unplayed_ns // 1_000_000))

    def hang_up(self) -> Sequence[Message]:
        """Send `hang_up`."""
        return self._say("hang_up")

    def template_values(self) -> Mapping[str, str]:
        """Return what was taken from the answer to the start request."""
        return {name: str(self._values.get(name, "")) for name, _ in self._protocol.start_take}

    # --- the agent's words ---

    def decode(self, payload: bytes, text: bool) -> Sequence[Event]:
        """Return what the agent says, by the rules."""
        if not text:
            return (AudioIn(payload),) if self._protocol.fields.receive.binary == "audio" else (Unknown("binary"),)
        data = decode_json(payload)
        if isinstance(data, Malformed):
            return (data,)
        kind = get(data, self._protocol.by)
        rules = self._protocol.rules.get(kind) if isinstance(kind, str) else None
        if rules is None:
            return (Unknown(kind if isinstance(kind, str) else ""),)
        events: list[Event] = []
        for rule in rules:
            if all(get(data, path) == value for path, value in rule.when):
                events += self._apply(rule, data)
        return events

    @property
    def audio_form(self) -> AudioForm | None:
        """Binary messages, where they are audio."""
        return RAW_AUDIO if self._protocol.fields.receive.binary == "audio" else None

    def _apply(self, rule: CompiledRule, data: Any) -> list[Event]:
        for path, expected in rule.expect:
            value = get(data, path)
            if value is not None and value != expected:
                return [Malformed(f"{'.'.join(path)} is {value!r}, and the scenario expects {expected!r}")]
        events: list[Event] = []
        taken = [(name, get(data, path)) for name, path in rule.take]
        if taken:
            self._values |= {name: value for name, value in taken if isinstance(value, str | int | float)}
            self._bind()
        if rule.answer is not None:
            events.append(Respond((Message(rule.answer.render(self._values)),)))
        events += self._words(rule, data)
        if rule.audio is not None and get(data, rule.audio):
            events.append(decode_audio(get(data, rule.audio)))
        if rule.mark is not None and get(data, rule.mark) is not None:
            events.append(Mark(str(get(data, rule.mark))))
        if rule.rule.means is not None:
            events += self._meaning(rule, rule.rule.means, data)
        return events

    @staticmethod
    def _words(rule: CompiledRule, data: Any) -> list[Event]:
        final = rule.final is None or bool(get(data, rule.final))
        found: list[Event] = []
        if rule.transcript is not None and isinstance(get(data, rule.transcript), str):
            found.append(Transcript(get(data, rule.transcript), "caller", final))
        if rule.reply_text is not None and isinstance(get(data, rule.reply_text), str):
            found.append(Transcript(get(data, rule.reply_text), "agent", final))
        return found

    def _meaning(self, rule: CompiledRule, means: str, data: Any) -> Sequence[Event]:
        text = str(get(data, rule.message) or "") if rule.message is not None else ""
        if means == "interrupted" and self.stops_agent:
            self._told_to_stop = True
            return (Interrupted(if_heard=True),)  # it may be the answer to what this side has dropped itself
        if means in SIGNS:
            return (SIGNS[means],)
        if means == "error":
            code = get(data, rule.code) if rule.code is not None else None
            self._last_error = text
            return (PeerError(str(code) if code is not None else "error", text),)
        return (Ended(text),) if means == "ended" else NO_EVENTS


class JsonAgent(AgentSession):
    """The agent's side of one call, as it follows from the description."""

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol
        audio = protocol.audio
        self._prefix = b"" if audio is None else audio.prefix
        agent_audio = protocol.agent_audio
        self._splice = new_splice(*((PREPARED,) if agent_audio is None else agent_audio.layout({})))

    def decode(self, payload: bytes, text: bool) -> Sequence[Event]:
        """Return what the caller says, by the templates that it fills."""
        if not text:
            return (AudioIn(payload),) if self._protocol.audio is None else (Unknown("binary"),)
        if self._prefix and payload.startswith(self._prefix):
            end = payload.find(b'"', len(self._prefix))
            found = decode_audio(payload[len(self._prefix) : end].decode("latin-1")) if end > 0 else None
            if isinstance(found, AudioIn):
                return (found,)
        data = decode_json(payload)
        if isinstance(data, Malformed):
            return (data,)
        for name in self._protocol.order:
            template = self._protocol.sent[name]
            if template.fits(data):
                return self._meaning(name, template, data)
        kind = get(data, self._protocol.by)
        return (Unknown(kind if isinstance(kind, str) else ""),)

    @staticmethod
    def _meaning(name: str, template: JsonTemplate, data: Any) -> Sequence[Event]:
        match name:
            case "audio":
                return (decode_audio(template.value(data, AUDIO)),)
            case "end_of_speech":
                return (EndOfSpeech(),)
            case "dtmf":
                return (Dtmf(str(template.value(data, "digit"))),)
            case "interrupt":
                return (Interrupted(),)
            case "hang_up":
                return (Ended("hang_up"),)
            case _:
                return NO_EVENTS

    def stamp(self, prepared: bytes, sequence: int, unix_ns: int) -> bytes:
        """Add what differs from send to send."""
        return self._splice(prepared, sequence, unix_ns)

    def on_connected(self) -> Sequence[Message]:
        """Say that the agent is ready, where the protocol has a word for it."""
        return self._say(means="ready")

    def _say(self, field: str = "", means: str = "", **values: Any) -> Sequence[Message]:
        """Return a message with a field or a meaning, and `values` in the fields that its rule has."""
        found = self._protocol.example(field, means)
        if found is None:
            return ()
        body, rule = found
        for name, value in values.items():
            path = getattr(rule, name)
            if path is not None:
                put(body, path, literal(value))
        for name, path in rule.take:
            if get(body, path) is None:
                put(body, path, literal(name))
        return (Message(JsonTemplate(body).render({})),)

    def speech_started(self) -> Sequence[Message]:
        """Say so where there is a word for it."""
        return self._say(means="speech_started")

    def transcript(self, transcript: Transcript) -> Sequence[Message]:
        """Say what was understood."""
        return self._say("transcript", transcript=transcript.text, final=transcript.final)

    def reply_started(self, text: str) -> Sequence[Message]:
        """Send the text of the reply ahead of its audio."""
        return self._say("reply_text", reply_text=text, final=True)

    def reply_ended(self) -> Sequence[Message]:
        """Close the reply, and ask for its mark."""
        return (*self._say("mark", mark="reply"), *self._say(means="reply_ended"))

    def interrupted(self) -> Sequence[Message]:
        """Tell the caller to drop unplayed audio."""
        return self._say(means="interrupted")

    def error(self, error: PeerError) -> Sequence[Message]:
        """Report an error."""
        return self._say(means="error", code=error.code, message=error.message)
