"""Load tests for Azure in YAML as scenarios: the strategy's own runs, the rest is named with its line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from voxload.cli.import_ import import_command
from voxload.errors import BadInputError
from voxload.importers.azure_load_test import import_azure_load_test
from voxload.runners.prepare import prepare
from voxload.testing.virtual import VirtualWorld

SPECIFICATION = Path(__file__).parents[2] / "e2e" / "data" / "azure-load-test.yaml"
OTHER = """\
testName: other
failureCriteria: [avg(response_time_ms) > 300]
testPlan:
  - name: plan
    threadGroups:
      - {threads: 5, duration: 60}
      - {threads: 7, rampUp: 10s, duration: 90s, loops: 3}
      - {threads: 0}
    scenarios:
      - name: 1 start
        requests:
          - {url: "https://agent.example/open", method: post, body: '{"who": "${CLINIC}", "id": "${__UUID}"}',
             headers: {Authorization: "Bearer ${TOKEN}", Content-Type: application/json}}
          - {url: "https://agent.example/health"}
          - {url: "https://agent.example/x", method: PUT}
          - /status
      - name: 2 talk
        websocket: {url: "wss://agent.example/media/{session}", messageRate: 25/s, binary: true}
      - {name: 3 again, websocket: "wss://agent.example/other"}
"""


def imported(tmp_path, text):
    path = tmp_path / "test.yaml"
    path.write_text(text)
    return import_azure_load_test(path)


def test_the_specifications_test_becomes_a_scenario_that_runs(tmp_path):
    out = tmp_path / "scenario.yaml"
    done = CliRunner().invoke(import_command, ["azure-load-testing", str(SPECIFICATION), "--out", str(out)])
    assert done.exit_code == 0, done.output
    for words in (
        ":3: 10 engines of 100 threads are 1,000 callers",
        ':13: the address is ${API_BASE_URL}: the target is the embedded agent (--target "$API_BASE_URL")',
        ":24: messages without content",
    ):
        assert words in done.output
    prepared = prepare(out, environ={})
    scenario = prepared.scenario
    assert (scenario.name, scenario.dialect.name) == ("RTMedAgent-Peak-Load", "rtmed")
    assert scenario.dialect.options == {
        "message_rate": 10,
        "agent_type": "medical",
        "caller_number": "${caller_number}",
        "language": "en-US",
    }
    assert scenario.load.concurrency == 1000
    assert (scenario.load.ramp_up_ns, scenario.load.duration_ns) == (60 * 10**9, 300 * 10**9)
    collector = VirtualWorld(prepare(out, rate="1/s", duration="1s", environ={}).plan).run()
    assert collector.outcomes == {"completed": 1}
    assert collector.histogram("call_duration").minimum > 120 * 10**9
    assert collector.histogram("turn_latency").count > 10


def test_another_protocol_is_described_and_what_is_left_out_is_named(tmp_path):
    found = imported(tmp_path, OTHER)
    scenario = found.scenario
    assert scenario["target"] == "https://agent.example"
    assert scenario["load"] == {"shape": "concurrency", "concurrency": 12, "ramp_up": "10s", "duration": "90s"}
    assert scenario["headers"] == {"Authorization": "Bearer ${token}"}
    assert scenario["variables"] == {"clinic": {"env": "CLINIC"}, "token": {"env": "TOKEN"}}
    assert scenario["side_traffic"] == {"requests": [{"get": "/health"}, {"get": "/status"}]}
    assert [call["name"] for call in scenario["calls"]] == ["call_2_talk"]
    dialect = scenario["dialect"]
    assert dialect["frame_ms"] == 40
    assert dialect["socket"] == {"path": "/media/${session}"}
    assert dialect["start"] == {
        "method": "POST",
        "path": "/open",
        "body": {"who": "${clinic}"},
        "take": {"session": "session"},
    }
    noted = [f"{note.line}: {note.message}" for note in found.notes]
    for words in (
        "2: failureCriteria: not brought over",
        "7: loops: not brought over",
        "7: thread groups of different lengths",
        "8: a thread group needs threads and a duration",
        "12: ${__UUID} has no counterpart",
        "15: PUT /x: beside a call only GET requests",
        "18: binary: not brought over",
        "18: messages are not described",
        "19: a second WebSocket",
    ):
        assert any(note.startswith(words) for note in noted), (words, noted)
    path = tmp_path / "scenario.json"
    path.write_text(json.dumps(scenario))
    assert prepare(path, environ={"CLINIC": "a", "TOKEN": "b"}).scenario.dialect.name == "json"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("testPlan: locustfile.py\n", "test.yaml:1: testPlan names a file, locustfile.py"),
        ("config: {}\n", "test.yaml:1: no testPlan"),
        ("- 1\n", "test.yaml:1: no testPlan"),
        ("testPlan: [{scenarios: [{requests: [/x]}, 3]}, 4]\n", "no scenario opens a WebSocket"),
        ("testPlan: [{threadGroups: 3, scenarios: [{requests: 5, websocket: /x}]}]\n", "no thread group places load"),
        ("testPlan: [{threadGroups: [7], scenarios: {}}]\n", "no thread group places load"),
    ],
)
def test_what_holds_no_call_is_bad_input(tmp_path, text, words):
    with pytest.raises(BadInputError) as error:
        imported(tmp_path, text)
    assert words in str(error.value)
