"""What single calls measured, as arrays: a bounded, seeded sample of a run's calls from which intervals are made."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from voxload.measure.accuracy import word_error_rate
from voxload.measure.histogram import VALUE_MAX, bucket_bounds, bucket_index
from voxload.measure.summary import MISSED, CallRecord, TurnRecord
from voxload.model.metric import METRICS, SCALE
from voxload.model.outcome import NOT_ATTEMPTED, Outcome

CALLS_MAX = 1000
"""Calls that a sample holds at most."""

NS_PER_MS = 1_000_000
FRAMES_PER_S = 50

Array = npt.NDArray[Any]
Measured = tuple[str, float, str]
"""A metric, a value times `SCALE`, and the turn that it belongs to (empty for the call as a whole)."""


@dataclass(frozen=True, slots=True)
class Spans:
    """The values of a latency or a score: parallel arrays, one entry a value."""

    call: Array
    """Position of the call in the sample."""
    bucket: Array
    """`bucket_index` of the value times `SCALE`."""
    turn: Array
    """Position in `Evidence.turns`."""


@dataclass(frozen=True, slots=True)
class Shares:
    """The observations of a ratio: parallel arrays, one entry a call."""

    good: Array
    count: Array


@dataclass(frozen=True, slots=True)
class Evidence:
    """A sample of `len(index)` calls out of `total` attempted ones; all values of a sampled call are in it.

    The sample is the calls with the smallest hash of run and index: drawn evenly, the same each time, and the sample of
    two samples together is the sample of all their calls.
    """

    total: int
    runs: tuple[str, ...]
    """Ids of the runs that the calls come from."""
    run: Array
    """Position in `runs`, by call."""
    index: Array
    """Number of the call in its run."""
    labels: tuple[tuple[tuple[str, str], ...], ...]
    label: Array
    """Position in `labels`, by call."""
    turns: tuple[str, ...]
    spans: Mapping[str, Spans]
    shares: Mapping[str, Shares]

    @property
    def calls(self) -> int:
        """How many calls are in the sample."""
        return len(self.index)

    def where(self, labels: Mapping[str, str]) -> Evidence:
        """Return the part with these labels (`call`, `phase`, `persona`, `turn`); all calls stay, some then empty."""
        of_calls = {name: value for name, value in labels.items() if name != "turn"}.items()
        fits = np.array([of_calls <= dict(each).items() for each in self.labels] or [True])[self.label]
        turn = self.turns.index(labels["turn"]) if labels.get("turn") in self.turns else -1

        def part(spans: Spans) -> Spans:
            kept = fits[spans.call]
            if "turn" in labels:
                kept &= spans.turn == turn
            return Spans(spans.call[kept], spans.bucket[kept], spans.turn[kept])

        return replace(
            self,
            spans={name: part(spans) for name, spans in self.spans.items()},
            # ratios are kept by call, not by turn
            shares={}
            if "turn" in labels
            else {name: Shares(each.good * fits, each.count * fits) for name, each in self.shares.items()},
        )


class CallSampler:
    """Takes in the calls of runs one by one and keeps an even, seeded sample; memory is bounded by `calls_max`."""

    def __init__(self, calls_max: int = CALLS_MAX) -> None:
        self._calls_max = calls_max
        self._heap: list[tuple[int, int, str, CallRecord]] = []
        self.total = 0
        """Attempted calls so far: those that say something of the target."""

    def add(self, run_id: str, record: CallRecord) -> None:
        """Take in a call."""
        if record.outcome in NOT_ATTEMPTED:
            return
        self.total += 1
        item = (-call_key(run_id, record.index), -self.total, run_id, record)
        if len(self._heap) < self._calls_max:
            heapq.heappush(self._heap, item)
        elif item > self._heap[0]:
            heapq.heapreplace(self._heap, item)

    def evidence(self, keep: Iterable[str] = ("call", "phase", "persona")) -> Evidence:
        """Return the sample as arrays; `keep` names the labels of calls that are kept."""
        calls = sorted(
            ((run_id, record) for _, _, run_id, record in self._heap), key=lambda one: (one[0], one[1].index)
        )
        return evidence_of(calls, self.total, keep)


def call_key(run_id: str, index: int) -> int:
    """Return the number by whose size calls are drawn: a hash, so that the choice has nothing to do with the call."""
    return int.from_bytes(hashlib.blake2b(f"{run_id}:{index}".encode(), digest_size=8).digest(), "big")


def evidence_of(
    calls: Iterable[tuple[str, CallRecord]], total: int, keep: Iterable[str] = ("call", "phase", "persona")
) -> Evidence:
    """Return calls, given with the ids of their runs, as evidence of `total` attempted ones."""
    runs: dict[str, int] = {}
    labels: dict[tuple[tuple[str, str], ...], int] = {}
    turns: dict[str, int] = {"": 0}
    rows: list[tuple[int, int, int]] = []
    spans: dict[str, list[tuple[int, int, int]]] = {}
    shares: dict[str, dict[int, tuple[int, int]]] = {}
    for position, (run_id, record) in enumerate(calls):
        of_call = tuple((name, getattr(record, name)) for name in keep)
        rows.append(
            (runs.setdefault(run_id, len(runs)), record.index, labels.setdefault(of_call, len(labels)))
        )  # fmt: skip
        for metric, value, turn in call_values(record):
            bucket = bucket_index(min(max(round(value), 0), VALUE_MAX))
            spans.setdefault(metric, []).append((position, bucket, turns.setdefault(turn, len(turns))))
        for metric, observed in call_shares(record).items():
            shares.setdefault(metric, {})[position] = observed
    run, index, label = _columns(rows)
    return Evidence(
        total,
        tuple(runs),
        run,
        index,
        tuple(labels),
        label,
        tuple(turns),
        {metric: Spans(*_columns(values)) for metric, values in spans.items()},
        {metric: _shares(observed, len(rows)) for metric, observed in shares.items()},
    )


def _columns(rows: list[tuple[int, int, int]]) -> tuple[Array, Array, Array]:
    table = np.array(rows, dtype=np.int64).reshape(-1, 3)
    return table[:, 0], table[:, 1], table[:, 2]


def _shares(observed: Mapping[int, tuple[int, int]], calls: int) -> Shares:
    table = np.zeros((calls, 2))
    for position, (good, count) in observed.items():
        table[position] = good, count
    return Shares(table[:, 0], table[:, 1])


def bucket_values(buckets: Array) -> Array:
    """Return the middles of buckets, in the metric's unit times `SCALE`."""
    return np.array([sum(bucket_bounds(int(index))) / 2 for index in buckets])


