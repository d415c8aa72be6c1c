"""Runs over Locust workers: shared out, and honest about workers that are lost, hang or come late."""

import os
import signal
import socket
import subprocess
import sys

import psutil
import pytest
from conftest import scenario_with, wait_for

from voxload.runners.distributed import worker_command

WORKER, MASTER = "voxload.runners.locust.worker", "voxload.runners.locust.master"


def scenario(seconds=2):
    return scenario_with(load={"shape": "constant", "arrival_rate": 15, "duration": f"{seconds}s"})


def start(voxload, scenario, *arguments):
    path = voxload.write(scenario)
    options = ["--quiet", "--master-port", "0", *arguments]
    return voxload.start("run", str(path), *options)


def processes(run, module):
    return [
        child
        for child in psutil.Process(run.pid).children(recursive=True)
        if child.is_running() and module in command(child)
    ]


def command(process):
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def begun(voxload):
    """Wait until calls have been recorded."""
    wait_for(lambda: any(file.stat().st_size for file in voxload.folder.glob("results/*/calls.jsonl.zst")))


def test_workers_that_are_killed_or_hang_make_the_run_unknown(voxload):
    run = start(voxload, scenario(6), "--workers", "3")
    begun(voxload)
    killed, hung, _ = processes(run, WORKER)
    killed.send_signal(signal.SIGKILL)
    hung.send_signal(signal.SIGSTOP)
    done = voxload.finish(run, timeout_s=60)
    assert done.code == 4, done.err
    assert done.summary.verdict.status == "unknown"
    told = " ".join(done.summary.verdict.reasons)
    assert any(f"(process {shard}) was lost" in told for shard in range(3)), told
    assert told.count("hung: no report") == 2, told
    assert sum(done.summary.totals.outcomes.values()) >= 30  # the third worker has gone on
    assert done.summary.plan.processes == 3
    for worker in (killed, hung):
        assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE


def test_a_lost_master_ends_the_calls(voxload):
    run = start(voxload, scenario(60), "--workers", "2")
    begun(voxload)
    workers = processes(run, WORKER)
    shards = [shard for worker in workers for shard in worker.children()]
    assert len(shards) == 2
    processes(run, MASTER)[0].kill()
    done = voxload.finish(run, timeout_s=40)
    assert done.code == 4, done.err
    assert any("Locust's master has ended" in reason for reason in done.summary.verdict.reasons)
    psutil.wait_procs(shards, timeout=20)
    assert not any(shard.is_running() for shard in shards)


def test_workers_of_other_machines_one_of_them_late(voxload):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    run = voxload.start(
        "run", str(voxload.write(scenario(5))), "--quiet", "--workers", "1", "--remote", "--master-port", port
    )
    join = [sys.executable, "-m", "voxload", "worker", "--master-host", "127.0.0.1", "--master-port", port]
    arguments = ["--processes", "1", "--region", "westeurope"]
    first = psutil.Popen([*join, *arguments], start_new_session=True)
    wait_for(first.children)  # its shard: the calls have been shared out
    second = psutil.Popen([*join, *arguments], start_new_session=True)
    done = voxload.finish(run, timeout_s=60)
    assert done.code == 4, (done.out, done.err)
    assert done.summary.verdict.reasons[0].endswith("joined after the run had been shared out; it placed no call")
    assert done.summary.totals.outcomes == {"completed": 75}
    assert all(
        series.labels.get("region") == "westeurope" for series in done.summary.series if series.metric == "greeting"
    )
    assert (first.wait(15), second.wait(15)) == (0, 0)


def test_what_cannot_begin_says_why(voxload):
    path = str(voxload.write(scenario()))
    done = voxload("run", path, "--workers", "1", "--remote", "--master-port", "0", "--worker-wait", "1")
    assert (done.code, "0 of 1 workers have joined" in done.err) == (3, True), done.err
    assert not list(voxload.folder.glob("results/*/"))  # nothing that looks like a run
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = voxload("run", path, "--workers", "1", "--master-port", port)
        assert (done.code, "cannot listen" in done.err) == (3, True), done.err
        master = [sys.executable, "-m", "voxload.runners.locust.master", "127.0.0.1", "0", port]
        told = subprocess.run(master, capture_output=True, timeout=60, check=False, stdin=subprocess.DEVNULL)
        assert b"web view (--web-port) cannot listen on 127.0.0.1:" in told.stdout
        assert b"Traceback" not in told.stderr
    done = voxload("run", path, "--remote")
    assert (done.code, "--workers" in done.err) == (2, True)
    assert "Traceback" not in done.err


def test_a_worker_that_has_found_no_master_leaves_with_the_command_that_started_it():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = worker_command("127.0.0.1", port, 1, "", ends_with_us=True)
    worker = psutil.Popen(command, stdin=subprocess.PIPE)
    with pytest.raises(psutil.TimeoutExpired):
        worker.wait(1)
    worker.stdin.close()  # as when the command is killed
    assert worker.wait(30) == 3


def test_ctrl_c_ends_workers_too_and_still_reports(voxload):
    run = start(voxload, scenario(60), "--workers", "1")
    begun(voxload)
    workers = processes(run, WORKER)
    os.kill(run.pid, signal.SIGINT)
    done = voxload.finish(run, timeout_s=40)
    assert done.code == 3, done.err
    assert "interrupted" in done.summary.run.cut_short
    assert not any(worker.is_running() for worker in workers)
