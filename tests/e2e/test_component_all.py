"""`voxload component all`: which of several services gives way first, where that is known."""

from __future__ import annotations

import json
import signal
import time

from conftest import scenario_with
from receivers import points_of, receiving

ONE_A_SECOND = ["--assume", "call_s=1"]
"""So many calls at once are then so many units of work a second."""


def test_the_service_with_the_small_limit_gives_way_first(voxload, redis_server):
    # 10 requests at once of 0.5 s each: at 4 a second 2 of them are busy on average, at 60 all are
    options = {"requests": [{"path": "/health"}], "service": {"latency": "500ms", "requests_at_once": 10}}
    voxload.write({"component": "http", "options": options}, "small.yaml")
    voxload.write({"component": "redis", "options": {"url": redis_server.url}}, "cache.yaml")
    arguments = ["--with", "redis=cache.yaml,http=small.yaml", "--calls", "4,60", "--step", "3s", *ONE_A_SECOND]
    arguments += ["--per-call", "redis=0.5", "--slowdown", "0", "--json"]
    with receiving() as receiver:
        done = voxload("component", "all", *arguments, "--otlp", receiver.url)
    found = json.loads(done.out)
    cache, small = found["services"]
    figures, _ = points_of(receiver.requests(done.folder.name)[-1])
    for service in (cache, small):
        sent = [
            point.count
            for (name, labels), point in figures.items()
            if name == "voxload.operation.success" and dict(labels)["probe"] == service["name"]
        ]
        assert sum(sent) == sum(step["attempted"] for step in service["steps"])
    assert small["steps"][0]["status"] in {"holds", "unknown"}, small  # unknown where this machine is too busy
    assert small["steps"][1]["attempted"] > 100
    if small["steps"][1]["status"] != "unknown":
        assert (done.code, found["first"]) == (1, ["http"]), done.out
        assert "operation_success" in small["steps"][1]["reasons"][0]
        assert 0.3 < small["steps"][1]["throttled"] < 0.95  # Erlang B of 30 erlangs on 10 places is 0.68
    assert [step["rate_per_s"] for step in cache["steps"]] == [2, 30]
    assert cache["target"] == redis_server.url
    assert cache["steps"][1]["completed"] > 60
    page = (done.folder / "components.html").read_text()
    assert page.count("<polyline") == 2
    assert json.loads((done.folder / "components.json").read_text()) == found
    assert redis_server.dbsize() == 0


def test_a_scenarios_probes_are_loaded_and_ctrl_c_keeps_what_is_known(voxload, redis_server):
    probes = [{"component": "redis", "name": "cache", "options": {"url": redis_server.url}}]
    probes += [{"component": "http", "options": {"url": "target", "requests": [{"path": "/health"}]}}]
    path = voxload.write(scenario_with(probes=probes, gates=['p95(redis_command{probe="cache"}) < 10s']))
    arguments = [str(path), "--calls", "50,60,70", "--step", "3s", *ONE_A_SECOND]
    process = voxload.start("component", "all", *arguments)
    until = time.monotonic() + 40
    while time.monotonic() < until and not list(voxload.folder.glob("results/*/components.json")):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    done = voxload.finish(process)
    assert done.code == 3, done.out + done.err
    found = json.loads((done.folder / "components.json").read_text())
    assert found["interrupted"]
    assert [service["name"] for service in found["services"]] == ["cache", "http"]
    assert found["services"][0]["steps"][0]["completed"] > 100
    assert found["services"][1]["target"].startswith("http://127.0.0.1:")
    assert "50 calls: cache " in done.out
    assert "nterrupted (Ctrl-C)" in done.out
    assert "Traceback" not in done.err
    assert redis_server.dbsize() == 0


def test_bad_cases_are_told(voxload):
    voxload.write({"component": "redis", "options": {"url": "redis://127.0.0.1:1"}}, "dead.yaml")
    done = voxload("component", "all", "--with", "redis=dead.yaml,http", "--calls", "4,8", "--step", "2s")
    assert done.code == 3
    assert "redis: redis://127.0.0.1:1 cannot be used" in done.err
    options = ["--calls", "8,4", "--step", "1x", "--gate", "p95(redis_command) < 1ms", "--per-call", "http=2"]
    wrong = voxload("component", "all", "--with", "redis,reddis", *options)
    assert wrong.code == 2
    for words in ("no growing number", "--step"):
        assert words in wrong.err
    wrong = voxload("component", "all", "--with", "redis,reddis", *options[4:])
    for words in ("did you mean redis?", 'redis_command{probe="redis"}', "no service is called 'http'"):
        assert words in wrong.err, wrong.err
    few = voxload("component", "all", "--with", "http", "--calls", "4,8", "--step", "1s", "--assume", "call_s=1")
    assert few.code == 4, few.out
    assert "warning: http: up to 8 calls a step has too little work to judge" in few.out
    assert "only " in few.out and "a rate needs 10" in few.out
    nothing = voxload("component", "all")
    assert (nothing.code, "there is no service to load" in nothing.err) == (2, True)
