"""What the control groups of this process leave it: CPU and memory, versions 1 and 2, in containers and slices."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

NO_LIMIT_BYTES = 1 << 60
"""Version 1 writes a number as large as this for no limit."""


def cpu_quota_cores(proc: Path, sys: Path) -> float | None:
    """Return how many cores' time the tightest group allows; None for no limit."""
    found = []
    for folder in _folders(proc, sys, "cpu"):
        quota, _, period = read_text(folder / "cpu.max").partition(" ")
        if not period:
            quota, period = read_text(folder / "cpu.cfs_quota_us"), read_text(folder / "cpu.cfs_period_us")
        if quota.isdecimal() and period.isdecimal() and int(period):
            found.append(int(quota) / int(period))
    return min(found, default=None)


def memory_left(proc: Path, sys: Path) -> int | None:
    """Return how many bytes the tightest group leaves, what it could drop (read files) counted as free; None: all."""
    found = []
    for folder in _folders(proc, sys, "memory"):
        limit = read_text(folder / "memory.max") or read_text(folder / "memory.limit_in_bytes")
        used = read_text(folder / "memory.current") or read_text(folder / "memory.usage_in_bytes")
        if limit.isdecimal() and used.isdecimal() and int(limit) < NO_LIMIT_BYTES:
            lines = (line.split() for line in read_text(folder / "memory.stat").splitlines())
            stat = {line[0]: int(line[1]) for line in lines if len(line) == 2 and line[1].isdecimal()}
            dropped = stat.get("total_inactive_file", stat.get("inactive_file", 0))
            found.append(max(int(limit) - int(used) + dropped, 0))
    return min(found, default=None)


def read_text(path: Path) -> str:
    """Return what a file of the kernel says, without blanks around it; empty where there is none."""
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _folders(proc: Path, sys: Path, controller: str) -> Iterator[Path]:
    """Yield this process's group and all that it lies in; in a container, the outermost that can be seen is its own."""
    mounted = sys / "fs/cgroup"
    for line in read_text(proc / "self/cgroup").splitlines() or ["0::/"]:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        root = mounted / controller if controllers else mounted
        group = Path(path.lstrip("/"))
        for folder in [group, *group.parents]:
            if ".." not in folder.parts:
                yield root / folder
