"""Finds `voxload.toml`, and holds a run to what its environment allows."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from voxload.errors import BadInputError, Problem
from voxload.model.environments import BUILT_IN, FILE_NAME, Environment, Environments
from voxload.model.explain import did_you_mean


def find_environment(name: str | None, scenario: Path) -> tuple[str, Environment] | None:
    """Return the environment that a run is meant for, by name or by the file's default; None where none is.

    The file is looked for beside the scenario and upwards.

    Raises:
        BadInputError: the file is wrong, with its lines; or there is no such environment.
    """
    file = next((folder / FILE_NAME for folder in scenario.resolve().parents if (folder / FILE_NAME).is_file()), None)
    known = Environments.model_validate({}) if file is None else _read(file)
    chosen = name or known.default
    if not chosen:
        return None
    if chosen not in known.names():
        place = str(file) if file is not None else ""
        hint = did_you_mean(chosen, known.names())
        raise BadInputError([Problem(f"--env: no environment is called {chosen!r}", place, 0, hint)])
    return chosen, known.get(chosen)


def allow(name: str, environment: Environment, peak_calls: float, agreed: bool) -> None:
    """See that a load does not exceed what the environment allows.

    Raises:
        BadInputError: it does, and the user has not agreed to that.
    """
    limit = environment.calls_max
    if limit is not None and peak_calls > limit and not agreed:
        message = f"about {peak_calls:,.0f} calls at once, and {name} allows {limit:,}"
        hint = f"place fewer (--users {limit}, --rate), raise calls_max in {FILE_NAME}, or say --yes"
        raise BadInputError([Problem(message, suggestion=hint)])


def _read(file: Path) -> Environments:
    try:
        text = file.read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError([Problem(f"cannot be read: {error}", str(file))]) from None
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"line (\d+)", str(error))
        raise BadInputError([Problem(f"not TOML: {error}", str(file), int(found[1]) if found else 0)]) from None
    try:
        return Environments.model_validate(data)
    except ValidationError as error:
        problems = [_problem(detail, text, str(file)) for detail in error.errors()]
        raise BadInputError(sorted(problems, key=lambda problem: problem.line)) from None


def _problem(detail: Any, text: str, file: str) -> Problem:
    location = [str(part) for part in detail["loc"]]
    place = ".".join(location)
    if detail["type"] == "extra_forbidden":
        known = ["default", "environments"] if len(location) == 1 else list(Environment.model_fields)
        message = f"{place}: there is no such setting"
        return Problem(message, file, _line_of(location, text), did_you_mean(location[-1], known))
    message = detail["msg"].removeprefix("Value error, ")
    hint = f"built in are {', '.join(BUILT_IN)}" if not location else ""
    return Problem(f"{place}: {message}" if place else message, file, _line_of(location, text), hint)


def _line_of(location: list[str], text: str) -> int:
    """Return the line of a setting, or of the table that should hold it; 0 when it is not found."""
    table, key = (location[:-1], location[-1]) if location else ([], "")
    inside, line_found = not table, 0
    for number, line in enumerate(text.splitlines(), 1):
        header = re.fullmatch(r"\s*\[\s*([^\]]+?)\s*\]\s*(#.*)?", line)
        if header:
            name = header[1].replace('"', "").replace(" ", "").split(".")
            inside = name == table
            if inside or name == location:
                line_found = number
        elif inside and re.match(rf"\s*\"?{re.escape(key)}\"?\s*=", line):
            return number
    return line_found
