"""The errors that voxload shows to its users, each with the exit code that it ends a command with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

T = TypeVar("T")


class ExitCode(IntEnum):
    """Exit codes of every command; scripts and CI rely on them."""

    PASSED = 0
    GATE_FAILED = 1
    BAD_INPUT = 2
    ABORTED = 3
    """The target could not be reached, or the run was cut short."""
    UNKNOWN = 4
    """The run cannot be trusted, or a gate had no data."""


class VoxloadError(Exception):
    """Base of all errors that are shown without a traceback."""

    exit_code: ExitCode = ExitCode.BAD_INPUT


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a user's input.

    `file` and `line` (counted from 1; 0 when not known) say where, `message` what, `suggestion` what to change.
    """

    message: str
    file: str = ""
    line: int = 0
    suggestion: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}: " if self.file and self.line else f"{self.file}: " if self.file else ""
        hint = f" ({self.suggestion})" if self.suggestion else ""
        return f"{place}{self.message}{hint}"


class BadInputError(VoxloadError):
    """A file or an option is wrong; carries every problem found, not only the first."""

    exit_code = ExitCode.BAD_INPUT

    def __init__(self, problems: Sequence[Problem] | str) -> None:
        self.problems = (Problem(problems),) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class Collected:
    """Gathers the problems of several steps, so that a user learns of everything at once."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def attempt(self, work: Callable[[], T]) -> T | None:
        """Return what `work` returns, or note what it found wrong and return None."""
        try:
            return work()
        except BadInputError as error:
            self.problems += [problem for problem in error.problems if problem not in self.problems]
            return None

    def end(self) -> None:
        """Go on only if nothing was wrong.

        Raises:
            BadInputError: everything that was.
        """
        if self.problems:
            raise BadInputError(self.problems)


class RunAbortedError(VoxloadError):
    """The run could not go on: the target is unreachable or a part of voxload did not start."""

    exit_code = ExitCode.ABORTED
