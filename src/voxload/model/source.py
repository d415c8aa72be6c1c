"""Reads a user's YAML file with the line of every value, and checks it against a model."""

from __future__ import annotations

import contextlib
import copy
import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from voxload.errors import BadInputError, Problem
from voxload.model.explain import explain

Location = tuple[str | int, ...]
AnyModel = TypeVar("AnyModel", bound=BaseModel)

VALUES_MAX = 500_000
"""Values that a file may hold once its aliases are expanded: ends an alias bomb instead of filling the memory."""

_TAG = "tag:yaml.org,2002:"
_PLAIN_TAGS = frozenset(_TAG + name for name in ("str", "int", "float", "bool", "null", "timestamp", "map", "seq"))


@dataclass(frozen=True, slots=True)
class Source:
    """A YAML file as plain values (dict, list, str, int, float, bool, None) with the place of each in the file."""

    data: Any
    file: str
    lines: dict[Location, int] = field(default_factory=dict)
    texts: dict[Location, str] = field(default_factory=dict)
    """Every scalar as it is written: a number keeps its leading zeros and its plus sign."""
    options: dict[Location, str] = field(default_factory=dict)
    """The values that an option of the command line has set, with the option (`--ca`)."""

    def line(self, location: Location) -> int:
        """Return the line, from 1, of the value at `location`, or of the closest part above it that is in the file."""
        for length in range(len(location), -1, -1):
            found = self.lines.get(tuple(location[:length]))
            if found:
                return found
        return 0

    def problem(self, location: Location, message: str, suggestion: str = "") -> Problem:
        """Return a problem of the value at `location`: with its line, or with the option that has set it."""
        for length in range(len(location), 0, -1):
            option, key = self.options.get(tuple(location[:length])), ".".join(map(str, location[:length]))
            if option:
                return Problem(message.removeprefix(f"{key}: "), option, 0, suggestion)
        return Problem(message, self.file, self.line(location), suggestion)


def read_source(path: str | Path) -> Source:
    """Read a YAML file.

    Raises:
        BadInputError: the file cannot be read, is not YAML, is empty or repeats a key.
    """
    file = str(path)
    text = _read_text(Path(path))
    yaml = YAML(typ="safe", pure=True)
    try:
        root = yaml.compose(text)
    except MarkedYAMLError as error:
        raise BadInputError([_syntax_problem(error, file)]) from None
    except YAMLError as error:
        # A character that YAML does not allow; the reader reports an offset in the text, not a line.
        position = getattr(error, "position", None)
        line = text.count("\n", 0, position) + 1 if isinstance(position, int) else 0
        message = str(error).splitlines()[0]
        raise BadInputError([Problem(f"not valid YAML: {message}", file, line)]) from None
    except RecursionError:
        raise BadInputError([Problem("not valid YAML: nested too deeply", file)]) from None
    if root is None:
        raise BadInputError([Problem("the file is empty", file, 0, "the examples folder shows what to write")])
    reader = _Reader(yaml, file)
    try:
        data = reader.value(root, ())
    except RecursionError:
        raise BadInputError([Problem("nested too deeply", file)]) from None
    if reader.problems:
        raise BadInputError(sorted(reader.problems, key=lambda problem: problem.line))
    return Source(data, file, reader.lines, reader.texts)


def validate(source: Source, model: type[AnyModel]) -> AnyModel:
    """Return the source as `model`.

    Raises:
        BadInputError: every problem of the file, in the order of its lines.
    """
    if not isinstance(source.data, dict):
        found = "a list" if isinstance(source.data, list) else "a plain value"
        hint = f"start with {next(iter(model.model_fields))}: on a line of its own" if model.model_fields else ""
        raise BadInputError([Problem(f"expected keys and values at the top, found {found}", source.file, 1, hint)])
    valid, problems = validate_partly(source, model)
    if problems or valid is None:
        raise BadInputError(problems)
    return valid


def validate_partly(source: Source, model: type[AnyModel]) -> tuple[AnyModel | None, list[Problem]]:
    """Return (what the source says apart from its mistakes, the mistakes in the order of their lines).

    What is left out of a wrong file can still be checked further, so that a user learns of everything at once; it is
    None where nothing can be made of the rest.
    """
    try:
        return model.model_validate(source.data), []
    except ValidationError as error:
        findings = explain(error.errors(include_url=False), model, source.data)
    problems = [source.problem(each.location, each.message, each.suggestion) for each in findings]
    problems.sort(key=lambda problem: (problem.file != source.file, problem.line))
    if any(each.location and isinstance(each.location[-1], int) for each in findings):
        return None, problems  # without an item of a list those after it would be looked for on the wrong lines
    rest = copy.deepcopy(source.data)
    for each in findings:
        _remove(rest, each.location)
    try:
        return model.model_validate(rest), problems
    except ValidationError:
        return None, problems


def _remove(data: Any, location: Location) -> None:
    """Take the key at `location` out of nested dicts and lists; nothing happens where nothing stands."""
    with contextlib.suppress(KeyError, IndexError, TypeError):
        for part in location[:-1]:
            data = data[part]
        del data[location[-1]]


def load_yaml_model(path: str | Path, model: type[AnyModel]) -> AnyModel:
    """Read a YAML file and return it as `model`.

    Raises:
        BadInputError: every problem of the file.
    """
    return validate(read_source(path), model)


