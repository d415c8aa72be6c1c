"""The target's CPU and memory in a run: on the time axis, in gates, and told where they cannot be known."""

from __future__ import annotations

from conftest import scenario_with


def test_the_targets_use_is_on_the_time_axis_and_in_gates(voxload):
    (voxload.folder / "quality-gates.yml").write_text(
        "performance_gates: {resource_cpu_max: 1, resource_memory_max: 90}\n"
        "gates: ['p95(target_memory{resource=\"agent\"}) < 90%']\n"
    )
    scenario = scenario_with(
        load={"shape": "constant", "arrival_rate": 5, "duration": "2500ms"},
        resources=[{"name": "agent", "port": "target", "cores": 0.01}],
    )
    path = voxload.write(scenario)
    done = voxload("run", str(path), "--quiet", "--processes", "1", "--gates", "quality-gates.yml")
    summary = done.summary
    cpu, memory = summary.histogram("target_cpu"), summary.histogram("target_memory")
    assert 2 <= cpu.count <= 40
    assert cpu.count == memory.count
    assert 1 < cpu.maximum / 1e9 < 100 * 100
    assert 0.05 < memory.mean / 1e9 < 20
    assert sum("target_cpu" in point.means for point in summary.timeline) >= 2
    assert {gate.expression: gate.status for gate in summary.gates} == {
        "max(target_cpu) < 1%": "fail",
        "max(target_memory) < 90%": "pass",
        'p95(target_memory{resource="agent"}) < 90%': "pass",
    }
    assert {gate.unit for gate in summary.gates} == {"percent"}
    assert "Target cpu" in (done.folder / "report.html").read_text()


def test_what_cannot_be_measured_is_told_before_the_calls(voxload):
    sources = [{"pid": 2**22 + 1}, {"prometheus": {"url": "http://127.0.0.1:1", "cpu": "x"}}]
    done = voxload("run", str(voxload.write(scenario_with(resources=sources))), "--quiet")
    assert done.code == 3
    assert "there is no process" in done.err and "http://127.0.0.1:1" in done.err
    assert "Traceback" not in done.err
