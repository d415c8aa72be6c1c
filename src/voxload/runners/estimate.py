"""A plan in numbers: calls, concurrency, frames and the generator's own needs, before any call is placed."""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from voxload.clock import NS_PER_S
from voxload.dialects.base import CallIdentity, Dialect
from voxload.dialects.registry import build_dialect
from voxload.load.arrivals import count_calls
from voxload.load.workload import Workload
from voxload.measure.summarize import planned_level
from voxload.measure.summary import PlanFacts, PlannedPhase
from voxload.model.fingerprint import fingerprint
from voxload.model.load import ConcurrencyLoad, Load
from voxload.model.persona import resolve_personas
from voxload.model.scenario import SideTraffic
from voxload.runners.checks import PLACEHOLDER_TARGET
from voxload.runners.durations import ScriptClock
from voxload.runners.prepare import Prepared

GENERATOR_CPU_US: dict[Literal["frame_up", "frame_down"], float] = {"frame_up": 15.0, "frame_down": 5.0}
"""CPU time of the generator for each frame sent and each frame received, in µs.

Conservative figures for 640-byte PCM frames in JSON on one core of a small cloud machine, network stack included; the
page of the hot path has the measurements. Large frames cost more, a fast core less.
"""
CORE_SHARE_MAX = 0.7
"""Part of a core that a process may be planned to use: beyond it frames begin to be late."""
_GRID_POINTS = 500
_SAMPLE_UNIX_NS = 1_700_000_000_000_000_000


class PlannedCall(msgspec.Struct, frozen=True):
    """One kind of call."""

    name: str
    share: float
    """Of all calls, 0 to 1."""
    duration_s: float
    """From media ready to hang-up, with mean pauses and the agent's expected turns."""
    caller_speech_s: float
    agent_speech_s: float
    turns: float


class Estimate(msgspec.Struct, frozen=True):
    """The plan in numbers."""

    model: Literal["open", "closed"]
    phases: list[PlannedPhase]
    calls: int
    """Planned (open load) or expected (closed load)."""
    load_duration_s: float
    run_duration_s: float
    """Until the last call is finished."""
    call_types: list[PlannedCall]
    mean_call_s: float
    peak_calls: float
    """Calls up at once, the most at any time."""
    frame_ms_up: int
    frame_ms_down: int
    frames_up_per_s: float
    """At the peak, as the following ones."""
    frames_down_per_s: float
    mbit_up_per_s: float
    """Messages with their WebSocket headers, without TLS and TCP."""
    mbit_down_per_s: float
    side_requests_per_s: float
    frame_up_us: float
    """CPU time of the generator for a frame sent, in µs: measured by `voxload doctor`, or a conservative figure."""
    cpu_cores: float
    """That the generator is expected to use at the peak."""
    processes: int
    """Recommended, each with at most 70 % of a core."""


def estimate_plan(prepared: Prepared, frame_up_us: float = GENERATOR_CPU_US["frame_up"]) -> Estimate:
    """Return the plan in numbers; nothing is sent and no call is placed.

    `frame_up_us` is the generator's CPU time for a frame sent, where it was measured; one received costs in proportion.
    """
    workload = Workload(prepared.plan)
    scenario, load = prepared.scenario, prepared.scenario.load
    settings = scenario.dialect
    dialect = build_dialect(settings.name, prepared.plan.target or PLACEHOLDER_TARGET, settings.options)
    calls = _planned_calls(workload)
    mean_call_s = sum(call.share * call.duration_s for call in calls)
    peak = _peak_calls(load, calls)
    agent_share = sum(call.share * call.agent_speech_s for call in calls) / mean_call_s if mean_call_s else 0.0
    up_per_s = peak * 1000 / dialect.caller_format.frame_ms
    down_per_s = peak * min(agent_share, 1.0) * 1000 / dialect.agent_format.frame_ms
    up_bytes, down_bytes = message_bytes(dialect)
    frame_down_us = frame_up_us * GENERATOR_CPU_US["frame_down"] / GENERATOR_CPU_US["frame_up"]
    cores = (up_per_s * frame_up_us + down_per_s * frame_down_us) / 1e6
    phases = planned_phases(load, scenario.seed)
    load_duration_s = sum(phase.duration_s for phase in phases)
    return Estimate(
        model="closed" if isinstance(load, ConcurrencyLoad) else "open",
        phases=phases,
        calls=_closed_calls(load, mean_call_s) if isinstance(load, ConcurrencyLoad) else sum(p.calls for p in phases),
        load_duration_s=load_duration_s,
        run_duration_s=_last_start_s(load) + max(call.duration_s for call in calls),
        call_types=calls,
        mean_call_s=mean_call_s,
        peak_calls=peak,
        frame_ms_up=dialect.caller_format.frame_ms,
        frame_ms_down=dialect.agent_format.frame_ms,
        frames_up_per_s=up_per_s,
        frames_down_per_s=down_per_s,
        mbit_up_per_s=up_per_s * up_bytes * 8 / 1e6,
        mbit_down_per_s=down_per_s * down_bytes * 8 / 1e6,
        side_requests_per_s=peak * side_requests_per_call_s(scenario.side_traffic),
        frame_up_us=frame_up_us,
        cpu_cores=cores,
        processes=max(1, math.ceil(cores / CORE_SHARE_MAX)),
    )


