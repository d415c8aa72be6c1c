from __future__ import annotations

import csv
from pathlib import Path

import jsonschema
import pytest

from voxload.cli.schema import component_schema, scenario_schema, schema_text
from voxload.model.scenario import Scenario
from voxload.model.source import load_yaml_model, read_source

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


@pytest.fixture(scope="module")
def validator():
    schema = scenario_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_committed_schema_is_current():
    committed = (ROOT / "schema" / "scenario.schema.json").read_text(encoding="utf-8")
    assert committed == schema_text(), "stale: run voxload schema --write schema/scenario.schema.json"


def test_the_schema_of_component_tests():
    committed = (ROOT / "schema" / "component.schema.json").read_text(encoding="utf-8")
    assert committed == schema_text("component"), (
        "stale: run voxload schema component --write schema/component.schema.json"
    )
    schema = component_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for path in (ROOT / "examples" / "components").glob("*.yaml"):
        validator.validate(read_source(path).data)
        assert path.read_text().startswith("# yaml-language-server: $schema=../../schema/component.schema.json\n#")
    for options in (
        {"component": "http", "options": {"http": 2}},
        {"component": "acs", "options": {"to": "+15550100000"}},
    ):
        validator.validate(options)
    for wrong in ({}, {"component": "reddis"}, {"component": "redis", "options": {"urll": "x"}}):
        assert list(validator.iter_errors(wrong)), wrong


def test_there_are_examples():
    names = {path.stem for path in EXAMPLES}
    assert names >= {"demo", "smoke", "spike", "ramp", "closed", "specification", "variables"}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_fit_the_schema_and_the_model(path, validator):
    validator.validate(read_source(path).data)
    assert load_yaml_model(path, Scenario).name == path.stem
    assert path.read_text().startswith("# yaml-language-server: $schema=../schema/scenario.schema.json\n#")


def base(**changes):
    scenario = {
        "name": "x",
        "target": "twin",
        "load": {"shape": "constant", "arrival_rate": 1, "duration": "1s"},
        "calls": [{"name": "a", "script": ["hang_up"]}],
    }
    return {**scenario, **changes}


@pytest.mark.parametrize(
    "data",
    [
        base(),
        base(dialect="rtmed"),
        base(dialect={"name": "rtmed", "own_option": [1]}),
        base(calls=[{"name": "a", "script": [{"say": "x"}, {"think": "1s..2s"}, {"think": 2}, {"dtmf": 12}]}]),
        base(twin={"latency": {"turn": "700ms"}}),
        base(twin={"latency": {"turn": {"lognormal": {"median": 1, "p95": "2s"}}}}),
        base(variables={"a": 1, "b": "x", "c": {"env": "HOME"}, "d": {"env": {"name": "X", "default": "y"}}}),
        base(gates=["call_success >= 99%", {"expression": "calls > 1", "name": "n"}]),
    ],
)
def test_schema_accepts_what_the_model_accepts(data, validator):
    Scenario.model_validate(data)
    validator.validate(data)


@pytest.mark.parametrize(
    "data",
    [
        base(unknown=1),
        base(load={"shape": "constant", "arrival_rate": 1}),
        base(load={"shape": "constnt", "arrival_rate": 1, "duration": 1}),
        base(load={"shape": "constant", "arrival_rate": "fast", "duration": 1}),
        base(calls=[]),
        base(calls=[{"name": "a", "script": ["sai"]}]),
        base(calls=[{"name": "a", "script": [{"say": "x", "think": 1}]}]),
        base(version=2),
    ],
)
def test_schema_refuses_what_the_model_refuses(data, validator):
    with pytest.raises(ValueError, match="validation error"):
        Scenario.model_validate(data)
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(data)


def test_defaults_read_as_people_write_them():
    definitions = scenario_schema()["$defs"]
    assert definitions["Timeouts"]["properties"]["agent_turn"]["default"] == "2m"
    assert definitions["SideTraffic"]["properties"]["interval"]["default"] == "1s..3s"
    assert definitions["BargeIn"]["anyOf"][1]["properties"]["after"]["default"] == "1s"


def test_the_csv_example_has_the_columns_that_its_scenario_names():
    with (ROOT / "examples" / "callers.csv").open(newline="") as file:
        assert {"caller_id", "language"} <= set(csv.DictReader(file).fieldnames or ())
