"""Reads a user's YAML file with the line of every value, and checks it against a model."""

from __future__ import annotations

import contextlib
import copy
import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from voxload.errors import BadInputError, Problem

Location = tuple[str | int, ...]
StandIns = tuple[tuple[tuple[str | type[int], ...], object], ...]
"""What a wrong part is replaced by: (where, `int` for any item of a list; a valid value)."""
AnyModel = TypeVar("AnyModel", bound=BaseModel)


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
    from voxload.model.yaml_text import parse_yaml  # noqa: PLC0415  # children of the command read no file

    return parse_yaml(_read_text(Path(path)), str(path))


def validate(source: Source, model: type[AnyModel]) -> AnyModel:
    """Return the source as `model`.

    Raises:
        BadInputError: every problem of the file, in the order of its lines.
    """
    if not isinstance(source.data, dict):
        found = "a list" if isinstance(source.data, list) else "a plain value"
        hint = f"start with {next(iter(model.model_fields))}: on a line of its own" if model.model_fields else ""
        raise BadInputError([Problem(f"expected keys and values at the top, found {found}", source.file, 1, hint)])
    partly = validate_partly(source, model)
    if partly.problems or partly.valid is None:
        raise BadInputError(partly.problems)
    return partly.valid


class Partly(NamedTuple, Generic[AnyModel]):
    """What a source says apart from its mistakes."""

    valid: AnyModel | None
    """None: nothing can be made of the rest."""
    problems: list[Problem]
    """The mistakes, in the order of their lines."""
    stood_in: frozenset[Location] = frozenset()
    """The parts of `valid` that are not the user's, since theirs are wrong."""


def validate_partly(source: Source, model: type[AnyModel], stand_ins: StandIns = ()) -> Partly[AnyModel]:
    """Return what the source says apart from its mistakes, and the mistakes.

    What is left of a wrong file can still be checked further, so that a user learns of everything at once. Wrong parts
    are left out; those that a model cannot be without, `stand_ins` replaces.
    """
    try:
        return Partly(model.model_validate(source.data), [])
    except ValidationError as error:
        from voxload.model.explain import explain  # noqa: PLC0415  # for files with mistakes

        findings = explain(error.errors(include_url=False), model, source.data)
    problems = [source.problem(each.location, each.message, each.suggestion) for each in findings]
    problems.sort(key=lambda problem: (problem.file != source.file, problem.line))
    rest = copy.deepcopy(source.data)
    stood_in: set[Location] = set()
    for each in findings:
        if not (each.location and isinstance(each.location[-1], int)):
            _remove(rest, each.location)
        elif not _replace(rest, each.location, stand_ins, stood_in):
            return Partly(None, problems)  # without an item of a list those after it would be looked for on wrong lines
    try:
        return Partly(model.model_validate(rest), problems, frozenset(stood_in))
    except ValidationError as error:
        missing = [each["loc"] for each in error.errors(include_url=False)]
    if all(_replace(rest, location, stand_ins, stood_in) for location in missing):
        with contextlib.suppress(ValidationError):
            return Partly(model.model_validate(rest), problems, frozenset(stood_in))
    return Partly(None, problems)


def _replace(data: Any, location: Location, stand_ins: StandIns, stood_in: set[Location]) -> bool:
    """Replace the innermost part around `location` that has a stand-in, and note where; False: there is none."""
    for pattern, value in sorted(stand_ins, key=lambda each: -len(each[0])):
        here = location[: len(pattern)]
        if tuple(int if isinstance(part, int) else part for part in here) != pattern:
            continue
        with contextlib.suppress(KeyError, IndexError, TypeError):
            for part in here[:-1]:
                data = data[part]
            data[here[-1]] = copy.deepcopy(value)
            stood_in.add(here)
            return True
    return False


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
