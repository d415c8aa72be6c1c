"""Says in plain words what is wrong with a user's data, from the errors that pydantic found in it."""

from __future__ import annotations

import difflib
import types
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, Tag

_PATTERNS = {
    r"^[A-Za-z_][\w.-]*$": "use letters, digits, _, . and -, and begin with a letter or _",
    r"^\+?\d+$": "use digits, with or without a + in front",
    r"^[0-9A-D*#]+$": "keys are 0-9, A-D, * and #",
}
_EXPECTED = {
    "string_type": "a text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "keys and values",
    "model_type": "keys and values",
    "model_attributes_type": "keys and values",
}
_BOUNDS = {
    "greater_than": ("gt", "must be greater than"),
    "greater_than_equal": ("ge", "must be at least"),
    "less_than": ("lt", "must be less than"),
    "less_than_equal": ("le", "must be at most"),
}


class Finding(NamedTuple):
    """One problem, at `location` in the user's data."""

    location: tuple[str | int, ...]
    message: str
    suggestion: str = ""


class _Place(NamedTuple):
    """Where an error lies: the path in the data, the value there, and the types that were being tried."""

    path: tuple[str | int, ...]
    value: Any
    owner: type[BaseModel] | None
    """The model that the last key belongs to."""
    branch: tuple[tuple[str | int, ...], bool] | None
    """Path of the innermost union without a discriminator, and whether its branch tried here was a model."""


def explain(errors: Sequence[Mapping[str, Any]], model: type[BaseModel], data: Any) -> list[Finding]:
    """Return what is wrong, one finding a mistake: echoes of the same mistake are left out.

    `errors` is pydantic's list for `data` as `model`.
    """
    placed = [(error, _locate(model, data, error["loc"])) for error in errors]
    placed = [(error, place) for error, place in placed if not _is_echo(error)]
    findings: dict[tuple[Any, str], Finding] = {}
    guesses = {
        (place.path[:-1], _guess(str(place.path[-1]), _names(place.owner)))
        for error, place in placed
        if error["type"] == "extra_forbidden" and place.path
    }
    for error, place in _without_lost_branches(placed):
        if error["type"] == "missing" and (place.path, str(error["loc"][-1])) in guesses:
            continue  # the misspelt key is reported already
        found = _finding(error, place)
        findings.setdefault((found.location, found.message), found)
    return list(findings.values())


def did_you_mean(wrong: object, known: Iterable[str]) -> str:
    """Return `did you mean x?`, or the list of what is known when nothing is close."""
    names = list(known)
    guess = _guess(str(wrong), names)
    if guess:
        return f"did you mean {guess}?"
    return f"known: {', '.join(names)}" if names else ""


def _guess(wrong: str, names: Sequence[str]) -> str:
    by_folded = {name.lower().replace("-", "_"): name for name in names}
    close = difflib.get_close_matches(wrong.lower().replace("-", "_"), by_folded, 1, 0.6)
    return by_folded[close[0]] if close else ""


# --- where ------------------------------------------------------------------------------------------------------------


def _locate(model: type[BaseModel], data: Any, loc: Sequence[str | int]) -> _Place:
    """Follow pydantic's location through types and data together.

    The location also names branches of unions; those are steps in the types but not in the data.
    """
    kind: Any = model
    value, path = data, ()  # type: Any, tuple[str | int, ...]
    owner: type[BaseModel] | None = model
    branch: tuple[tuple[str | int, ...], bool] | None = None
    for part in loc:
        kind = _bare(kind)
        members = _members(kind)
        if members:
            kind = _member(members, part)
            if not _is_tagged(members, part):
                branch = (path, _is_model(_bare(kind)))
            continue
        if _is_model(kind):
            owner = kind
            kind = _field_type(kind, part)
        else:
            arguments = get_args(kind)
            kind = arguments[-1 if get_origin(kind) is dict else 0] if arguments else None
        inside = _child(value, part)
        if inside is not None:
            value, path = inside[0], (*path, part)
    return _Place(path, value, owner, branch)


def _child(value: Any, part: str | int) -> tuple[Any] | None:
    if isinstance(value, dict) and part in value:
        return (value[part],)
    if isinstance(value, list) and isinstance(part, int) and part < len(value):
        return (value[part],)
    return None


