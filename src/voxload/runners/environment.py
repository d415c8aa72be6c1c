"""What a run depended on: machine, system, Python, the versions of what matters, the commit of the working folder."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import psutil


def environment_facts() -> dict[str, str]:
    """Return the facts as text by name; what cannot be found out is left out."""
    facts = {
        "host": platform.node(),
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "cpu": _cpu_model(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{psutil.virtual_memory().total / 2**30:.1f} GiB",
        "python": platform.python_version(),
        "uvloop": version("uvloop"),
        "picows": version("picows"),
        "git_commit": _git("rev-parse", "--short=12", "HEAD"),
        "git_branch": _branch(),
        "git_dirty": "yes" if _git("status", "--porcelain", "--untracked-files=no") else "",
    }
    return {name: value for name, value in facts.items() if value}


def _branch() -> str:
    """Return the branch; in CI, which checks out a commit without one, as the CI names it."""
    named = (os.environ.get(name, "") for name in ("GITHUB_HEAD_REF", "GITHUB_REF_NAME", "BUILD_SOURCEBRANCHNAME"))
    checked_out = _git("rev-parse", "--abbrev-ref", "HEAD")
    return next((name for name in named if name), "" if checked_out == "HEAD" else checked_out)


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor()


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=5, check=False)  # noqa: S603,S607
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
