from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from voxload.model.quantities import format_duration, parse_duration_ns, parse_rate_per_s
from voxload.model.units import DurationNs, RatePerS, SpanNs


@pytest.mark.parametrize(
    ("text", "expected_ns"),
    [
        ("700ms", 700_000_000),
        ("2s", 2_000_000_000),
        ("1m30s", 90_000_000_000),
        ("1m 30s", 90_000_000_000),
        ("2h", 7_200_000_000_000),
        ("100us", 100_000),
        ("1.5", 1_500_000_000),
        (2, 2_000_000_000),
        (0.7, 700_000_000),
        ("1min", 60_000_000_000),
    ],
)
def test_durations(text, expected_ns):
    assert parse_duration_ns(text) == expected_ns


@pytest.mark.parametrize(
    "text", ["", "abc", "1 30", "5x", "-1", -1, True, None, [1], float("nan"), float("inf"), "9" * 400]
)
def test_bad_durations(text):
    with pytest.raises(ValueError, match="duration"):
        parse_duration_ns(text)


@given(st.integers(0, 10**12))
def test_a_duration_in_seconds_keeps_its_microseconds(microseconds):
    assert parse_duration_ns(microseconds / 1e6) == pytest.approx(microseconds * 1000, abs=200)
    assert parse_duration_ns(f"{microseconds}us") == microseconds * 1000


@pytest.mark.parametrize(
    ("text", "expected"), [(10, 10), ("10", 10), ("10/s", 10), ("600/min", 10), ("36000 / h", 10), (0, 0)]
)
def test_rates(text, expected):
    assert parse_rate_per_s(text) == expected


@pytest.mark.parametrize("text", ["", "x", "10/day", -1, True, None, "9" * 400, 10**400, float("nan")])
def test_bad_rates(text):
    with pytest.raises(ValueError, match="rate"):
        parse_rate_per_s(text)


def test_spans():
    adapter = TypeAdapter(SpanNs)
    assert adapter.validate_python("1s..3s") == (10**9, 3 * 10**9)
    assert adapter.validate_python("2s") == (2 * 10**9, 2 * 10**9)
    assert adapter.validate_python([1, "2s"]) == (10**9, 2 * 10**9)


@given(st.from_regex(r"[0-9 .smhu/x]{0,12}", fullmatch=True))
def test_the_published_patterns_accept_what_the_parsers_accept(text):
    for kind, parse in ((DurationNs, parse_duration_ns), (RatePerS, parse_rate_per_s)):
        pattern = TypeAdapter(kind).json_schema()["anyOf"][0]["pattern"]
        try:
            parse(text)
            accepted = True
        except ValueError:
            accepted = False
        assert bool(re.search(pattern, text)) >= accepted


def test_a_hostile_text_does_not_stall_the_published_pattern():
    pattern = TypeAdapter(DurationNs).json_schema()["anyOf"][0]["pattern"]
    assert not re.search(pattern, "1" * 5_000 + "x")


def test_format():
    assert [format_duration(ns) for ns in (5_000, 1_500_000, 3_500_000_000, 125_000_000_000)] == [
        "5 µs", "1.5 ms", "3.50 s", "2 m 05 s",
    ]  # fmt: skip
