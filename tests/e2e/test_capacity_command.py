"""`voxload capacity` finds a known limit, and goes on after an interrupt."""

import json
import signal
import time
from collections import Counter

from conftest import scenario_with
from receivers import attributes, points_of, receiving

GATE = "call_success >= 99%"


def scenario(limit=10):
    return scenario_with(
        calls=[{"name": "short", "script": [{"listen": "500ms"}, "hang_up"]}],
        twin={"greeting": False, "quotas": {"connections": limit}},
    )


def options(*more):
    quick = [
        "--step",
        "2s",
        "--settle",
        "100ms",
        "--processes",
        "1",
        "--start",
        "9",
        "--growth",
        "1.3",
        "--confirm",
        "1",
    ]
    return ["--gate", GATE, *quick, *more]


def search(voxload, *arguments):
    """Run a search with `--json`, again when the machine was too busy for the generator to keep time."""
    for _ in range(4):
        done = voxload("capacity", *arguments, "--json", timeout_s=110)
        if json.loads(done.out)["result"]["bound"] != "generator":
            break
    return done


def test_a_limit_of_ten_calls_is_found(voxload):
    path = str(voxload.write(scenario() | {"gates": ["concurrent_calls >= 1000"]}))
    with receiving() as receiver:
        done = search(voxload, path, *options("--otlp", receiver.url, "--spans", "100%"))
    assert done.code == 0, (done.out, done.err)
    state = json.loads(done.out)
    outcomes = Counter()
    for file in done.folder.glob("probe-*.json"):
        outcomes.update(json.loads(file.read_bytes())["totals"]["outcomes"])
    found, _ = points_of(receiver.requests(done.folder.name)[-1])
    ended = {name: found["voxload.calls.ended", (("outcome", name),)].as_double for name in outcomes}
    assert ended == outcomes, "all probes of a search add up"
    mine = receiver.spans(done.folder.name)
    failed = [span for span in mine if span.status.code == span.status.STATUS_CODE_ERROR]
    assert Counter(attributes(span.attributes)["outcome"] for span in mine) == outcomes
    assert len({span.trace_id for span in mine}) == len(mine)
    assert {attributes(span.attributes)["error.type"] for span in failed} == set(outcomes) - {"completed", "cancelled"}
    assert all(span.end_time_unix_nano > span.start_time_unix_nano for span in failed)
    assert "concurrent_calls >= 1000 is left out" in done.err
    assert state["result"]["passes"] == 10
    assert state["result"]["fails"] == 11
    assert "call_success" in state["result"]["breaking"][0]
    page = (done.folder / "capacity.html").read_text()
    assert "Capacity: 10 calls at once; 11 fails: call_success" in page
    assert page.count("<polyline") == 2
    assert voxload("report", str(done.folder / "probe-01.json")).code == 0
    wrong = voxload("capacity", path, *options("--resume", str(done.folder), "--by", "rate"))
    assert (wrong.code, "--resume: its by is 'concurrency'" in wrong.err) == (2, True), wrong.err


def test_an_interrupted_search_goes_on(voxload):
    path = str(voxload.write(scenario()))
    begun = voxload.start("capacity", path, *options())
    until = time.monotonic() + 60
    while time.monotonic() < until:
        files = list(voxload.folder.glob("results/*/capacity.json"))
        if files and json.loads(files[0].read_text())["probes"]:
            break
        time.sleep(0.1)
    begun.send_signal(signal.SIGINT)
    first = voxload.finish(begun)
    assert first.code == 4, (first.out, first.err)
    before = json.loads((first.folder / "capacity.json").read_text())["probes"]
    assert 1 <= len(before) < 5
    done = voxload("capacity", path, *options("--resume", str(first.folder), "--json"), timeout_s=110)
    state = json.loads(done.out)
    trusted = [probe for probe in before if probe["status"] != "unknown"]  # the others get another try
    assert state["probes"][: len(trusted)] == trusted
    assert len(state["probes"]) > len(trusted)
    assert state["result"]["passes"] in {10, None} or state["result"]["bound"] == "generator"


def test_wrong_questions(voxload):
    path = str(voxload.write(scenario()))
    done = voxload("capacity", path)
    assert (done.code, "needs a gate" in done.err) == (2, True)
    done = voxload("capacity", path, "--gate", "p95(turn_latencee) < 1s")
    assert (done.code, "did you mean turn_latency" in done.err) == (2, True)
    done = voxload("capacity", path, "--gate", GATE, "--start", "50", "--max", "20")
    assert (done.code, "--start 50 is over --max 20" in done.err) == (2, True)
    done = voxload("capacity", path, "--gate", GATE, "--step", "soon")
    assert (done.code, "--step" in done.err) == (2, True)
    assert "Traceback" not in done.err
