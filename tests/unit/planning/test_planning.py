"""The plan's arithmetic by hand, its agreement with its own simulation, its limits and assumptions."""

import pytest
from scipy.stats import poisson

from voxload.errors import BadInputError
from voxload.planning.limits import KINDS, Limit, parse_amount, profiles, read_limits
from voxload.planning.plan import PER_S, Targets, calls_of_day, demand_per_call, make_plan, round_up
from voxload.planning.profile import CallProfile, profile_of
from voxload.planning.simulation import simulate

PROFILE = CallProfile(call_s=120, turns=6, tokens_per_turn=500, redis_connections=2, streams=0.5, events=3)


def plan_for(calls, limits, profile=PROFILE, **targets):
    return make_plan(profile, {}, limits, Targets(calls, **targets))


def row(plan, name):
    return next(row for row in plan.rows if row.limit == name)


def test_what_a_call_asks():
    demand = demand_per_call(PROFILE)
    assert demand == pytest.approx(
        {
            "acs.concurrent_calls": 1,
            "speech.concurrent_streams": 0.5,
            "speech.tts_requests_per_s": 6 / 120,
            "openai.tokens_per_minute": 6 / 120 * 500 * 60,
            "openai.requests_per_minute": 6 / 120 * 60,
            "redis.connections": 2,
            "eventgrid.events_per_s": 3 / 120,
        }
    )
    assert set(demand) == set(KINDS)


def test_a_plan_by_hand():
    limits = {"openai.tokens_per_minute": Limit(240_000), "redis.connections": Limit(250)}
    plan = plan_for(200, limits)
    tokens, redis = row(plan, "openai.tokens_per_minute"), row(plan, "redis.connections")
    assert tokens.demand == pytest.approx(300_000)
    assert tokens.utilisation == pytest.approx(1.25)
    assert tokens.refused_share == pytest.approx(0.2)
    assert tokens.breaks_at_calls == pytest.approx(160)
    assert tokens.ask_for == 390_000
    assert redis.demand == 400
    assert redis.refused_share == pytest.approx(poisson.pmf(250, 400) / poisson.cdf(250, 400))  # Erlang B, in full
    assert plan.first == "redis.connections"
    assert redis.breaks_at_calls == pytest.approx(114.0, rel=0.01)  # 228 erlangs on 250 places at 1 %, two a call
    assert plan.arrival_rate_per_s == pytest.approx(200 / 120)


def test_the_quota_to_ask_for_covers_the_blocking_of_few_calls():
    asked = row(plan_for(2, {"acs.concurrent_calls": Limit(10)}, headroom=0.3), "acs.concurrent_calls").ask_for
    assert asked == 7  # 2 erlangs at 1 % want 7 places, not 2.6
    assert round_up(26_432) == 27_000
    assert round_up(0.2) == 1


def test_a_day_in_its_busiest_hour():
    assert calls_of_day(100_000, 0.15, 180) == pytest.approx(750)
    plan = plan_for(750, read_limits("specification", ()), daily_calls=100_000)
    assert plan.busy_hour_calls == pytest.approx(100_000 * 0.15 / 3600 * 120)


def test_no_limit_never_breaks():
    plan = plan_for(10_000, {"acs.concurrent_calls": Limit(None)})
    assert plan.rows[0].breaks_at_calls is None
    assert plan.first is None


@pytest.mark.parametrize(("calls", "streams"), [(18, 1.0), (60, 0.4), (950, 1.0)])
def test_the_simulation_agrees_within_two_percent(calls, streams):
    profile = CallProfile(streams=streams, redis_connections=0.2)
    limits = read_limits("specification", [f"redis.connections={max(calls // 4, 1)}", "speech.concurrent_streams=20"])
    plan = plan_for(calls, limits, profile)
    played = {item.limit: item for item in simulate(plan, 8_000, seed=7)}
    assert set(played) == set(limits)
    for found in plan.rows:
        assert played[found.limit].refused_share == pytest.approx(found.refused_share, abs=0.02), found.limit
        if found.per == "at once":
            carried = found.demand * (1 - found.refused_share)
            assert played[found.limit].mean_in_use == pytest.approx(carried, rel=0.03), found.limit


def test_the_specifications_limits_and_the_published_ones():
    values = {name: limit.value for name, limit in profiles()["specification"].items()}
    assert values == {
        "acs.concurrent_calls": 1000,
        "speech.concurrent_streams": 20,
        "openai.tokens_per_minute": 240_000,
        "eventgrid.events_per_s": 5000,
        "redis.connections": 250,
    }
    for limits in profiles().values():
        assert set(limits) <= set(KINDS)
        assert all(limit.source and limit.date for limit in limits.values())
    assert PER_S.keys() == {kind.per for kind in KINDS.values()} - {"at once"}


def test_limits_of_a_file(tmp_path):
    file = tmp_path / "limits.yaml"
    file.write_text("profile: published-2025\nlimits:\n  redis.connections: 7.5K\n  acs.concurrent_calls: 12\n")
    found = read_limits(str(file), ["speech.concurrent_streams=unlimited"])
    assert found["redis.connections"].value == 7500
    assert found["acs.concurrent_calls"].value == 12
    assert found["speech.concurrent_streams"].value is None
    assert found["openai.requests_per_minute"].value == 2700


def test_all_that_is_wrong_with_limits_at_once(tmp_path):
    file = tmp_path / "limits.yaml"
    file.write_text("profile: mine\nlimits:\n  redis.connectionz: 1\n  acs.concurrent_calls: -3\n")
    with pytest.raises(BadInputError) as caught:
        read_limits(str(file), ["nothing", "redis.connections=many"])
    told = str(caught.value)
    assert f"{file}:1: no profile" in told
    assert f"{file}:3: no limit is called 'redis.connectionz' (did you mean redis.connections?)" in told
    assert f"{file}:4: acs.concurrent_calls: '-3'" in told
    assert "--limit 'nothing'" in told
    assert "--limit 'redis.connections=many'" in told
    with pytest.raises(BadInputError, match="did you mean specification"):
        read_limits("specificaton", ())


def test_amounts():
    assert [parse_amount(text) for text in ("250", "240K", "1.5m", "10_000", "unlimited")] == [
        250,
        240e3,
        1.5e6,
        1e4,
        None,
    ]
    for wrong in ("", "0", "-1", "K", "1G", "_"):
        with pytest.raises(ValueError, match="not an amount"):
            parse_amount(wrong)


def test_assumptions():
    profile, origins = profile_of(None, ["call_s=60", "turns=0"])
    assert (profile.call_s, profile.turns, origins["call_s"], origins["events"]) == (60, 0, "--assume", "assumed")
    with pytest.raises(BadInputError) as caught:
        profile_of(None, ["cal_s=60", "turns=many", "call_s=0", "events"])
    assert str(caught.value).count("--assume") == 4
    assert "did you mean call_s?" in str(caught.value)
