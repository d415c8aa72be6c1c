"""How long a call is expected to take, from its script, the length of its speech and what is known of the agent."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist, fmean
from typing import NamedTuple

from voxload.audio.corpus import Corpus, Utterance, load_corpus
from voxload.clock import NS_PER_S
from voxload.model.scenario import TWIN_TARGET, Scenario
from voxload.model.script import (
    BargeInStep,
    DtmfStep,
    ListenStep,
    Repeat,
    RepeatStep,
    SayStep,
    Step,
    ThinkStep,
    WaitForAgentStep,
    WaitForHangUpStep,
)
from voxload.model.twin import AgentLatency, LatencySettings, TwinSettings

ASSUMED_LATENCY_S = 0.8
"""End of the caller's speech to the agent's first sound, for an agent of which nothing is known."""
ASSUMED_REPLY_S = 3.0
"""Length of a reply or a greeting of such an agent."""
_ROUNDS_PLAYED = 3
"""Rounds of a `repeat` that are gone through one by one; the others last as long as the last of them."""
_Z_P95 = NormalDist().inv_cdf(0.95)


class Talk(NamedTuple):
    """What an agent's turn is expected to be, in s."""

    latency_s: float
    speech_s: float


class CallEstimate(NamedTuple):
    """One kind of call, in s from the moment at which its media channel is ready."""

    duration_s: float
    caller_speech_s: float
    agent_speech_s: float
    turns: float


@dataclass(frozen=True, slots=True)
class AgentModel:
    """What is assumed of the agent: its greeting, and its reply to an utterance."""

    greeting: Talk | None
    reply: Callable[[Utterance], Talk]


def agent_model(scenario: Scenario) -> AgentModel:
    """Return the embedded agent as it is set, or the assumptions for an unknown one."""
    if scenario.target != TWIN_TARGET:
        unknown = Talk(ASSUMED_LATENCY_S, ASSUMED_REPLY_S)
        return AgentModel(unknown, lambda _: unknown)
    twin, corpus = scenario.twin, load_corpus()
    latency_s = agent_latency_s(twin.latency)

    def reply(utterance: Utterance) -> Talk:
        return Talk(latency_s, _audible_s(corpus.reply(utterance.intent), twin))

    return AgentModel(_greeting(twin, corpus), reply)


def _greeting(twin: TwinSettings, corpus: Corpus) -> Talk | None:
    return Talk(twin.greeting_delay_ns / NS_PER_S, _audible_s(corpus.greeting, twin)) if twin.greeting else None


def _audible_s(utterance: Utterance, twin: TwinSettings) -> float:
    audible_s = (utterance.active_end_ns - utterance.active_start_ns) / NS_PER_S
    return audible_s if twin.reply_seconds_max is None else min(audible_s, twin.reply_seconds_max)


def agent_latency_s(latency: AgentLatency) -> float:
    """Return the mean latency of a turn."""
    stages = [latency.turn] if latency.turn is not None else [latency.stt, latency.llm, latency.tts]
    return sum(_mean_s(stage) for stage in stages)


def _mean_s(settings: LatencySettings) -> float:
    if settings.lognormal is not None:
        # The mean of a lognormal is exp(mu + sigma²/2); the median gives mu, the 95th percentile sigma.
        median_s, p95_s = settings.lognormal.median_ns / NS_PER_S, settings.lognormal.p95_ns / NS_PER_S
        sigma = math.log(p95_s / median_s) / _Z_P95
        return median_s * math.exp(sigma**2 / 2)
    if settings.gamma is not None:
        return settings.gamma.mean_ns / NS_PER_S
    if settings.empirical_ns is not None:
        return fmean(settings.empirical_ns) / NS_PER_S
    return (settings.fixed_ns or 0) / NS_PER_S


@dataclass(slots=True)
class _Totals:
    now_s: float = 0.0
    caller_s: float = 0.0
    agent_s: float = 0.0
    turns: float = 0.0


