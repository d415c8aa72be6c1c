"""Component tests of the services behind an agent, as a user runs them."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent.parent / "examples" / "components"


@pytest.mark.parametrize("kind", ["acs", "redis", "eventgrid", "blob", "http", "speech"])
def test_the_example_runs_as_it_stands(voxload, kind):
    done = voxload("component", kind, str(EXAMPLES / f"{kind}.yaml"), "--quiet", "--users", "5", "--duration", "1500ms")
    assert done.code in {0, 4}, done.out + done.err
    assert set(done.summary.totals.outcomes) == {"completed"}, done.summary.errors
    assert done.summary.facts
    assert "Traceback" not in done.err


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


def test_every_mistake_of_a_speech_test_is_listed(voxload):
    options = {
        "endpoint": "ws://h",
        "language": "English",
        "stt": {"utterances": 0, "pauze": "1s"},
        "tts": {"voice": "Ava"},
    }
    path = voxload.write({"component": "speech", "options": options, "gates": ["p95(stt_final_latency < 1s"]})
    done = voxload("component", "speech", str(path), "--mode", "tts", "--client", "sdk")
    assert done.code == 2
    for words in (
        "ws://h",
        "'English' is not a language",
        "utterances",
        "did you mean pause",
        "'Ava' is not",
        "is not a gate",
    ):
        assert words in done.err, done.err
    assert "Traceback" not in done.err


def test_a_client_is_chosen_where_there_is_a_choice(voxload):
    done = voxload("component", "redis", "--client", "fast")
    assert done.code == 2
    assert "client" in done.err
