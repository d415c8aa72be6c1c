"""Probes of services in the background of a run: on its time axis, in its gates, never in its own figures."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import time

from conftest import scenario_with
from receivers import key, points_of, receiving

DEAD = {"component": "redis", "name": "dead", "options": {"url": "redis://127.0.0.1:1"}}
HEALTH = {
    "component": "http",
    "name": "backend",
    "rate": 5,
    "options": {"url": "target", "requests": [{"path": "/health"}]},
}

SHORT = {"calls": [{"name": "short", "script": [{"listen": "1s"}, "hang_up"]}], "twin": {"greeting": False}}


def sessions(server, **more):
    return {"component": "redis", "rate": 10, "options": {"url": server.url}, **more}


def assert_figures_of_probes(receiver, summary):
    """What went out of probes stands under names of its own, exact to the count."""
    found, _ = points_of(receiver.requests(summary.run.run_id)[-1])
    for probe in summary.probes:
        for outcome, count in probe.outcomes.items():
            ended = found["voxload.probe.operations.ended", key({"outcome": outcome, "probe": probe.name})]
            assert ended.as_double == count
        for series in probe.series:
            name = f"voxload.probe.{series.metric.replace('_', '.')}"
            assert found[name, key({**series.labels, "probe": probe.name})].count == series.histogram.count
    own = [labels for name, labels in found if not name.startswith("voxload.probe.")]
    assert own and not any("probe" in dict(labels) for labels in own)
    ended = sum(point.as_double for (name, _), point in found.items() if name == "voxload.calls.ended")
    assert ended == sum(summary.totals.outcomes.values())


def test_probes_stand_beside_the_calls(voxload, redis_server):
    scenario = scenario_with(
        **SHORT,
        load={"shape": "constant", "arrival_rate": 10, "duration": "2s"},
        probes=[sessions(redis_server, name="cache"), HEALTH, DEAD],
        side_traffic={"interval": "200ms", "voice_weight": 0, "requests": [{"get": "/metrics", "name": "side"}]},
        gates=[
            'p95(operation_latency{probe="cache"}) <= 2s',
            'count(redis_command{probe="cache",command="hset"}) >= 20',
            'http_success{probe="backend"} >= 99%',
            {"expression": "max(operation_latency) < 1us", "per": "probe", "severity": "warn"},
        ],
    )
    with receiving() as receiver:
        done = voxload(
            "run", str(voxload.write(scenario)), "--quiet", "--processes", "1", "--otlp", receiver.url, judged=False
        )
    assert done.code in {0, 4}, done.out + done.err
    assert_figures_of_probes(receiver, done.summary)
    assert "probe dead: redis://127.0.0.1:1 cannot be used" in " ".join(done.err.split() + done.out.split())
    summary = done.summary
    cache, backend, dead = summary.probes
    assert 20 <= cache.attempted == cache.completed <= 200
    assert cache.histogram("operation_latency").count == cache.completed
    assert backend.target.startswith("http://127.0.0.1:")
    assert dead.attempted == 0
    assert "Connection refused" in dead.problem
    # the probes' points stand at the run's seconds, and say what the whole says
    starts = [point.start_s for point in cache.timeline]
    assert starts == sorted(starts)
    assert starts[0] == 0
    assert sum(point.completed for point in cache.timeline) == cache.completed
    assert sum(point.latencies["operation_latency"].count for point in cache.timeline) == cache.completed
    # what the callers' own side traffic saw is not mixed with the probe of the same protocol
    assert not summary.histogram("redis_command").count
    side = [series.labels for series in summary.series if series.metric == "http_latency"]
    assert side and not any("component" in labels for labels in side)
    assert summary.histogram("http_latency").count == sum(summary.totals.http_requests["side"].values())
    *passed, backends, caches, deads = summary.gates
    busy = "could not keep time"  # this machine may be
    assert all(gate.status == "pass" or busy in gate.reason for gate in passed), passed
    assert all(gate.status == "fail" or busy in gate.reason for gate in (backends, caches))
    assert caches.expression == 'max(operation_latency) < 1us [probe="cache"]'
    assert deads.status == "unknown" and "Connection refused" in deads.reason
    assert redis_server.dbsize() == 0
    assert "cache" in done.out
    page = (done.folder / "report.html").read_text()
    assert "Services" in page and "cache" in page
    assert "cache" in (done.folder / "summary.md").read_text()


def test_probes_of_model_and_voice_read_their_files_beside_the_scenario(voxload):
    (voxload.folder / "sub").mkdir()
    (voxload.folder / "sub" / "prompts.txt").write_text("Are you open?\n")
    voice = {"mode": "tts", "tts": {"text_file": "prompts.txt"}, "service": {"synthesis": {"first_byte": "100ms"}}}
    told = {"first_token": "50ms", "inter_token": "2ms", "reply_tokens": 10}
    options = {"prompts": "prompts.txt", "service": {"deployments": {"gpt-4o": told}}, "client": "fast"}
    model = {"component": "openai", "rate": 10, "options": options}
    scenario = scenario_with(probes=[model, {"component": "speech", "rate": 10, "options": voice}])
    done = voxload(
        "run", str(voxload.write(scenario, "sub/scenario.yaml")), "--quiet", "--processes", "1", judged=False
    )
    assert done.code in {0, 4}, done.out + done.err
    probe, spoken = done.summary.probes
    assert probe.completed == probe.attempted >= 5
    assert probe.histogram("time_to_first_token").count == probe.completed
    assert spoken.completed == spoken.attempted >= 5
    assert tuple(spoken.headline) == ("tts_first_byte",)
    assert spoken.histogram("tts_first_byte").minimum >= 100e6
    assert probe.histogram("prompt_tokens").maximum == 8 * 10**9, "13 characters and a message"


def test_a_service_that_dies_fails_its_gate_and_not_the_run(voxload, redis_server):
    """Beside a worker, in a tier of 4.8 s."""
    gates = ['operation_success{probe="redis"} >= 99%', "call_success >= 99%"]
    path = voxload.write(scenario_with(**SHORT, probes=[sessions(redis_server)], gates=gates))
    options = ["--workers", "1", "--master-port", "0", "--tier", "smoke", "--time-scale", "0.04"]
    process = voxload.start("run", str(path), "--quiet", "--processes", "1", *options)
    while redis_server.info("commandstats").get("cmdstat_del", {"calls": 0})["calls"] < 8:  # two of each session
        time.sleep(0.05)
    redis_server.shutdown(nosave=True)
    done = voxload.finish(process, 90)
    assert done.code in {1, 4}, done.out + done.err
    summary = done.summary
    of_probe, of_calls = summary.gates
    assert of_probe.status == "fail" or "could not keep time" in of_probe.reason
    assert of_calls.status != "fail"
    assert set(summary.totals.outcomes) == {"completed"}
    probe = summary.probes[0]
    assert 0 < probe.completed < probe.attempted
    assert probe.problem == ""
    assert "Error" in probe.errors[0].text
    assert probe.timeline[0].start_s == 0


def test_a_service_that_comes_late_is_found(voxload):
    """It is tried again while the run goes on, and takes part from then on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    probe = {"component": "redis", "name": "late", "rate": 10, "options": {"url": f"redis://127.0.0.1:{port}"}}
    load = {"shape": "constant", "arrival_rate": 2, "duration": "9s"}
    gates = ['operation_success{probe="late"} >= 1%']
    path = voxload.write(scenario_with(**SHORT, load=load, probes=[probe], gates=gates))
    process = voxload.start("run", str(path), "--quiet", "--processes", "1")
    while not list(voxload.folder.glob("results/*/calls.jsonl.zst")):
        time.sleep(0.05)
    other = [
        shutil.which("redis-server"),
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--dir",
        voxload.folder,
    ]
    server = subprocess.Popen([str(item) for item in other], stdout=subprocess.DEVNULL)
    try:
        done = voxload.finish(process, 60)
    finally:
        server.kill()
        server.wait()
    assert done.code == 4, done.out + done.err  # its beginning is missing
    assert "it is tried again" in " ".join(done.out.split())
    (found,) = done.summary.probes
    assert found.completed == found.attempted >= 5
    assert found.problem.startswith("not from the start on: ")
    assert found.timeline[0].start_s >= 1
    assert found.histogram("operation_latency").quantile(1.0) < 1e9, "nothing that was due before it came"
    assert done.summary.gates[0].status == "unknown"


