"""The plan of a run: all that a process or another machine needs to place its part of the calls, in one message."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any
from urllib.parse import quote

import msgspec

SECRET_LENGTH_MIN = 4
"""Shorter values are not hidden: they guard nothing, and hiding `en` or `1` would garble every text."""
HIDDEN = "***"


class PlannedTarget(msgspec.Struct, frozen=True):
    """One of several targets; `share` of the calls, 0 to 1."""

    name: str
    url: str
    share: float
    region: str = ""


class Plan(msgspec.Struct, frozen=True):
    """A run, frozen and self-contained: shards open no file and read no environment but its proxies."""

    run_id: str
    scenario: dict[str, Any]
    """As in the file, after the overrides; `Scenario.model_validate` takes it."""
    target: str
    """Base URL of the agent, without a trailing slash; empty until the embedded agent listens. The first of several."""
    constants: dict[str, str] = {}
    """Variables with one value for the whole run (plain texts and environment), by name."""
    secrets: tuple[str, ...] = ()
    """Names of the constants whose values must never be printed."""
    tables: dict[str, tuple[str, ...]] = {}
    """CSV columns, by variable name."""
    media: dict[str, bytes] = {}
    """WAV files, by the name that the scripts use."""
    authorities: str = ""
    """Certificate authorities to trust besides the system's, PEM."""
    targets: tuple[PlannedTarget, ...] = ()
    """All targets, where there are several."""
    source_addresses: tuple[str, ...] = ()
    """Addresses of the placing machine that calls come from, in turn by their number; none: as the system chooses."""

    def redact(self, text: str) -> str:
        """Return `text` with every secret value replaced by `***`, in plain and in percent-encoded form."""
        values = tuple(self.constants[name] for name in self.secrets)
        pattern = _secret_pattern(values)
        return pattern.sub(HIDDEN, text) if pattern else text


@lru_cache(maxsize=8)
def _secret_pattern(values: tuple[str, ...]) -> re.Pattern[str] | None:
    forms = {form for value in values if len(value) >= SECRET_LENGTH_MIN for form in (value, quote(value, safe=""))}
    # The longest first: a secret that begins with another one is hidden as a whole.
    ordered = sorted(forms, key=lambda form: (-len(form), form))
    return re.compile("|".join(re.escape(form) for form in ordered)) if ordered else None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Plan)


def encode_plan(plan: Plan) -> bytes:
    """Return the plan as MessagePack."""
    return _encoder.encode(plan)


def decode_plan(data: bytes) -> Plan:
    """Return the plan from MessagePack.

    Raises:
        msgspec.MsgspecError: the bytes are not a plan.
    """
    return _decoder.decode(data)
