"""What is looked at after the load: single probe calls, and what the target's health endpoints say."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from pydantic import Field, field_validator

from voxload.model.base import Model
from voxload.model.json_path import MISSING, Getter, compile_path
from voxload.model.messages import JsonPath
from voxload.model.quantities import format_duration
from voxload.model.units import DurationNs

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}
_EXPECTATION = re.compile(r"\s*(\$.*[^<>=!\s])\s*(<=|>=|==|!=|<|>)\s*([^<>=!]+?)\s*")


class Expectation(NamedTuple):
    """`$.status == "healthy"`: a value of a JSON body, and what it must be."""

    text: str
    get: Getter
    compare: str
    wanted: Any

    def broken(self, body: Any) -> str:
        """Return why the body is not as expected; empty when it is."""
        found = self.get(body)
        if found is MISSING:
            return f"{self.text}: there is no such value"
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (found, self.wanted))
        if numbers or self.compare in {"==", "!="}:
            same_kind = numbers or type(found) is type(self.wanted)
            holds = _OPERATORS[self.compare](found, self.wanted) if same_kind else self.compare == "!="
        else:
            holds = False
        return "" if holds else f"{self.text}: it is {json.dumps(found)[:80]}"


def parse_expectation(text: str) -> Expectation:
    """Parse one expectation.

    Raises:
        ValueError: it is none; the message says what to write.
    """
    match = _EXPECTATION.fullmatch(text)
    if match is None:
        raise ValueError(f'{text!r} is no expectation; write for example $.queue <= 10 or $.status == "healthy"')
    written = match[3]
    if len(written) >= 2 and written[0] == written[-1] == "'":
        written = json.dumps(written[1:-1])
    try:
        wanted = json.loads(written)
    except ValueError:
        raise ValueError(f"{text!r}: {match[3]} is no JSON value; put a text in quotes") from None
    if match[2] not in {"==", "!="} and (isinstance(wanted, bool) or not isinstance(wanted, int | float)):
        raise ValueError(f"{text!r}: {match[2]} compares numbers")
    return Expectation(text.strip(), compile_path(match[1]), match[2], wanted)


class HealthCheck(Model):
    """An endpoint that tells how the target is, in JSON."""

    get: str = Field(description="Path on the target, or a whole URL.")
    sessions: JsonPath | None = Field(
        None, description="JSONPath to the number of sessions held; those beyond the number before the run have leaked."
    )
    of: JsonPath | None = Field(None, description="JSONPath to how many there can be, for the report's words.")
    expect: tuple[str, ...] = Field((), description='What must hold at the end, such as `$.status == "healthy"`.')

    @field_validator("expect")
    @classmethod
    def _expectations(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            parse_expectation(text)
        return value


class RecoverySettings(Model):
    """What is done once the last call of the load is over."""

    after_ns: DurationNs = Field(
        30_000_000_000,
        alias="after",
        gt=0,
        description="How long the target is given; what it still holds then has leaked. Ends early when all is well.",
    )
    probes: int = Field(3, ge=0, description="Calls, one at a time, that must complete.")
    call: str = Field("", description="Kind of call of the probes; the first one by default.")
    interval_ns: DurationNs = Field(
        1_000_000_000, alias="interval", gt=0, description="From the end of a probe, or a look, to the next one."
    )
    health: tuple[HealthCheck, ...] = Field((), description="Endpoints to read, before the run and after it.")

    @property
    def in_words(self) -> str:
        """What will be done."""
        looks = ", ".join(f"GET {check.get}" for check in self.health)
        calls = f"{self.probes} probe call{'' if self.probes == 1 else 's'}" if self.probes else ""
        return f"{', '.join(part for part in (calls, looks) if part)}; at most {format_duration(self.after_ns)}"