def test_ctrl_c_leaves_no_key_behind(voxload, redis_server):
    probe = sessions(redis_server, timeout="60s", options={"url": redis_server.url, "pause": "2s"})
    path = voxload.write(
        scenario_with(load={"shape": "constant", "arrival_rate": 2, "duration": "60s"}, probes=[probe])
    )
    process = voxload.start("run", str(path), "--quiet", "--processes", "1")
    while redis_server.dbsize() < 5:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    done = voxload.finish(process, 40)
    assert done.code == 3, done.out + done.err
    assert redis_server.dbsize() == 0
    assert set(done.summary.probes[0].outcomes) == {"cancelled"}
    assert "Traceback" not in done.err


def test_check_lists_and_validates(voxload):
    resources = [
        {"name": "db", "process": "postgres"},
        {"name": "pods", "prometheus": {"url": "http://p", "cpu": "up"}},
    ]
    path = voxload.write(scenario_with(probes=[HEALTH, DEAD], resources=resources))
    done = voxload("check", str(path))
    assert done.code == 0, done.err
    for words in ("probe  backend: http, 5 a second", "probe  dead: redis", "db: CPU and memory by process postgres"):
        assert words in done.out
    found = json.loads(voxload("check", str(path), "--json").out)
    assert found["probes"][0] == {"name": "backend", "component": "http", "rate_per_s": 5.0}
    assert found["resources"][1] == "pods: CPU and memory by prometheus http://p"


def test_every_mistake_is_listed_with_its_line(voxload):
    path = voxload.write(
        scenario_with(
            probes=[
                {"component": "reddis"},
                {"component": "redis", "options": {"url": "http://h", "messages": -1, "pasword": {"env": "X"}}},
                {"component": "http", "name": "web", "options": {"bearer_token": {"env": "NOT_SET"}}},
            ],
            resources=[{"port": "target"}],
            gates=[
                "p95(redis_command) < 50ms",
                'p95(redis_command{probe="cash"}) < 50ms',
                'p95(operation_latency{probe="web",phase="hold"}) < 50ms',
            ],
        )
    )
    done = voxload("check", str(path))
    assert done.code == 2
    for words in (
        "did you mean redis?",
        "redis://host:6379",
        "messages",
        "did you mean password?",
        "NOT_SET is not set",
        'redis_command{probe="reddis"}',
        "no probe is called 'cash'",
        "have no label phase",
    ):
        assert words in done.err, done.err
    assert "Traceback" not in done.err
    at = [line for line in done.err.splitlines() if ": probes[" in line]
    assert len(at) == 5
    assert all(line.split(": probes[")[0].rpartition(":")[2].isdecimal() for line in at), at


def test_what_only_the_user_can_give_ends_the_command_before_the_calls(voxload, redis_server):
    redis_server.set("voxload:foreign", "1")
    done = voxload("run", str(voxload.write(scenario_with(probes=[sessions(redis_server)]))), "--quiet")
    assert done.code == 2
    assert "holds keys under our prefix" in done.err
    assert redis_server.dbsize() == 1
