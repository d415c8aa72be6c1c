"""YAML as plain values, with the place of each in the text."""

from __future__ import annotations

from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from voxload.errors import BadInputError, Problem
from voxload.model.source import Location, Source

VALUES_MAX = 500_000
"""Values that a file may hold once its aliases are expanded: ends an alias bomb instead of filling the memory."""

_TAG = "tag:yaml.org,2002:"
_PLAIN_TAGS = frozenset(_TAG + name for name in ("str", "int", "float", "bool", "null", "timestamp", "map", "seq"))


def parse_yaml(text: str, file: str) -> Source:
    """Return the content of `file`.

    Raises:
        BadInputError: it is not YAML, is empty or repeats a key.
    """
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
