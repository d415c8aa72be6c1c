"""What the benchmark's agents say: a tone that a caller's ear takes for speech, as one frame on the wire."""

from __future__ import annotations

import math
from array import array

from voxload.clock import NS_PER_S
from voxload.dialects.registry import build_dialect

UNIX_NS = 1_700_000_000 * NS_PER_S


def tone(sample_rate_hz: int, samples: int) -> bytes:
    """Return a tone of -12 dBFS: an ear takes it for speech."""
    return array(
        "h", [round(8192 * math.sin(2 * math.pi * 400 * n / sample_rate_hz)) for n in range(samples)]
    ).tobytes()


def agent_frame(dialect_name: str) -> bytes:
    """Return a frame of loud agent audio on the wire."""
    dialect = build_dialect(dialect_name, "http://agent.example", {})
    form = dialect.agent_format
    loud = b"\x10" * form.frame_bytes if form.encoding == "mulaw" else tone(form.sample_rate_hz, form.frame_samples)
    return dialect.agent("bench").stamp(dialect.prepare_agent([loud])[0], 0, UNIX_NS)
