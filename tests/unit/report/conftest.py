"""Summaries as real runs leave them, made from seeded latencies."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from voxload.audio.corpus import load_corpus
from voxload.audio.recording import CallRecording
from voxload.measure.histogram import Histogram
from voxload.measure.probe import ProbePoint, ProbeResult
from voxload.measure.series import ErrorSample, Quantiles, Series, quantiles
from voxload.measure.summary import (
    CallMoment,
    CallRecord,
    GateResult,
    PlanFacts,
    PlannedPhase,
    RunFacts,
    ShardHealth,
    Summary,
    TimelinePoint,
    Totals,
    TurnRecord,
    Verdict,
)
from voxload.model.metric import SCALE, is_latency

TURNS = ("greet", "order_status", "confirm")
SAID = {
    "greet": ("Hello, I would like to ask about an order, please.", "greeting", "Of course. What is the order number?"),
    "order_status": ("Where is my order number four seven one?", "order_status", "It left our warehouse this morning."),
    "confirm": ("Great, thanks. Please confirm by text message.", "confirm", "Done. Is there anything else?"),
}
PERSONAS = ("calm", "impatient", "noisy_street")
RAMP_S, HOLD_S = 20.0, 20.0
EVIL = "</script><script>alert(1)</script> | `x` \x1b[31m\x00\u202e <img src=http://e.vil/x onerror=y> ]]> \n## h &amp; [a](http://e.vil)"


class Run:
    """200 calls over 40 s: a ramp and a hold, every 17th call fails; `slow` calls of the hold are slower."""

    def __init__(self, seed: int = 7, calls: int = 200) -> None:
        self.random = random.Random(seed)
        self.ear = random.Random(seed + 1)
        self.values: dict[str, list[tuple[float, dict[str, str], int]]] = defaultdict(list)
        self.calls = [self._lived(self._call(index, calls)) for index in range(calls)]

    def _ms(self, median_ms: float, p95_ms: float) -> float:
        return median_ms * math.exp(self.random.gauss(0, math.log(p95_ms / median_ms) / 1.645))

    def _record(self, metric: str, at_s: float, labels: dict[str, str], value_ms: float) -> None:
        self.values[metric].append((at_s, labels, round(value_ms * 1e6)))

    def _observe(self, metric: str, at_s: float, labels: dict[str, str], value: float) -> None:
        self.values[metric].append((at_s, labels, round(value * SCALE)))

    def _lived(self, call: CallRecord) -> CallRecord:
        """Return the call with what a caller's ear makes of it, every voice metric recorded."""
        ear, persona = self.ear, PERSONAS[call.index % 3]
        labels = {"call": call.call, "phase": call.phase, "persona": persona}
        self._observe("call_success", call.due_s, labels, call.outcome == "completed")
        if call.setup_ms is None:
            return msgspec.structs.replace(call, persona=persona)
        noisy = persona == "noisy_street"
        moments: list[CallMoment] = []
        turns = [self._turn(turn, call, labels, noisy, moments) for turn in call.turns]
        late = ear.random() * (0.05 if noisy else 0.004)
        mos = 4.4 - late * 12 - ear.random() * 0.1
        underruns = sum(moment.kind == "underrun" for moment in moments)
        for metric, value in (
            ("mos", mos), ("late_frames", ear.random() < late), ("jitter", 0.004 + late / 2), ("underruns", underruns),
            ("talk_ratio", 0.4 + ear.random() * 0.2), ("greeting", 0.2 + ear.random() * 0.3),
        ):  # fmt: skip
            scale = {"scale": "wideband"} if metric == "mos" else {}
            self._observe(metric, call.due_s + 1, {**labels, **scale}, value)
        return msgspec.structs.replace(
            call, turns=turns, persona=persona, mos=mos, mos_scale="wideband", late_share=late,
            jitter_ms=4 + late * 500, underruns=underruns, underrun_ms=180.0 * underruns,
            agent_speech_s=1.1 * len(turns), caller_speech_s=1.3 * len(turns), cost=0.031 + call.duration_s * 0.002,
            moments=moments, recording=f"recordings/{call.call_id}.wav" if call.index % 2 else "",
        )  # fmt: skip

    def _turn(
        self, turn: TurnRecord, call: CallRecord, labels: dict[str, str], noisy: bool, moments: list[CallMoment]
    ) -> TurnRecord:
        ear, end_s = self.ear, turn.speech_end_s
        at_s, labels = call.due_s + end_s, {**labels, "turn": turn.turn}
        said, intent, reply = SAID[turn.turn]
        self._observe("missed_response", at_s, labels, turn.latency_ms is None)
        if turn.latency_ms is None:
            problems = ["no reply within 5.0 s"]
            return msgspec.structs.replace(
                turn, speech_start_s=end_s - 1.3, said=said, intent=intent, problems=problems
            )
        stages = {"stt": turn.latency_ms * 0.3, "llm": turn.latency_ms * 0.45, "tts": turn.latency_ms * 0.15}
        for name, value_ms in stages.items():
            self._record(name, at_s, labels, value_ms)
        self._record("voice_response", at_s, labels, stages["llm"] + stages["tts"])
        self._record("first_packet", at_s, labels, turn.latency_ms * 0.9)
        self._record("silent_pad", at_s, labels, turn.latency_ms * 0.1)
        self._record("dead_air", at_s, labels, turn.latency_ms)
        wrong, problems, heard = ear.random() < (0.2 if noisy else 0.02), [], said
        self._observe("intent_accuracy", at_s, labels, not wrong)
        self._observe("word_error_rate", at_s, labels, wrong)
        if wrong:
            heard = said.lower().replace("order", "border").replace("thanks", "banks")
            problems.append(f"intent opening_hours instead of {intent}")
        if ear.random() < (0.15 if noisy else 0.03):
            start_s = end_s + turn.latency_ms / 1e3 + 0.4
            moments.append(CallMoment(start_s, "underrun", "speech broke off for 180 ms", 0.18))
            problems.append("speech broke off for 180 ms")
        if ear.random() < 0.12:
            yielded = ear.random() < 0.8
            start_s = end_s + turn.latency_ms / 1e3 + 0.7
            moments += [
                CallMoment(start_s, "barge_in", turn.turn),
                CallMoment(start_s + 0.3, "interrupted", "420 ms dropped"),
            ]
            self._observe("yield_rate", at_s, labels, yielded)
            self._observe("barge_in_stop", at_s, labels, 0.2 + ear.random() * 0.5)
            problems += [] if yielded else ["the agent did not stop for the caller within 2 s"]
        if ear.random() < 0.05:
            self._observe("false_barge_in", at_s, labels, ear.random() < 0.2)
        self._observe("agent_interruption", at_s, labels, ear.random() < 0.06)
        start_s = end_s + turn.latency_ms / 1e3
        return msgspec.structs.replace(
            turn, speech_start_s=end_s - 1.3, reply_start_s=start_s, reply_end_s=start_s + 1.1, stages_ms=stages,
            said=said, heard=heard, reply=reply, intent=intent, intent_heard="opening_hours" if wrong else intent,
            intent_correct=not wrong, word_error_rate=0.2 if wrong else 0.0, problems=problems,
        )  # fmt: skip

    def _call(self, index: int, calls: int) -> CallRecord:
        # Area under the ramp is half of that under the hold: a third of the calls belongs to the ramp.
        share = (index + 0.5) / calls
        due_s = RAMP_S * math.sqrt(3 * share) if share < 1 / 3 else RAMP_S + HOLD_S * (share - 1 / 3) * 1.5
        phase = "ramp" if due_s < RAMP_S else "hold"
        kind = "order" if index % 3 else "faq"
        labels = {"call": kind, "phase": phase}
        wait_ms = self._ms(0.4, 2)
        setup_ms = self._ms(90, 260)
        self._record("call_setup", due_s, labels, setup_ms + wait_ms)
        self._record("call_setup_uncorrected", due_s, labels, setup_ms)
        outcome = ("agent_silent", "rejected", "dropped_by_target")[index % 3] if index % 17 == 5 else "completed"
        turns, at_s = [], setup_ms / 1e3
        for number, turn in enumerate(TURNS):
            at_s += 1.5
            if outcome == "rejected" or (outcome == "agent_silent" and number == 2):
                turns += [TurnRecord(turn, at_s)] if outcome == "agent_silent" else []
                at_s += 5.0 if outcome == "agent_silent" else 0.0
                break
            slow = 2.2 if phase == "hold" and 26 < due_s < 31 else 1.0
            latency_ms = self._ms(700, 1700) * slow
            self._record("turn_latency", due_s + at_s, {**labels, "turn": turn}, latency_ms)
            sent_late_ms = min(self._ms(3, 400), latency_ms * 0.7)
            self._record("turn_latency_uncorrected", due_s + at_s, {**labels, "turn": turn}, latency_ms - sent_late_ms)
            self._record("message_rtt", due_s + at_s, labels, self._ms(2, 9))
            turns.append(TurnRecord(turn, at_s, latency_ms, latency_ms * 0.9))
            at_s += latency_ms / 1e3 + 1.2
            if outcome == "dropped_by_target" and number == 1:
                break
        return CallRecord(
            index,
            f"call-{index:04d}",
            kind,
            phase,
            due_s,
            outcome,
            0.0 if outcome == "rejected" else at_s - setup_ms / 1e3,
            None if outcome == "rejected" else setup_ms + wait_ms,
            turns,
            "HTTP 503 from /calls" if outcome == "rejected" else "",
            index % 2,
        )

    def _series(self) -> list[Series]:
        found: dict[tuple[str, tuple[tuple[str, str], ...]], Histogram] = {}
        for metric, values in self.values.items():
            for _, labels, value_ns in values:
                found.setdefault((metric, tuple(labels.items())), Histogram()).record(value_ns)
        late = Histogram()
        for _ in range(20_000):
            late.record(round(self._ms(0.12, 0.8) * 1e6))
        found["frame_lateness", ()] = late
        return [Series(metric, dict(labels), value.to_data()) for (metric, labels), value in found.items()]

    def _timeline(self) -> list[TimelinePoint]:
        points = []
        ends = [(call.due_s + (call.setup_ms or 0) / 1e3 + call.duration_s, call) for call in self.calls]
        last = math.ceil(max((end for end, _ in ends), default=0))
        mean_s = sum(call.duration_s for call in self.calls) / max(len(self.calls), 1)
        for second in range(last):
            ended = Counter(call.outcome for end, call in ends if second <= end < second + 1)
            latencies, means = {}, {}
            for metric, values in self.values.items():
                histogram = Histogram()
                for at_s, _, value_ns in values:
                    if second <= at_s < second + 1:
                        histogram.record(value_ns)
                seen = quantiles(histogram)
                if seen is not None and is_latency(metric):
                    latencies[metric] = seen
                elif seen is not None:
                    means[metric] = (histogram.mean or 0.0) / SCALE
            late = Histogram()
            for _ in range(200):
                late.record(round(self._ms(0.12, 0.8) * 1e6 * (6 if second == 29 else 1)))
            at_a_glance = quantiles(late)
            assert at_a_glance is not None
            latencies["frame_lateness"] = at_a_glance
            active = sum(call.due_s <= second + 1 < end for end, call in ends)
            planned = sum(call.due_s <= second + 1 < call.due_s + mean_s for call in self.calls)
            started = sum(second <= call.due_s < second + 1 for call in self.calls)
            points.append(
                TimelinePoint(
                    second, 1, active, planned, started, ended.total(), dict(ended), active * 50, active * 50,
                    active * 50 * 900, active * 50 * 900, latencies, 8 + active * 0.6, means,
                )
            )  # fmt: skip
        return points

    def summary(self) -> Summary:
        """Return the whole summary: a failed gate, an unknown one, and passed ones."""
        outcomes = dict(Counter(call.outcome for call in self.calls))
        attempted, timeline = len(self.calls), self._timeline()
        success = outcomes.get("completed", 0) / attempted if attempted else None
        levels: dict[str, float] = {"calls": attempted, "arrival_rate": attempted / 40}
        if success is not None:
            peak = max(point.active for point in timeline)
            levels |= {"cost_per_call": 0.0437, "peak_calls": peak, "concurrent_calls": max(peak - 2, 0)}
        worst = sorted(self.calls, key=lambda call: -max((turn.latency_ms or 1e9 for turn in call.turns), default=0))
        late = (0.12, 1.1, 3.0) if attempted else (None, None, None)
        return Summary(
            version=1,
            run=RunFacts(
                "20261123-101500-orders", "orders", "Order desk at the evening peak", "2026-11-23T10:15:00+00:00",
                float(len(timeline)), "https://agent.example", "rtmed", 7, "0.1.0",
                environment={"machine": "x86_64, 2 cores", "os": "Linux 6.1", "python": "3.11.2", "commit": "0a1b2c3"},
            ),
            plan=PlanFacts(
                "open",
                [
                    PlannedPhase("ramp", 0.0, RAMP_S, 0.0, 6.67, 67),
                    PlannedPhase("hold", RAMP_S, HOLD_S, 6.67, 6.67, 133),
                ],
                200, RAMP_S + HOLD_S, {"order": 0.67, "faq": 0.33}, 20, 2,
                {"calm": 0.34, "impatient": 0.33, "noisy_street": 0.33},
            ),
            totals=Totals(
                attempted, outcomes, 61_234, 60_001, 0, 55_110_600, 54_000_900, {"AudioMetrics": 12},
                {"rate_limited": 3}, {"status": {"200": 57, "503": 2}},
            ),
            levels=levels,
            series=self._series() if attempted else [],
            timeline=timeline,
            shards=[ShardHealth(shard, attempted // 2, 18.0, 41.0 + shard, 88.5, *late) for shard in range(2)],
            errors=[ErrorSample("rejected", "HTTP 503 from /calls: <b>busy</b>", 4)] if attempted else [],
            worst_calls=worst[:10],
            gates=self._gates(attempted, success),
            verdict=Verdict("failed", 1, ["p95(turn_latency) < 1.5s failed: the agent answers too slowly"]),
            cost={"telephony": 2.61, "speech_to_text": 1.18, "llm_input": 0.402, "llm_output": 1.93, "tts": 2.09}
            if attempted
            else {},
        )  # fmt: skip

    def _gates(self, attempted: int, success: float | None) -> list[GateResult]:
        turns = Histogram()
        for _, _, value_ns in self.values["turn_latency"]:
            turns.record(value_ns)
        return [
            self._latency_gate("p50(turn_latency) < 1.2s", turns, 0.5, 1.2),
            self._latency_gate("p95(turn_latency) < 1.5s", turns, 0.95, 1.5, "callers do not wait"),
            GateResult("call_success > 90%", "pass" if success else "unknown", success, 0.9, "ratio", attempted),
            GateResult("p99(http_latency) < 800ms", "unknown", None, 800, "ms", 0, "no side request was sent"),
        ]

    def _latency_gate(
        self, expression: str, turns: Histogram, share: float, limit_s: float, name: str = ""
    ) -> GateResult:
        actual_ns = turns.quantile(share)
        if actual_ns is None:
            return GateResult(expression, "unknown", None, limit_s, "s", 0, "no data", name)
        within = actual_ns / 1e9 < limit_s
        reason = "" if within else "above the threshold"
        status = "pass" if within else "fail"
        return GateResult(expression, status, actual_ns / 1e9, limit_s, "s", turns.count, reason, name)


@pytest.fixture(scope="session")
def run() -> Run:
    return Run()


@pytest.fixture(scope="session")
def summary(run: Run) -> Summary:
    return run.summary()


def recorded(call: CallRecord) -> bytes:
    """Return a recording of a call as it would have sounded, from the speech of the corpus."""
    corpus, recording = load_corpus(), CallRecording(16_000, "pcm16")
    for number, turn in enumerate(call.turns):
        spoken, reply = corpus.callers[number], corpus.agents[number]
        length = round(1.3 * spoken.sample_rate_hz)
        recording.caller(round((turn.speech_start_s or 0) * SCALE), spoken.samples[:length], spoken.sample_rate_hz)
        if turn.reply_start_s is not None and turn.reply_end_s is not None:
            recording.agent(round(turn.reply_start_s * SCALE), reply.samples[: round(1.1 * 16_000)].tobytes())
    for moment in call.moments:
        recording.moment(round(moment.at_s * SCALE), moment.kind, moment.text, round(moment.duration_s * SCALE))
    return recording.wav(0, round((call.duration_s + 0.5) * SCALE))


@pytest.fixture(scope="session")
def recordings(summary: Summary) -> dict[str, bytes]:
    """The recordings of the worst calls by name."""
    return {call.recording: recorded(call) for call in summary.worst_calls if call.recording}


@pytest.fixture(scope="session")
def empty_summary() -> Summary:
    """A run in which no call was placed."""
    whole = Run(calls=0).summary()
    totals = Totals(0, {}, 0, 0, 0, 0, 0, {}, {}, {})
    return msgspec.structs.replace(whole, totals=totals, verdict=Verdict("unknown", 4, ["no gate had data"]))


@pytest.fixture(scope="session")
def one_call_summary() -> Summary:
    """A run of one call and one point in time."""
    whole = Run(calls=1).summary()
    return msgspec.structs.replace(whole, timeline=whole.timeline[:1])


@pytest.fixture(scope="session")
def change(summary: Summary) -> Callable[..., Summary]:
    """Return the usual summary with parts changed: `change(run={"cut_short": "Ctrl-C"}, gates=[…])`."""

    def changed(**parts: Any) -> Summary:
        fields = {
            name: msgspec.structs.replace(getattr(summary, name), **part)
            if isinstance(part, dict) and name not in {"cost", "facts"}
            else part
            for name, part in parts.items()
        }
        return msgspec.structs.replace(summary, **fields)

    return changed


@pytest.fixture(scope="session")
def hostile(change: Callable[..., Summary], summary: Summary) -> Summary:
    """A summary in which every text that a user or a target can choose is hostile."""
    odd = [msgspec.structs.replace(summary.series[0], labels={"turn": f"{n}{EVIL}", EVIL: str(n)}) for n in (1, 2)]
    series = [*odd, *summary.series]
    outcomes = {**summary.totals.outcomes, EVIL: 1}
    point = msgspec.structs.replace(summary.timeline[0], outcomes={EVIL: 1}, means={EVIL: 0.5})
    turn = TurnRecord(
        EVIL, 0.5, 1.0, said=EVIL, heard=f"{EVIL} x", reply=EVIL, intent=EVIL, intent_heard=EVIL, intent_correct=False,
        problems=[EVIL], stages_ms={EVIL: 1.0},
    )  # fmt: skip
    moments = [CallMoment(0.1, EVIL, EVIL, 0.2)]
    evil_call = CallRecord(
        0, EVIL, EVIL, EVIL, 0.0, EVIL, 1.0, 1.0, [turn, TurnRecord(EVIL, 0.9)], EVIL, persona=EVIL, mos=4.0,
        mos_scale=EVIL, moments=moments, recording=EVIL,
    )  # fmt: skip
    evil_link = msgspec.structs.replace(evil_call, recording="//e.vil/x.wav")
    return change(
        run={
            "scenario": EVIL, "description": EVIL, "target": EVIL, "run_id": EVIL, "dialect": EVIL,
            "cut_short": EVIL, "environment": {EVIL: EVIL}, "started_at": EVIL,
        },
        plan={
            "phases": [msgspec.structs.replace(summary.plan.phases[0], name=EVIL)], "call_types": {EVIL: 1.0},
            "personas": {EVIL: 1.0},
        },
        totals={
            "outcomes": outcomes, "unknown_messages": {EVIL: 1}, "peer_errors": {EVIL: 2},
            "http_requests": {EVIL: {EVIL: 3}},
        },
        series=series,
        timeline=[point, *summary.timeline[1:]],
        shards=[msgspec.structs.replace(summary.shards[0], lost=EVIL)],
        errors=[ErrorSample("rejected", EVIL, 2), ErrorSample(EVIL, "x", 1)],
        worst_calls=[evil_call, evil_link],
        cost={EVIL: 1.0},
        facts={EVIL: EVIL},
        probes=[
            ProbeResult(
                EVIL, EVIL, EVIL, 1.0, ("operation_latency",), 20.0, {"rejected": 1}, [],
                [ProbePoint(0.0, 0, 1, {"operation_latency": Quantiles(1, 1, 1, 1, 1)})],
                [ErrorSample("rejected", EVIL, 1)], {EVIL: EVIL},
            )
        ],
        gates=[GateResult(EVIL, "unknown", 1.0, 2.0, EVIL, 20, EVIL, EVIL)],
        verdict=Verdict("unknown", 4, [EVIL]),
    )  # fmt: skip
