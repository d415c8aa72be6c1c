"""Artillery files as scenarios: what is brought over, and that all the rest is named with its line."""

from __future__ import annotations

import copy
import json
import random

import pytest
from ruamel.yaml import YAML

from voxload.errors import BadInputError
from voxload.importers.artillery import import_artillery
from voxload.model.scenario import Scenario
from voxload.verdict.expression import parse_gate

WS = """\
config:
  target: wss://agent.example/media
  phases:
    - {duration: 1m, arrivalRate: 5, rampTo: 20, name: warm up}
    - {pause: 10}
    - {duration: 30, arrivalCount: 15, maxVusers: 40}
    - {duration: 30, arrivalRate: "{{ $environment.RATE }}"}
  variables:
    language: [en-US, es-ES]
    clinic: main
  payload: {path: callers.csv, fields: [number, name], order: sequence}
  processor: ./functions.js
  ws: {rejectUnauthorized: false, headers: {authorization: "Bearer {{ $environment.TOKEN }}"}}
  ensure:
    thresholds:
      - http.response_time.p95: 250
      - vusers.session_length.median: 60000
    conditions:
      - {expression: "http.response_time.p999 < 900 and http.request_rate > 10", strict: false}
      - expression: vusers.failed < 3 or http.response_time.max < 5
    maxErrorRate: 1
  plugins: {expect: {}}
scenarios:
  - name: Booking & billing
    engine: ws
    weight: 3
    flow:
      - connect: {target: "wss://agent.example/media/{{ clinic }}", subprotocols: [voice]}
      - send: {event: hello, who: {language: "{{ language }}"}}
      - loop:
          - send: {payload: '{"event": "audio", "media": {"payload": "{{ chunk }}"}, "n": {{ $timestamp() }}}'}
          - think: 1
          - send: '{"event": "commit"}'
          - think: 2
        count: 3-5
      - send: {event: bye}
      - function: finish
  - name: health
    flow:
      - get: {url: /health, expect: {statusCode: 200}}
      - post: {url: /feedback, json: {stars: 5}}
      - put: {url: /settings, json: {a: 1}}
  - name: chat
    engine: socketio
    flow: [{emit: {channel: hello}}]
"""


@pytest.fixture
def imported(tmp_path):
    (tmp_path / "callers.csv").write_text("+15550001,Ann\n+15550002,Bob\n")
    (tmp_path / "test.yml").write_text(WS)
    return import_artillery(tmp_path / "test.yml")


def test_phases_become_stages(imported):
    assert imported.scenario["load"]["stages"] == [
        {"name": "warm up", "duration": "60s", "arrival_rate": 5, "ramp_to": 20},
        {"name": "pause", "duration": "10s", "arrival_rate": 0},
        {"name": "phase3", "duration": "30s", "arrival_rate": 0.5},
    ]
    assert imported.scenario["measurement"] == {"calls_max": 40}


def test_a_flow_over_a_socket_becomes_a_call_and_gets_become_side_traffic(imported):
    (call,) = imported.scenario["calls"]
    steps = [{"say": "book_appointment"}, {"think": "1s"}, "wait_for_agent", {"think": "2s"}]
    assert (call["name"], call["weight"]) == ("booking_billing", 3)
    # where the flow thinks after the end of speech a caller waits first: Artillery does not look at the answer
    assert [sorted(map(str, item["repeat"]["steps"])) for item in call["script"]] == [sorted(map(str, steps))]
    assert call["script"][0]["repeat"]["times"] == 4
    assert imported.scenario["side_traffic"] == {"requests": [{"get": "/health"}]}


def test_the_protocol_comes_over_as_the_dialect_json(imported):
    dialect = imported.scenario["dialect"]
    assert dialect["name"] == "json"
    assert dialect["socket"] == {"path": "/media/${clinic}", "subprotocol": "voice"}
    assert dialect["send"]["audio"] == {"event": "audio", "media": {"payload": "${audio}"}, "n": "${timestamp_ms}"}
    assert dialect["send"]["connect"] == [{"event": "hello", "who": {"language": "${language}"}}]
    assert dialect["send"]["end_of_speech"] == {"event": "commit"}
    assert imported.scenario["target"] == "https://agent.example"
    assert imported.scenario["tls"] == {"insecure": True}


