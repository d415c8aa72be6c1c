"""One turn as the agent models it: what was said, and the answer."""

from __future__ import annotations

from dataclasses import dataclass

from voxload.twin.speaking import PreparedReply


@dataclass(frozen=True, slots=True)
class Exchange:
    """One turn as the twin models it: what the caller is taken to have said, its intent, and the reply to it."""

    heard: str
    intent: str
    reply: PreparedReply
