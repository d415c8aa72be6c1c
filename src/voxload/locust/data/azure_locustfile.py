"""Calls of voxload in Azure Load Testing, which runs this file on each engine by itself, as one Locust process.

Each engine places its share of the scenario's load with `voxload run`; what that measures becomes Locust's requests, by
whose names fail criteria judge. The engines' Python (3.9) is older than voxload's, so voxload runs in one of its own,
which `uv` fetches; nothing of voxload is imported here. The environment may say:

LOCUST_HOST        the target, instead of the scenario's
VOXLOAD_ENGINES    how many engines (or Locust workers) there are: each places that part of the load
VOXLOAD_PYTHON     a Python that has voxload, instead of fetching one
VOXLOAD_PACKAGE    what to install, instead of the wheel beside this file or voxload from the package index
VOXLOAD_RESULTS    where each engine leaves its results for `voxload merge`: a folder, or the address of a container of
                   Azure Blob Storage with a signature that may create (https://ACCOUNT.blob.core.windows.net/NAME?sv=…)
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
import zlib
from pathlib import Path
from typing import Any

import gevent
from gevent.event import Event
from locust import LoadTestShape, User, events, task
from locust.runners import MasterRunner, WorkerRunner

HERE = Path(__file__).resolve().parent
VOXLOAD_PYTHON_VERSION = "3.12"
STOP_TIMEOUT_S = 60.0
UPLOAD_TIMEOUT_S = 60.0
OVER = "voxload_over"
"""From a worker to the master: its calls are over, with the exit code."""


class CallFailedError(Exception):
    """What Locust shows of a call that failed, or of a verdict that is not "passed"."""


class Caller(User):
    """All callers of this process, as Locust sees them: voxload places the calls."""

    @task
    def wait(self) -> None:
        """Wait until Locust ends the test."""
        Event().wait()


def python_with_voxload() -> str:
    """Return a Python that has voxload: the given one, this one, or one that is made now (needs the network)."""
    given = os.environ.get("VOXLOAD_PYTHON")
    if given:
        return given
    if sys.version_info >= (3, 11) and importlib.util.find_spec("voxload"):
        return sys.executable
    wheels = sorted(str(path) for path in HERE.glob("voxload-*.whl"))
    package = os.environ.get("VOXLOAD_PACKAGE") or (wheels[-1] if wheels else "voxload")
    compiled = re.search(r"-cp3(\d+)-", Path(package).name)  # such a wheel is for this Python alone
    version = f"3.{compiled[1]}" if compiled else VOXLOAD_PYTHON_VERSION
    folder = Path(tempfile.mkdtemp(prefix="voxload-"))
    python = str(folder / "bin" / "python")
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "--quiet", "--python", version, str(folder)], check=True)
    subprocess.run([*uv, "pip", "install", "--quiet", "--python", python, package], check=True)
    return python


def keep(results: Path) -> None:
    """Leave the files of a run where VOXLOAD_RESULTS says; a failure is told in the log and decides nothing."""
    place, _, signature = os.environ.get("VOXLOAD_RESULTS", "").partition("?")
    for file in sorted(results.rglob("*")) if place else ():
        name = file.relative_to(results).as_posix()
        try:
            if file.is_dir():
                continue
            if place.startswith(("https://", "http://")):
                url = f"{place.rstrip('/')}/{name}?{signature}"
                head = {"x-ms-blob-type": "BlockBlob"}
                request = urllib.request.Request(url, file.read_bytes(), head, method="PUT")  # noqa: S310  # seen above
                urllib.request.urlopen(request, timeout=UPLOAD_TIMEOUT_S).close()  # noqa: S310
            else:
                (Path(place) / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, Path(place) / name)
        except (OSError, ValueError) as error:
            print(f"voxload: {name} could not be left in {place}: {error}", file=sys.stderr)


class Calls:
    """The run of voxload on this engine, and what it says."""

    def __init__(self, environment: Any) -> None:
        self.environment = environment
        self.process: Any = None
        self.results = Path()
        self.judged = False
        self.over = Event()
        self.codes: list[int] = []
        """On the master: the exit codes of the workers whose calls are over."""

    def begin(self) -> None:
        """Start the run; its requests are read in the background."""
        engines = int(os.environ.get("VOXLOAD_ENGINES") or 1)
        command = [python_with_voxload(), "-m", "voxload", "run", "scenario.yaml", "--requests", "-", "--quiet"]
        self.results = Path(tempfile.mkdtemp(prefix="voxload-results-"))
        command += ["--no-history", "--out", str(self.results)]
        if engines > 1:
            # Engines with the same seed would call at the same instants.
            seed = zlib.crc32(f"{platform.node()} {os.getpid()}".encode())
            command += ["--share", str(1 / engines), "--seed", str(seed)]
        if self.environment.host:
            command += ["--target", self.environment.host]
        self.judged = False
        self.over.clear()
        self.process = subprocess.Popen(command, cwd=str(HERE), stdout=subprocess.PIPE)
        gevent.spawn(self.read)

    def read(self) -> None:
        """Make Locust's requests of what the run says, up to its end."""
        for line in self.process.stdout:
            said = json.loads(line)
            self.judged = self.judged or said["type"] == "VERDICT"
            for _ in range(said["count"]):
                self.fire(said["type"], said["name"], said["ms"], said["error"])
        code = self.process.wait()
        if not self.judged:
            self.fire("VERDICT", "voxload_verdict", 0.0, f"voxload ended with code {code}: see the engine's log")
        keep(self.results)
        self.environment.process_exit_code = code
        if isinstance(self.environment.runner, WorkerRunner):
            self.environment.runner.send_message(OVER, code)
        self.over.set()

    def fire(self, kind: str, name: str, latency_ms: float, error: str) -> None:
        """Tell Locust, and whoever listens to its requests, of one."""
        self.environment.events.request.fire(
            request_type=kind,
            name=name,
            response_time=latency_ms,
            response_length=0,
            response=None,
            context={},
            exception=CallFailedError(error) if error else None,
        )

    def end(self) -> None:
        """End calls that are still up, and wait for the verdict."""
        if self.process is not None:
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGINT)
            self.over.wait(STOP_TIMEOUT_S)
            if self.process.poll() is None:
                self.process.kill()


CALLS: dict[int, Calls] = {}


class UntilTheCallsAreOver(LoadTestShape):
    """A user on each engine until its calls are over: when they start is the scenario's business."""

    def tick(self) -> tuple[int, float] | None:
        """Return how many users there are to be."""
        runner: Any = self.runner
        calls = CALLS[id(runner.environment)]
        if isinstance(runner, MasterRunner):
            workers = max(runner.worker_count, 1)
            return None if len(calls.codes) >= workers else (workers, workers)
        return None if calls.over.is_set() else (1, 1)


def _on_init(environment: Any, runner: Any, **_: Any) -> None:
    calls = CALLS[id(environment)] = Calls(environment)

    def worker_is_over(environment: Any, msg: Any) -> None:
        calls.codes.append(msg.data)
        environment.process_exit_code = max(calls.codes)

    if isinstance(runner, MasterRunner):
        runner.register_message(OVER, worker_is_over)


def _on_test_start(environment: Any, **_: Any) -> None:
    if not isinstance(environment.runner, MasterRunner):
        CALLS[id(environment)].begin()


def _on_test_stop(environment: Any, **_: Any) -> None:
    CALLS[id(environment)].end()


events.init.add_listener(_on_init)
events.test_start.add_listener(_on_test_start)
events.test_stop.add_listener(_on_test_stop)
