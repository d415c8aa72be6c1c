"""The worst calls at a glance, all on one scale, and what was bad about each of their turns."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from voxload.measure.summary import CallRecord, TurnRecord
from voxload.model.outcome import Outcome
from voxload.report import text, view
from voxload.report.targets import TARGETS

Scale = Callable[[float], float]
"""From s since the call's intended start to percent of the time axis."""


class TurnMark(NamedTuple):
    """One turn of a call as drawn in the overview: positions and widths in percent of the longest call."""

    left: float
    width: float
    answered: bool


class CallRow(NamedTuple):
    """One of the worst calls in the overview."""

    call_id: str
    call: str
    phase: str
    due: str
    outcome: str
    tone: str
    setup: str
    worst_turn: str
    error: str
    setup_width: float
    length: float
    marks: tuple[TurnMark, ...]
    told: str
    problems: int
    """Turns with a problem."""


def call_rows(calls: list[CallRecord]) -> list[CallRow]:
    """Return calls as rows whose drawings share one time scale."""
    longest_s = max((length_of(call) for call in calls), default=0.0) or 1.0
    return [_call_row(call, scale_of(longest_s)) for call in calls]


def scale_of(length_s: float) -> Scale:
    """Return the scale of an axis from 0 to `length_s`; what lies beyond is drawn at its end."""
    return lambda seconds: round(100 * min(max(seconds / length_s, 0), 1), 2)


def length_of(call: CallRecord) -> float:
    """Return how long a call took, in s from its intended start to the last thing known of it."""
    ends_s = [max(turn.speech_end_s + (turn.latency_ms or 0) / 1e3, turn.reply_end_s or 0) for turn in call.turns]
    return max([(call.setup_ms or 0) / 1e3 + call.duration_s, *ends_s])


def answer_of(turn: TurnRecord) -> str:
    """Return how long the caller waited for the reply, in words."""
    if turn.latency_ms is None:
        return "no reply"
    # An agent that speaks before the caller has finished.
    early = " early" if turn.latency_ms < 0 else ""
    return text.milliseconds(abs(turn.latency_ms)) + early


def _call_row(call: CallRecord, scale: Scale) -> CallRow:
    answered_ms = [turn.latency_ms for turn in call.turns if turn.latency_ms is not None]
    length_s = length_of(call)
    marks = tuple(
        TurnMark(
            scale(turn.speech_end_s),
            scale(max(turn.latency_ms, 0) / 1e3 if turn.latency_ms is not None else length_s - turn.speech_end_s),
            turn.latency_ms is not None,
        )
        for turn in call.turns
    )
    told = "; ".join(f"{text.clean(turn.turn, 40)} {answer_of(turn)}" for turn in call.turns)
    return CallRow(
        call.call_id,
        call.call,
        call.phase,
        f"{call.due_s:.1f} s",
        text.title(call.outcome),
        view.outcome_tone(call.outcome),
        text.milliseconds(call.setup_ms),
        text.milliseconds(max(answered_ms)) if answered_ms else text.MISSING,
        text.clean(call.error, 200),
        scale((call.setup_ms or 0) / 1e3),
        scale(length_s),
        marks,
        told or "no turn",
        sum(bool(problems_of(call, number)) for number in range(len(call.turns))),
    )


def problems_of(call: CallRecord, number: int) -> tuple[str, ...]:
    """Return what was bad about a turn: what the run noted, else what its figures show."""
    turn = call.turns[number]
    if turn.problems:
        return tuple(text.clean(problem, 160) for problem in turn.problems)
    found = []
    critical_s = TARGETS["turn_latency"][-1].critical
    if turn.latency_ms is None:
        # A backchannel is owed no reply, so a turn without one is bad only when the call ended over it.
        if call.outcome == Outcome.AGENT_SILENT and number == len(call.turns) - 1:
            found.append("no reply came")
    elif critical_s is not None and turn.latency_ms > critical_s * 1e3:
        found.append(f"the reply came after {text.milliseconds(turn.latency_ms)}")
    if turn.intent_correct is False:
        understood = text.clean(turn.intent_heard, 40) or "nothing"
        found.append(f"understood as {understood}, not {text.clean(turn.intent, 40)}")
    return tuple(found)


def call_in_words(call: CallRecord) -> str:
    """Return what was bad about a call: its error, then each bad turn with its time and its problems."""
    told = [text.clean(call.error, 160)] if call.error else []
    for number, turn in enumerate(call.turns):
        problems = problems_of(call, number)
        if problems:
            told.append(f"{text.clean(turn.turn, 40)} at {turn.speech_end_s:.1f} s: {', '.join(problems)}")
    if not told:
        waits_ms = [turn.latency_ms for turn in call.turns if turn.latency_ms is not None]
        told.append(f"longest turn latency {text.milliseconds(max(waits_ms))}" if waits_ms else "nothing was noted")
    return "; ".join(told)