def call_values(record: CallRecord) -> list[Measured]:
    """Return the latencies and scores of a call, as its histograms have them."""
    found: list[Measured] = []
    if record.setup_ms is not None:
        found.append(("call_setup", record.setup_ms * NS_PER_MS, ""))
        found.append(("call_duration", record.duration_s * SCALE, ""))
        found += [
            ("greeting", (moment.at_s * 1e3 - record.setup_ms) * NS_PER_MS, "")
            for moment in record.moments
            if moment.kind == "greeting"
        ]
    for turn in record.turns:
        found += _turn_values(turn)
    if record.mos is not None:
        found.append(("mos", record.mos * SCALE, ""))
        found.append(("underruns", record.underruns * SCALE, ""))
    if record.jitter_ms is not None:
        found.append(("jitter", record.jitter_ms * NS_PER_MS, ""))
    if record.cost is not None:
        found.append(("call_cost", record.cost * SCALE, ""))
    for metric, values in record.samples.items():
        if metric in METRICS and METRICS[metric].kind == "latency":
            found += [(metric, value * NS_PER_MS, "") for value in values]
    return found


def _turn_values(turn: TurnRecord) -> list[Measured]:
    if turn.latency_ms is None:
        return []
    values = {"turn_latency": turn.latency_ms, **turn.stages_ms}
    if turn.first_packet_ms is not None:
        values["first_packet"] = turn.first_packet_ms
        values["silent_pad"] = max(turn.latency_ms - turn.first_packet_ms, 0.0)
    return [(metric, value_ms * NS_PER_MS, turn.turn) for metric, value_ms in values.items()]


def _missed(record: CallRecord, turn: TurnRecord) -> bool:
    """Return whether a turn got no reply in time."""
    if turn.latency_ms is not None:
        return False
    silent = record.outcome == Outcome.AGENT_SILENT and turn is record.turns[-1]
    return silent or any(problem.startswith(MISSED) for problem in turn.problems)


def call_shares(record: CallRecord) -> dict[str, tuple[int, int]]:
    """Return the ratios of a call as (yes, observations)."""
    completed = (int(record.outcome == Outcome.COMPLETED), 1)
    found = {"call_success": completed, "operation_success": completed}
    answered = sum(turn.latency_ms is not None for turn in record.turns)
    missed = sum(_missed(record, turn) for turn in record.turns)
    if answered + missed:
        found["missed_response"] = (missed, answered + missed)
    ends_s = (record.setup_ms or 0.0) / 1e3 + record.duration_s
    finished = sum(turn.speech_end_s <= ends_s for turn in record.turns)  # the last one may have been cut off
    if finished:
        spoken_over = sum(moment.kind == "agent_interruption" for moment in record.moments)
        found["agent_interruption"] = (min(spoken_over, finished), finished)
    judged = [turn.intent_correct for turn in record.turns if turn.intent_correct is not None]
    if judged:
        found["intent_accuracy"] = (sum(judged), len(judged))
    words = [word_error_rate(turn.said, turn.heard) for turn in record.turns if turn.word_error_rate is not None]
    if words:
        errors = sum(each.errors for each in words)
        found["word_error_rate"] = (errors, sum(each.words for each in words))
    if record.late_share is not None:
        frames = max(round(record.agent_speech_s * FRAMES_PER_S), 1)
        found["late_frames"] = (round(record.late_share * frames), frames)
    for metric, values in record.samples.items():
        if metric in METRICS and METRICS[metric].kind == "ratio":
            found[metric] = (round(sum(values)), len(values))
    return found
