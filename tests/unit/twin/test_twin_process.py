"""The twin as a child process: it starts, serves, stops, and never outlives its parent."""

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import psutil
import pytest

from voxload.errors import BadInputError, RunAbortedError
from voxload.model.twin import AgentFaults, AgentLatency, Gamma, LatencySettings, TwinSettings
from voxload.twin import process
from voxload.twin.job import TwinJob, decode_job, encode_job
from voxload.twin.process import TwinProcess


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.status, answer.read()


def gone_within(pid, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


def test_it_starts_serves_and_stops():
    with TwinProcess(TwinSettings(greeting=False)) as twin:
        pid = twin.pid
        status, body = get(twin.url + "/health")
        assert status == 200
        assert json.loads(body)["status"] == "healthy"
        assert psutil.Process(pid).num_threads() >= 1
    assert gone_within(pid, 10)
    assert twin.url == ""
    twin.stop()  # once more does no harm


def test_it_dies_with_its_parent():
    code = (
        "import sys, time\n"
        "from voxload.twin.process import TwinProcess\n"
        "twin = TwinProcess().start()\n"
        "print(twin.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    assert psutil.pid_exists(pid)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    try:
        assert gone_within(pid, 10)
    except AssertionError:
        os.kill(pid, signal.SIGKILL)  # not even a failing test may leave one behind
        raise


def test_wrong_settings_are_told_as_bad_input():
    settings = TwinSettings.model_validate({"quotas": {"tokens_per_minute": 10}})
    with pytest.raises(BadInputError, match="tokens_per_turn"):
        TwinProcess(settings).start()
    with pytest.raises(BadInputError, match="rtmad"):
        TwinProcess(dialect="rtmad").start()
    with pytest.raises(BadInputError, match="no option"):
        TwinProcess(options={"messages": 1}).start()


def test_a_port_in_use_aborts_with_what_the_child_said():
    with TwinProcess() as twin:
        port = int(twin.url.rsplit(":", 1)[1])
        with pytest.raises(RunAbortedError, match=f"cannot listen on 127.0.0.1:{port}"):
            TwinProcess(port=port).start()


def test_a_child_that_does_not_get_ready_is_killed():
    twin = TwinProcess(start_timeout_s=0.001)
    with pytest.raises(RunAbortedError, match="not ready within"):
        twin.start()
    assert twin.pid == 0


def test_a_child_that_breaks_shows_its_last_words(monkeypatch):
    monkeypatch.setattr(process, "encode_job", lambda job: "no json")
    with pytest.raises(RunAbortedError, match="ValidationError"):
        TwinProcess().start()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"latency": {"turn": "123.456789ms"}, "seed": 5, "delivery": "burst"},
        {"latency": {"llm": {"lognormal": {"median": "350ms", "p95": "1.5s"}}, "tts": {"empirical": ["1ms", "2us"]}}},
        {"faults": {"stalls": [{"at": "1m", "for": "500ms"}], "drop_rate": 0.25}, "reply_seconds_max": 1.5},
        {"quotas": {"connections": 3, "when_exceeded": "fail"}, "barge_in_delay": "0.1s"},
    ],
)
def test_a_job_survives_its_way_to_the_child(settings):
    job = TwinJob(settings=TwinSettings.model_validate(settings), options={"delay_ns": 5, "message_rate": 50})
    assert decode_job(encode_job(job)) == job


def test_a_job_from_python_values_survives_too():
    latency = AgentLatency(turn=LatencySettings(gamma=Gamma(mean="1s", shape=2)))
    settings = TwinSettings().model_copy(update={"latency": latency, "faults": AgentFaults(silent_rate=0.5)})
    job = TwinJob(settings=settings)
    assert decode_job(encode_job(job)) == job


# --- the command ---

RUN = "from voxload.cli.twin import twin_command; twin_command()"


def test_the_command_prints_where_it_listens_and_stops_on_sigterm(tmp_path):
    file = tmp_path / "twin.yaml"
    file.write_text("greeting: false\nlatency: {turn: 1s}\n")
    command = [sys.executable, "-c", RUN, str(file), "--turn", "300ms", "--seed", "3"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        first = child.stdout.readline()
        url = first.split()[-1]
        assert get(url + "/health")[0] == 200
        child.send_signal(signal.SIGTERM)
        rest = child.stdout.read()
        assert child.wait(10) == 0
        assert f"--target {url}" in rest
        assert url + "/metrics" in rest
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def test_the_command_speaks_json():
    child = subprocess.Popen([sys.executable, "-c", RUN, "--json"], stdout=subprocess.PIPE, text=True)
    try:
        ready = json.loads(child.stdout.readline())
        assert ready["ready"] is True
        assert ready["pid"] == child.pid
        assert get(ready["url"] + "/health")[0] == 200
    finally:
        child.terminate()
        assert child.wait(10) == 0
        child.stdout.close()


def test_wrong_arguments_end_the_command_before_it_serves(tmp_path):
    from voxload.cli.twin import twin_command

    def run(*arguments):
        return twin_command.main(list(arguments), standalone_mode=False)

    for arguments, words in (
        (["--turn", "soon"], "not a duration"),
        (["--dialect", "rtmad"], "did you mean rtmed"),
        (["--option", "x"], "NAME=VALUE"),
        (["--option", "message_rate=7"], "divide 1000"),
        ([str(tmp_path / "none.yaml")], "none.yaml"),
    ):
        with pytest.raises(BadInputError, match=words):
            run(*arguments)


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="the system sets no limits of other processes")
def test_an_agent_that_has_used_up_its_files_says_so():
    with TwinProcess() as twin, contextlib.ExitStack() as stack:
        assert twin.doubt() == ""
        room = psutil.Process(twin.pid).num_fds() + 4
        resource.prlimit(twin.pid, resource.RLIMIT_NOFILE, (room, room))
        for _ in range(8):
            stack.enter_context(socket.create_connection(("127.0.0.1", int(twin.url.rpartition(":")[2])), timeout=5))
        deadline = time.monotonic() + 10
        while not twin.doubt() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert twin.doubt().startswith("the embedded agent was out of open files: it may have ")
