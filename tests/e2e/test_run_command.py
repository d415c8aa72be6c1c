"""`voxload run` as a user meets it: files, exit codes, Ctrl-C, lost processes, full disks."""

import json
import os
import signal
import time
import xml.etree.ElementTree as ET

import psutil
import pytest
from conftest import scenario_with, wait_for

from voxload.measure.summary import Summary, encode_summary, read_summary
from voxload.runners.results import read_calls

LONG = scenario_with(
    load={"shape": "constant", "arrival_rate": 10, "duration": "60s"},
    calls=[{"name": "long", "script": [{"listen": "60s"}]}],
)


def shards_of(process):
    return [p for p in psutil.Process(process.pid).children() if "voxload.engine.shard" in p.cmdline()]


def calls_started(voxload):
    """A call has ended or the first second has been reported: the results folder holds its file of calls."""
    return list((voxload.folder / "results").glob("*/calls.jsonl.zst"))


def test_passed_leaves_all_files_and_a_warning_decides_nothing(voxload):
    gates = [
        "p95(turn_latency) < 2s",
        "call_success >= 99%",
        {"expression": "p95(turn_latency) < 100ms", "severity": "warn"},
        {"expression": "p95(turn_latency) < 2s", "per": "turn"},
    ]
    done = voxload.run(scenario_with(gates=gates))
    assert done.code == 0, done.out + done.err
    assert [gate.status for gate in done.summary.gates] == ["pass", "pass", "fail", "pass"]
    assert done.summary.gates[3].expression.endswith('[turn="opening_hours"]')
    assert "! warn" in done.out
    assert {path.name for path in done.folder.iterdir()} == {
        "summary.json", "report.html", "junit.xml", "summary.md", "badge.json", "calls.jsonl.zst",
    }  # fmt: skip
    assert str(done.folder / "report.html") in done.out.replace("\n", "") or "report.html" in done.out
    assert done.summary.verdict.status == "passed"
    calls = list(read_calls(done.folder))
    assert sorted(call.index for call in calls) == list(range(20))
    assert {call.outcome for call in calls} == {"completed"}
    assert all(call.turns[0].turn == "opening_hours" for call in calls)
    suite = ET.parse(done.folder / "junit.xml").getroot()
    assert len(list(suite.iter("testcase"))) >= 2
    assert not list(suite.iter("failure"))
    assert any(element.text.startswith("warning: ") for element in suite.iter("system-out"))
    assert_report_rebuilds_everything(voxload, done)


def assert_report_rebuilds_everything(voxload, done):
    """From the summary alone, byte for byte."""
    before = {path.name: path.read_bytes() for path in done.folder.iterdir()}
    for name in ("report.html", "junit.xml", "summary.md", "badge.json"):
        (done.folder / name).unlink()
    again = voxload("report", str(done.folder))
    assert again.code == 0, again.err
    assert {path.name: path.read_bytes() for path in done.folder.iterdir()} == before
    assert encode_summary(read_summary(done.folder)) == before["summary.json"]
    assert isinstance(done.summary, Summary)


def test_bad_input_is_exit_2_and_leaves_nothing(voxload):
    done = voxload.run(scenario_with(gates=["p95(turn_latncy) < 10ms"], seeed=3))
    assert done.code == 2
    assert "did you mean seed" in done.err
    assert "did you mean turn_latency" in done.err
    assert "scenario.yaml:" in done.err
    assert "Traceback" not in done.err
    assert done.folder is None


def test_json_prints_the_summary_and_nothing_else_and_options_override_the_load(voxload):
    done = voxload.run(scenario_with(), "--json", "--users", "3", "--duration", "2s", "--seed", "9")
    assert json.loads(done.out)["verdict"]["status"] == "passed"
    assert done.out.encode() == (done.folder / "summary.json").read_bytes()
    assert done.summary.plan.model == "closed"
    assert done.summary.run.seed == 9


def test_ctrl_c_ends_the_calls_and_reports(voxload):
    process = voxload.start("run", str(voxload.write(LONG)), "--processes", "2")
    wait_for(lambda: calls_started(voxload), timeout_s=20)
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    done = voxload.finish(process, 20)
    assert done.code == 3, done.err
    summary = done.summary
    assert "Ctrl-C" in summary.run.cut_short
    assert set(summary.totals.outcomes) == {"cancelled"}
    assert summary.totals.outcomes["cancelled"] >= 10
    assert (done.folder / "report.html").exists()
    assert "Traceback" not in done.err


def test_a_second_ctrl_c_ends_at_once_and_still_reports(voxload):
    scenario = {**LONG, "timeouts": {"hang_up": "30s"}}
    process = voxload.start("run", str(voxload.write(scenario)), "--processes", "1")
    wait_for(lambda: calls_started(voxload), timeout_s=20)
    for shard in shards_of(process):
        os.kill(shard.pid, signal.SIGSTOP)  # it will not hear the first one
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    done = voxload.finish(process, 15)
    assert done.code == 3
    assert (done.folder / "summary.json").exists()


def test_a_killed_shard_makes_the_run_unknown(voxload):
    scenario = scenario_with(load={"shape": "constant", "arrival_rate": 10, "duration": "5s"})
    process = voxload.start("run", str(voxload.write(scenario)), "--processes", "2", "--quiet")
    wait_for(lambda: calls_started(voxload), timeout_s=20)
    os.kill(shards_of(process)[0].pid, signal.SIGKILL)
    done = voxload.finish(process, 30)
    assert (done.code, done.summary.verdict.status) == (4, "unknown")
    assert [bool(shard.lost) for shard in done.summary.shards].count(True) == 1
    assert done.summary.totals.outcomes["completed"] >= 20


