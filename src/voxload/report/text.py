"""How values are written: one spelling of every figure, so that all reports agree to the digit."""

from __future__ import annotations

import math
from collections.abc import Callable

from voxload.measure.summary import GateResult
from voxload.model.metric import METRICS
from voxload.model.outcome import Outcome
from voxload.model.quantities import format_duration

MISSING = "—"
"""Stands for a value that was not measured."""

OBSERVATIONS_MIN = 10
"""A rate of fewer observations says nothing: only the counts are shown."""

_MS_PER = {"ns": 1e-6, "us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4, "min": 6e4, "h": 3.6e6}
_TITLES = {
    "message_rtt": "Message round trip",
    "http_latency": "HTTP latency",
    "http_success": "HTTP success",
    "stt": "Speech to text",
    "stt_wer": "STT word error rate",
    "llm": "Language model",
    "tts": "Text to speech",
    "mos": "MOS",
    "underrun_ms_per_min": "Underrun time",
    "dnsmos": "DNSMOS",
    "dnsmos_loss": "DNSMOS loss",
    "plcmos": "PLCMOS",
    "plcmos_loss": "PLCMOS loss",
}
_ACRONYMS = frozenset({"acs", "dtmf", "http", "llm", "slo", "stt", "tts"})
_DIGITS_MAX = 9

OUTCOME_MEANINGS: dict[str, str] = {
    Outcome.COMPLETED: "the script ran to its end and the caller hung up",
    Outcome.CONNECT_FAILED: "no connection: refused, reset, unknown host or TLS failure",
    Outcome.REJECTED: "the target answered and said no",
    Outcome.SETUP_TIMEOUT: "the call was not ready in time",
    Outcome.AGENT_SILENT: "the agent owed a reply and none was heard in time",
    Outcome.DROPPED_BY_TARGET: "the target lost the connection in the middle of the call",
    Outcome.PROTOCOL_ERROR: "the target sent what the protocol does not allow",
    Outcome.TIMEOUT: "a step was not done in time",
    Outcome.STEP_FAILED: "the service took the request and then reported that it failed",
    Outcome.SHED: "the generator could not start the call; not held against the target",
    Outcome.CANCELLED: "the run was cut short while the call was up; not held against the target",
    Outcome.INTERNAL_ERROR: "a defect of voxload; not held against the target",
}
"""What each outcome means, in plain words."""


def outcome_meaning(name: str, *, component: bool) -> str:
    """Return what an outcome means, in a run of calls or in a component test; empty where it is not known."""
    if component and name == Outcome.COMPLETED:
        return "every step was done"
    return OUTCOME_MEANINGS.get(name, "")


def clean(text: str, length_max: int = 0) -> str:
    """Return `text` on one line with every unprintable character made visible as an escape.

    Control codes, bidirectional overrides and lone surrogates of a hostile target thus reach no terminal and no XML.
    A `length_max` above 0 cuts longer texts, with an ellipsis.
    """
    spaced = " ".join(text.split())
    shown = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in spaced)
    return shown[: length_max - 1] + "…" if 0 < length_max < len(shown) else shown


def number(value: float | None, digits: int = 2) -> str:
    """Return a plain number: whole ones with thousands separators, others with `digits` decimals.

    Only 0 reads as 0: what is less than those decimals show has one digit that says something.
    """
    if value is None:
        return MISSING
    if 0 < abs(value) < 0.5 * 10**-digits:
        return f"{value:.{min(-math.floor(math.log10(abs(value))), _DIGITS_MAX)}f}"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.{digits}f}"


def milliseconds(value_ms: float | None) -> str:
    """Return a latency in the unit that reads best: `1.2 ms`, `812 ms`, `3.50 s`."""
    return MISSING if value_ms is None else format_duration(value_ms * 1e6)


def whole_seconds(value_s: float) -> str:
    """Return a time of the run, as people read a clock: `48 s`, `1 m 05 s`."""
    seconds = max(round(value_s), 0)
    return f"{seconds} s" if seconds < 60 else format_duration(seconds * 1e9)


def nanoseconds(value_ns: float | None) -> str:
    """Return a latency in ns in the unit that reads best."""
    return MISSING if value_ns is None else format_duration(value_ns)


def percent(share: float | None) -> str:
    """Return a share of 0 to 1 (of word errors: or more) in percent; only exactly 0 and 1 read as 0 % and 100 %."""
    if share is None:
        return MISSING
    if share <= 0 or share == 1:
        return f"{share * 100:.0f} %"
    if share > 1:  # errors in more words than there were
        return f"{share * 100:.2f} %"
    if share < 0.0001:
        return "< 0.01 %"
    return "> 99.99 %" if share > 0.9999 else f"{share * 100:.2f} %"


