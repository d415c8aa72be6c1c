"""The target's CPU and memory in a run: on the time axis, in gates, and unknown where they cannot be known."""

from __future__ import annotations

from conftest import scenario_with


def test_the_targets_use_is_a_gate(voxload):
    scenario = scenario_with(
        load={"shape": "constant", "arrival_rate": 5, "duration": "3s"},
        resources=[{"name": "agent", "port": "target", "cores": 1}],
        gates=["max(target_cpu) < 100%", 'p95(target_memory{resource="agent"}) < 90%'],
    )
    done = voxload.run(scenario)
    assert done.code in {0, 4}, done.out + done.err
    summary = done.summary
    cpu, memory = summary.histogram("target_cpu"), summary.histogram("target_memory")
    assert 2 <= cpu.count <= 20
    assert cpu.count == memory.count
    assert 0 < cpu.maximum / 1e9 < 100
    assert 0.05 < memory.mean / 1e9 < 20
    assert sum("target_cpu" in point.means for point in summary.timeline) >= 2
    assert [gate.status for gate in summary.gates] == ["pass", "pass"]
    assert (summary.gates[0].unit, summary.gates[0].sample_size) == ("percent", cpu.count)
    assert "Target cpu" in (done.folder / "report.html").read_text()


def test_the_well_known_gate_fails_where_the_target_works_too_hard(voxload):
    (voxload.folder / "quality-gates.yml").write_text("performance_gates: {resource_cpu_max: 1}\n")
    scenario = scenario_with(
        resources=[{"port": "target", "cores": 0.01}], load={"shape": "constant", "arrival_rate": 5, "duration": "2s"}
    )
    done = voxload.run(scenario, "--gates", "quality-gates.yml")
    assert [(gate.expression, gate.status) for gate in done.summary.gates] == [("max(target_cpu) < 1%", "fail")]


def test_what_cannot_be_measured_is_told_before_the_calls(voxload):
    sources = [{"pid": 2**22 + 1}, {"prometheus": {"url": "http://127.0.0.1:1", "cpu": "x"}}]
    done = voxload("run", str(voxload.write(scenario_with(resources=sources))), "--quiet")
    assert done.code == 3
    assert "there is no process" in done.err and "http://127.0.0.1:1" in done.err
    assert "Traceback" not in done.err


def test_a_gate_without_a_source_is_unknown(voxload):
    done = voxload.run(scenario_with(gates=["max(target_cpu) < 70%"]))
    assert done.code == 4
    assert "resources: in the file" in done.summary.gates[0].reason
