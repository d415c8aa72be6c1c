"""Component tests of the services behind an agent, as a user runs them."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

EXAMPLES = Path(__file__).parent.parent.parent / "examples" / "components"


@pytest.mark.parametrize("kind", ["acs", "redis", "eventgrid", "blob", "http"])
def test_the_example_runs_as_it_stands(voxload, kind):
    done = voxload("component", kind, str(EXAMPLES / f"{kind}.yaml"), "--quiet", "--users", "5", "--duration", "1500ms")
    assert done.code in {0, 4}, done.out + done.err
    assert set(done.summary.totals.outcomes) == {"completed"}, done.summary.errors
    assert done.summary.facts
    assert "Traceback" not in done.err


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


def test_ctrl_c_ends_sessions_in_good_order(voxload, redis_server):
    load = {"shape": "concurrency", "concurrency": 5, "duration": "60s"}
    options = {"pause": "500ms", "url": redis_server.url}
    path = voxload.write({"component": "redis", "load": load, "options": options})
    process = voxload.start("component", "redis", str(path), "--quiet")
    while redis_server.dbsize() < 10:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    done = voxload.finish(process, 40)
    assert done.code == 3, done.out + done.err
    assert done.summary.totals.outcomes == {"cancelled": 5}
    assert done.summary.facts["keys left over and removed"] == "0"
    assert redis_server.dbsize() == 0
    assert "Traceback" not in done.err


def test_every_mistake_is_listed(voxload):
    path = voxload.write({"component": "redis", "options": {"url": "http://h", "messages": -1, "pipelined": True}})
    done = voxload("component", "redis", str(path))
    assert done.code == 2
    for words in ("redis://host:6379", "messages", "did you mean pipeline"):
        assert words in done.err, done.err
