"""A locustfile that mixes voice calls with HTTP users: one process, and a master with a worker."""

import json
import signal
import socket
import subprocess
import sys

import psutil
import pytest
from conftest import SCENARIO, wait_for

from voxload.measure.histogram import Histogram
from voxload.measure.summary import read_summary
from voxload.model.twin import TwinSettings
from voxload.runners.results import read_calls
from voxload.twin.process import TwinProcess

LOCUSTFILE = """
from locust import HttpUser, constant, task
from voxload.locust import VoiceUser

class Caller(VoiceUser):
    scenario = "scenario.yaml"
    fixed_count = 5

class Browser(HttpUser):
    wait_time = constant(0.3)
    fixed_count = 1

    @task
    def health(self):
        self.client.get("/health")
"""


@pytest.fixture
def agent():
    settings = {"latency": {"turn": "300ms"}, "greeting": False, "reply_seconds_max": 0.4}
    with TwinProcess(TwinSettings.model_validate(settings), "rtmed", {}) as twin:
        yield twin.url


def files(folder, **changes):
    calls = [{"name": "hours", "script": [{"say": "opening_hours-slt-2"}, "wait_for_agent"]}]
    gates = ["call_success >= 99%", "p95(turn_latency) < 400ms"]
    scenario = {**SCENARIO, "target": "http://127.0.0.1:9", "calls": calls, "gates": gates, **changes}
    (folder / "scenario.yaml").write_text(json.dumps(scenario))
    (folder / "locustfile.py").write_text(LOCUSTFILE)


def locust(folder, *arguments, stderr=subprocess.STDOUT):
    return subprocess.Popen(
        [sys.executable, "-m", "locust", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )


def summary_of(folder):
    return read_summary(next((folder / "results").glob("*/")))


def check(folder, code, out):
    summary = summary_of(folder)
    if any("fell behind" in reason for reason in summary.verdict.reasons):
        pytest.skip("the machine was too busy to keep time")
    assert code == 0, (summary.verdict, out)
    assert summary.totals.outcomes["completed"] >= 5
    assert summary.histogram("turn_latency").count >= 10
    assert 290 < summary.histogram("turn_latency").quantile(0.5) / 1e6 < 330
    assert "/health" in out
    assert "turn_latency hours" in out or "turn_latency opening_hours" in out


def test_one_process(tmp_path, agent):
    files(tmp_path)
    words = ("--headless", "-u", "6", "-r", "6", "-t", "10s", "--host", agent, "--only-summary", "--json")
    run = locust(tmp_path, *words, stderr=subprocess.PIPE)
    out, err = run.communicate(timeout=60)
    assert {"/health", "call_setup"} <= {row["name"] for row in json.loads(out)}
    assert "report.html" in err
    check(tmp_path, run.returncode, out)
    summary = summary_of(tmp_path)
    # the load is Locust's, not the scenario's
    assert summary.plan.model == "closed"
    assert 8 <= summary.plan.load_duration_s <= 10
    assert summary.levels["throughput"] == summary.totals.outcomes["completed"] / summary.plan.load_duration_s
    assert 1 <= summary.levels["peak_calls"] <= 5


def test_a_master_with_two_workers_and_a_time_limit(tmp_path, agent):
    files(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    workers = [locust(tmp_path, "--worker", "--master-port", port) for _ in range(2)]
    options = ["--master-bind-port", port, "--expect-workers", "2", "--host", agent, "--only-summary"]
    master = locust(tmp_path, "--master", "--headless", "-u", "6", "-r", "6", "-t", "10s", *options)
    out, _ = master.communicate(timeout=80)
    for worker in workers:
        worker.communicate(timeout=20)
    check(tmp_path, master.returncode, out)
    summary = summary_of(tmp_path)
    assert len(summary.shards) == 2
    assert not any(shard.lost for shard in summary.shards)
    assert not summary.run.doubts
    of_calls = Histogram()
    for call in calls_of(tmp_path):
        for turn in call.turns:
            if turn.latency_ms is not None:
                of_calls.record(round(turn.latency_ms * 1e6))
    assert of_calls.to_data() == summary.histogram("turn_latency").to_data()


def calls_of(folder):
    return [call for place in (folder / "results").glob("*/calls.jsonl.zst") for call in read_calls(place.parent)]


def test_a_worker_that_is_lost_before_it_reports_and_one_that_joins_late(tmp_path, agent):
    files(tmp_path, gates=[])
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])

    def worker():
        return locust(tmp_path, "--worker", "--master-port", port)

    lost, staying = worker(), worker()
    options = ["--master-bind-port", port, "--expect-workers", "2", "--host", agent, "--only-summary"]
    master = locust(tmp_path, "--master", "--headless", "-u", "6", "-r", "6", "-t", "120s", *options)
    wait_for(lambda: psutil.Process(lost.pid).children())
    lost.kill()  # its shard has not yet placed a call
    wait_for(lambda: calls_of(tmp_path))
    late = worker()
    wait_for(lambda: any(call.shard == 2 for call in calls_of(tmp_path)), 40)
    master.send_signal(signal.SIGTERM)
    out, _ = master.communicate(timeout=60)
    for process in (lost, staying, late):
        process.communicate(timeout=20)
    summary = summary_of(tmp_path)
    assert master.returncode == 4, out
    assert [reason.startswith("Locust's worker ") for reason in summary.verdict.reasons][:1] == [True], out
    assert len(summary.shards) == 2
    assert not any(shard.lost for shard in summary.shards)
    calls = calls_of(tmp_path)
    assert len({call.index for call in calls}) == len(calls)
    assert min(call.due_s for call in calls if call.shard == 2) >= 1  # it began while the test went on
    assert len(summary.timeline) <= summary.run.duration_s + 1


def test_a_worker_without_the_scenario_is_named_with_the_reason(tmp_path):
    files(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "locustfile.py").write_text(LOCUSTFILE)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    worker = locust(elsewhere, "--worker", "--master-port", port)
    options = ["--master-bind-port", port, "--expect-workers", "1", "--host", "http://127.0.0.1:9", "--only-summary"]
    master = locust(tmp_path, "--master", "--headless", "-u", "6", "-r", "6", "-t", "60s", *options)
    out, _ = master.communicate(timeout=60)
    assert worker.wait(20) == 2
    assert master.returncode == 4, out
    (reason,) = summary_of(tmp_path).run.doubts
    assert reason.startswith("Locust's worker ")
    assert reason.endswith(" could not begin: scenario.yaml: no such file")


def test_a_target_that_is_not_there_is_not_said_to_have_failed(tmp_path):
    files(tmp_path)
    run = locust(tmp_path, "--headless", "-u", "6", "-r", "6", "-t", "6s", "--host", "http://127.0.0.1:9")
    out, _ = run.communicate(timeout=40)
    assert run.returncode == 3, out
    summary = summary_of(tmp_path)
    assert summary.verdict.status == "aborted"
    assert summary.run.cut_short.startswith("the target cannot be reached")


def test_a_wrong_scenario_ends_locust_with_what_to_change(tmp_path):
    files(tmp_path, gates=["p95(turn_latencee) < 1s"])
    run = locust(tmp_path, "--headless", "-u", "6", "-t", "20s", "--host", "http://127.0.0.1:9", "--only-summary")
    out, _ = run.communicate(timeout=40)
    assert run.returncode == 2, out
    assert "did you mean turn_latency" in out
