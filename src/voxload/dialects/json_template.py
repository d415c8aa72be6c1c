"""JSON messages with holes: written as YAML in a scenario, encoded once, filled for each call and each send."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from string import Template
from typing import Annotated, Any, NamedTuple
from urllib.parse import quote

import pybase64
from pydantic import AfterValidator

from voxload.dialects.splice import PREPARED, SEQUENCE, UNIX_MS, UNIX_S, Blank
from voxload.dialects.splice import Part as Piece
from voxload.model.template import expand_known, template_names

AUDIO = "audio"
STAMPS = ("sequence", "media_ms", "timestamp_ms", "timestamp_s")
"""Names that each send of an audio message fills anew: the number of the frame from 0, its start in the stream, and the
time of day."""

Path = tuple[str, ...]

_WHOLE = re.compile(r"\$\{(\w+)\}|\$(\w+)")


def _checked_path(text: str) -> str:
    if not all(text.split(".")):
        raise ValueError(f"{text!r} is no field; write its name, or names with dots between them: data.audio")
    return text


def checked_message(message: Any) -> Any:
    """Return a message whose texts are templates.

    Raises:
        ValueError: a `$` in one of them that is neither `$$` nor the start of a name.
    """
    for _, text in texts_of(message):
        template_names(text)
    return message


DottedPath = Annotated[str, AfterValidator(_checked_path)]
"""A field of a message: names with dots between them, numbers for places in lists."""
MessageBody = Annotated[dict[str, Any], AfterValidator(checked_message)]
"""A JSON object whose texts may hold `${name}`."""


def path_of(text: str) -> Path:
    """Return the steps of a dotted path."""
    return tuple(text.split("."))


def get(data: Any, path: Path) -> Any:
    """Return the value at a path; None when there is none."""
    for step in path:
        if data.__class__ is dict:
            data = data.get(step)
        elif data.__class__ is list and step.isdecimal() and int(step) < len(data):
            data = data[int(step)]
        else:
            return None
    return data


def put(data: dict[str, Any], path: Path, value: Any) -> None:
    """Set the value at a path, making what lacks on the way: objects, and lists where a step is a number."""
    place: Any = data
    for step, following in zip(path, (*path[1:], ""), strict=True):
        last = not following
        below: Any = value if last else ([] if following.isdecimal() else {})
        if isinstance(place, list):
            place += [None] * (int(step) + 1 - len(place))
            key: Any = int(step)
            held = place[key]
        else:
            key, held = step, place.get(step)
        if last or not isinstance(held, dict | list):
            place[key] = below
        place = place[key]


def texts_of(node: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Yield every text in a value, with its path."""
    match node:
        case str():
            yield path, node
        case dict():
            for name, value in node.items():
                yield from texts_of(value, (*path, str(name)))
        case list() | tuple():
            for number, value in enumerate(node):
                yield from texts_of(value, (*path, str(number)))
        case _:
            pass


def literal(value: Any) -> Any:
    """Return a value as it must be written in a template to stand for itself."""
    return value.replace("$", "$$") if isinstance(value, str) else value


def fill_text(text: str, values: Mapping[str, Any], quoting: bool = False) -> str:
    """Return a text with its variables filled in, each quoted for a URL if told so; what is not known stays."""
    texts = {name: quote(str(value), safe="") if quoting else str(value) for name, value in values.items()}
    return expand_known(text, texts)


def path_pattern(template: str) -> re.Pattern[str]:
    """Return what the paths look like that `fill_text` makes of a template; its variables are the groups."""
    pattern, end, seen = "", 0, set[str]()
    for found in Template.pattern.finditer(template):
        pattern += re.escape(template[end : found.start()])
        name = found["named"] or found["braced"]
        if name:
            pattern += f"(?P={name})" if name in seen else f"(?P<{name}>[^/?&#]+)"
            seen.add(name)
        else:
            pattern += re.escape("$")
        end = found.end()
    return re.compile(pattern + re.escape(template[end:]))


class Hole(NamedTuple):
    """A name to be filled in; `whole`: it is all of a text, and what is filled in keeps its type."""

    name: str
    whole: bool


Part = bytes | Hole
_PREPARED = Hole("", whole=False)  # no name is empty