def test_variables_payloads_and_environment(imported):
    variables = imported.scenario["variables"]
    assert variables["language"] == {"choice": ["en-US", "es-ES"]}
    assert variables["clinic"] == "main"
    assert variables["number"]["csv"] == {"file": "callers-with-header.csv", "column": "number", "pick": "sequential"}
    assert imported.files["callers-with-header.csv"] == b"number,name\n+15550001,Ann\n+15550002,Bob\n"
    assert variables["token"] == {"env": "TOKEN"}
    assert imported.scenario["headers"] == {"authorization": "Bearer ${token}"}


def test_what_is_ensured_becomes_gates(imported):
    gates = imported.scenario["gates"]
    assert gates == [
        "p95(http_latency) < 250ms",
        "p50(call_duration) < 60000ms",
        {"expression": "p99.9(http_latency) < 900ms", "severity": "warn"},
        "error_rate <= 1%",
    ]
    for gate in gates:
        parse_gate(gate if isinstance(gate, str) else gate["expression"])


@pytest.mark.parametrize(
    ("words", "written"),
    [
        ("arrivalRate: '{{ $environment.RATE }}' is no number", "RATE }}"),
        ("config.processor", "processor:"),
        ("http.request_rate > 10: no metric", "http.request_rate"),
        ("joined by and, never by or", "vusers.failed"),
        ("plugin expect", "plugins:"),
        ("the message 'bye' is neither", "event: bye"),
        ("count: 3-5", "count: 3-5"),
        ("function: JavaScript", "function: finish"),
        ("expect: answers are not compared", "expect: {statusCode"),
        ("/feedback: beside a call", "name: health"),
        ("put /settings", "- put:"),
        ("engine socketio", "engine: socketio"),
    ],
)
def test_what_cannot_be_brought_over_is_named_with_its_line(imported, words, written):
    (note,) = [
        note for note in imported.notes if words in note.message and "plugin" not in note.message.replace(words, "")
    ]
    assert written in WS.splitlines()[note.line - 1]


def test_the_result_is_a_scenario(imported):
    Scenario.model_validate(imported.scenario)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1", "no scenarios"),
        ("config: {phases: []}\nscenarios: [{flow: [{get: {url: /}}]}]", "no flow holds a call"),
        ("config: {phases: [{duration: 5, arrivalRate: 0}]}\nscenarios: [{flow: [{think: 1}]}]", "no phase places"),
        ("config: [\nscenarios", "not valid YAML"),
        ("config: 5\nscenarios: [7, {flow: {}}, {engine: ws, flow: [5, {}, {loop: 3}]}]", "no flow holds a call"),
    ],
)
def test_a_file_without_a_call_is_bad_input(tmp_path, text, words):
    (tmp_path / "test.yml").write_text(text)
    with pytest.raises(BadInputError, match=words):
        import_artillery(tmp_path / "test.yml")


STRANGE = (
    None,
    5,
    -1,
    0,
    True,
    "x",
    "{{ a }}",
    "{{ $randomString() }}",
    [],
    {},
    [1],
    [None],
    {"a": 1},
    "5m",
    1e9,
    "$y",
)


def places(data, place=()):
    if place:
        yield place
    for key, value in data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ():
        yield from places(value, (*place, key))


def test_whatever_stands_anywhere_is_a_scenario_or_bad_input(tmp_path):
    (tmp_path / "callers.csv").write_text("+15550001,Ann\n")
    good, draw = YAML(typ="safe").load(WS), random.Random(1)
    for _ in range(250):
        data = copy.deepcopy(good)
        *way, last = draw.choice(list(places(data)))
        part = data
        for key in way:
            part = part[key]
        part[last] = copy.deepcopy(draw.choice(STRANGE))
        (tmp_path / "test.yml").write_text(json.dumps(data))
        try:
            scenario = import_artillery(tmp_path / "test.yml").scenario
        except BadInputError:
            continue
        Scenario.model_validate(scenario)
