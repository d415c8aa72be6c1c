"""Tiers and environments as a user runs them."""

from conftest import SCENARIO, scenario_with


def test_a_smoke_test_in_an_environment(voxload):
    (voxload.folder / "voxload.toml").write_text("[environments.dev]\ncalls_max = 5\n")
    done = voxload.run(scenario_with(), "--tier", "smoke", "--time-scale", "0.03", "--env", "dev")
    assert done.code == 0, (done.err, done.out)
    assert "Environment dev: about 5 calls at once, 5 allowed" in done.out
    assert done.summary.plan.model == "closed"
    assert abs(done.summary.plan.load_duration_s - 3.6) < 1e-6
    assert done.summary.levels["peak_calls"] <= 5


def test_too_much_load_needs_a_yes_and_production_gets_a_canary_only(voxload):
    path = str(voxload.write(SCENARIO))
    done = voxload("check", path, "--env", "dev", "--users", "50")
    assert done.code == 2
    assert "about 50 calls at once, and dev allows 10" in done.err
    assert voxload("check", path, "--env", "dev", "--users", "50", "--yes").code == 0
    done = voxload("check", path, "--env", "prod", "--users", "50", "--yes", "--json")
    assert '"peak_calls": 2.0' in done.out
    assert "canary, 0.05 of the scenario's load" in done.err
    done = voxload("check", path, "--env", "prodd")
    assert (done.code, "did you mean prod?" in done.err) == (2, True)


def test_chaos_at_a_thousandth_of_its_length(voxload):
    script = ["wait_for_agent", {"say": "book_appointment"}, "wait_for_agent"]  # replies fall due while it is stalled
    done = voxload.run(
        scenario_with(
            load={"shape": "constant", "arrival_rate": 12, "duration": "1s"},
            calls=[{"name": "booking", "script": script}],
        ),
        "--tier",
        "chaos",
        "--time-scale",
        "0.0005",
        judged=False,
    )
    summary = done.summary
    assert summary.plan.load_duration_s == 7.2
    assert set(summary.plan.personas) == {"good_line", "bad_line"}
    assert summary.totals.frames_lost > 0
    assert summary.recovery is not None
    assert summary.histogram("turn_latency").maximum > 450e6  # a stall of half a second
