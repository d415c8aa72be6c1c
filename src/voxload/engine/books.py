"""Closing the books on a call: its metrics, its price, its recording, its record."""

from __future__ import annotations

from typing import Any, NamedTuple

from voxload.audio.recording_keeper import FinishedRecording, recording_file
from voxload.engine.context import CallContext
from voxload.engine.hearing import HearingMeter
from voxload.engine.listener import Listener
from voxload.load.workload import CallSpec
from voxload.measure.cost import CallUsage
from voxload.measure.recorder import Labels
from voxload.measure.summary import CallRecord
from voxload.model.outcome import NOT_ATTEMPTED, Outcome


class CallEnd(NamedTuple):
    """How and when a call ended; instants on the monotonic clock, `ready_ns` 0 when it never was."""

    outcome: Outcome
    error: str
    due_ns: int
    ready_ns: int
    now_ns: int


def close_books(
    spec: CallSpec,
    end: CallEnd,
    talk: tuple[Listener, HearingMeter] | None,
    labels: Labels,
    trace_id: str,
    context: CallContext,
) -> CallRecord:
    """Record all that is known of a call once it is over, and return its record; `talk` is None if it never was up."""
    recorder = context.recorder
    if end.ready_ns:
        recorder.latency("call_duration", labels, end.now_ns - end.ready_ns)
    if end.outcome not in NOT_ATTEMPTED:
        recorder.observe("call_success", labels, end.outcome is Outcome.COMPLETED)
    heard: dict[str, Any] = {}
    if talk is not None:
        listener, hearing = talk
        listener.finish(end.now_ns)
        heard = {
            **hearing.finish(recorder, labels),
            "turns": [turn.record(end.due_ns) for turn in listener.turns],
            "moments": listener.moments,
            "agent_speech_s": listener.ear.spoken_ns / 1e9,
            "caller_speech_s": listener.caller_speech_ns / 1e9,
            "cost": _price(listener, end, labels, context),
            "samples": listener.samples.values,
            "recording": _keep_recording(spec, end, listener, context),
        }
    return CallRecord(
        index=spec.index,
        call_id=spec.call_id,
        call=spec.call_type.name,
        phase=spec.phase,
        due_s=(end.due_ns - context.run_start_ns) / 1e9,
        outcome=end.outcome.value,
        duration_s=(end.now_ns - end.ready_ns) / 1e9 if end.ready_ns else 0.0,
        setup_ms=(end.ready_ns - end.due_ns) / 1e6 if end.ready_ns else None,
        error=context.workload.redact(end.error),
        shard=context.shard,
        persona=spec.persona.name,
        region=dict(labels).get("region", ""),
        target=context.workload.targets[spec.target].name if context.workload.targets else "",
        trace_id=trace_id,
        ended_after_s=0.0 if end.ready_ns else (end.now_ns - end.due_ns) / 1e9,
        **heard,
    )


def _price(listener: Listener, end: CallEnd, labels: Labels, context: CallContext) -> float | None:
    """Return what the call has cost, and record it by item."""
    if context.cost is None:
        return None
    turns, usage = listener.turns, listener.usage
    cost = context.cost.call_cost(
        CallUsage(
            minutes=(end.now_ns - end.ready_ns) / 60e9,
            caller_speech_s=listener.caller_speech_ns / 1e9,
            agent_speech_s=listener.ear.spoken_ns / 1e9,
            turns=len(turns),
            caller_characters=sum(len(turn.said) for turn in turns),
            agent_characters=listener.agent_characters or None,
            input_tokens=usage.input_tokens if usage else None,
            output_tokens=usage.output_tokens if usage else None,
            audio_input_tokens=usage.audio_input_tokens if usage else None,
            audio_output_tokens=usage.audio_output_tokens if usage else None,
            cached_input_tokens=usage.cached_input_tokens or 0 if usage else 0,
            cached_audio_input_tokens=usage.cached_audio_input_tokens or 0 if usage else 0,
        )
    )
    context.recorder.observe("call_cost", labels, cost.total)
    context.recorder.costs(cost.items, cost.estimated)
    return cost.total


def _keep_recording(spec: CallSpec, end: CallEnd, listener: Listener, context: CallContext) -> str:
    """Hand the call's recording over; returns its file in the run's folder, if it is sure to be there."""
    keeper, recording = context.keeper, listener.recording
    if keeper is None or recording is None:
        return ""
    longest_ns = max((turn.latency_ns for turn in listener.turns if turn.onset_ns), default=0)
    problems = sum(len(turn.problems) for turn in listener.turns)
    failed = end.outcome is not Outcome.COMPLETED
    finished = FinishedRecording(spec.index, spec.call_id, recording, end.due_ns, end.now_ns)
    keeper.ended(finished, longest_ns / 1e9 + 10 * problems + 1000 * failed)
    return recording_file(spec.call_id) if keeper.keeps_all else ""
