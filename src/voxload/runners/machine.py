"""What this machine lets a generator do: cores, memory, open files, ports, clock, and what stands in the way."""

from __future__ import annotations

import math
import os
import resource
from pathlib import Path
from typing import Literal

import msgspec
import psutil

from voxload.runners.control_group import cpu_quota_cores, memory_left, read_text

FILES_BESIDE_CALLS = 64
"""Open files of a generator process that are no calls: libraries, pipes, the HTTP client."""
TIME_WAIT_S = 60
"""How long Linux keeps the port of a connection that this side has closed."""
PORTS_SPARE = 1.1
"""Local ports counted for each one needed: other programs take some."""
MEMORY_KB_PER_CALL = 60
"""Resident memory of a call with its meters, rounded up; see the benchmarks."""
PROCESS_MIB = 120
GOOD_CLOCKS = ("tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page")


class Machine(msgspec.Struct, frozen=True):
    """Facts; None or empty where the system does not tell."""

    cores: int
    """That this process may use."""
    cpu_quota_cores: float | None
    """What the control group allows, in cores."""
    memory_mib: int
    """Free for us: the machine's available memory, or what the control group leaves."""
    files_max: int
    """The hard limit on open files of a process; the soft one is raised to it."""
    ports: int
    """Local ports for connections to one address and port of a target."""
    clock: str
    governor: str
    can_prefer: bool
    """Whether our processes may ask for a higher priority."""


class Finding(msgspec.Struct, frozen=True):
    """One line of the diagnosis."""

    status: Literal["ok", "warning"]
    subject: str
    detail: str
    remedy: str = ""


class Load(msgspec.Struct, frozen=True):
    """What a run asks of the machine."""

    calls: float
    """At once, at the peak."""
    calls_per_s: float
    processes: int
    sources: int = 1
    """Addresses of this machine that the calls come from."""
    seconds: float = TIME_WAIT_S
    """Length of the load."""

    @property
    def ports(self) -> float:
        """Local ports that it takes towards one address of a target: of calls, and of those just closed."""
        return self.calls + self.calls_per_s * min(self.seconds, TIME_WAIT_S)


def read_machine(proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> Machine:
    """Return the facts; `proc` and `sys` are where the kernel's files are mounted."""
    low, _, high = read_text(proc / "sys/net/ipv4/ip_local_port_range").replace("\t", " ").partition(" ")
    ports = int(high) - int(low) + 1 if low.isdecimal() and high.strip().isdecimal() else 28_232
    available = psutil.virtual_memory().available
    left = memory_left(proc, sys)
    if left is not None:
        available = min(available, left)
    return Machine(
        cores=len(os.sched_getaffinity(0)),
        cpu_quota_cores=cpu_quota_cores(proc, sys),
        memory_mib=available // 2**20,
        files_max=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        ports=ports,
        clock=read_text(sys / "devices/system/clocksource/clocksource0/current_clocksource"),
        governor=read_text(sys / "devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        can_prefer=os.geteuid() == 0 or _may_be_nice(),
    )


def diagnose(machine: Machine) -> list[Finding]:
    """Return what is well and what stands in the way, whatever the run."""
    found = [
        _clock(machine),
        _governor(machine),
        Finding("ok", "open files", f"{machine.files_max:,} a process")
        if machine.files_max >= 16_384
        else Finding("warning", "open files", f"only {machine.files_max:,} a process", _FILES_REMEDY),
        Finding("ok", "local ports", f"{machine.ports:,} connections at once to one address of a target" + _SOURCES)
        if machine.ports >= 20_000
        else Finding(
            "warning", "local ports", f"only {machine.ports:,} to one address of a target" + _SOURCES, _PORTS_REMEDY
        ),
        Finding("ok", "priority", "processes that keep time may ask for a higher one")
        if machine.can_prefer
        else Finding(
            "warning",
            "priority",
            "other work on this machine can make frames late",
            "run as root or with CAP_SYS_NICE, raise `nice` in /etc/security/limits.conf, or run nothing else here",
        ),
    ]
    if machine.cpu_quota_cores is not None and machine.cpu_quota_cores < machine.cores:
        detail = (
            f"a quota of {machine.cpu_quota_cores:g} on {machine.cores} cores: the kernel stops us when it is used up"
        )
        found.append(Finding("warning", "CPU quota", detail, "set the container's CPU limit to whole cores, or none"))
    return found


def obstacles(machine: Machine, load: Load) -> list[Finding]:
    """Return why this machine cannot carry a load; nothing when it can."""
    found = []
    cores = min(machine.cores, machine.cpu_quota_cores or machine.cores)
    if load.processes > cores:
        detail = f"the plan needs about {load.processes} cores and this machine has {cores:g}"
        found.append(Finding("warning", "cores", detail, "spread it over more machines, or expect an unknown verdict"))
    files = load.calls / load.processes + FILES_BESIDE_CALLS
    if files > machine.files_max:
        detail = f"a process needs about {files:,.0f} open files and may have {machine.files_max:,}"
        found.append(Finding("warning", "open files", detail, _FILES_REMEDY))
    if load.ports > machine.ports * load.sources:
        detail = (
            f"about {load.ports:,.0f} local ports are needed towards one address (calls, and those just closed) "
            f"and there are {machine.ports * load.sources:,}"
        )
        remedy = (
            f"{sources_needed(machine, load)} source addresses have them: --source-address, or source_addresses: "
            "(auto: for a target on this machine); more for each: " + _PORTS_REMEDY
        )
        found.append(Finding("warning", "local ports", detail, remedy))
    memory_mib = load.calls * MEMORY_KB_PER_CALL / 1024 + load.processes * PROCESS_MIB
    if memory_mib > machine.memory_mib:
        detail = f"about {memory_mib:,.0f} MiB are needed and {machine.memory_mib:,} are free"
        found.append(Finding("warning", "memory", detail, "fewer calls, or a larger machine"))
    return found


def sources_needed(machine: Machine, load: Load) -> int:
    """Return how many source addresses a load needs towards one address of a target."""
    return max(1, math.ceil(load.ports * PORTS_SPARE / machine.ports))


_FILES_REMEDY = "raise it: ulimit -n 1048576 (limits.conf: nofile; systemd: LimitNOFILE; docker: --ulimit nofile)"
_PORTS_REMEDY = "sysctl -w net.ipv4.ip_local_port_range='1024 65535'"
_SOURCES = "; as many more from each further --source-address of a run"


def _clock(machine: Machine) -> Finding:
    if machine.clock in GOOD_CLOCKS or not machine.clock:
        return Finding("ok", "clock", machine.clock or "not told")
    remedy = "choose tsc in /sys/devices/system/clocksource/clocksource0/current_clocksource, if it is offered"
    return Finding("warning", "clock", f"{machine.clock} is slow to read", remedy)


def _governor(machine: Machine) -> Finding:
    if machine.governor in {"", "performance"}:
        return Finding("ok", "CPU governor", machine.governor or "set by the host")
    detail = f"{machine.governor}: a core that clocks up only under load sends its first frames late"
    return Finding("warning", "CPU governor", detail, "cpupower frequency-set -g performance")


def _may_be_nice() -> bool:
    soft, _ = resource.getrlimit(resource.RLIMIT_NICE)
    return soft >= 30  # 20 - niceness
