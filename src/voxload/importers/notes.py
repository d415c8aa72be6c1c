"""What could not be brought over from another tool's file: where it stands, and what to do instead."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from voxload.errors import Problem
from voxload.model.source import Location, Source


class Notes:
    """Collects what a user has to know of a translation, in the order of the file's lines."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._found: list[Problem] = []

    def add(self, place: Location, message: str, instead: str = "", *, once: bool = False) -> None:
        """Note something: `place` is where it stands in the file; `once` not again on other lines."""
        if once and any(note.message == message for note in self._found):
            return
        note = Problem(message, self._source.file, self._source.line(place), instead)
        if note not in self._found:
            self._found.append(note)

    @property
    def found(self) -> list[Problem]:
        """All notes by line."""
        return sorted(self._found, key=lambda note: note.line)


@dataclass(slots=True)
class Imported:
    """A scenario as a mapping, files that go beside it, and notes on what could not be brought over."""

    scenario: dict[str, Any]
    files: dict[str, bytes] = field(default_factory=dict)
    notes: list[Problem] = field(default_factory=list)
