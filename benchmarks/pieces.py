"""The micro-benchmarks as a section of the page: runs `benchmarks/micro` with pytest-benchmark, reads its figures."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.page import Section, grid
from benchmarks.processes import ROOT


def section(quick: bool) -> Section:
    """Return the time of each piece for one frame; a failure is said, and `held` is false."""
    if importlib.util.find_spec("pytest_benchmark") is None:
        return Section(["Not measured: pytest-benchmark is not installed (pip install -e '.[bench]')."], None)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "micro.json")
        command = [sys.executable, "-m", "pytest", "benchmarks/micro", "-q", "-p", "no:cacheprovider"]
        command += [f"--benchmark-json={path}", f"--benchmark-max-time={0.05 if quick else 1.0}"]
        # a worker of pytest-xdist that runs this is none to its child, which else would measure nothing
        env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST_")}
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            return Section(["Not measured: the micro-benchmarks failed."], done.stdout[-2000:], held=False)
        measured = json.loads(path.read_text())["benchmarks"]
    found = []
    for entry in measured:
        frames, stats = entry["extra_info"]["frames"], entry["stats"]
        values = {name: stats[name] / frames * 1e6 for name in ("min", "median")}
        found.append({"workload": entry["extra_info"]["workload"], "rounds": stats["rounds"], **values})
    rows = [(str(row["workload"]), f"{row['min']:.2f}", f"{row['median']:.2f}") for row in found]
    lines = [*grid(("for one frame (a value, a call)", "least, µs", "median, µs"), rows), ""]
    lines.append(
        "`make bench-check` counts the instructions of the same pieces and compares them with committed counts."
    )
    return Section(lines, found)
