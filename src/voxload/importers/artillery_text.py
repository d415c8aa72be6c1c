"""Texts of an Artillery file, `{{ name }}` and `{{ $randomInt(…) }}`, in terms of a scenario."""

from __future__ import annotations

import json
import re
from typing import Any

from voxload.importers.notes import Notes
from voxload.model.source import Location

TEMPLATE = re.compile(r"\{\{\s*(.*?)\s*\}\}")
_RANDOM = re.compile(r"\$random(?:Int|Number)\(\s*(\d+)\s*,\s*(\d+)\s*\)")
_ENVIRONMENT = re.compile(r"\$(?:environment|env|processEnvironment)\.(\w+)")
_PHONE = re.compile(r"(\+?\d+)\{\{[^{}]*\}\}")
_STAND_IN = "\x01"


class Texts:
    """Translates texts; the variables that they need are collected in `variables`."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self.variables: dict[str, Any] = {}
        self.renamed: dict[str, str] = {}
        """Artillery's name of a value → ours."""

    def translate(self, text: str, place: Location, name: str = "value") -> str | None:
        """Return a text with `${…}`; None, and a note, where it needs what there is no counterpart of.

        `name` is what a variable is called that has to be made for it.
        """
        phone = self._phone(text, name)
        if phone is not None:
            return phone
        pieces: list[str] = []
        end = 0
        for match in TEMPLATE.finditer(text):
            replacement = self._expression(match[1], place)
            if replacement is None:
                return None
            pieces += [text[end : match.start()].replace("$", "$$"), replacement]
            end = match.end()
        return "".join([*pieces, text[end:].replace("$", "$$")])

    def _phone(self, text: str, name: str) -> str | None:
        """Return a variable of random digits for `+1{{ $randomInt(1000000000, 9999999999) }}`."""
        whole, inner = _PHONE.fullmatch(text), TEMPLATE.search(text)
        drawn = _RANDOM.fullmatch(inner[1]) if inner else None
        if whole is None or drawn is None:
            return None
        digits = len(drawn[2])
        if int(drawn[2]) != 10**digits - 1 or int(drawn[1]) not in {0, 10 ** (digits - 1)}:
            return None
        self.variables[name] = {"random_phone": {"prefix": whole[1], "digits": digits}}
        return f"${{{name}}}"

    def _expression(self, expression: str, place: Location) -> str | None:
        environment = _ENVIRONMENT.fullmatch(expression)
        if environment:
            name = environment[1].lower()
            self.variables[name] = {"env": environment[1]}
            return f"${{{name}}}"
        if re.fullmatch(r"[A-Za-z_]\w*", expression):
            return f"${{{self.renamed.get(expression, expression)}}}"
        instead = "a variable (random_phone, csv, choice, env) under variables: in the scenario"
        self._notes.add(place, f"{{{{ {expression} }}}} has no counterpart", instead)
        return None


def parsed_message(payload: Any) -> dict[str, Any] | None:
    """Return a message as a mapping, its templates as texts (`{{ … }}`, quoted or not); None where it is no JSON."""
    if isinstance(payload, dict):
        return payload
    if not isinstance(payload, str):
        return None
    found: list[str] = []

    def stand_in(match: re.Match[str]) -> str:
        found.append(match[0])
        return f"{_STAND_IN}{len(found) - 1}{_STAND_IN}"

    text = TEMPLATE.sub(stand_in, payload)
    # a template that stands where a number does is put in quotes
    text = re.sub(rf"(?<![\"\w{_STAND_IN}])({_STAND_IN}\d+{_STAND_IN})(?![\"\w])", r'"\1"', text)
    try:
        message = json.loads(text.replace(_STAND_IN, "\\u0001"))
    except ValueError:
        return None

    def restore(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: restore(item) for key, item in value.items()}
        if isinstance(value, list):
            return [restore(item) for item in value]
        if isinstance(value, str):
            return re.sub(rf"{_STAND_IN}(\d+){_STAND_IN}", lambda match: found[int(match[1])], value)
        return value

    return restore(message) if isinstance(message, dict) else None
