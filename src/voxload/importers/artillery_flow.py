"""The flow of an Artillery scenario as the script of a call, and what it tells of the protocol."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from voxload.importers.artillery_load import in_seconds, seconds
from voxload.importers.artillery_text import TEMPLATE, Texts, parsed_message
from voxload.importers.notes import Notes
from voxload.model.source import Location

METHODS = ("get", "post", "put", "patch", "delete", "head")
UTTERANCE = "book_appointment"
AUDIO_FIELDS = ("data", "audio", "chunk", "payload", "media", "delta")
_AUDIO = re.compile(r"audio|media|chunk", re.IGNORECASE)
_END = re.compile(r"end|commit|stop|done|finish|final", re.IGNORECASE)
KINDS = ("type", "event", "kind", "action")
_SAID_PATH = re.compile(r"\$\.([\w.]+)")
CODE = {
    "function": "JavaScript of a processor does not run here",
    "beforeRequest": "JavaScript of a processor does not run here",
    "emit": "no dialect speaks socket.io",
    "namespace": "no dialect speaks socket.io",
    "acknowledge": "no dialect speaks socket.io",
    "log": "a script writes no log",
    "ifTrue": "a script has no conditions",
    "setVariable": "a script sets no variables",
}


@dataclass(slots=True)
class Protocol:
    """What flows tell of how a call is opened and what is sent."""

    start: dict[str, Any] | None = None
    """path, body and take of the request that opens a session."""
    socket: str = ""
    subprotocol: str = ""
    audio: dict[str, Any] | None = None
    end_of_speech: dict[str, Any] | None = None
    connect: list[dict[str, Any]] = field(default_factory=list)
    """Messages sent before anything is said."""
    by: str = ""
    """Field by which the agent's messages are told apart, and the value that a flow waits for."""
    awaited: str = ""


@dataclass(slots=True)
class Flow:
    """A translated flow."""

    script: list[Any] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    """GET requests: side traffic."""
    protocol: Protocol = field(default_factory=Protocol)
    opens_socket: bool = False


