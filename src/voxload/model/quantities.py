"""Durations, rates and sizes as people write them (`700ms`, `10/s`, `60/min`), kept as plain numbers."""

from __future__ import annotations

import re

from voxload.clock import NS_PER_S

_NS_PER = {"us": 1_000, "ms": 1_000_000, "s": NS_PER_S, "m": 60 * NS_PER_S, "min": 60 * NS_PER_S, "h": 3600 * NS_PER_S}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(us|ms|s|min|m|h)\s*")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_DURATION_S_MAX = 10**9
_RATE_PER_S_MAX = 1e9
_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:/\s*(s|sec|second|m|min|minute|h|hour))?")
_RATE_PER_S = {"s": 1, "sec": 1, "second": 1, "m": 60, "min": 60, "minute": 60, "h": 3600, "hour": 3600}


def parse_duration_ns(value: object) -> int:
    """Return a duration in ns from `"700ms"`, `"1m30s"` or a plain number of seconds.

    Raises:
        ValueError: the text is not a duration, or it is negative.
    """
    if value is None or isinstance(value, bool):
        raise ValueError("expected a duration such as 700ms, 2s or 1m30s")
    if isinstance(value, int | float):
        return _seconds_ns(value)
    text = str(value).strip().lower()
    if _NUMBER.fullmatch(text):
        return _seconds_ns(float(text))
    total_s, position = 0.0, 0
    for part in _PART.finditer(text):
        if part.start() != position:
            break
        total_s += float(part[1]) * _NS_PER[part[2]] / NS_PER_S
        position = part.end()
    if not text or position != len(text):
        raise ValueError(f"{value!r} is not a duration; write for example 700ms, 2s, 1m30s or 2h")
    return _seconds_ns(total_s)


def _seconds_ns(seconds: float) -> int:
    if not 0 <= seconds <= _DURATION_S_MAX:  # NaN is caught here too
        raise ValueError("a duration must be between 0 and 10^9 seconds")
    return round(seconds * NS_PER_S)


def parse_rate_per_s(value: object) -> float:
    """Return a rate per second from `10`, `"10/s"` or `"600/min"`.

    Raises:
        ValueError: the text is not a rate, or it is negative.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        rate_per_s = value
    else:
        match = _RATE.fullmatch(str(value).strip().lower())
        if not match:
            raise ValueError(f"{value!r} is not a rate; write for example 10, 10/s or 600/min")
        rate_per_s = float(match[1]) / _RATE_PER_S[match[2] or "s"]
    if not 0 <= rate_per_s < _RATE_PER_S_MAX:
        raise ValueError("a rate must be between 0 and 10^9 a second")
    return float(rate_per_s)


def format_duration(duration_ns: float) -> str:
    """Return a duration in the unit that reads best: `1.2 ms`, `3.50 s`, `2 m 05 s`."""
    if duration_ns < 1_000_000:
        return f"{duration_ns / 1000:.0f} µs"
    if duration_ns < NS_PER_S:
        return f"{duration_ns / 1e6:.1f} ms" if duration_ns < 1e8 else f"{duration_ns / 1e6:.0f} ms"
    if duration_ns < 60 * NS_PER_S:
        return f"{duration_ns / NS_PER_S:.2f} s"
    minutes, seconds = divmod(round(duration_ns / NS_PER_S), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} m {seconds:02d} s" if hours else f"{minutes} m {seconds:02d} s"


_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KB|MB|GB|KiB|MiB|GiB)?")
_BYTES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
SIZE_BYTES_MAX = 2**50


def parse_size(value: object) -> int:
    """Return a number of bytes from `960KB`, `4MiB` or a plain number.

    Raises:
        ValueError: the text is no size, or it is over 1 PiB.
    """
    match = None if isinstance(value, bool) else _SIZE.fullmatch(str(value).strip())
    if not match:
        raise ValueError(f"{value!r} is not a size; write for example 960KB, 4MiB or 2000")
    found = round(float(match[1]) * _BYTES[match[2] or ""])
    if found > SIZE_BYTES_MAX:
        raise ValueError(f"{value!r} is over 1 PiB")
    return found