def plan_facts(prepared: Prepared, processes: int) -> PlanFacts:
    """Return what a run's summary keeps of its plan."""
    scenario, load = prepared.scenario, prepared.scenario.load
    settings = scenario.dialect
    dialect = build_dialect(settings.name, prepared.plan.target or PLACEHOLDER_TARGET, settings.options)
    phases = planned_phases(load, scenario.seed)
    weight = math.fsum(call.weight for call in scenario.calls)
    personas = resolve_personas(scenario.personas)
    crowd = math.fsum(persona.weight for persona in personas)
    return PlanFacts(
        model="closed" if isinstance(load, ConcurrencyLoad) else "open",
        phases=phases,
        calls=0 if isinstance(load, ConcurrencyLoad) else sum(phase.calls for phase in phases),
        load_duration_s=sum(phase.duration_s for phase in phases),
        call_types={call.name: call.weight / weight for call in scenario.calls},
        frame_ms=dialect.caller_format.frame_ms,
        processes=processes,
        personas={persona.name: persona.weight / crowd for persona in personas} if len(personas) > 1 else {},
        fingerprint=fingerprint(scenario),
    )


def message_bytes(dialect: Dialect) -> tuple[int, int]:
    """Return the bytes of one frame of speech on the WebSocket, up (masked) and down, headers included."""
    up = dialect.prepare_caller([bytes(dialect.caller_format.frame_bytes)])[0]
    down = dialect.prepare_agent([bytes(dialect.agent_format.frame_bytes)])[0]
    up_length = len(dialect.caller(CallIdentity(0, "estimate")).stamp(up, 0, _SAMPLE_UNIX_NS))
    down_length = len(dialect.agent("estimate").stamp(down, 0, _SAMPLE_UNIX_NS))
    mask_length = 4
    return up_length + _header_length(up_length) + mask_length, down_length + _header_length(down_length)


def _header_length(payload_length: int) -> int:
    """Return the length of a WebSocket frame header without its mask (RFC 6455, section 5.2)."""
    return 2 if payload_length < 126 else 4 if payload_length < 65_536 else 10


def side_requests_per_call_s(traffic: SideTraffic | None) -> float:
    """Return the HTTP requests that one call makes a second beside its media."""
    if traffic is None:
        return 0.0
    asked = math.fsum(request.weight for request in traffic.requests)
    interval_s = sum(traffic.interval_ns) / 2 / NS_PER_S
    return asked / (asked + traffic.voice_weight) / interval_s if interval_s else 0.0


def _planned_calls(workload: Workload) -> list[PlannedCall]:
    clock = ScriptClock(workload.scenario, workload.utterances)
    weight = math.fsum(call.weight for call in workload.scenario.calls)
    return [
        PlannedCall(call.name, call.weight / weight, *clock.estimate(call.script)) for call in workload.scenario.calls
    ]


def planned_phases(load: Load, seed: int) -> list[PlannedPhase]:
    """Return the phases of a load with the calls that each places (0 for a closed load)."""
    phases = load.phases()
    counts = [0] * len(phases) if isinstance(load, ConcurrencyLoad) else count_calls(phases, load.process, seed)
    planned, start_s = [], 0.0
    for phase, count in zip(phases, counts, strict=True):
        duration_s = phase.duration_ns / NS_PER_S
        planned.append(
            PlannedPhase(phase.name, start_s, duration_s, phase.rate_start_per_s, phase.rate_end_per_s, count)
        )
        start_s += duration_s
    return planned


def _peak_calls(load: Load, calls: list[PlannedCall]) -> float:
    """Return the highest number of calls up at once.

    Little's law over time: at t, those calls of each kind are up that began within its duration before t. All callers
    of a closed load may be up at once.
    """
    if isinstance(load, ConcurrencyLoad):
        return float(load.concurrency)
    edges, total_s = [0.0], 0.0
    for phase in load.phases():
        total_s += phase.duration_ns / NS_PER_S
        edges.append(total_s)
    # The level bends only at the edges of phases and a call's length after them; between them the grid is fine enough.
    instants = {edge + call.duration_s for edge in edges for call in calls} | set(edges)
    instants |= {total_s * step / _GRID_POINTS for step in range(_GRID_POINTS + 1)}
    return max(sum(c.share * planned_level(load, at_s, c.duration_s) for c in calls) for at_s in instants)


def _last_start_s(load: Load) -> float:
    """Return when no more calls start: the end of the last stretch with a rate, or of a closed load."""
    last_s, total_s = 0.0, 0.0
    for phase in load.phases():
        total_s += phase.duration_ns / NS_PER_S
        if phase.calls or isinstance(load, ConcurrencyLoad):
            last_s = total_s
    return last_s


def _closed_calls(load: ConcurrencyLoad, mean_call_s: float) -> int:
    """Return the calls that the callers are expected to place until the end of the load."""
    cycle_s = mean_call_s + load.pause_ns / NS_PER_S
    mean_active_s = (load.duration_ns - load.ramp_up_ns / 2) / NS_PER_S
    return round(load.concurrency * max(1.0, mean_active_s / cycle_s)) if cycle_s else load.concurrency
