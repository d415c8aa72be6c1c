"""What a call asks of each service is what the capacity plan says."""

from types import SimpleNamespace

import pytest

from voxload.planning.plan import demand_per_call
from voxload.planning.profile import CallProfile
from voxload.planning.work import units_per_call

PROFILE = CallProfile(call_s=120.0, turns=8.0, events=6.0, tts_requests_per_turn=2.0)


def per_second(kind, **options):
    return units_per_call(kind, SimpleNamespace(**options), PROFILE)[0] / PROFILE.call_s


def test_units_follow_the_plan():
    demand = demand_per_call(PROFILE)
    assert per_second("openai") == pytest.approx(demand["openai.requests_per_minute"] / 60)
    assert per_second("eventgrid", batch=3) * 3 == pytest.approx(demand["eventgrid.events_per_s"])
    assert per_second("speech", mode="tts") == pytest.approx(demand["speech.tts_requests_per_s"])
    assert units_per_call("speech", SimpleNamespace(mode="stt", stt=SimpleNamespace(utterances=4)), PROFILE)[0] == 2
    assert [units_per_call(kind, None, PROFILE)[0] for kind in ("redis", "blob", "acs", "http")] == [1, 1, 1, 1]