def rate(part: int, whole: int) -> str:
    """Return `part` of `whole` as a percentage, or as counts when `whole` is under `OBSERVATIONS_MIN`."""
    if not whole:
        return MISSING
    return f"{number(part)} of {number(whole)}" if whole < OBSERVATIONS_MIN else percent(part / whole)


def counted(count: float, noun: str) -> str:
    """Return a count with its noun, in the plural where it belongs: `1 call`, `12 calls`."""
    return f"{number(count)} {noun}" if count == 1 else f"{number(count)} {noun}s"


def size(byte_count: float) -> str:
    """Return a number of bytes in decimal units."""
    for unit in ("B", "kB", "MB", "GB"):
        if byte_count < 1000:
            return f"{byte_count:.0f} B" if unit == "B" else f"{byte_count:.1f} {unit}"
        byte_count /= 1000
    return f"{byte_count:,.1f} TB"


def money(value: float | None) -> str:
    """Return an amount of US dollars: to the cent from $10 up, with three significant digits below."""
    if value is None:
        return MISSING
    if abs(value) >= 10 or not value:
        return f"${value:,.2f}"
    digits = max(2, 2 - math.floor(math.log10(abs(value))))
    return f"${value:.{min(digits, _DIGITS_MAX)}f}"


def in_ms(value: float, unit: str) -> float | None:
    """Return a value of a time unit in ms, or None when `unit` is not one."""
    return value * _MS_PER[unit] if unit in _MS_PER else None


def with_unit(value: float | None, unit: str) -> str:
    """Return a value as reports show it, given the unit that a gate or a metric states."""
    if value is None:
        return MISSING
    if unit in _MS_PER:
        return milliseconds(value * _MS_PER[unit])
    if unit in {"ratio", "%"}:
        return percent(value if unit == "ratio" else value / 100)
    if unit in {"$", "USD"}:
        return money(value)
    return f"{number(value)} {'%' if unit == 'percent' else clean(unit)}".rstrip()


def signed(value: float, unit: str) -> str:
    """Return a difference with its sign, as `with_unit` shows it."""
    shown = with_unit(abs(value), unit)
    return f"{'-' if value < 0 else '+'}{shown}"


def gate_values(gate: GateResult) -> tuple[str, str]:
    """Return a gate's actual value and its threshold as texts that differ whenever the values do.

    A ratio of fewer than `OBSERVATIONS_MIN` observations is given as counts.
    """
    threshold = with_unit(gate.threshold, gate.unit)
    if gate.actual is None:
        return MISSING, threshold
    if gate.unit in {"ratio", "%"} and 0 < gate.sample_size < OBSERVATIONS_MIN:
        share = gate.actual if gate.unit == "ratio" else gate.actual / 100
        return rate(round(share * gate.sample_size), gate.sample_size), threshold
    actual = with_unit(gate.actual, gate.unit)
    if actual != threshold or gate.actual == gate.threshold:
        return actual, threshold
    return _told_apart(gate.actual, gate.threshold, _exact(gate.unit))


def _exact(unit: str) -> Callable[[float, int], str]:
    if unit in _MS_PER:
        return lambda value, digits: f"{value * _MS_PER[unit]:,.{digits}f} ms"
    if unit in {"ratio", "%"}:
        return lambda value, digits: f"{value * (100 if unit == 'ratio' else 1):.{digits}f} %"
    return lambda value, digits: f"{value:,.{digits}f} {clean(unit)}".rstrip()


def _told_apart(left: float, right: float, write: Callable[[float, int], str]) -> tuple[str, str]:
    for digits in range(_DIGITS_MAX + 1):
        texts = write(left, digits), write(right, digits)
        if texts[0] != texts[1]:
            return texts
    return write(left, _DIGITS_MAX), write(right, _DIGITS_MAX)


def title(name: str) -> str:
    """Return the readable form of an identifier: `turn_latency_uncorrected` → `Turn latency (uncorrected)`."""
    base = name.removesuffix("_uncorrected")
    shown = _TITLES.get(base, clean(base).replace("_", " ").strip())
    first, _, rest = shown.partition(" ")
    shown = f"{first.upper()} {rest}".rstrip() if first in _ACRONYMS else shown[:1].upper() + shown[1:]
    return f"{shown} (uncorrected)" if base != name else shown


def meaning(metric: str) -> str:
    """Return what a metric measures, or an empty text for one that is not in the catalogue."""
    return METRICS[metric].meaning if metric in METRICS else ""
