"""The waterfall of a turn: what the agent did between the end of the caller's speech and its first word."""

from __future__ import annotations

from typing import NamedTuple

from voxload.measure.summary import TurnRecord
from voxload.report import text

STEPS_MAX = 20


class Step(NamedTuple):
    """One step: where it begins and how long it took in percent of the whole, and when it was reached."""

    name: str
    left: float
    width: float
    at: str
    took: str


def waterfall(turn: TurnRecord) -> tuple[Step, ...]:
    """Return the steps of a turn in order of time; none where the agent reveals nothing of its work.

    A step runs from the instant at which the one before was reached to its own: stages that the agent told, its final
    transcript, the text of its reply, its first packet of sound, its first audible sample.
    """
    reached = _reached(turn)
    if not reached:
        return ()
    for name, at_ms in (("first packet", turn.first_packet_ms), ("heard by the caller", turn.latency_ms)):
        if at_ms is not None and at_ms >= 0:
            reached.append((at_ms, name))
    reached.sort(key=lambda item: item[0])
    whole_ms = reached[-1][0] or 1.0
    steps, before_ms = [], 0.0
    for at_ms, name in reached[:STEPS_MAX]:
        left, width = round(100 * before_ms / whole_ms, 2), round(100 * (at_ms - before_ms) / whole_ms, 2)
        steps.append(Step(name, left, width, text.milliseconds(at_ms), text.milliseconds(at_ms - before_ms)))
        before_ms = at_ms
    return tuple(steps)


def _reached(turn: TurnRecord) -> list[tuple[float, str]]:
    """Return (ms from the end of the caller's speech, what was reached then) as far as the agent reveals it."""
    found = [(at_ms, text.clean(name, 40)) for name, at_ms in turn.stages_at_ms.items()]
    stt_ms = turn.stages_ms.get("stt")
    if stt_ms is not None and stt_ms >= 0:
        found.append((stt_ms, "final transcript"))
        llm_ms = turn.stages_ms.get("llm")
        if llm_ms is not None:
            found.append((stt_ms + llm_ms, "text of the reply"))
    return found
