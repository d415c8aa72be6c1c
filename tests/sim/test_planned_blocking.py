"""The plan against a run: real calls on the virtual clock, and an embedded agent with small quotas."""

import pytest

from voxload.model.outcome import Outcome
from voxload.planning.limits import Limit
from voxload.planning.plan import Targets, make_plan
from voxload.planning.profile import profile_of
from voxload.runners.prepare import prepare
from voxload.testing.virtual import VirtualWorld

SCENARIO = """
name: planned
target: twin
load: {shape: poisson, arrival_rate: %(rate)s, duration: %(duration)ss}
calls:
  - name: short
    script: [say: opening_hours, wait_for_agent, hang_up]
seed: 11
twin:
  greeting: false
  latency: {turn: 300ms}
  reply_seconds_max: 0.5
  quotas: %(quotas)s
"""


def run(tmp_path, rate, duration, quotas):
    file = tmp_path / "planned.yaml"
    file.write_text(SCENARIO % {"rate": rate, "duration": duration, "quotas": quotas})
    prepared = prepare(file, environ={})
    return prepared, VirtualWorld(prepared.plan).run()


def test_refused_calls_are_those_of_erlang_b(tmp_path):
    prepared, collector = run(tmp_path, 3, 500, "{connections: 8}")
    profile, _ = profile_of(prepared, ())
    plan = make_plan(profile, {}, {"acs.concurrent_calls": Limit(8)}, Targets(3 * profile.call_s))
    outcomes = collector.outcomes
    refused = outcomes[Outcome.REJECTED] / sum(outcomes.values())
    assert sum(outcomes.values()) > 1300
    assert plan.rows[0].refused_share > 0.1  # a real question
    assert refused == pytest.approx(plan.rows[0].refused_share, abs=0.035)


def test_refused_turns_are_those_beyond_the_tokens(tmp_path):
    quotas = "{tokens_per_minute: 60000, tokens_per_turn: 600, when_exceeded: fail}"
    prepared, collector = run(tmp_path, 3, 400, quotas)
    profile, _ = profile_of(prepared, ())
    plan = make_plan(profile, {}, {"openai.tokens_per_minute": Limit(60_000)}, Targets(3 * profile.call_s))
    calls = sum(collector.outcomes.values())
    # the bucket is full when the run begins: a minute's tokens more than the plan's long run
    expected = plan.rows[0].refused_share - 60_000 / 600 / calls
    answered = collector.outcomes[Outcome.COMPLETED] / calls
    assert plan.rows[0].refused_share == pytest.approx(1 - 60_000 / (3 * 60 * 600))
    assert 1 - answered == pytest.approx(expected, abs=0.035)
