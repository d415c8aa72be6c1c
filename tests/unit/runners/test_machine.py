"""What a machine can carry, from facts given by hand and from files laid out as the kernel does."""

import msgspec
import pytest

from voxload.runners.control_group import cpu_quota_cores, memory_left
from voxload.runners.machine import Load, Machine, diagnose, obstacles, read_machine

GOOD = Machine(
    cores=4,
    cpu_quota_cores=None,
    memory_mib=8000,
    files_max=65_536,
    ports=28_232,
    clock="tsc",
    governor="performance",
    can_prefer=True,
)


def changed(**facts):
    return msgspec.structs.replace(GOOD, **facts)


def test_a_good_machine_has_no_warning():
    assert {finding.status for finding in diagnose(GOOD)} == {"ok"}
    assert obstacles(GOOD, Load(2000, 10, 4)) == []


@pytest.mark.parametrize(
    ("facts", "subject"),
    [
        ({"clock": "acpi_pm"}, "clock"),
        ({"governor": "powersave"}, "CPU governor"),
        ({"files_max": 1024}, "open files"),
        ({"ports": 5000}, "local ports"),
        ({"can_prefer": False}, "priority"),
        ({"cpu_quota_cores": 1.5}, "CPU quota"),
    ],
)
def test_what_stands_in_the_way(facts, subject):
    warnings = [finding for finding in diagnose(changed(**facts)) if finding.status == "warning"]
    assert [warning.subject for warning in warnings] == [subject]
    assert warnings[0].remedy


@pytest.mark.parametrize(
    ("facts", "load", "subject", "number"),
    [
        ({}, Load(2000, 10, 5), "cores", "5 cores"),
        ({"cpu_quota_cores": 2.0}, Load(2000, 10, 3), "cores", "has 2"),
        ({"files_max": 1024}, Load(2000, 10, 2), "open files", "1,064"),
        ({}, Load(20_000, 200, 4), "local ports", "32,000"),
        ({"memory_mib": 900}, Load(10_000, 10, 4), "memory", "1,066 MiB"),
    ],
)
def test_why_a_load_cannot_be_carried(facts, load, subject, number):
    found = obstacles(changed(**facts), load)
    assert [finding.subject for finding in found] == [subject]
    assert number in found[0].detail


def test_the_kernels_files(tmp_path):
    (tmp_path / "sys/net/ipv4").mkdir(parents=True)
    (tmp_path / "sys/net/ipv4/ip_local_port_range").write_text("1024\t65535\n")
    (tmp_path / "fs/cgroup").mkdir(parents=True)
    (tmp_path / "fs/cgroup/cpu.max").write_text("150000 100000\n")
    (tmp_path / "fs/cgroup/memory.max").write_text("2097152000\n")
    (tmp_path / "fs/cgroup/memory.current").write_text("1048576000\n")
    found = read_machine(tmp_path, tmp_path)
    assert (found.ports, found.cpu_quota_cores, found.clock) == (64_512, 1.5, "")
    assert found.memory_mib <= 1000
    (tmp_path / "fs/cgroup/cpu.max").write_text("max 100000\n")
    assert read_machine(tmp_path, tmp_path).cpu_quota_cores is None
    assert read_machine(tmp_path / "nothing", tmp_path / "nothing").ports == 28_232


def group(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(f"{content}\n")


def test_limits_of_a_slice_and_of_what_it_lies_in(tmp_path):
    """Version 2: the tightest counts; what is cached from files can be dropped."""
    (tmp_path / "self").mkdir()
    (tmp_path / "self/cgroup").write_text("0::/user.slice/run.scope\n")
    root = tmp_path / "fs/cgroup"
    group(root / "user.slice", cpu__max="50000 100000", memory__max="max", memory__current=1)
    stat = "anon 300\ninactive_file 1000000\nfile_mapped 5"
    limits = {"memory__max": 5_000_000, "memory__current": 4_500_000, "memory__stat": stat}
    group(root / "user.slice/run.scope", cpu__max="max 100000", **limits)
    assert cpu_quota_cores(tmp_path, tmp_path) == 0.5
    assert memory_left(tmp_path, tmp_path) == 1_500_000


def test_limits_of_version_1(tmp_path):
    """A container sees its own group at the root, whatever its path on the host."""
    (tmp_path / "self").mkdir()
    (tmp_path / "self/cgroup").write_text("9:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/\n")
    root = tmp_path / "fs/cgroup"
    group(root / "cpu", cpu__cfs_quota_us=250000, cpu__cfs_period_us=100000)
    used = {"memory__usage_in_bytes": 1000, "memory__stat": "total_inactive_file 500"}
    group(root / "memory", memory__limit_in_bytes=3000, **used)
    assert cpu_quota_cores(tmp_path, tmp_path) == 2.5
    assert memory_left(tmp_path, tmp_path) == 2500
    group(root / "cpu", cpu__cfs_quota_us=-1)
    group(root / "memory", memory__limit_in_bytes=9223372036854771712)
    assert cpu_quota_cores(tmp_path, tmp_path) is None
    assert memory_left(tmp_path, tmp_path) is None
