"""Runs the command line as a user would: a scenario file, a child process, the folder that it leaves."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry
from warm_start import WarmStart

from voxload.measure.summary import Summary, read_summary

SCENARIO: dict[str, Any] = {
    "name": "test",
    "target": "twin",
    "seed": 5,
    "load": {"shape": "constant", "arrival_rate": 20, "duration": "1s"},
    "calls": [{"name": "booking", "script": ["wait_for_agent", {"say": "opening_hours-slt-2"}, "wait_for_agent"]}],
    "variables": {"caller_number": {"random_phone": {}}},
    "twin": {"latency": {"turn": "300ms"}, "reply_seconds_max": 0.6},
    "timeouts": {"agent_reply": "3s", "setup": "3s", "connect": "2s", "hang_up": "1s"},
}


def wait_for(condition: Callable[[], Any], timeout_s: float = 40) -> Any:
    """Return the first true answer of `condition`; an AssertionError when there is none in time."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come")


def scenario_with(**changes: Any) -> dict[str, Any]:
    """The small scenario with other top-level parts."""
    return {**SCENARIO, **changes}


warm_start = cache(WarmStart)


@dataclass
class Finished:
    """What a command left behind."""

    code: int
    out: str
    err: str
    folder: Path | None

    @property
    def summary(self) -> Summary:
        assert self.folder is not None, self.err
        return read_summary(self.folder)

    @property
    def fell_behind(self) -> bool:
        """Whether the machine was too busy for the generator to keep time, so that nothing was judged."""
        if self.code != 4 or self.folder is None or not (self.folder / "summary.json").exists():
            return False
        return any("fell behind" in reason for reason in self.summary.verdict.reasons)


class VoxloadRunner:
    """Writes scenarios into a temporary folder and runs `voxload` there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, scenario: dict[str, Any], name: str = "scenario.yaml") -> Path:
        path = self.folder / name
        path.write_text(json.dumps(scenario, indent=1))  # JSON is YAML
        return path

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "voxload", *arguments],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self, process: subprocess.Popen[str], timeout_s: float = 60) -> Finished:
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return self._finished(process.returncode, out, err)

    def _finished(self, code: int, out: str, err: str) -> Finished:
        folders = sorted((self.folder / "results").glob("*/")) if (self.folder / "results").exists() else []
        return Finished(code, out, err, folders[-1] if folders else None)

    def once(self, *arguments: str, timeout_s: float = 60) -> Finished:
        """Run a command to its end, in a process that has imported its modules already where that can be."""
        if not warm_start().can():
            return self.finish(self.start(*arguments), timeout_s)
        done = warm_start().run(arguments, self.folder, timeout_s)
        return self._finished(done.returncode, done.stdout, done.stderr)

    def __call__(self, *arguments: str, timeout_s: float = 60, judged: bool = True) -> Finished:
        """Run a command to its end; again, twice at most, when it places load and could not keep time.

        Not where `judged` is false: what the test looks at is the same in a run that is given no verdict.
        """
        for _ in range(3):
            done = self.once(*arguments, timeout_s=timeout_s)
            if not judged or arguments[0] not in {"run", "component"} or not done.fell_behind:
                break
        return done

    def run(self, scenario: dict[str, Any], *arguments: str, timeout_s: float = 60, judged: bool = True) -> Finished:
        """`voxload run` with one process and no live view."""
        path = self.write(scenario)
        options = [] if "--processes" in arguments else ["--processes", "1"]
        return self("run", str(path), "--quiet", *options, *arguments, timeout_s=timeout_s, judged=judged)


@pytest.fixture
def voxload(tmp_path: Path) -> VoxloadRunner:
    return VoxloadRunner(tmp_path)


@pytest.fixture
def redis_server(tmp_path):
    """A client of a real server, with its address as `url`."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    program = shutil.which("redis-server")
    assert program, "redis-server is not installed: make system"
    arguments = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    server = subprocess.Popen([program, *arguments], stdout=subprocess.DEVNULL)
    client = redis.Redis(port=port, retry=Retry(ConstantBackoff(0.05), 100))
    client.url = f"redis://127.0.0.1:{port}"
    client.ping()
    yield client
    client.close()
    server.kill()
    server.wait()
