"""Values as reports write them."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxload.measure.summary import GateResult
from voxload.model.outcome import Outcome
from voxload.report import text

GATE = GateResult("p95(turn_latency) < 1.5s", "fail", 1.6, 1.5, "s", 500)


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (812.4, "ms", "812 ms"),
        (1_200_000, "ns", "1.2 ms"),
        (3.5, "s", "3.50 s"),
        (250, "µs", "250 µs"),
        (0.995, "ratio", "99.50 %"),
        (99.5, "%", "99.50 %"),
        (1000, "calls", "1,000 calls"),
        (4.983, "/s", "4.98 /s"),
        (None, "ms", text.MISSING),
        (1, "ratio", "100 %"),
        (1.001, "ratio", "100.10 %"),
        (2.5, "ratio", "250.00 %"),
        (0.004, "a call", "0.004 a call"),
        (-0.00123, "x", "-0.001 x"),
        (0.005, "x", "0.01 x"),
        (0, "a call", "0 a call"),
    ],
)
def test_values_have_their_units(value: float | None, unit: str, shown: str) -> None:
    assert text.with_unit(value, unit) == shown


def test_only_everything_reads_as_100_percent_and_only_nothing_as_0() -> None:
    assert text.percent(0.999999) == "> 99.99 %"
    assert text.percent(0.000001) == "< 0.01 %"
    assert text.percent(1.0) == "100 %"
    assert text.percent(0.0) == "0 %"


def test_rates_of_few_observations_are_counts() -> None:
    assert text.rate(8, 9) == "8 of 9"
    assert text.rate(9, 10) == "90.00 %"
    assert text.rate(0, 0) == text.MISSING


def test_a_gate_on_a_rate_of_few_observations_shows_counts() -> None:
    gate = GateResult("call_success > 99%", "fail", 7 / 9, 0.99, "ratio", 9)
    assert text.gate_values(gate) == ("7 of 9", "99.00 %")
    assert text.gate_values(msgspec.structs.replace(gate, actual=100 * 7 / 9, threshold=99, unit="%"))[0] == "7 of 9"


@given(
    st.floats(0.001, 1e5, allow_nan=False),
    st.floats(-1e-4, 1e-4),
    st.sampled_from(["ms", "s", "ns", "ratio", "%", "calls", "/s"]),
)
def test_a_gate_never_shows_two_different_values_alike(threshold: float, apart: float, unit: str) -> None:
    actual = threshold * (1 + apart)
    gate = msgspec.structs.replace(GATE, actual=actual, threshold=threshold, unit=unit)
    left, right = text.gate_values(gate)
    # Nine decimals of the shown unit are the end of it.
    if abs(actual - threshold) * (1e-6 if unit == "ns" else 1) > 1e-7:
        assert left != right
    if actual == threshold:
        assert left == right


@given(st.text())
def test_clean_text_is_one_printable_line(raw: str) -> None:
    shown = text.clean(raw)
    assert shown.isprintable()
    shown.encode()
    assert text.clean(shown) == shown
    assert len(text.clean(raw, 20)) <= 20


def test_clean_keeps_what_is_readable() -> None:
    assert text.clean("Grüße\n  an\talle: ✓") == "Grüße an alle: ✓"
    assert text.clean("\x1b[31mred\u202e") == "\\x1b[31mred\\x202e"


def test_every_outcome_has_a_meaning() -> None:
    assert set(text.OUTCOME_MEANINGS) == set(Outcome)


def test_titles() -> None:
    assert text.title("turn_latency_uncorrected") == "Turn latency (uncorrected)"
    assert text.title("message_rtt") == "Message round trip"
    assert text.title("") == ""


def test_sizes_and_counts() -> None:
    assert [text.size(count) for count in (999, 1000, 55_110_600, 2e15)] == ["999 B", "1.0 kB", "55.1 MB", "2,000.0 TB"]
    assert text.counted(1, "call") == "1 call"
    assert text.counted(2000, "call") == "2,000 calls"