def test_a_dead_embedded_agent_is_no_fault_of_an_agent(voxload):
    process = voxload.start("run", str(voxload.write(LONG)), "--processes", "1", "--quiet")
    wait_for(lambda: calls_started(voxload), timeout_s=20)
    (twin,) = [p for p in psutil.Process(process.pid).children() if "voxload.twin" in p.cmdline()]
    twin.kill()
    done = voxload.finish(process, 30)
    assert done.code == 3
    assert "embedded agent died" in done.summary.run.cut_short


def test_a_stopped_generator_is_late_and_unknown(voxload):
    """SIGSTOP for 2 s: the frames are late, the latency still counts from the intended instant, nothing passes."""
    scenario = scenario_with(load={"shape": "constant", "arrival_rate": 10, "duration": "4s"})
    process = voxload.start("run", str(voxload.write(scenario)), "--processes", "1", "--quiet")
    wait_for(lambda: calls_started(voxload), timeout_s=20)
    (shard,) = shards_of(process)
    os.kill(shard.pid, signal.SIGSTOP)
    time.sleep(2)
    os.kill(shard.pid, signal.SIGCONT)
    done = voxload.finish(process, 30)
    assert (done.code, done.summary.verdict.status) == (4, "unknown")
    assert "fell behind" in " ".join(done.summary.verdict.reasons)
    assert done.summary.histogram("call_setup").maximum > 1e9
    assert done.summary.histogram("call_setup_uncorrected").maximum < done.summary.histogram("call_setup").maximum


def test_a_full_disk_is_told(voxload):
    path = voxload.write(scenario_with())
    done = voxload("run", str(path), "--quiet", "--out", "/dev/full/results")
    assert done.code == 2
    assert "cannot be made" in done.err


def test_requests_that_cannot_be_written(voxload):
    """A place that cannot be is said before the calls; a disk that is full later costs the requests, not the run.

    Which is unknown here for another reason: its gate has no data.
    """
    path = str(voxload.write(scenario_with(gates=['p95(turn_latency{turn="refund"}) < 1s'])))
    done = voxload("run", path, "--quiet", "--requests", "/dev/full/requests")
    assert (done.code, "--requests: /dev/full/requests cannot be made" in done.err) == (2, True), done.err
    assert not (voxload.folder / "results").exists()
    done = voxload("run", path, "--quiet", "--requests", "/dev/full", judged=False)
    assert (done.code, done.summary.verdict.status) == (4, "unknown"), done.out + done.err
    assert [gate.status for gate in done.summary.gates] == ["unknown"]
    assert "/dev/full: No space left on device; requests are missing" in done.out + done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("content", [None, b"{", b'{"version": 1}', b'{"version": 99}', b"\xff\xfe"])
def test_report_of_a_bad_summary_is_a_clear_error(voxload, content):
    if content is not None:
        (voxload.folder / "summary.json").write_bytes(content)
    done = voxload("report", str(voxload.folder))
    assert done.code == 2
    assert "summary.json" in done.err
    assert "Traceback" not in done.err


def test_closed_load(voxload):
    scenario = scenario_with(
        load={"shape": "concurrency", "concurrency": 8, "duration": "4s", "ramp_up": "1s"},
        calls=[{"name": "short", "script": [{"listen": "500ms"}]}],
        gates=["concurrent_calls >= 5"],
    )
    done = voxload.run(scenario, "--processes", "2", judged=False)
    assert done.summary.plan.model == "closed"
    assert max(point.active for point in done.summary.timeline) <= 8
    assert done.summary.totals.outcomes["completed"] >= 8 * 4
    indexes = [call.index for call in read_calls(done.folder)]
    assert len(indexes) == len(set(indexes))


def test_the_intended_starts_do_not_depend_on_the_number_of_processes(voxload):
    scenario = scenario_with(
        load={"shape": "poisson", "arrival_rate": 50, "duration": "1s"},
        calls=[{"name": "short", "script": [{"listen": "100ms"}]}],
    )
    starts = []
    for processes in ("1", "2"):
        done = voxload.run(scenario, "--processes", processes, judged=False)
        starts.append(sorted((call.index, call.due_s) for call in read_calls(done.folder)))
    assert starts[0] == starts[1]
    assert len(starts[0]) > 30


def test_side_traffic(voxload):
    scenario = scenario_with(
        calls=[{"name": "long", "script": [{"listen": "3s"}]}],
        side_traffic={
            "interval": "100ms..200ms",
            "requests": [{"get": "/health"}, {"get": "/api/v1/calls/${session_id}/metrics", "name": "metrics"}],
        },
        gates=["http_success >= 99%", "p95(http_latency) < 1s", 'count(http_latency{request="metrics"}) > 10'],
    )
    done = voxload.run(scenario)
    assert done.code == 0, done.summary.verdict
    requests = done.summary.totals.http_requests
    assert requests.keys() == {"/health", "metrics"}
    assert {status for statuses in requests.values() for status in statuses} == {"200"}
    # 20 calls of 3 s, a task every 150 ms, 2 of 5 of them a request (weights 3 : 1 : 1)
    assert sum(sum(statuses.values()) for statuses in requests.values()) == pytest.approx(20 * 20 * 0.4, rel=0.35)


def test_every_command_has_help_with_examples(voxload):
    for command in ("", "run", "check", "twin", "report", "schema"):
        shown = voxload(*([command] if command else []), "--help")
        assert (shown.code, "Examples:" in shown.out) == (0, True), command