class ScriptClock:
    """Goes through a script with mean values and adds up the time.

    `utterances(name)` returns those among which a name chooses.
    """

    def __init__(self, scenario: Scenario, utterances: Callable[[str], tuple[Utterance, ...]]) -> None:
        self._utterances = utterances
        self._agent = agent_model(scenario)
        self._turn_end_s = scenario.measurement.agent_turn_end_ns / NS_PER_S
        self._limit_s = scenario.timeouts.call_ns / NS_PER_S
        self._totals = _Totals()
        self._onset_s = self._agent_done_s = 0.0

    def estimate(self, script: Sequence[Step]) -> CallEstimate:
        """Return what a call with this script is expected to be; no call outlasts `timeouts.call`."""
        self._totals = totals = _Totals()
        self._onset_s = self._agent_done_s = 0.0
        if self._agent.greeting is not None:
            self._owe(self._agent.greeting)
        self._play(script)
        return CallEstimate(min(totals.now_s, self._limit_s), totals.caller_s, totals.agent_s, totals.turns)

    def _owe(self, talk: Talk) -> None:
        self._onset_s = self._totals.now_s + talk.latency_s
        self._agent_done_s = self._onset_s + talk.speech_s + self._turn_end_s
        self._totals.agent_s += talk.speech_s

    def _play(self, steps: Sequence[Step]) -> bool:
        """Add the steps; return whether they hang up."""
        totals = self._totals
        for step in steps:
            match step:
                case "hang_up" | "wait_for_hang_up" | WaitForHangUpStep():
                    return True
                case "wait_for_agent" | WaitForAgentStep():
                    totals.now_s = max(totals.now_s, self._agent_done_s)
                case SayStep(say=say):
                    self._speak(say.utterance)
                case BargeInStep(barge_in=barge_in):
                    self._interrupt(fmean(barge_in.after_ns) / NS_PER_S)
                    self._speak(barge_in.utterance)
                case ThinkStep(think=pause) | ListenStep(listen=pause):
                    totals.now_s += fmean(pause.duration_ns) / NS_PER_S
                case DtmfStep(dtmf=dtmf):
                    totals.now_s += len(dtmf.digits) * dtmf.gap_ns / NS_PER_S
                case RepeatStep(repeat=repeat):
                    if self._repeat(repeat):
                        return True
        return False

    def _speak(self, name: str) -> None:
        choices = self._utterances(name)
        length_s = fmean(choice.active_end_ns for choice in choices) / NS_PER_S
        replies = [self._agent.reply(choice) for choice in choices]
        self._totals.now_s += length_s
        self._totals.caller_s += length_s
        self._totals.turns += 1
        self._owe(Talk(fmean(talk.latency_s for talk in replies), fmean(talk.speech_s for talk in replies)))

    def _interrupt(self, after_s: float) -> None:
        """Wait until the agent has spoken for a time; what it has left to say is lost."""
        at_s = max(self._totals.now_s, self._onset_s + after_s)
        self._totals.agent_s -= max(self._agent_done_s - self._turn_end_s - at_s, 0.0)
        self._totals.now_s = at_s

    def _repeat(self, repeat: Repeat) -> bool:
        totals = self._totals
        until_s = math.inf if repeat.until_ns is None else min(repeat.until_ns / NS_PER_S, self._limit_s)
        rounds = 0
        while rounds != repeat.times and totals.now_s < until_s:
            before = replace(totals)
            if self._play(repeat.steps):
                return True
            rounds += 1
            round_s = totals.now_s - before.now_s
            if rounds == _ROUNDS_PLAYED and round_s > 0:
                rest = math.inf if repeat.times is None else repeat.times - rounds
                if until_s < math.inf:
                    rest = min(rest, max(math.ceil((until_s - totals.now_s) / round_s - 1e-9), 0))
                self._extend(before, rest)
                break
            if rounds > _ROUNDS_PLAYED:
                break  # rounds that take no time
        return False

    def _extend(self, before: _Totals, rounds: float) -> None:
        """Add `rounds` more of the round that began at `before`."""
        totals = self._totals
        shift_s = (totals.now_s - before.now_s) * rounds
        totals.caller_s += (totals.caller_s - before.caller_s) * rounds
        totals.agent_s += (totals.agent_s - before.agent_s) * rounds
        totals.turns += (totals.turns - before.turns) * rounds
        totals.now_s += shift_s
        self._onset_s += shift_s
        self._agent_done_s += shift_s
