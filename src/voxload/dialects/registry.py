"""Finds dialects by name: those of this package and those that other packages add by entry point."""

from __future__ import annotations

import difflib
from importlib.metadata import entry_points
from typing import Any

from pydantic import ValidationError

from voxload.dialects.base import Dialect
from voxload.errors import BadInputError, Problem

ENTRY_POINT_GROUP = "voxload.dialects"


def dialect_names() -> list[str]:
    """Return the names of all installed dialects, sorted."""
    return sorted({entry.name for entry in entry_points(group=ENTRY_POINT_GROUP)})


def dialect_type(name: str) -> type[Dialect]:
    """Return the dialect class called `name`.

    Raises:
        BadInputError: no such dialect, or its package cannot be imported.
    """
    for entry in entry_points(group=ENTRY_POINT_GROUP, name=name):
        try:
            found = entry.load()
        except ImportError as error:
            raise BadInputError([Problem(f"the dialect {name!r} cannot be loaded: {error}")]) from None
        if not (isinstance(found, type) and issubclass(found, Dialect)):
            raise BadInputError([Problem(f"the dialect {name!r} is not a voxload.dialects.base.Dialect")])
        return found
    close = difflib.get_close_matches(name, dialect_names(), 1)
    hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(dialect_names())}"
    raise BadInputError([Problem(f"unknown dialect {name!r}", suggestion=hint)])


def build_dialect(name: str, target: str, options: dict[str, Any]) -> Dialect:
    """Return a dialect for `target`, its options checked.

    Raises:
        BadInputError: no such dialect, or options that it does not take; every wrong option is listed.
    """
    found = dialect_type(name)
    try:
        checked = found.options_type.model_validate(options)
    except ValidationError as error:
        known = list(found.options_type.model_fields)
        raise BadInputError([_option_problem(name, detail, known) for detail in error.errors()]) from None
    return found(target, checked)


def _option_problem(dialect: str, detail: Any, known: list[str]) -> Problem:
    option = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        close = difflib.get_close_matches(option, known, 1)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
        return Problem(f"dialect {dialect} has no option {option!r}", suggestion=hint)
    return Problem(f"dialect {dialect}, option {option}: {detail['msg']}")
