"""What calls ask of a service in the units of work of its component test, by the same model as the capacity plan."""

from __future__ import annotations

from typing import Any

from voxload.planning.plan import PER_S, demand_per_call
from voxload.planning.profile import CallProfile


def units_per_call(kind: str, options: Any, profile: CallProfile) -> tuple[float, str]:
    """Return (units of work that one call makes, in words what they are); `options` are the component's.

    Sessions in Redis, recordings and calls are one a call; completions, recognition, synthesis and events follow the
    plan's demand.
    """
    per_call = {name: demand * profile.call_s for name, demand in demand_per_call(profile).items()}
    match kind:
        case "openai":
            return per_call["openai.requests_per_minute"] / PER_S["minute"], "a completion for each turn"
        case "eventgrid":
            return per_call[
                "eventgrid.events_per_s"
            ] / options.batch, f"{profile.events:g} events, {options.batch} each"
        case "speech" if options.mode == "tts":
            return per_call["speech.tts_requests_per_s"], "a synthesis for each turn"
        case "speech" if options.mode == "both":  # every second unit is either: neither is to be too few
            streams = profile.turns / options.stt.utterances
            return 2 * max(streams, per_call["speech.tts_requests_per_s"]), "recognition and synthesis in turn"
        case "speech":
            said = options.stt.utterances
            return profile.turns / said, f"an utterance for each turn, {said} a stream"
        case "redis":
            return 1.0, "a session"
        case "blob":
            return 1.0, "a recording and its transcript"
        case "acs":
            return 1.0, "a call"
        case _:
            return 1.0, "all requests once"
