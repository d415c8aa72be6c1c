"""JSONPath (RFC 9535) for the parts of a scenario that look into an agent's JSON."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final

Getter = Callable[[Any], Any]
"""Returns the first value that a path selects in plain JSON values, or `MISSING`."""


class _Missing:
    """The type of `MISSING`."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()
"""What a path gives that selects nothing; JSON's null is a value."""


def is_path(text: str) -> bool:
    """Return whether a text of a scenario is meant as a JSONPath."""
    return text.startswith("$")


@cache
def compile_path(text: str) -> Getter:
    """Return what takes the value of a JSONPath out of a message.

    A path of names and indices, as nearly all are, becomes a walk through the values that costs well under a
    microsecond; any other (wildcards, filters, descendants) is left to the library, which takes ten times as long.

    Raises:
        ValueError: the text is not a JSONPath; the message says where.
    """
    from jsonpath import CompoundJSONPath, JSONPathEnvironment  # noqa: PLC0415  # takes long to import, and few scenarios have paths
    from jsonpath.exceptions import JSONPathError  # noqa: PLC0415
    from jsonpath.selectors import IndexSelector, NameSelector  # noqa: PLC0415

    try:
        path = JSONPathEnvironment(strict=True).compile(text)
    except JSONPathError as error:
        raise ValueError(f"{text!r} is not a JSONPath: {error.args[0]}") from None
    if isinstance(path, CompoundJSONPath):
        raise ValueError(f"{text!r} is not a JSONPath: write one path")
    steps: list[str | int] = []
    for selector in (selector for segment in path.segments for selector in segment.selectors):
        if isinstance(selector, NameSelector):
            steps.append(selector.name)
        elif isinstance(selector, IndexSelector):
            steps.append(selector.index)
    if path.singular_query():
        return _walk(tuple(steps))

    def search(data: Any) -> Any:
        match = path.match(data)
        return MISSING if match is None else match.obj

    return search


def _walk(steps: tuple[str | int, ...]) -> Getter:
    def walk(data: Any) -> Any:
        for step in steps:
            if isinstance(step, str):
                if data.__class__ is not dict or step not in data:
                    return MISSING
            elif data.__class__ is not list or not -len(data) <= step < len(data):
                return MISSING
            data = data[step]
        return data

    return walk
