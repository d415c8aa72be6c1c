"""Keys of a telephone and their names in the API."""

from __future__ import annotations

_NAMES = {
    "0": "zero",
    "1": "one",
    "2": "two",
    "3": "three",
    "4": "four",
    "5": "five",
    "6": "six",
    "7": "seven",
    "8": "eight",
    "9": "nine",
    "A": "a",
    "B": "b",
    "C": "c",
    "D": "d",
    "#": "pound",
    "*": "asterisk",
}
_DIGITS = {name: digit for digit, name in _NAMES.items()}


def tone_name(digit: str) -> str:
    """Return the API's name of a key."""
    return _NAMES.get(digit.upper(), digit)


def known_tone(name: str) -> bool:
    """Return whether the API has a tone of this name, whatever its case."""
    return name.lower() in _DIGITS
