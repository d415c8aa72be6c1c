"""Machines for tests: network namespaces of this one, joined by a bridge."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field

import psutil
import pytest

NETWORK = "10.213.77"


def ip(*arguments):
    """Run iproute2's `ip` and return what it prints; raises CalledProcessError with what went wrong."""
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=10).stdout


@dataclass
class Machine:
    """One namespace with one cable to the bridge."""

    name: str
    address: str
    started: list[psutil.Popen] = field(default_factory=list)

    def start(self, *arguments, **options):
        """Start `voxload ARGUMENTS` there."""
        command = ["ip", "netns", "exec", self.name, sys.executable, "-m", "voxload", *arguments]
        self.started.append(psutil.Popen(command, start_new_session=True, **options))
        return self.started[-1]

    def processes(self):
        """What lives there, whoever started it."""
        found = []
        for pid in ip("netns", "pids", self.name).split():
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(int(pid))
                if process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def cut_from(self, other):
        """Let nothing pass between two machines any more; neither is told, and both still reach all others."""
        ip("-n", self.name, "route", "add", "blackhole", other.address)
        ip("-n", other.name, "route", "add", "blackhole", self.address)


@contextlib.contextmanager
def machines(*names):
    """Namespaces by name, all on one bridge; skips where the kernel does not permit any."""
    if shutil.which("ip") is None:
        pytest.skip("network namespaces need `ip` (Debian: iproute2; make system)")
    made, mark = {}, f"vx{os.getpid() % 100000}"
    switch = f"{mark}s"
    try:
        try:
            ip("netns", "add", switch)
            ip("-n", switch, "link", "add", "br0", "type", "bridge")
            ip("-n", switch, "link", "set", "br0", "up")
            for number, name in enumerate(names):
                machine = Machine(f"{mark}{number}", f"{NETWORK}.{number + 1}")
                ip("netns", "add", machine.name)
                made[name] = machine
                ip("-n", machine.name, "link", "add", "eth0", "type", "veth", "peer", machine.name, "netns", switch)
                ip("-n", switch, "link", "set", machine.name, "master", "br0", "up")
                ip("-n", machine.name, "addr", "add", f"{machine.address}/24", "dev", "eth0")
                for link in ("eth0", "lo"):
                    ip("-n", machine.name, "link", "set", link, "up")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces here: `{' '.join(error.cmd)}`: {error.stderr.strip()}")
        yield made
    finally:
        for machine in made.values():
            for process in machine.processes():
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            for process in machine.started:
                process.wait(5)
        for name in [*(machine.name for machine in made.values()), switch]:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, timeout=10, check=False)