def read_bytes(path: Path) -> bytes:
    """Return the content of a user's file.

    Raises:
        BadInputError: it is missing, is a folder, or cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise BadInputError([Problem("no such file", str(path), 0, _neighbour(path))]) from None
    except IsADirectoryError:
        raise BadInputError([Problem("is a folder, not a file", str(path), 0, _neighbour(path / path.name))]) from None
    except OSError as error:
        raise BadInputError([Problem(f"cannot be read: {error.strerror or error}", str(path))]) from None
    except ValueError as error:  # a null character in the name
        raise BadInputError([Problem(f"not a file name: {error}", repr(str(path)))]) from None


def _read_text(path: Path) -> str:
    content = read_bytes(path)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise BadInputError([Problem("not a text file in UTF-8", str(path), line)]) from None
    if "\0" in text:
        raise BadInputError([Problem("not a text file: it holds null bytes", str(path))])
    return text


def _neighbour(path: Path) -> str:
    """Return a hint at a file of nearly the same name, or at the YAML files of the folder."""
    try:
        names = sorted(item.name for item in path.parent.iterdir() if item.suffix in {path.suffix, ".yaml"})
    except OSError:
        return ""
    close = difflib.get_close_matches(path.name, names, 1)
    return f"did you mean {path.parent / close[0]}?" if close else ""


def _syntax_problem(error: MarkedYAMLError, file: str) -> Problem:
    problem = str(error.problem or error.context or "cannot be parsed")
    unclosed = "end>" in problem or "end of stream" in problem
    mark = (error.context_mark if unclosed else None) or error.problem_mark or error.context_mark
    line = mark.line + 1 if mark is not None else 0
    hint = ""
    if unclosed:
        hint = "a bracket or a quote that opens here is not closed"
    elif "'\\t'" in problem:
        hint = "indent with spaces, not with tabs"
    elif "mapping values are not allowed" in problem:
        hint = "check the indentation, and put texts that hold ': ' in quotes"
    elif "another document" in problem:
        hint = "a file holds one scenario; remove the line ---"
    elif "cannot start any token" in problem:
        hint = "put the text in quotes"
    return Problem(f"not valid YAML: {problem}", file, line, hint)


class _Reader:
    """Turns composed YAML nodes into plain values and notes where each one stood."""

    def __init__(self, yaml: YAML, file: str) -> None:
        self._constructor = yaml.constructor
        self._file = file
        self._open: set[int] = set()
        self._count = 0
        self.lines: dict[Location, int] = {}
        self.texts: dict[Location, str] = {}
        self.problems: list[Problem] = []

    def value(self, node: Node, location: Location) -> Any:
        """Return the node as a plain value; problems are noted and stand for None."""
        self.lines.setdefault(location, node.start_mark.line + 1)
        self._count += 1
        if self._count > VALUES_MAX:
            raise BadInputError([Problem(f"more than {VALUES_MAX:,} values with aliases expanded", self._file)])
        if id(node) in self._open:
            return self._problem(node, "an alias (*) stands inside the value that it names")
        if node.tag not in _PLAIN_TAGS:
            return self._problem(node, f"the YAML tag {node.tag} is not supported")
        if isinstance(node, ScalarNode):
            return self._scalar(node, location)
        self._open.add(id(node))
        try:
            if isinstance(node, SequenceNode):
                return [self.value(item, (*location, number)) for number, item in enumerate(node.value)]
            return self._mapping(node, location)
        finally:
            self._open.discard(id(node))

    def _scalar(self, node: ScalarNode, location: Location) -> Any:
        text = str(node.value)
        self.texts.setdefault(location, text)
        try:
            match str(node.tag).removeprefix(_TAG):
                case "int":
                    return int(self._constructor.construct_yaml_int(node))
                case "float":
                    return float(self._constructor.construct_yaml_float(node))
                case "bool":
                    return bool(self._constructor.construct_yaml_bool(node))
                case "null":
                    return None
        except (ValueError, KeyError):
            return self._problem(node, f"{text[:40]!r} is not a number")
        return text  # dates stay texts: no field of ours is a date

    def _mapping(self, node: Node, location: Location) -> dict[str, Any]:
        found: dict[str, Any] = {}
        merged: list[Node] = []
        first_lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _TAG + "merge":
                merged += value_node.value if isinstance(value_node, SequenceNode) else [value_node]
                continue
            if not isinstance(key_node, ScalarNode):
                self._problem(key_node, "a key must be a plain text")
                continue
            key, line = str(key_node.value), key_node.start_mark.line + 1
            if key in first_lines:
                self._problem(key_node, f"the key {key!r} stands twice", f"first on line {first_lines[key]}")
                continue
            first_lines[key] = line
            self.lines[*location, key] = line
            found[key] = self.value(value_node, (*location, key))
        for part in merged:
            # Keys of the mapping itself win over merged ones, and earlier merges over later ones.
            if isinstance(part, MappingNode):
                for key, value in self.value(part, location).items():
                    found.setdefault(key, value)
            else:
                self._problem(part, "<< merges keys and values only")
        return found

    def _problem(self, node: Node, message: str, suggestion: str = "") -> None:
        self.problems.append(Problem(message, self._file, node.start_mark.line + 1, suggestion))
