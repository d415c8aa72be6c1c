"""Finds dialects by name: those of this package and those that other packages add by entry point."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, ValidationError

from voxload.dialects.base import Dialect
from voxload.errors import BadInputError, Problem

if TYPE_CHECKING:
    from importlib.metadata import EntryPoints

ENTRY_POINT_GROUP = "voxload.dialects"
OURS = {
    "acs": "voxload.dialects.acs:AcsDialect",
    "acs_media": "voxload.dialects.acs_media:AcsMediaDialect",
    "browser": "voxload.dialects.browser:BrowserDialect",
    "json": "voxload.dialects.json_fields:JsonDialect",
    "openai_realtime": "voxload.dialects.openai_realtime:OpenaiRealtimeDialect",
    "rtmed": "voxload.dialects.rtmed:RtmedDialect",
    "twilio": "voxload.dialects.twilio:TwilioDialect",
}
"""Where each dialect of this package lives; no process looks through all that is installed to find it."""


def _of_other_packages() -> EntryPoints:
    from importlib.metadata import entry_points  # noqa: PLC0415  # for dialects of other packages, and mistakes

    return entry_points(group=ENTRY_POINT_GROUP)


def dialect_names() -> list[str]:
    """Return the names of all installed dialects, sorted."""
    return sorted({*OURS, *(entry.name for entry in _of_other_packages())})


def dialect_type(name: str) -> type[Dialect]:
    """Return the dialect class called `name`.

    Raises:
        BadInputError: no such dialect, or its package cannot be imported.
    """
    if name in OURS:
        module, _, own = OURS[name].partition(":")
        ours: type[Dialect] = getattr(import_module(module), own)
        return ours
    for entry in _of_other_packages().select(name=name):
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
        raise BadInputError([_option_problem(name, detail, found.options_type) for detail in error.errors()]) from None
    return found(target, checked)


def _option_problem(dialect: str, detail: Any, options: type[BaseModel]) -> Problem:
    place = detail["loc"]
    option = ".".join(str(part) for part in place)
    if detail["type"] == "extra_forbidden":
        known = _known_at(options, place[:-1])
        close = difflib.get_close_matches(str(place[-1]), known, 1)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
        return Problem(f"dialect {dialect} has no option {option!r}", suggestion=hint)
    return Problem(f"dialect {dialect}, option {option}: {detail['msg'].removeprefix('Value error, ')}")


def _known_at(options: type[BaseModel], place: Sequence[str | int]) -> list[str]:
    """Return the names of the options that can stand at a place within others."""
    model = options
    for step in place:
        field = model.model_fields.get(str(step))
        below = None if field is None else _model_in(field.annotation)
        model = below or model  # a step into a list or by a name of the user's own leads to no other model
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the model in a type such as `Rule | None` or `dict[str, tuple[Rule, ...]]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part)) is not None), None)
