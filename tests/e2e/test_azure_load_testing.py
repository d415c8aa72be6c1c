"""What `voxload export azure-load-testing` writes: Locust runs it as Azure's engines do, its configuration is valid."""

from __future__ import annotations

import csv
import json
import os
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jsonschema
import msgspec
import pytest
from conftest import SCENARIO, VoxloadRunner
from ruamel.yaml import YAML

from voxload.measure.summary import Summary
from voxload.model.twin import TwinSettings
from voxload.twin.process import TwinProcess

ROOT = Path(__file__).resolve().parents[2]
RESPONSE_TIME = r"(avg|min|max|p50|p75|p90|p95|p96|p97|p98|p99|p99\.9|p99\.99)\((response_time_ms|latency)\) ?[<>] ?\d+"
CRITERION = rf"^({RESPONSE_TIME}|percentage\(error\) ?> ?\d+|avg\(requests_per_sec\) ?[<>] ?[\d.]+)$"
PAIRS = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["name", "value"],
        "additionalProperties": False,
        "properties": {"name": {"type": "string"}, "value": {"type": "string"}},
    },
}
ENGINES = {"type": "integer", "minimum": 1, "maximum": 400}
CONFIGURATION = {
    "type": "object",
    "additionalProperties": False,
    "required": ["version", "testId", "testType", "testPlan", "engineInstances"],
    "properties": {
        "version": {"const": "v0.1"},
        "testId": {"type": "string", "pattern": "^[a-z0-9_-]{2,50}$"},
        "displayName": {"type": "string", "minLength": 2, "maxLength": 50},
        "description": {"type": "string", "maxLength": 99},
        "testType": {"const": "Locust"},
        "testPlan": {"type": "string", "pattern": r"\.py$"},
        "configurationFiles": {"type": "array", "items": {"type": "string", "pattern": "^[^/]+$"}},
        "engineInstances": ENGINES,
        "regionalLoadTestConfig": {
            "type": "array",
            "minItems": 2,
            "items": {
                "type": "object",
                "required": ["region", "engineInstances"],
                "additionalProperties": False,
                "properties": {"region": {"type": "string"}, "engineInstances": ENGINES},
            },
        },
        "env": PAIRS,
        "secrets": PAIRS,
        "autoStop": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"errorPercentage": {"type": "integer"}, "timeWindow": {"type": "integer"}},
        },
        "failureCriteria": {
            "type": "array",
            "maxItems": 50,
            "items": {
                "anyOf": [
                    {"type": "string", "pattern": CRITERION},
                    {
                        "type": "object",
                        "minProperties": 1,
                        "maxProperties": 1,
                        "additionalProperties": {"type": "string", "pattern": CRITERION},
                    },
                ]
            },
        },
    },
}
"""Configuration v0.1 as "Configure a load test in YAML" and the checks of github.com/Azure/load-testing have it."""


@pytest.fixture
def agent():
    settings = {"latency": {"turn": "300ms"}, "greeting": False, "reply_seconds_max": 0.4}
    with TwinProcess(TwinSettings.model_validate(settings), "rtmed", {}) as twin:
        yield twin.url


def export(folder, *arguments, code=0, **changes):
    calls = [{"name": "hours", "script": [{"say": "opening_hours"}, "wait_for_agent"]}]
    scenario = {**SCENARIO, "target": "https://agent.example", "calls": calls, **changes}
    (folder / "scenario.yaml").write_text(json.dumps(scenario))
    command = ["export", "azure-load-testing", "scenario.yaml", "--out", "bundle"]
    done = VoxloadRunner(folder)(*command, *arguments)
    assert done.code == code, done.err
    return done


def configuration(folder):
    found = YAML(typ="safe").load(folder / "bundle" / "load-test.yaml")
    jsonschema.validate(found, CONFIGURATION)
    for name in [found["testPlan"], *found["configurationFiles"]]:
        assert (folder / "bundle" / name).exists()
    assert sum(item["engineInstances"] for item in found.get("regionalLoadTestConfig", [])) in {
        0,
        found["engineInstances"],
    }
    return found