def _bare(kind: Any) -> Any:
    """Return a type without `Annotated` and without its None."""
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) in {Union, types.UnionType}:
        members = [member for member in get_args(kind) if member is not types.NoneType]
        return _bare(members[0]) if len(members) == 1 else kind
    return kind


def _members(kind: Any) -> tuple[Any, ...]:
    """Return the members of a union, None and nested unions resolved; nothing for other types."""
    if get_origin(kind) not in {Union, types.UnionType}:
        return ()
    flat: list[Any] = []
    for member in get_args(kind):
        if member is not types.NoneType:
            flat += _members(_bare(member)) or (member,)
    return tuple(flat)


def _tags(member: Any) -> list[str]:
    """Return the tags under which a union with a discriminator lists this member."""
    if get_origin(member) is Annotated:
        found = [item.tag for item in get_args(member)[1:] if isinstance(item, Tag)]
        if found:
            return found
    bare = _bare(member)
    if not _is_model(bare):
        return []
    literals = [field.annotation for field in bare.model_fields.values() if get_origin(field.annotation) is Literal]
    return [str(value) for literal in literals[:1] for value in get_args(literal)]


def _is_tagged(members: Sequence[Any], part: str | int) -> bool:
    return any(part in _tags(member) for member in members)


def _member(members: Sequence[Any], part: str | int) -> Any:
    """Return the branch of a union that pydantic calls `part`: by tag, else by the name of its type."""
    for member in members:
        if part in _tags(member):
            return member
    for member in members:
        name = getattr(_bare(member), "__name__", "")
        if part == name or f"{name}]" in str(part):
            return member
    return None


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _field_type(model: type[BaseModel], part: str | int) -> Any:
    for name, field in model.model_fields.items():
        if part in {name, field.alias}:
            return field.annotation
    return None


def _names(model: type[BaseModel] | None) -> list[str]:
    """Return the keys that a model takes, as users write them."""
    return [field.alias or name for name, field in model.model_fields.items()] if model else []


# --- what -------------------------------------------------------------------------------------------------------------


def _is_echo(error: Mapping[str, Any]) -> bool:
    """Return whether a list is called too short only because its items failed."""
    value = error["input"]
    return error["type"] == "too_short" and isinstance(value, list) and len(value) >= error["ctx"]["min_length"]


def _without_lost_branches(
    placed: Sequence[tuple[Mapping[str, Any], _Place]],
) -> Iterator[tuple[Mapping[str, Any], _Place]]:
    """Leave out the errors of union branches that the user cannot have meant.

    Keys and values mean the model among the branches; anything else means a plain value, and one finding says which.
    """
    for error, place in placed:
        if place.branch is None:
            yield error, place
            continue
        union_path, is_model = place.branch
        rivals = [other for other in placed if other[1].branch and other[1].branch[0] == union_path]
        has_model = any(other.branch is not None and other.branch[1] for _, other in rivals)
        at_union = place.path == union_path
        if isinstance(place.value if at_union else {}, dict) and has_model:
            if is_model:
                yield error, place
        elif error is rivals[0][0]:
            wanted = dict.fromkeys(_EXPECTED.get(str(other["type"]), "") for other, _ in rivals)
            expected = " or ".join(word for word in wanted if word)
            yield {**error, "type": "union", "ctx": {"expected": expected}}, place


def _finding(error: Mapping[str, Any], place: _Place) -> Finding:
    where = _dotted(place.path)
    explainer = _EXPLAINERS.get(str(error["type"]), _plain)
    return explainer(error, place, f"{where}: " if where else "")


def _missing(error: Mapping[str, Any], place: _Place, _prefix: str) -> Finding:
    return Finding(place.path, f"{_dotted(place.path) or 'the file'} needs the key {error['loc'][-1]}")


def _unknown_key(error: Mapping[str, Any], place: _Place, _prefix: str) -> Finding:
    parent, key = _dotted(place.path[:-1]), place.path[-1] if place.path else error["loc"][-1]
    inside = f" in {parent}" if parent else ""
    return Finding(place.path, f"unknown key {key!r}{inside}", did_you_mean(key, _names(place.owner)))


def _unknown_tag(error: Mapping[str, Any], place: _Place, prefix: str) -> Finding:
    context = error["ctx"]
    key, wrong = str(context["discriminator"]).strip("'"), context["tag"]
    hint = did_you_mean(wrong, _listed(context["expected_tags"]))
    return Finding((*place.path, key), f"{prefix}unknown {key} {wrong!r}", hint)


