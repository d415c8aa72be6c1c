"""Calls and units of work as trace spans: what a record tells, with the instants of the wall clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from voxload.engine.tracing import CALL_ID_KEY, span_id, trace_id_of
from voxload.measure.summary import CallRecord, TurnRecord
from voxload.model.outcome import NOT_ATTEMPTED, Outcome
from voxload.runners.telemetry.origin import Origin

AttributeValue = str | float | int | bool | Sequence[str]
EVENTS_MAX = 128
"""OpenTelemetry's own limit for a span."""
_NOT_FAILED = frozenset(map(str, NOT_ATTEMPTED - {Outcome.INTERNAL_ERROR} | {Outcome.COMPLETED}))
_LABELS = ("persona", "phase", "region", "target")
_MOMENT_MS = "duration_ms"


class SpanEvent(NamedTuple):
    """Something that happened within a span."""

    name: str
    at_unix_ns: int
    attributes: Mapping[str, AttributeValue] = {}


class CallSpan(NamedTuple):
    """One span; ids in hexadecimal digits, as in a `traceparent`."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    """Empty for the call itself."""
    start_unix_ns: int
    end_unix_ns: int
    attributes: Mapping[str, AttributeValue]
    events: Sequence[SpanEvent] = ()
    error: str = ""
    """Why it failed; empty where it did not."""


def has_failed(record: CallRecord) -> bool:
    """Return whether a call ended otherwise than it should have; one that was shed or cancelled did not fail."""
    return record.outcome not in _NOT_FAILED


def trace_of(record: CallRecord, scope: str) -> str:
    """Return the trace of a call: that of its `traceparent`, or one of its own where it carried none.

    In `scope` no two calls have the same id.
    """
    return record.trace_id or trace_id_of(f"{scope}\0{record.call_id}")


def spans_of(record: CallRecord, origin: Origin, trace_id: str, run_unix_ns: int) -> list[CallSpan]:
    """Return the span of a call and those of its turns; `run_unix_ns` is the run's first instant."""
    due_unix_ns = run_unix_ns + round(record.due_s * 1e9)

    def at(seconds: float) -> int:
        return due_unix_ns + round(seconds * 1e9)

    end_s = record.ended_after_s if record.setup_ms is None else record.setup_ms / 1e3 + record.duration_s
    turns = [
        _turn(turn, trace_id, number, due_unix_ns, origin.labels) for number, turn in enumerate(record.turns, start=1)
    ]
    attributes: dict[str, AttributeValue] = {
        CALL_ID_KEY: record.call_id,
        origin.kind: record.call,
        "outcome": record.outcome,
        **{name: getattr(record, name) for name in _LABELS if getattr(record, name)},
        **dict(origin.labels),
    }
    if record.target_id:
        attributes["target_id"] = record.target_id
    for name in ("setup_ms", "mos"):
        value = getattr(record, name)
        if value is not None:
            attributes[name] = value
    failed = has_failed(record)
    if failed:
        attributes["error.type"] = record.outcome
    events = [] if record.setup_ms is None else [SpanEvent("call_setup", at(record.setup_ms / 1e3))]
    events += [
        SpanEvent(moment.kind, at(moment.at_s), {_MOMENT_MS: moment.duration_s * 1e3} if moment.duration_s else {})
        for moment in record.moments
    ]
    name = f"{origin.kind} {record.call}"
    error = (record.error or record.outcome) if failed else ""
    call = CallSpan(
        name,
        trace_id,
        span_id(trace_id),
        "",
        due_unix_ns,
        max(at(end_s), due_unix_ns),
        attributes,
        events[:EVENTS_MAX],
        error,
    )
    return [call, *turns]


def _turn(
    turn: TurnRecord, trace_id: str, number: int, due_unix_ns: int, labels: Sequence[tuple[str, str]]
) -> CallSpan:
    """Return a turn as a span from the caller's first sound to the last that is known of the reply."""

    def at(seconds: float) -> int:
        return due_unix_ns + round(seconds * 1e9)

    start_s = turn.speech_start_s if turn.speech_start_s is not None else turn.speech_end_s
    known_s = [turn.speech_end_s, turn.reply_start_s or 0.0, turn.reply_end_s or 0.0]
    attributes: dict[str, AttributeValue] = {"turn": turn.turn, **dict(labels)}
    if turn.latency_ms is not None:
        attributes["turn_latency_ms"] = turn.latency_ms
    attributes.update({f"{stage}_ms": value for stage, value in turn.stages_ms.items()})
    if turn.intent_correct is not None:
        attributes["intent_correct"] = turn.intent_correct
    if turn.problems:
        attributes["problems"] = tuple(turn.problems)
    events = [SpanEvent("speech_end", at(turn.speech_end_s))]
    if turn.reply_start_s is not None:
        events.append(SpanEvent("reply_start", at(turn.reply_start_s)))
    events += [SpanEvent(name, at(turn.speech_end_s + ms / 1e3)) for name, ms in turn.stages_at_ms.items()]
    unanswered = turn.latency_ms is None and turn.problems
    return CallSpan(
        f"turn {turn.turn}",
        trace_id,
        span_id(trace_id, number),
        span_id(trace_id),
        at(start_s),
        max(at(max(known_s)), at(start_s)),
        attributes,
        events[:EVENTS_MAX],
        turn.problems[0] if unanswered else "",
    )
