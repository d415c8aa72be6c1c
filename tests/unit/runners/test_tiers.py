"""Tiers reshape any scenario; environments hold it to what they allow."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from voxload.errors import BadInputError
from voxload.model.environments import Environments
from voxload.model.scenario import Scenario
from voxload.runners.environments import allow, find_environment
from voxload.runners.tiers import STRESS_STEPS, TIERS, reshape, scaled_load

EXAMPLE = Path(__file__).parents[3] / "examples" / "voxload.toml"
OPEN = {"shape": "ramp", "arrival_rate": 1, "ramp_to": 12, "duration": "60s"}
CLOSED = {"shape": "concurrency", "concurrency": 80, "duration": "60s", "pause": "2s"}


def scenario(load, **changes):
    script = [{"say": "book_appointment"}, "wait_for_agent"]
    return {"name": "s", "target": "twin", "load": load, "calls": [{"name": "c", "script": script}], **changes}


def reshaped(data, tier, time_scale=1.0):
    found = reshape(Scenario.model_validate(data), data, tier, time_scale)
    return Scenario.model_validate({**data, **found.changes}), found


def length_s(found):
    return sum(phase.duration_ns for phase in found.load.phases()) / 1e9


@pytest.mark.parametrize("load", [OPEN, CLOSED], ids=["open", "closed"])
@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("time_scale", [1.0, 0.01])
def test_every_tier_has_its_length(load, tier, time_scale):
    found, _ = reshaped(scenario(load), tier, time_scale)
    assert length_s(found) == pytest.approx(TIERS[tier].duration_s * time_scale, rel=1e-6)


def test_the_specifications_schedule():
    minutes = {name: tier.duration_s / 60 for name, tier in TIERS.items()}
    assert minutes == {"smoke": 2, "regression": 15, "capacity": 60, "stress": 120, "soak": 480, "chaos": 240}


def test_what_each_tier_makes_of_a_load():
    smoke, _ = reshaped(scenario(OPEN), "smoke")
    assert smoke.load.concurrency == 5
    regression, _ = reshaped(scenario(OPEN), "regression")
    assert (regression.load.shape, [phase.rate_end_per_s for phase in regression.load.phases()]) == ("ramp", [12])
    capacity, _ = reshaped(scenario(OPEN), "capacity")
    assert [(phase.name, phase.rate_end_per_s) for phase in capacity.load.phases()] == [("ramp", 12), ("hold", 12)]
    stress, _ = reshaped(scenario(OPEN), "stress")
    assert [phase.rate_end_per_s for phase in stress.load.phases()] == [12 * factor for factor in STRESS_STEPS]
    assert stress.stop_when[0].condition == "error_rate > 5%"
    assert stress.recovery is not None
    soak, _ = reshaped(scenario(CLOSED), "soak")
    assert (soak.load.concurrency, soak.load.pause_ns) == (56, 2e9)
    climb, _ = reshaped(scenario(CLOSED), "stress")
    assert (climb.load.concurrency, climb.load.ramp_up_ns) == (320, climb.load.duration_ns)


def test_chaos_keeps_what_the_scenario_says_and_tells_what_it_cannot_do():
    own = {"latency": {"turn": "300ms"}, "faults": {"reject_rate": 0.3}}
    found, told = reshaped(scenario(OPEN, twin=own, personas=["elderly"]), "chaos")
    assert (found.twin.faults.reject_rate, found.twin.faults.drop_rate) == (0.3, 0.02)
    assert found.twin.latency.turn is not None
    assert [stall.at_ns / 3.6e12 for stall in found.twin.faults.stalls] == pytest.approx([0.8, 2.4])
    assert len(found.personas) == 1
    assert told.warnings == []
    found, told = reshaped(scenario(OPEN, target="https://agent.example"), "chaos")
    assert [persona.name for persona in found.personas] == ["good_line", "bad_line"]
    assert "yours to cause" in told.warnings[0]


@pytest.mark.parametrize("load", [OPEN, CLOSED], ids=["open", "closed"])
def test_a_share_of_a_load(load):
    whole = Scenario.model_validate(scenario(load))
    part = Scenario.model_validate(scenario(scaled_load(whole.load, load, 0.05)))
    assert length_s(part) == length_s(whole)
    if load is CLOSED:
        assert part.load.concurrency == 4
    else:
        assert sum(phase.calls for phase in part.load.phases()) == pytest.approx(
            0.05 * sum(phase.calls for phase in whole.load.phases())
        )


def test_the_example_file_and_the_built_in_ceilings(tmp_path):
    (tmp_path / "voxload.toml").write_text(EXAMPLE.read_text())
    (tmp_path / "deep").mkdir()
    name, staging = find_environment("staging", tmp_path / "deep" / "scenario.yaml")
    assert (name, staging.calls_max, staging.target) == ("staging", 500, "https://staging.agent.example")
    assert find_environment(None, tmp_path / "scenario.yaml") is None
    bare = Environments.model_validate({})
    assert [bare.get(name).calls_max for name in ("dev", "staging", "preprod", "prod")] == [10, 500, 10_000, None]
    assert bare.get("prod").canary_share == 0.05


def test_a_default_and_an_environment_of_ones_own(tmp_path):
    (tmp_path / "voxload.toml").write_text('default = "lab"\n[environments.lab]\ncalls_max = 3\n')
    name, lab = find_environment(None, tmp_path / "scenario.yaml")
    assert (name, lab.calls_max) == ("lab", 3)
    allow(name, lab, 3, agreed=False)
    allow(name, lab, 4, agreed=True)
    with pytest.raises(BadInputError, match=r"about 4 calls at once, and lab allows 3 .*--yes"):
        allow(name, lab, 4, agreed=False)


def test_all_that_is_wrong_with_the_file(tmp_path):
    file = tmp_path / "voxload.toml"
    file.write_text(
        'defaul = "dev"\n\n[environments.dev]\ntarget = "agent"\ncalls_max = 0\n\n[environments.prod]\ncanary = 0.5\n'
    )
    with pytest.raises(BadInputError) as caught:
        find_environment("dev", tmp_path / "scenario.yaml")
    told = str(caught.value)
    assert f"{file}:1: defaul: there is no such setting (did you mean default?)" in told
    assert f"{file}:4: environments.dev.target" in told
    assert f"{file}:5: environments.dev.calls_max" in told
    assert f"{file}:8: environments.prod.canary: there is no such setting (did you mean canary_share?)" in told
    file.write_text("[environments\n")
    with pytest.raises(BadInputError, match=rf"{file}:1: not TOML"):
        find_environment("dev", tmp_path / "scenario.yaml")
    file.write_text("[environments.lab]\n")
    with pytest.raises(BadInputError, match="needs calls_max or canary_share"):
        find_environment("lab", tmp_path / "scenario.yaml")
    file.write_text("")
    with pytest.raises(BadInputError, match="did you mean staging"):
        find_environment("stagin", tmp_path / "scenario.yaml")
    with pytest.raises(ValidationError):
        Environments.model_validate({"default": "nowhere"})
