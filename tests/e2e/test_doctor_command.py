"""`voxload doctor` and the warnings that `voxload check` draws from it."""

import json
import subprocess
import sys

import pytest
from conftest import SCENARIO


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Where the benchmark is kept: in this test's own folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_the_benchmark_is_used_by_check(voxload):
    done = voxload("doctor", "--json")
    assert done.code in {0, 1}, done.err
    found = json.loads(done.out)
    assert found["benchmark"]["cpu_us_per_frame"] > 1
    assert found["benchmark"]["calls_per_core"] == int(0.7e6 / (found["benchmark"]["cpu_us_per_frame"] * 50))
    assert {finding["subject"] for finding in found["findings"]} >= {"clock", "open files", "local ports", "priority"}

    path = voxload.write({**SCENARIO, "load": {"shape": "concurrency", "concurrency": 2000, "duration": "10s"}})
    slow = {**found["benchmark"], "cpu_us_per_frame": 5000.0}
    cache = voxload.folder / "cache" / "voxload" / "doctor.json"
    assert json.loads(cache.read_text()) == found["benchmark"]
    cache.write_text(json.dumps(slow))
    warned = voxload("check", str(path))
    assert "the plan needs about" in warned.err, warned.err
    planned = json.loads(voxload("check", str(path), "--json").out)["plan"]
    assert planned["frame_up_us"] == 5000
    assert f"needs about {planned['processes']} cores" in warned.err
    cache.write_text("nonsense")
    assert voxload("check", str(path)).code == 0


def test_without_a_benchmark(voxload):
    done = voxload("doctor", "--no-benchmark")
    assert "local ports" in done.out
    assert "Traceback" not in done.err
    assert not (voxload.folder / "cache").exists()


def test_few_open_files_are_told_and_end_no_generator(voxload):
    """The benchmark cannot be made then; a run warns, and goes on measuring itself."""

    def limited(*arguments):
        command = ["bash", "-c", 'ulimit -n 64; exec "$0" "$@"', sys.executable, "-m", "voxload", *arguments]
        return subprocess.run(command, cwd=voxload.folder, capture_output=True, text=True, timeout=60, check=False)

    done = limited("doctor", "--json")
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    assert found["benchmark"] is None
    told = {finding["subject"]: finding["detail"] for finding in found["findings"] if finding["status"] == "warning"}
    assert "only 64" in told["open files"]
    assert "214 open files" in told["benchmark"]

    load = {"shape": "constant", "arrival_rate": 40, "duration": "2s"}
    path = voxload.write({**SCENARIO, "load": load})
    done = limited("run", str(path), "--processes", "1", "--quiet")
    assert "and may have 64" in " ".join(done.stdout.split())
    assert "A generator process was lost" not in done.stdout
