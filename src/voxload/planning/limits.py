"""Limits of the services behind an agent: named profiles with their sources, a file of one's own, single overrides."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal

import msgspec

from voxload.errors import BadInputError, Problem
from voxload.model.explain import did_you_mean
from voxload.model.source import read_source

DEFAULT_PROFILE = "specification"
UNLIMITED = "unlimited"

Per = Literal["at once", "minute", "second"]


class LimitKind(msgspec.Struct, frozen=True):
    """A limit that a plan knows: what is counted, and whether at once or by time."""

    name: str
    service: str
    unit: str
    per: Per


KINDS = {
    kind.name: kind
    for kind in (
        LimitKind("acs.concurrent_calls", "Communication Services", "calls", "at once"),
        LimitKind("speech.concurrent_streams", "Speech (STT)", "streams", "at once"),
        LimitKind("speech.tts_requests_per_s", "Speech (TTS)", "requests", "second"),
        LimitKind("openai.tokens_per_minute", "OpenAI", "tokens", "minute"),
        LimitKind("openai.requests_per_minute", "OpenAI", "requests", "minute"),
        LimitKind("redis.connections", "Redis", "connections", "at once"),
        LimitKind("eventgrid.events_per_s", "Event Grid", "events", "second"),
    )
}
"""In the order of reports."""


class Limit(msgspec.Struct, frozen=True, omit_defaults=True):
    """The value of a limit (None: there is none), with where it comes from."""

    value: float | None
    source: str = ""
    date: str = ""
    recommended: float | None = None


@cache
def profiles() -> dict[str, dict[str, Limit]]:
    """Return the named profiles."""
    data = (resources.files("voxload.planning") / "data" / "limits.json").read_bytes()
    found = msgspec.json.decode(data, type=dict[str, dict[str, Limit]])
    found[f"{DEFAULT_PROFILE}-recommended"] = {
        name: Limit(limit.recommended, f"{limit.source}, recommended", limit.date)
        for name, limit in found[DEFAULT_PROFILE].items()
    }
    return found


def read_limits(profile: str, overrides: Iterable[str]) -> dict[str, Limit]:
    """Return the limits of a profile, or of a YAML file (`limits:` with name: value), with `NAME=VALUE` overrides.

    Raises:
        BadInputError: everything that is wrong with them.
    """
    problems: list[Problem] = []
    if profile in profiles():
        found = dict(profiles()[profile])
    elif Path(profile).suffix in {".yaml", ".yml", ".json"} or Path(profile).is_file():
        found = _from_file(profile, problems)
    else:
        hint = did_you_mean(profile, list(profiles())) or f"known: {', '.join(profiles())}; or a YAML file"
        raise BadInputError([Problem(f"--limits: no profile is called {profile!r}", suggestion=hint)])
    for text in overrides:
        name, sign, value = text.partition("=")
        if not sign:
            problems.append(Problem(f"--limit {text!r}: write NAME=VALUE, such as redis.connections=2500"))
            continue
        _set(found, name.strip(), value.strip(), "--limit", problems, Problem(f"--limit {text!r}"))
    if problems:
        raise BadInputError(problems)
    return {name: found[name] for name in KINDS if name in found}


def _from_file(profile: str, problems: list[Problem]) -> dict[str, Limit]:
    source = read_source(profile)
    items = source.data.get("limits") if isinstance(source.data, Mapping) else None
    if not isinstance(items, Mapping):
        hint = 'write "limits:" and below it lines such as redis.connections: 2500'
        raise BadInputError([Problem("no limits here", source.file, 1, hint)])
    found: dict[str, Limit] = {}
    base = source.data.get("profile")
    if base is not None and base not in profiles():
        line = source.line(("profile",))
        problems.append(Problem(f"no profile is called {base!r}", source.file, line, f"known: {', '.join(profiles())}"))
    elif base is not None:
        found.update(profiles()[base])
    for name, value in items.items():
        place = Problem("", source.file, source.line(("limits", name)))
        _set(found, str(name), str(value), source.file, problems, place)
    return found


def _set(found: dict[str, Limit], name: str, value: str, source: str, problems: list[Problem], place: Problem) -> None:
    before = f"{place.message}: " if place.message else ""

    def problem(message: str, hint: str = "") -> None:
        problems.append(Problem(before + message, place.file, place.line, hint))

    if name not in KINDS:
        problem(f"no limit is called {name!r}", did_you_mean(name, list(KINDS)) or f"known: {', '.join(KINDS)}")
        return
    try:
        found[name] = Limit(parse_amount(value), source)
    except ValueError as error:
        problem(f"{name}: {error}")


def parse_amount(text: str) -> float | None:
    """Return a number with an optional K or M (240K), or None for `unlimited`.

    Raises:
        ValueError: it is none, or not over 0.
    """
    if text.lower() in {UNLIMITED, "none"}:
        return None
    match = re.fullmatch(r"([\d_]+(?:\.\d+)?)\s*([kKmM]?)", text)
    amount = float(match[1].replace("_", "") or 0) * {"": 1, "k": 1e3, "m": 1e6}[match[2].lower()] if match else 0.0
    if amount <= 0:
        raise ValueError(f"{text!r} is not an amount over 0 (such as 250, 240K, 1.5M, or {UNLIMITED})")
    return amount
