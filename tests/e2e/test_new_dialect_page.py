"""docs/new-dialect.md as a reader follows it: its code, found by an entry point, passes the suite and places calls."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from voxload.measure.summary import read_summary

PAGE = (Path(__file__).parent.parent.parent / "docs" / "new-dialect.md").read_text()
FILES = {name: body for _, name, body in re.findall(r"^```(\w+) (\w+\.\w+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)}
SCENARIO = re.search(r"^```yaml\n(name: walkie.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def package(tmp_path):
    """A folder with the page's files and what an installer would write beside them."""
    for name, body in FILES.items():
        (tmp_path / name).write_text(body)
    assert SCENARIO is not None
    (tmp_path / "walkie.yaml").write_text(SCENARIO[1])
    project = tomllib.loads(FILES["pyproject.toml"])["project"]
    info = tmp_path / f"voxload_walkie-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = [
        f"[{group}]\n{name} = {value}"
        for group, names in project["entry-points"].items()
        for name, value in names.items()
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))
    return tmp_path


def run(package, *command):
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=package,
        env={**os.environ, "PYTHONPATH": str(package)},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def test_the_code_is_short():
    lines = [line for line in FILES["walkie.py"].splitlines() if line.strip()]
    assert len(lines) < 100


def test_it_passes_the_conformance_suite(package):
    done = run(package, "pytest", "-q", "-p", "no:cacheprovider", "test_walkie.py")
    assert done.returncode == 0, done.stdout
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed and int(passed[1]) >= 14


def test_it_places_calls_on_the_embedded_agent(package):
    checked = run(package, "voxload", "check", "walkie.yaml")
    assert checked.returncode == 0, checked.stderr
    for _ in range(3):  # a busy machine may make a run unknown
        done = run(package, "voxload", "run", "walkie.yaml", "--quiet", "--processes", "1")
        if done.returncode == 0:
            break
    assert done.returncode == 0, done.stdout + done.stderr
    summary = read_summary(max((package / "results").glob("*/")))
    assert summary.totals.outcomes == {"completed": 10}
    assert summary.histogram("turn_latency").quantile(0.5) / 1e6 == pytest.approx(600, abs=20)


def test_mistakes_in_its_options_are_told(package):
    (package / "wrong.yaml").write_text((package / "walkie.yaml").read_text().replace("sample_rate:", "samplerate:"))
    done = run(package, "voxload", "check", "wrong.yaml")
    assert done.returncode == 2
    assert "did you mean sample_rate?" in done.stderr
