"""Durations, rates and sizes as fields of models."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from voxload.model.quantities import parse_duration_ns, parse_rate_per_s, parse_size


def _span(value: Any) -> Any:
    if isinstance(value, str) and ".." in value:
        low, high = value.split("..", 1)
        return [low, high]
    if isinstance(value, list | tuple):
        return value
    return [value, value]


_DURATION_PATTERN = r"^\s*(\d+(\.\d+)?\s*|(\d+(\.\d+)?\s*(us|ms|s|min|m|h)\s*)+)$"

DurationNs = Annotated[
    int,
    BeforeValidator(parse_duration_ns),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": _DURATION_PATTERN},
                {"type": "number", "minimum": 0},
            ],
            "description": "A duration: 700ms, 2s, 1m30s, 2h, or a number of seconds.",
        }
    ),
]
"""A duration in a scenario; integer nanoseconds in Python."""

RatePerS = Annotated[
    float,
    BeforeValidator(parse_rate_per_s),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*(/\s*(s|sec|second|m|min|minute|h|hour))?\s*$"},
                {"type": "number", "minimum": 0},
            ],
            "description": "A rate: 10, 10/s or 600/min.",
        }
    ),
]
"""A rate in a scenario; per second in Python."""


def _parse_span_ns(value: Any) -> tuple[int, int]:
    pair = _span(value)
    if len(pair) != 2:
        raise ValueError("expected one duration, or two as in 1s..3s")
    low_ns, high_ns = parse_duration_ns(pair[0]), parse_duration_ns(pair[1])
    if low_ns > high_ns:
        raise ValueError(f"{value!r}: the first duration must not be longer than the second")
    return low_ns, high_ns


SpanNs = Annotated[
    tuple[int, int],
    BeforeValidator(_parse_span_ns),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {"type": "number", "minimum": 0},
                {"type": "array", "items": {"type": ["string", "number"]}, "minItems": 2, "maxItems": 2},
            ],
            "description": "A duration (2s) or a span from which each use draws evenly (1s..3s).",
        }
    ),
]
"""A fixed duration or an even spread; (low, high) in integer nanoseconds in Python."""


def _parse_size_span(value: object) -> tuple[int, int]:
    if isinstance(value, list | tuple) and len(value) == 2:
        low, high = value
    else:
        low, separator, high = str(value).partition("..")
        high = high if separator else low
    found = parse_size(low), parse_size(high)
    if found[0] > found[1]:
        raise ValueError(f"{value!r}: the first size must not be larger than the second")
    return found


Size = Annotated[int, BeforeValidator(parse_size), WithJsonSchema({"type": ["string", "integer"]})]
"""A size as people write it; bytes in Python."""
SizeSpan = Annotated[
    tuple[int, int], BeforeValidator(_parse_size_span), WithJsonSchema({"type": ["string", "integer"]})
]
"""One size, or two as in 200KB..2MB between which each call draws evenly; (low, high) in bytes in Python."""
