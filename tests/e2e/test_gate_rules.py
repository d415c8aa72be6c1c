"""Files of gates, warnings, gates per label and conditions to stop, as a user runs them."""

from pathlib import Path

from conftest import scenario_with

GATES = (Path(__file__).parents[2] / "examples" / "quality-gates.yml").read_text()


def test_the_specifications_gates(voxload):
    (voxload.folder / "gates.yml").write_text(GATES)
    done = voxload.run(scenario_with(), "--gates", "gates.yml")
    status = {gate.name: gate.status for gate in done.summary.gates}
    assert status == {
        "response_time_p95": "fail",
        "success_rate": "pass",
        "concurrent_capacity": "unknown",
        "resource_cpu_max": "unknown",
        "resource_memory_max": "unknown",
    }
    assert (done.code, done.summary.verdict.status) == (1, "failed")
    success = next(gate for gate in done.summary.gates if gate.name == "success_rate")
    assert (success.actual, success.sample_size) == (100, 20)
    assert abs(success.margin - 0.5) < 1e-9
    capacity = next(gate for gate in done.summary.gates if gate.name == "concurrent_capacity")
    assert "the load offered no more than" in capacity.reason


def test_a_condition_ends_the_run_early_and_fails_it(voxload):
    done = voxload.run(
        scenario_with(
            load={"shape": "constant", "arrival_rate": 20, "duration": "60s"},
            twin={"latency": {"turn": "300ms"}, "faults": {"reject_rate": 0.5}},
            stop_when=[{"condition": "error_rate > 20%", "for": "1s", "over": "5s"}],
            gates=["count(call_setup) >= 1"],
        )
    )
    summary = done.summary
    assert done.code == 1, (summary.verdict, done.err)
    assert summary.verdict.status == "failed"
    assert summary.run.stopped_early.startswith("stop_when error_rate > 20%: ")
    assert summary.verdict.reasons[0] == summary.run.stopped_early
    assert not summary.run.cut_short
    assert summary.run.duration_s < 30
    assert "a condition ended the run early" in done.out


def test_a_wrong_file_is_told_before_any_call(voxload):
    (voxload.folder / "gates.yml").write_text("performance_gates:\n  sucess_rate: 99\n")
    done = voxload.run(scenario_with(), "--gates", "gates.yml")
    assert done.code == 2
    assert "gates.yml:2" in done.err
    assert "success_rate" in done.err
    assert not (voxload.folder / "results").exists()
    done = voxload.run(scenario_with(stop_when=[{"condition": "eror_rate > 5%"}]))
    assert done.code == 2
    assert "did you mean error_rate?" in done.err
