"""After the load: a target that leaks, stands still or is well, told from one another with numbers."""

import signal
import time

import pytest
from conftest import scenario_with
from junitparser import JUnitXml

from voxload.runners.results import read_calls

HEALTH = {"get": "/health", "sessions": "$.sessions", "of": "$.sessions_max", "expect": ['$.status == "healthy"']}


def scenario(twin, recovery=None, calls=20, **changes):
    """Calls of 0.2 s in one second."""
    return scenario_with(
        load={"shape": "constant", "arrival_rate": calls, "duration": "1s"},
        calls=[{"name": "short", "script": [{"listen": "200ms"}]}],
        twin={"greeting": False, **twin},
        recovery={"after": "2s", "probes": 2, "interval": "500ms", "health": [HEALTH]} | (recovery or {}),
        timeouts={"setup": "1s", "connect": "1s", "hang_up": "500ms"},
        **changes,
    )


def status_of(summary):
    return {gate.expression.split()[0]: gate.status for gate in summary.gates}


def test_a_target_that_leaks_every_session_is_told_with_numbers(voxload):
    done = voxload.run(scenario({"quotas": {"connections": 20}, "faults": {"session_leak_rate": 1.0}}))
    assert done.code == 1
    summary = done.summary
    recovery = summary.recovery
    assert summary.totals.outcomes == {"completed": 20}, "probes are no part of the load"
    assert len(list(read_calls(done.folder))) == 20
    assert {probe.outcome for probe in recovery.probes} == {"rejected"}
    assert {probe.phase for probe in recovery.probes} == {"recovery"}
    assert recovery.recovery_time_s is None
    assert 2 <= recovery.lasted_s < 8
    assert summary.levels["leaked_sessions"] == 20
    assert "recovery_time" not in summary.levels
    assert status_of(summary) == {"recovery_time": "fail", "leaked_sessions": "fail", "health_failures": "pass"}
    page = (done.folder / "report.html").read_text()
    for text in (done.out, page, (done.folder / "junit.xml").read_text(), (done.folder / "summary.md").read_text()):
        assert "20 of 20 slots still held" in text
        assert "the target served no other one" in text
    cases = {case.name: case for suite in JUnitXml.fromfile(str(done.folder / "junit.xml")) for case in suite}
    assert not cases["recovery: leaked_sessions <= 0"].is_passed
    assert "After the load" in page and recovery.probes[0].trace_id in page


def test_a_target_that_is_well_is_done_with_soon(voxload):
    done = voxload.run(scenario({}, {"after": "40s", "probes": 3}))
    assert done.code == 0, done.summary.verdict
    recovery = done.summary.recovery
    assert [probe.outcome for probe in recovery.probes] == ["completed"] * 3
    assert recovery.lasted_s < 20
    assert done.summary.levels["leaked_sessions"] == 0
    assert done.summary.levels["recovery_time"] == recovery.probes[0].due_s < 3
    gaps = [b.due_s - (a.due_s + a.duration_s) for a, b in zip(recovery.probes, recovery.probes[1:], strict=False)]
    assert min(gaps) >= 0.5, "one at a time, an interval apart"
    assert recovery.before[0].sessions == 0


def test_a_share_that_leaks_is_counted_and_a_gate_may_allow_it(voxload):
    done = voxload.run(
        scenario({"faults": {"session_leak_rate": 0.5}}, {"after": "1s"}, calls=40, gates=["leaked_sessions <= 40"])
    )
    leaked = done.summary.levels["leaked_sessions"]
    assert leaked == done.summary.recovery.looks[-1].sessions
    assert 8 <= leaked <= 34  # probes leak too
    assert status_of(done.summary) == {"leaked_sessions": "pass", "recovery_time": "pass", "health_failures": "pass"}
    assert done.code == 0


def test_the_recovery_time_is_that_of_the_stall(voxload):
    """The agent stands still from 0.8 s on for 3 s: the load is over some 1.2 to 2 s after the first call."""
    twin = {"faults": {"stalls": [{"at": "800ms", "for": "3s"}]}}
    done = voxload.run(scenario(twin, {"after": "20s", "probes": 1, "health": []}))
    recovery = done.summary.recovery
    ended_s = done.summary.run.duration_s
    assert recovery.recovery_time_s == pytest.approx(3.8 - ended_s, abs=1.6)
    assert [probe.outcome for probe in recovery.probes][-1] == "completed"
    assert "setup_timeout" in {probe.outcome for probe in recovery.probes[:-1]}
    assert f"{len(recovery.probes) - 1} failed" in done.out


def test_ctrl_c_during_the_recovery_still_reports(voxload):
    twin = {"quotas": {"connections": 20}, "faults": {"session_leak_rate": 1.0}}
    process = voxload.start("run", str(voxload.write(scenario(twin, {"after": "60s"}))), "--processes", "1", "--quiet")
    assert "After the load" in process.stdout.readline()
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    done = voxload.finish(process, 20)
    assert "Traceback" not in done.err
    summary = done.summary
    assert summary.totals.outcomes == {"completed": 20}
    assert "Ctrl-C" in summary.recovery.problem
    assert not summary.run.cut_short
    assert status_of(summary) == {"recovery_time": "unknown", "leaked_sessions": "unknown", "health_failures": "pass"}
    assert (done.code, summary.verdict.status) == (4, "unknown"), "it still had time: neither passed nor blamed"


def test_an_endpoint_that_never_worked_blames_nobody(voxload):
    health = [{"get": "/nothing", "sessions": "$.n"}, {"get": "/health", "expect": ["$.active_calls <= 0"]}]
    done = voxload.run(scenario({}, {"health": health, "after": "1s", "probes": 0}))
    assert done.code == 4
    assert status_of(done.summary)["health_failures"] == "unknown"
    assert "recovery_time" not in status_of(done.summary)
    assert "GET /nothing" in done.out and "it answered 404" in done.out


def test_what_is_wrong_with_it_is_said_before(voxload):
    wrong = scenario({}, {"call": "shrot", "health": [{"get": "health", "of": "$.n", "expect": ["$.n <= many"]}]})
    done = voxload("check", str(voxload.write(wrong)))
    assert done.code == 2
    assert "many is no JSON value" in done.err
    wrong["recovery"]["health"][0]["expect"] = []
    done = voxload("check", str(voxload.write(wrong)))
    for words in ("did you mean short?", "begins with /", "says nothing without sessions"):
        assert words in done.err
    good = scenario({}, gates=["leaked_sessions <= 3"])
    done = voxload("check", str(voxload.write(good)))
    assert done.code == 0
    for words in ("leaked_sessions <= 3", "recovery_time <= 2s", "health_failures <= 0", "2 probe calls, GET /health"):
        assert words in done.out
    assert "leaked_sessions <= 0" not in done.out
    done = voxload("check", str(voxload.write(scenario_with(gates=["recovery_time < 30s"]))))
    assert done.code == 2 and "needs a look after the load" in done.err