class JsonTemplate:
    """A message as encoded parts with holes between them."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        self.constants: dict[Path, Any] = {}
        """The values that the message always has, by their place."""
        self.holes: dict[Path, str] = {}
        """The holes that are whole texts, by their place."""
        self.names: set[str] = set()
        self._open: list[Part] = []
        self._write(body, ())
        self.parts = _joined(self._open)

    def _write(self, node: Any, path: Path) -> None:
        match node:
            case dict():
                self._open.append(b"{")
                for number, (name, value) in enumerate(node.items()):
                    self._open.append((b"," if number else b"") + json.dumps(str(name)).encode() + b":")
                    self._write(value, (*path, str(name)))
                self._open.append(b"}")
            case list():
                self._open.append(b"[")
                for number, value in enumerate(node):
                    self._open.append(b"," if number else b"")
                    self._write(value, (*path, str(number)))
                self._open.append(b"]")
            case str() if "$" in node:
                self._write_text(node, path)
            case _:
                self.constants[path] = node
                self._open.append(json.dumps(node).encode())

    def _write_text(self, text: str, path: Path) -> None:
        whole = _WHOLE.fullmatch(text)
        if whole:
            name = whole[1] or whole[2]
            self.names.add(name)
            self.holes[path] = name
            self._open.append(Hole(name, whole=True))
            return
        parts: list[Part] = []
        end = 0
        for found in Template.pattern.finditer(text):
            name = found["named"] or found["braced"]
            parts += [_escaped(text[end : found.start()]), Hole(name, whole=False) if name else b"$"]
            end = found.end()
        parts.append(_escaped(text[end:]))
        names = {part.name for part in parts if isinstance(part, Hole)}
        if not names:
            self.constants[path] = text.replace("$$", "$")
        self.names |= names
        self._open += [b'"', *parts, b'"']

    def render(self, values: Mapping[str, Any]) -> bytes:
        """Return the message with its holes filled; what has no value stands as it is written."""
        return b"".join(part if isinstance(part, bytes) else _unfilled(part) for part in fill(self.parts, values))

    def fits(self, data: Any) -> bool:
        """Return whether a message may have been made of this template."""
        for path, value in self.constants.items():
            if get(data, path) != value:
                return False
        held = ((name, get(data, path)) for path, name in self.holes.items())
        return all(isinstance(value, str) if name == AUDIO else value is not None for name, value in held)

    def value(self, data: Any, name: str) -> Any:
        """Return what stands in the hole `name` of a message that fits."""
        return next((get(data, path) for path, held in self.holes.items() if held == name), None)


def fill(parts: Iterable[Part], values: Mapping[str, Any]) -> list[Part]:
    """Return the parts with the holes filled that have a value."""
    return _joined(_filled(part, values) for part in parts)


def _filled(part: Part, values: Mapping[str, Any]) -> Part:
    if isinstance(part, bytes) or part.name not in values:
        return part
    value = values[part.name]
    return json.dumps(value).encode() if part.whole else _escaped(str(value))


def _unfilled(hole: Hole) -> bytes:
    written = f"${{{hole.name}}}".encode()
    return b'"' + written + b'"' if hole.whole else written


def _escaped(text: str) -> bytes:
    return json.dumps(text)[1:-1].encode()


def _joined(parts: Iterable[Part]) -> list[Part]:
    """Return the parts with neighbouring bytes put together."""
    found: list[Part] = []
    for part in parts:
        if isinstance(part, bytes) and found and isinstance(found[-1], bytes):
            found[-1] += part
        elif part:
            found.append(part)
    return found


class AudioTemplate:
    """A message that carries audio: what stands around the audio is put on once a run, the rest at each send."""

    def __init__(self, template: JsonTemplate, frame_ms: int) -> None:
        place = template.parts.index(Hole(AUDIO, whole=True))
        before, after = template.parts[:place], template.parts[place + 1 :]
        head = before.pop() if before and isinstance(before[-1], bytes) else b""
        tail = after.pop(0) if after and isinstance(after[0], bytes) else b""
        assert isinstance(head, bytes)
        assert isinstance(tail, bytes)
        self._head, self._tail = head + b'"', b'"' + tail
        self._before, self._after = before, after
        self._frame_ms = frame_ms
        self.prefix = b"" if before else self._head
        """How every message begins up to its audio; empty where that differs from call to call."""

    def prepare(self, frames: Sequence[bytes]) -> list[bytes]:
        """Return the frames in base64 with what always stands around them."""
        return [self._head + pybase64.b64encode(frame) + self._tail for frame in frames]

    def layout(self, values: Mapping[str, Any]) -> tuple[Piece, ...]:
        """Return what a message is made of around a prepared frame, in a call with these values."""
        sides = fill([*self._before, _PREPARED, *self._after], values)
        return tuple(part if isinstance(part, bytes) else self._field(part) for part in sides)

    def _field(self, hole: Hole) -> Piece:
        match hole.name:
            case _PREPARED.name:
                return PREPARED
            case "sequence":
                return SEQUENCE
            case "media_ms":
                return Blank("sequence", self._frame_ms, 0)
            case "timestamp_ms":
                return UNIX_MS
            case "timestamp_s":
                return UNIX_S
            case _:
                return _unfilled(hole)
