"""`voxload doctor` and the warnings that `voxload check` draws from it."""

import json
import os
import subprocess
import sys

from conftest import SCENARIO


def run(voxload, *arguments):
    environment = {**os.environ, "XDG_CACHE_HOME": str(voxload.folder / "cache")}
    command = [sys.executable, "-m", "voxload", *arguments]
    return subprocess.run(
        command, cwd=voxload.folder, capture_output=True, text=True, timeout=60, check=False, env=environment
    )


def test_the_benchmark_is_used_by_check(voxload):
    done = run(voxload, "doctor", "--json")
    assert done.returncode in {0, 1}, done.stderr
    found = json.loads(done.stdout)
    assert found["benchmark"]["cpu_us_per_frame"] > 1
    assert found["benchmark"]["calls_per_core"] == int(0.7e6 / (found["benchmark"]["cpu_us_per_frame"] * 50))
    assert {finding["subject"] for finding in found["findings"]} >= {"clock", "open files", "local ports", "priority"}

    path = voxload.write({**SCENARIO, "load": {"shape": "concurrency", "concurrency": 2000, "duration": "10s"}})
    slow = {**found["benchmark"], "cpu_us_per_frame": 5000.0}
    cache = voxload.folder / "cache" / "voxload" / "doctor.json"
    assert json.loads(cache.read_text()) == found["benchmark"]
    cache.write_text(json.dumps(slow))
    warned = run(voxload, "check", str(path))
    assert "the plan needs about" in warned.stderr, warned.stderr
    cache.write_text("nonsense")
    assert run(voxload, "check", str(path)).returncode == 0


def test_without_a_benchmark(voxload):
    done = run(voxload, "doctor", "--no-benchmark")
    assert "local ports" in done.stdout
    assert "Traceback" not in done.stderr
    assert not (voxload.folder / "cache").exists()
