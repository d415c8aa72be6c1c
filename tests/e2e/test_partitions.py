"""A distributed run on machines with networks of their own: one dies, one stands still, one is cut off."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import psutil
from conftest import Finished, scenario_with, wait_for
from namespaces import machines

AGENT_PORT = 8080
SHARD, WORKER = "voxload.engine.shard", "voxload.runners.locust.worker"


def running(machine, module):
    """The processes of a module on a machine."""
    found = []
    for process in machine.processes():
        try:
            if module in process.cmdline():
                found.append(process)
        except psutil.Error:  # it has ended meanwhile
            continue
    return found


class Spread:
    """A run whose master, agent and workers each have a machine of their own."""

    def __init__(self, voxload, net, workers, seconds):
        self.folder, self.net = voxload.folder, net
        agent = net["agent"]
        serve = ["--host", agent.address, "--port", str(AGENT_PORT), "--turn", "300ms"]
        agent.start("twin", *serve, stdout=subprocess.DEVNULL)
        load = {"shape": "constant", "arrival_rate": 6, "duration": f"{seconds}s"}
        path = voxload.write(scenario_with(load=load, target=f"http://{agent.address}:{AGENT_PORT}"))
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": self.folder}
        spread = ["--workers", str(len(workers)), "--remote", "--master-bind", net["master"].address]
        self._run = net["master"].start("run", str(path), "--quiet", *spread, **pipes)
        for name in workers:
            join = ["--master-host", net["master"].address, "--processes", "1", "--region", name]
            net[name].start("worker", *join)
        wait_for(lambda: all(self._calling(name) for name in workers))

    def _calling(self, name):
        """Whether a machine has calls up: established connections to the agent's port in its kernel's table."""
        tables = [Path(f"/proc/{shard.pid}/net/tcp").read_text() for shard in running(self.net[name], SHARD)]
        return any(f":{AGENT_PORT:04X} 01 " in table for table in tables)

    def finish(self):
        out, err = self._run.communicate(timeout=50)
        (folder,) = (self.folder / "results").glob("*/")
        return Finished(self._run.returncode, out, err, folder)


def test_a_worker_that_dies_one_that_stands_still_and_one_that_is_cut_off(voxload):
    with machines("master", "agent", "killed", "paused", "cut") as net:
        run = Spread(voxload, net, ["killed", "paused", "cut"], seconds=120)
        (killed,), (paused,) = running(net["killed"], WORKER), running(net["paused"], WORKER)
        killed.send_signal(signal.SIGKILL)
        paused.send_signal(signal.SIGSTOP)
        net["cut"].cut_from(net["master"])
        # The cut one can still reach the agent: it ends its calls because it misses the master.
        wait_for(lambda: not net["killed"].processes() and not net["cut"].processes(), 20)
        done = run.finish()
        assert (done.code, done.summary.verdict.status) == (4, "unknown"), done.err
        reasons = done.summary.verdict.reasons
        for name in ("killed", "paused", "cut"):
            assert any(f"region {name}) was lost: nothing has been heard of it" in reason for reason in reasons), (
                reasons
            )
        assert sum("hung: no report for 15 s" in reason for reason in reasons) == 3, reasons
        paused.send_signal(signal.SIGCONT)
        wait_for(lambda: not net["paused"].processes(), 20)