class FlowReader:
    """Translates one flow, step by step."""

    def __init__(self, notes: Notes, texts: Texts) -> None:
        self._notes = notes
        self._texts = texts
        self._speaking = False
        self._owed = False
        """Something has been said that nothing has waited for."""
        self.flow = Flow()

    def read(self, steps: Any, place: Location) -> Flow:
        """Return the flow."""
        self.flow.script = self._steps(steps, place)
        return self.flow

    def _steps(self, steps: Any, place: Location) -> list[Any]:
        script: list[Any] = []
        for number, step in enumerate(steps if isinstance(steps, list) else []):
            self._step(step, (*place, number), script)
        self._settle(script)
        return script

    def _settle(self, script: list[Any]) -> None:
        """Wait for the agent where Artillery went on without: a caller does, and only then is a turn measured."""
        if self._owed:
            at = next((i for i in range(len(script), 0, -1) if "think" not in script[i - 1]), len(script))
            script.insert(at, "wait_for_agent")
        self._owed = self._speaking = False

    def _step(self, step: Any, here: Location, script: list[Any]) -> None:
        if not isinstance(step, dict) or not step:
            self._notes.add(here, f"{step!r}: no step that is known")
            return
        name = next((key for key in step if key in {*METHODS, "ws", "connect", "send", "think", "loop", "wait"}), "")
        if not name:
            name = str(next(iter(step)))
            instead = "what a caller does: say, think, wait_for_agent, dtmf (docs/scenario.md)"
            self._notes.add((*here, name), f"{name}: {CODE.get(name, 'not brought over')}", instead)
            return
        value, place = step[name], (*here, name)
        if name in METHODS:
            self._http(name, value, place)
        elif name == "think":
            self._think(value, place, script)
        elif name == "send":
            self._send(value, place, script)
        elif name == "wait":
            self._wait(value, place, script)
        elif name == "loop":
            self._loop(value, place, step, here, script)
        else:
            self._open(value, place, script)

    # --- steps of a conversation ---

    def _think(self, value: Any, place: Location, script: list[Any]) -> None:
        length = seconds(value)
        if length is None:
            self._notes.add(place, f"think: {value!r} is no length of time: left out", "think: 2s, or a span 1s..3s")
        elif length:
            script.append({"think": in_seconds(length)})

    def _wait(self, value: Any, place: Location, script: list[Any]) -> None:
        for item in value if isinstance(value, list) else [value]:
            match = item.get("match") if isinstance(item, dict) else None
            self._match(match)
        if not self._owed:
            self._notes.add(place, "wait: nothing has been said before it", "wait_for_agent, if the agent speaks first")
            return
        script.append("wait_for_agent")
        self._owed = self._speaking = False

    def _match(self, match: Any) -> None:
        """Remember by which field the agent's messages are told apart."""
        protocol = self.flow.protocol
        if isinstance(match, dict) and isinstance(match.get("json"), str) and not protocol.by:
            found = _SAID_PATH.fullmatch(match["json"])
            if found and match.get("value") is not None:
                protocol.by, protocol.awaited = found[1], str(match["value"])

    def _send(self, value: Any, place: Location, script: list[Any]) -> None:
        extras = value if isinstance(value, dict) and ("payload" in value or "match" in value) else {}
        message = parsed_message(extras.get("payload", value) if extras else value)
        kind = next((str(message[key]) for key in KINDS if key in message), "") if message else ""
        sounds = message is not None and _has_audio(message)
        protocol = self.flow.protocol
        if message is not None and sounds and (_AUDIO.search(kind) or not kind):
            protocol.audio = protocol.audio or self._template(message, place, audio=True)
            if not self._speaking:
                self._settle(script)
                words = f"Artillery sends no speech: every utterance is {UTTERANCE}, said at the pace of speech"
                instead = "an intent of the corpus or a WAV file; wait_for_agent before it if the agent speaks first"
                self._notes.add(place, words, instead, once=True)
                script.append({"say": UTTERANCE})
            self._speaking = self._owed = True
        elif message is not None and self._speaking and _END.search(kind):
            protocol.end_of_speech = protocol.end_of_speech or self._template(message, place)
            self._speaking = False
        elif message is not None and protocol.audio is None:
            protocol.connect.append(self._template(message, place))
        else:
            what = f"message {kind!r}" if kind else "message"
            instead = "the dialect's own messages (send.connect of the dialect json)"
            self._notes.add(place, f"send: the {what} is neither audio nor the end of speech: left out", instead)
        if extras.get("match") is not None:
            self._match(extras["match"])
            if self._owed:
                script.append("wait_for_agent")
                self._owed = self._speaking = False
        if extras.get("capture") is not None:
            self._notes.add((*place, "capture"), "capture from a message: not brought over", "take: of a receive rule")

    def _template(self, message: dict[str, Any], place: Location, *, audio: bool = False) -> dict[str, Any]:
        """Return a message as a template of the dialect `json`; fields without a counterpart are left out."""
        found: dict[str, Any] = {}
        for name, value in message.items():
            if isinstance(value, dict):
                found[name] = self._template(value, place, audio=audio)
            elif not isinstance(value, str):
                found[name] = value
            elif audio and name in AUDIO_FIELDS:
                found[name] = "${audio}"
            elif audio and "timestamp" in value.lower() and TEMPLATE.search(value):
                found[name] = "${timestamp_ms}"
            elif (text := self._texts.translate(value, place, name)) is not None:
                found[name] = text
        return found

    def _loop(self, value: Any, place: Location, step: dict[str, Any], here: Location, script: list[Any]) -> None:
        inner = self._steps(value, place)
        if not inner:
            return
        count = step.get("count")
        for key in step.keys() - {"loop", "count"}:
            self._notes.add((*here, key), f"{key}: a repetition has times: or until: only")
        if isinstance(count, str) and (ends := re.fullmatch(r"(\d+)-(\d+)", count)):
            count = round((int(ends[1]) + int(ends[2])) / 2)
            self._notes.add((*here, "count"), f"count: {step['count']}: the middle, {count}, stands there")
        if not isinstance(count, int) or count < 1:
            self._notes.add(place, "a loop without a number as count: one round stands there", "repeat: {until: 2m, …}")
            count = 1
        script.append({"repeat": {"times": count, "steps": inner}})

    # --- how a call is opened ---

    def _open(self, value: Any, place: Location, script: list[Any]) -> None:
        """Read `connect:` of the ws engine, or a step `ws:` with a URL and the conversation below it."""
        settings = value if isinstance(value, dict) else {"url": value}
        key = "target" if "target" in settings else "url"
        protocol, self.flow.opens_socket = self.flow.protocol, True
        if settings.get(key):
            protocol.socket = self._path(str(settings[key]), (*place, key)) or protocol.socket
        offered = settings.get("subprotocols") or settings.get("subprotocol")
        if offered:
            protocol.subprotocol = str(offered[0] if isinstance(offered, list) else offered)
        known = {"url", "target", "subprotocols", "subprotocol", "loop", "count", "flow", "send"}
        for other in settings.keys() - known:
            self._notes.add((*place, other), f"{other}: not brought over", "headers: in the scenario, or the dialect")
        if "loop" in settings:
            self._loop(settings["loop"], (*place, "loop"), _only(settings, "loop", "count"), place, script)
        if "flow" in settings:
            script += self._steps(settings["flow"], (*place, "flow"))

    def _path(self, url: str, place: Location) -> str | None:
        found = self._texts.translate(re.sub(r"^(wss?|https?)://[^/]*", "", url), place)
        return found if found is None or found.startswith("/") else f"/{found}"

    def _http(self, method: str, value: Any, place: Location) -> None:
        settings = value if isinstance(value, dict) else {"url": value}
        captures = settings.get("capture") or []
        captures = captures if isinstance(captures, list) else [captures]
        url = str(settings.get("url") or settings.get("uri") or "/")
        path = self._path(url, (*place, "url"))
        if settings.get("expect") is not None:
            hint = "an answer of 400 or more is an error anyway; http_success >= 99% judges side requests"
            self._notes.add((*place, "expect"), "expect: answers are not compared", hint)
        if path is None:
            return
        if (captures or method == "post") and not self.flow.opens_socket and self.flow.protocol.start is None:
            take = self._taken(captures, place)
            self.flow.protocol.start = {"method": method.upper(), "path": path, **self._body(settings, place)}
            if take:
                self.flow.protocol.start["take"] = take
            return
        if method != "get":
            self._notes.add(
                place, f"{method} {url}: beside a call only GET requests are made", "component tests, or get"
            )
            return
        if captures:
            self._notes.add((*place, "capture"), "capture: side requests take nothing from answers")
        self.flow.requests.append({"get": path})

    def _taken(self, captures: list[Any], place: Location) -> dict[str, str]:
        take: dict[str, str] = {}
        for item in captures:
            found = _SAID_PATH.fullmatch(str(item.get("json", ""))) if isinstance(item, dict) else None
            if found is None or not item.get("as"):
                self._notes.add((*place, "capture"), f"capture: {item!r}: only $.field of a JSON answer", "take:")
                continue
            field_name = found[1].split(".")[-1]
            self._texts.renamed[str(item["as"])] = field_name
            take[field_name] = found[1]
        return take

    def _body(self, settings: dict[str, Any], place: Location) -> dict[str, Any]:
        body: dict[str, Any] = {}
        for key in ("form", "body", "formData"):
            if key in settings:
                self._notes.add((*place, key), f"{key}: only JSON bodies are brought over", "json:")
        if settings.get("headers"):
            self._notes.add((*place, "headers"), "headers of one request: not brought over", "headers: in the scenario")
        written = settings.get("json")
        for name, item in (written if isinstance(written, dict) else {}).items():
            here = (*place, "json", name)
            text = self._texts.translate(item, here, name) if isinstance(item, str) else item
            if text is not None:
                body[name] = text
        return {"body": body} if body else {}


def _has_audio(message: dict[str, Any]) -> bool:
    return any(
        _has_audio(value) if isinstance(value, dict) else isinstance(value, str) and key in AUDIO_FIELDS
        for key, value in message.items()
    )


def _only(settings: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: settings[key] for key in keys if key in settings}