def _no_tag(error: Mapping[str, Any], place: _Place, _prefix: str) -> Finding:
    where, key = _dotted(place.path) or "the file", str(error["ctx"]["discriminator"]).strip("'")
    if not isinstance(place.value, dict):
        return Finding(place.path, f"{where}: expected keys and values, found {_shown(place.value)}")
    return Finding(place.path, f"{where} needs the key {key}")


def _step_names() -> Collection[str]:
    from voxload.model.script import STEP_NAMES  # noqa: PLC0415  # the models of scripts, for mistakes in them

    return STEP_NAMES


def _step(_error: Mapping[str, Any], place: _Place, prefix: str) -> Finding:
    value = place.value
    if isinstance(value, dict) and len(value) > 1:
        keys = " and ".join(repr(key) for key in value)
        return Finding(place.path, f"{prefix}a step has one key, this one has {keys}", "put a dash before each step")
    name = next(iter(value), "") if isinstance(value, dict) else value
    if isinstance(name, str) and name in _step_names():
        if isinstance(value, dict):
            return Finding(place.path, f"{prefix}{name} takes no value", f"write - {name}")
        return Finding(place.path, f"{prefix}the step {name} needs a value", f"write - {name}: …")
    if not isinstance(name, str) or not name:
        return Finding(place.path, f"{prefix}{_shown(value)} is not a step", did_you_mean("", _step_names()))
    return Finding(place.path, f"{prefix}unknown step {name!r}", did_you_mean(name, _step_names()))


def _choice(error: Mapping[str, Any], place: _Place, prefix: str) -> Finding:
    if place.value in _step_names():
        return _step(error, place, prefix)  # `- say` alone, or `- hang_up:` with a value
    hint = did_you_mean(place.value, _listed(error["ctx"]["expected"]))
    return Finding(place.path, f"{prefix}{_shown(place.value)} is not allowed here", hint)


def _own_words(error: Mapping[str, Any], place: _Place, prefix: str) -> Finding:
    return Finding(place.path, f"{prefix}{error['ctx']['error']}")


def _listed(words: object) -> list[str]:
    """Return the items of pydantic's `'a', 'b' or 'c'`."""
    return [word.strip(" '") for word in str(words).replace(" or ", ",").split(",")]


def _plain(error: Mapping[str, Any], place: _Place, prefix: str) -> Finding:
    kind, context = str(error["type"]), error.get("ctx") or {}
    expected = context.get("expected", "") if kind == "union" else _EXPECTED.get(kind, "")
    if expected:
        hint = 'put it in quotes ("…")' if expected == "a text" and isinstance(place.value, int | float) else ""
        if expected == "a list":
            hint = "put a dash before each entry"
        return Finding(place.path, f"{prefix}expected {expected}, found {_shown(place.value)}", hint)
    if kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        return Finding(place.path, f"{prefix}{words} {context[key]:g}, found {_shown(place.value)}")
    if kind == "string_pattern_mismatch":
        hint = _PATTERNS.get(str(context["pattern"]), f"it must match {context['pattern']}")
        return Finding(place.path, f"{prefix}{_shown(place.value)} is not allowed here", hint)
    if kind in {"too_short", "string_too_short"}:
        least = context["min_length"]
        return Finding(place.path, f"{prefix}must not be empty" if least == 1 else f"{prefix}needs {least} or more")
    if kind in {"too_long", "string_too_long"}:
        return Finding(place.path, f"{prefix}is too long: at most {context['max_length']}")
    return Finding(place.path, f"{prefix}{error['msg']}")


_EXPLAINERS: dict[str, Callable[[Mapping[str, Any], _Place, str], Finding]] = {
    "missing": _missing,
    "extra_forbidden": _unknown_key,
    "union_tag_invalid": _unknown_tag,
    "union_tag_not_found": _no_tag,
    "step": _step,
    "literal_error": _choice,
    "enum": _choice,
    "value_error": _own_words,
    "assertion_error": _own_words,
}


def _dotted(path: Sequence[str | int]) -> str:
    """Return a path as people write it: `calls[0].script[3].think`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _shown(value: Any) -> str:
    """Return a value as an error names it, never long."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case dict():
            return "keys and values"
        case list():
            return "a list" if value else "an empty list"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
