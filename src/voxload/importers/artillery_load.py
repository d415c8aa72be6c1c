"""Artillery's phases as stages of a load, and what it ensures as gates.

Formats: artillery.io/docs, "Test script reference" (phases) and "ensure" (thresholds, conditions, maxErrorRate).
"""

from __future__ import annotations

import re
from typing import Any

from voxload.clock import NS_PER_S
from voxload.importers.notes import Notes
from voxload.model.quantities import parse_duration_ns
from voxload.model.source import Location

PHASE_KEYS = {"duration", "arrivalRate", "rampTo", "arrivalCount", "maxVusers", "pause", "name"}
_CONDITION = re.compile(r"([\w.]+)\s*(<=|>=|<|>)\s*(\d+(?:\.\d+)?)")
_AGGREGATE = re.compile(r"p(\d{2})(\d*)")
RATE_MAX = 1e9
LEGACY = {"min", "max", "median", "mean"}


def seconds(value: Any) -> float | None:
    """Return a duration of Artillery's in seconds (a number, or 10m); None where it is none."""
    try:
        return parse_duration_ns(value) / NS_PER_S
    except ValueError:
        return None


def in_seconds(length_s: float) -> str:
    """Return a duration as a scenario has it: `2.5s`."""
    return f"{length_s:.9f}".rstrip("0").rstrip(".") + "s"


def number(value: Any) -> float | None:
    """Return a number of Artillery's, 0 or more (it may be a text); None where it is none."""
    try:
        found = -1.0 if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None
    return found if 0 <= found < RATE_MAX else None


def read_phases(phases: Any, place: Location, notes: Notes) -> tuple[list[dict[str, Any]], int]:
    """Return the stages, and the most calls at once that any phase allows (0: no limit)."""
    stages: list[dict[str, Any]] = []
    limits: list[int] = []
    for position, phase in enumerate(phases if isinstance(phases, list) else [phases]):
        here: Location = (*place, position)
        if not isinstance(phase, dict):
            notes.add(here, "a phase is a mapping such as {duration: 60, arrivalRate: 5}")
            continue
        for key in phase.keys() - PHASE_KEYS:
            notes.add((*here, key), f"{key}: a phase has no such setting here")
        stage = _stage(phase, here, notes)
        if stage is None:
            continue
        name, taken = str(phase.get("name") or stage.pop("name", f"phase{position + 1}")), {s["name"] for s in stages}
        stage.pop("name", None)
        while name in taken:
            name += "_again"
        stages.append({"name": name, **stage})
        if (limit := number(phase.get("maxVusers"))) is not None:
            limits.append(int(limit))
            if len(set(limits)) > 1:
                notes.add((*here, "maxVusers"), "maxVusers differs between phases: the largest holds for the whole run")
    return stages, max(limits, default=0)


def _stage(phase: dict[str, Any], here: Location, notes: Notes) -> dict[str, Any] | None:
    if "pause" in phase:
        length = seconds(phase["pause"])
        if not length:
            notes.add((*here, "pause"), f"pause: {phase['pause']!r} is no length of time")
            return None
        return {"name": "pause", "duration": in_seconds(length), "arrival_rate": 0}
    length = seconds(phase.get("duration"))
    if not length:
        written = "a phase needs a duration" if "duration" not in phase else f"{phase['duration']!r} is no duration"
        notes.add((*here, "duration"), f"{written}: left out", "seconds, or 10m")
        return None
    stage: dict[str, Any] = {"duration": in_seconds(length)}
    if "arrivalCount" in phase:
        count = number(phase["arrivalCount"])
        if count is None:
            notes.add((*here, "arrivalCount"), f"arrivalCount: {phase['arrivalCount']!r} is no number: phase left out")
            return None
        return {**stage, "arrival_rate": round(count / length, 9)}
    for key, ours in (("arrivalRate", "arrival_rate"), ("rampTo", "ramp_to")):
        if key in phase:
            rate = number(phase[key])
            if rate is None:
                notes.add((*here, key), f"{key}: {phase[key]!r} is no number: phase left out", "write the number")
                return None
            stage[ours] = rate if rate % 1 else int(rate)
    if "arrival_rate" not in stage and "ramp_to" not in stage:
        notes.add(here, "the phase has no arrivalRate, rampTo or arrivalCount: left out")
        return None
    return {"arrival_rate": 0, **stage}


def read_ensure(ensure: Any, place: Location, notes: Notes, http_metric: str) -> list[str | dict[str, str]]:
    """Return the gates; `http_metric` is the latency that Artillery's `http.response_time` stands for."""
    gates: list[str | dict[str, str]] = []
    if not isinstance(ensure, dict):
        return gates
    for key, value in ensure.items():
        here = (*place, key)
        if key == "thresholds":
            for position, item in enumerate(value if isinstance(value, list) else []):
                for metric, limit in item.items() if isinstance(item, dict) else ():
                    gates += _gate(f"{metric} < {limit}", (*here, position), notes, http_metric)
        elif key == "conditions":
            for position, item in enumerate(value if isinstance(value, list) else []):
                gates += _condition(item, (*here, position), notes, http_metric)
        elif key == "maxErrorRate" and number(value) is not None:
            gates.append(f"error_rate <= {value:g}%")
        elif key in LEGACY or _AGGREGATE.fullmatch(key):
            gates += _gate(f"http.response_time.{key} < {value}", here, notes, http_metric)
        else:
            notes.add(here, f"ensure.{key}: not brought over", "a gate: p95(turn_latency) < 800ms")
    return gates


def _condition(item: Any, here: Location, notes: Notes, http_metric: str) -> list[str | dict[str, str]]:
    expression = str(item.get("expression", "") if isinstance(item, dict) else item)
    if re.search(r"\bor\b", expression):
        notes.add(here, f"{expression}: gates are joined by and, never by or", "one gate for each part that must hold")
        return []
    found: list[str | dict[str, str]] = []
    for part in re.split(r"\band\b", expression):
        found += _gate(part.strip().strip("()").strip(), here, notes, http_metric)
    if isinstance(item, dict) and item.get("strict") is False:
        return [{"expression": str(gate), "severity": "warn"} for gate in found]
    return found


def _gate(text: str, here: Location, notes: Notes, http_metric: str) -> list[str]:
    """Return a comparison of Artillery's as a gate; none, and a note, where there is no metric for it."""
    match = _CONDITION.fullmatch(text)
    metric, _, aggregate = match[1].rpartition(".") if match else ("", "", "")
    ours = {"http.response_time": http_metric, "vusers.session_length": "call_duration"}.get(metric)
    aggregate = {"median": "p50"}.get(aggregate, aggregate)
    if percentile := _AGGREGATE.fullmatch(aggregate):
        aggregate = f"p{percentile[1]}" + (f".{percentile[2]}" if percentile[2] else "")
    elif aggregate not in {"min", "max", "mean"}:
        ours = None
    if match is None or ours is None:
        hint = "call_success >= 99% judges failed calls; docs/metrics.md lists what gates can judge"
        notes.add(here, f"{text}: no metric stands for it", hint)
        return []
    return [f"{aggregate}({ours}) {match[2]} {match[3]}ms"]
