"""The ACS backend of the examples, run as it stands, is load-tested from IncomingCall to its own hang-up."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from voxload.model.exchange import DEVELOPMENT_KEY
from voxload.model.source import read_source

FOLDER = Path(__file__).parent.parent.parent / "examples" / "acs_backend"
CALLS = 4


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@pytest.fixture
def backend():
    """The backend on a free port, and the port at which it takes Azure to be."""
    port, exchange_port = free_port(), free_port()
    url = f"http://127.0.0.1:{port}"
    environ = {
        **os.environ,
        "ACS_ENDPOINT": f"http://127.0.0.1:{exchange_port}",
        "ACS_ACCESS_KEY": DEVELOPMENT_KEY,
        "CALLBACK_URI_HOST": url,
    }
    command = [sys.executable, "-m", "uvicorn", "backend:app", "--port", str(port), "--log-level", "warning"]
    with subprocess.Popen(command, cwd=FOLDER, env=environ, stderr=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 20
        while True:
            try:
                urllib.request.urlopen(f"{url}/health", timeout=1).close()
                break
            except OSError:
                assert time.monotonic() < until and process.poll() is None, process.stderr.read()
                time.sleep(0.1)
        yield url, exchange_port
        process.terminate()


def test_the_unchanged_backend_from_incoming_call_to_hang_up(voxload, backend):
    url, exchange_port = backend
    scenario = read_source(FOLDER / "scenario.yaml").data | {
        "target": url,
        "load": {"shape": "constant", "arrival_rate": 2 * CALLS, "duration": "500ms"},
    }
    scenario["dialect"]["listen"] = f"127.0.0.1:{exchange_port}"
    scenario["calls"][0]["script"] = [
        {"barge_in": {"utterance": "cancel_appointment-rms-1", "after": "300ms"}},
        "wait_for_agent",
        {"dtmf": "0"},
        "wait_for_hang_up",
    ]
    done = voxload.run(scenario, timeout_s=60)
    summary = done.summary
    assert summary.totals.outcomes == {"completed": CALLS}, summary.errors
    assert summary.totals.peer_errors == {}
    assert summary.histogram("turn_latency").count == CALLS
    assert summary.histogram("turn_latency").minimum / 1e6 > 450, "the backend waits for half a second of silence"
    assert summary.histogram("barge_in_stop").count == CALLS
    assert summary.histogram("yield_rate").mean == 1e9, "the backend stops when it is talked over"
    assert summary.histogram("dropped_audio").count == CALLS, "by StopAudio"
    kinds = {moment.kind for call in summary.worst_calls for moment in call.moments}
    assert kinds >= {"barge_in", "dtmf"}, kinds
    with urllib.request.urlopen(f"{url}/health") as answer:
        assert answer.read() == b'{"calls":0}'


def test_the_page_tells_what_the_backend_reads():
    page, code = (FOLDER / "README.md").read_text(), (FOLDER / "backend.py").read_text()
    for name in re.findall(r'environ(?:\.get\(|\[)"(\w+)"', code):
        assert f"{name}=" in page, name
    assert "voxload" not in "".join(re.findall(r"^(?:import|from) .*$", code, re.MULTILINE))