def locust(folder, host, *arguments, **variables):
    """Locust as an engine has it: the configuration's environment, no option that says what the load is."""
    given = {item["name"]: item["value"] for item in configuration(folder)["env"]} | variables
    environment = {**os.environ, **given, "LOCUST_HOST": host, "LOCUST_USERS": "50", "LOCUST_SPAWN_RATE": "5"}
    return subprocess.Popen(
        [sys.executable, "-m", "locust", "-f", "locustfile.py", *arguments],
        cwd=folder / "bundle",
        env={**environment, "LOCUST_RUN_TIME": "10m"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def rows(folder, name):
    with (folder / "bundle" / f"{name}_stats.csv").open() as file:
        return {row["Name"]: row for row in csv.DictReader(file)}


def test_an_engine_places_its_load_fires_requests_and_leaves_its_results_in_a_container(tmp_path, agent):
    """The engine's file speaks the storage's Put Blob: method, type and signature of each file."""
    put = {}

    class Container(BaseHTTPRequestHandler):
        def do_PUT(self):
            put[self.path] = self.headers["x-ms-blob-type"], self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(201)
            self.end_headers()

        def log_message(self, *_):
            pass

    load = {"shape": "constant", "arrival_rate": 10, "duration": "2s"}
    export(tmp_path, "--engines", "2", load=load, gates=["call_success >= 99%"])
    with ThreadingHTTPServer(("127.0.0.1", 0), Container) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place = f"http://127.0.0.1:{server.server_port}/results?sv=1&sig=abc"
        run = locust(tmp_path, agent, "--headless", "--csv", "engine", "--only-summary", VOXLOAD_RESULTS=place)
        out, _ = run.communicate(timeout=60)
        server.shutdown()
    found = rows(tmp_path, "engine")
    assert found["call"]["Request Count"] == found["hours"]["Request Count"] == "10", out  # its share of 20
    assert found["call"]["Failure Count"] == "0"
    assert 290 < float(found["turn_latency"]["Min Response Time"]) < 330
    assert found["turn_latency opening_hours"]["Request Count"] == found["turn_latency"]["Request Count"] == "10"
    assert found["voxload_verdict"]["Request Count"] == "1"
    if "fell behind" not in out:
        assert run.returncode == 0, out
        assert found["voxload_verdict"]["Failure Count"] == "0"
    paths = {path.rsplit("/", 1)[1] for path in put}
    assert {f"{name}?sv=1&sig=abc" for name in ("part.msgpack.zst", "summary.json", "calls.jsonl.zst")} <= paths, out
    assert {kind for kind, _ in put.values()} == {"BlockBlob"}
    (summary,) = [body for path, (_, body) in put.items() if "summary.json" in path]
    assert msgspec.json.decode(summary, type=Summary).totals.outcomes == {"completed": 10}
    assert "could not be left" not in out


def test_a_failed_gate_fails_the_verdicts_request_on_every_worker(tmp_path, agent):
    load = {"shape": "constant", "arrival_rate": 6, "duration": "2s"}
    export(tmp_path, "--engines", "2", load=load, gates=["p95(turn_latency) < 100ms"])
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    kept = str(tmp_path / "kept")
    workers = [locust(tmp_path, agent, "--worker", "--master-port", port, VOXLOAD_RESULTS=kept) for _ in range(2)]
    options = ["--master-bind-port", port, "--expect-workers", "2", "--headless", "--csv", "master", "--only-summary"]
    master = locust(tmp_path, agent, "--master", *options)
    out, _ = master.communicate(timeout=80)
    for worker in workers:
        worker.communicate(timeout=20)
    found = rows(tmp_path, "master")
    assert found["call"]["Request Count"] == "12", out  # two shares of a half
    assert found["voxload_verdict"]["Request Count"] == found["voxload_verdict"]["Failure Count"] == "2"
    assert master.returncode in {1, 4}, out
    assert "p95(turn_latency) < 100ms" in out or "fell behind" in out
    merged = merge(tmp_path, sorted((tmp_path / "kept").iterdir()))
    assert merged.totals.outcomes == {"completed": 12}
    assert merged.gates[0].status == "fail"
    assert merged.verdict.status == "failed" or "fell behind" in merged.verdict.reasons[0], merged.verdict


def merge(folder, parts):
    """The summary that `voxload merge` makes of engines' results, judged by the exported scenario."""
    done = VoxloadRunner(folder)("merge", "scenario.yaml", *map(str, parts), "--no-history", "--json")
    assert done.code in {0, 1, 4}, done.err
    return msgspec.json.decode(done.out, type=Summary)


def test_gates_become_fail_criteria_and_what_cannot_is_named(tmp_path):
    gates = [
        'p95(turn_latency{turn="opening_hours"}) < 800ms',
        "mean(call_setup) <= 2s",
        "error_rate < 2%",
        "call_success >= 99.5%",
        "p99.9(turn_latency) < 3s",
        "concurrent_calls >= 4",
        {"expression": "p95(turn_latency) < 1s", "severity": "warn"},
    ]
    done = export(tmp_path, "--region", "eastus=1", "--region", "westeurope=3", gates=gates)
    found = configuration(tmp_path)
    assert found["failureCriteria"] == [
        {"voxload_verdict": "percentage(error) > 0"},
        {"turn_latency opening_hours": "p95(response_time_ms) > 800"},
        {"call_setup": "avg(response_time_ms) > 2000"},
        {"call": "percentage(error) > 2"},
    ]
    assert {item["name"]: item["value"] for item in found["env"]}["VOXLOAD_ENGINES"] == "4"
    for words in ("call_success >= 99.5%: the percentage", "p99.9(turn_latency)", "concurrent_calls >= 4", "a warning"):
        assert words in done.err
    scenario = YAML(typ="safe").load(tmp_path / "bundle" / "scenario.yaml")
    assert "concurrent_calls >= 1" in scenario["gates"]


def test_files_come_along_flat_and_environment_becomes_secrets(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "callers.csv").write_text("number\n+15550001\n")
    (tmp_path / "voxload-0.1.0-py3-none-any.whl").write_bytes(b"wheel")
    variables = {
        "caller_number": {"csv": {"file": "data/callers.csv", "column": "number"}},
        "key": {"env": "AGENT_KEY"},
    }
    export(tmp_path, "--wheel", "voxload-0.1.0-py3-none-any.whl", variables=variables, headers={"x-key": "${key}"})
    found = configuration(tmp_path)
    assert {"callers.csv", "voxload-0.1.0-py3-none-any.whl"} <= set(found["configurationFiles"])
    assert [item["name"] for item in found["secrets"]] == ["AGENT_KEY"]
    scenario = YAML(typ="safe").load(tmp_path / "bundle" / "scenario.yaml")
    assert scenario["variables"]["caller_number"]["csv"]["file"] == "callers.csv"


def test_what_engines_cannot_share_is_named(tmp_path):
    load = {"shape": "concurrency", "concurrency": 10, "duration": "10s"}
    done = export(tmp_path, "--engines", "4", target="twin", load=load, measurement={"calls_max": 10})
    assert "10 callers do not divide by 4 engines: 8 call" in done.err
    assert "LOCUST_HOST is https://agent.example" in done.err
    assert YAML(typ="safe").load(tmp_path / "bundle" / "scenario.yaml")["measurement"]["calls_max"] == 3


def test_one_region_is_refused(tmp_path):
    done = export(tmp_path, "--region", "eastus=1", code=2)
    assert "two or more" in done.err


def test_the_folder_in_deploy_is_what_the_command_writes(tmp_path):
    deployed = ROOT / "deploy" / "azure-load-testing"
    command = ["export", "azure-load-testing", "examples/demo.yaml", "--engines", "2", "--out"]
    assert VoxloadRunner(ROOT).once(*command, str(tmp_path / "bundle")).code == 0
    assert {path.name for path in deployed.iterdir()} == {path.name for path in (tmp_path / "bundle").iterdir()}
    for path in deployed.iterdir():
        assert path.read_bytes() == (tmp_path / "bundle" / path.name).read_bytes(), path
    configuration(tmp_path)


def test_the_locustfile_is_python_that_the_engines_have():
    """Azure's engines run Python 3.9: no syntax or typing at run time of later ones."""
    import ast

    ast.parse((ROOT / "deploy" / "azure-load-testing" / "locustfile.py").read_text(), feature_version=(3, 9))
