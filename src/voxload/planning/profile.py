"""What one call asks of the services: from a scenario where there is one, else from stated assumptions."""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

from voxload.errors import BadInputError, Problem
from voxload.measure.cost import CallUsage, CostModel
from voxload.model.cost import CostSettings
from voxload.model.explain import did_you_mean
from voxload.model.scenario import TWIN_TARGET
from voxload.runners.estimate import estimate_plan
from voxload.runners.prepare import Prepared


class CallProfile(msgspec.Struct, frozen=True):
    """The mean call; every field can be set by `--assume FIELD=VALUE`."""

    call_s: float = 180.0
    """Media ready to hang-up."""
    turns: float = 10.0
    """Times that the model is asked."""
    caller_speech_s: float = 60.0
    agent_speech_s: float = 60.0
    tokens_per_turn: float = 600.0
    """Prompt, history and completion."""
    streams: float = 1.0
    """Speech recognition streams open during a call: 1 for the whole call, less when only speech is sent."""
    tts_requests_per_turn: float = 1.0
    redis_connections: float = 1.0
    """Held by one call on average; a shared pool of 50 for 1,000 calls is 0.05."""
    events: float = 4.0
    """Event Grid events of a call: incoming, started, ended, recording ready."""


FIELDS = CallProfile.__struct_fields__


def profile_of(prepared: Prepared | None, assumptions: Iterable[str]) -> tuple[CallProfile, dict[str, str]]:
    """Return the mean call, and for every field where its value comes from.

    Raises:
        BadInputError: every assumption that is wrong.
    """
    values: dict[str, float] = {}
    origins = dict.fromkeys(FIELDS, "assumed")
    if prepared is not None:
        values = _of_scenario(prepared)
        origins.update(dict.fromkeys(values, "scenario"))
    problems = []
    for text in assumptions:
        name, _, written = text.partition("=")
        try:
            value = float(written)
        except ValueError:
            value = math.nan
        if name not in FIELDS:
            problems.append(Problem(f"--assume: no {name!r} in a call", suggestion=did_you_mean(name, FIELDS)))
        elif not 0 <= value < math.inf or (name == "call_s" and not value):
            message = f"--assume {text!r}: not a number of 0 or more"
            problems.append(Problem(message, suggestion=f"write for example {name}=2.5"))
        else:
            values[name], origins[name] = value, "--assume"
    if problems:
        raise BadInputError(problems)
    return CallProfile(**values), origins


def _of_scenario(prepared: Prepared) -> dict[str, float]:
    scenario = prepared.scenario
    estimate = estimate_plan(prepared)
    turns = sum(call.share * call.turns for call in estimate.call_types)
    caller_s = sum(call.share * call.caller_speech_s for call in estimate.call_types)
    agent_s = sum(call.share * call.agent_speech_s for call in estimate.call_types)
    found = {"call_s": estimate.mean_call_s, "turns": turns, "caller_speech_s": caller_s, "agent_speech_s": agent_s}
    cost = scenario.cost
    if cost is not None and cost.stt == "speech" and estimate.mean_call_s:
        found["streams"] = caller_s / estimate.mean_call_s
    if cost is not None and cost.llm:
        usage = CallUsage(estimate.mean_call_s / 60, caller_s, agent_s, max(round(turns), 1))
        found["tokens_per_turn"] = sum(CostModel(cost).chat_tokens(usage)) / max(round(turns), 1)
    elif scenario.target == TWIN_TARGET:
        found["tokens_per_turn"] = float(scenario.twin.quotas.tokens_per_turn)
    return found


def cost_per_call(profile: CallProfile, settings: CostSettings) -> dict[str, float]:
    """Return the price of the mean call by item, in US dollars.

    Raises:
        BadInputError: a price is not known.
    """
    usage = CallUsage(
        profile.call_s / 60, profile.caller_speech_s, profile.agent_speech_s, max(round(profile.turns), 1)
    )
    return CostModel(settings).call_cost(usage).items
