from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from voxload.cli.check import check_command
from voxload.cli.schema import schema_command, schema_text
from voxload.errors import BadInputError

EXAMPLES = Path(__file__).parents[3] / "examples"


def run(*arguments: str):
    return CliRunner().invoke(check_command, list(arguments), standalone_mode=False)


def test_the_plan_as_tables():
    result = run(str(EXAMPLES / "demo.yaml"))
    assert result.exception is None
    for words in (
        "200 calls in 25.00 s",
        "appointment",
        "processes recommended",
        "concurrent_calls >= 200",
        "ready to run",
    ):
        assert words in result.stdout


def test_the_plan_as_json_with_overrides():
    result = run(str(EXAMPLES / "demo.yaml"), "--users", "7", "--duration", "1m", "--seed", "3", "--json")
    found = json.loads(result.stdout)
    assert (found["seed"], found["plan"]["model"], found["plan"]["peak_calls"]) == (3, "closed", 7)
    assert found["plan"]["load_duration_s"] == 60
    assert [warning.split(":")[0] for warning in found["warnings"]] == ["concurrent_calls >= 200"]


def test_gates_of_a_file_and_those_that_the_load_cannot_reach():
    gates = ["--gates", str(EXAMPLES / "quality-gates.yml"), "--gate", "peak_calls < 1000"]
    found = json.loads(run(str(EXAMPLES / "smoke.yaml"), *gates, "--json").stdout)
    assert found["gates"] == [
        "p95(voice_response) < 150ms",
        "call_success >= 99.5%",
        "concurrent_calls >= 1000",
        "max(target_cpu) < 70%",
        "max(target_memory) < 70%",
        "peak_calls < 1000",
    ]
    assert [warning.split(":")[0] for warning in found["warnings"]] == found["gates"][2:5]
    with pytest.raises(BadInputError, match="p95\\(turn_latensy\\)"):
        raise run(str(EXAMPLES / "smoke.yaml"), "--gate", "p95(turn_latensy) < 1s").exception


def test_a_plan_beyond_this_machine_is_a_warning(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})
    result = run(str(EXAMPLES / "specification.yaml"), "--json")
    assert "cores and this machine has 1" in result.stderr
    assert len(json.loads(result.stdout)["warnings"]) == 1


def test_secrets_are_not_printed(tmp_path):
    path = tmp_path / "s.yaml"
    text = (EXAMPLES / "smoke.yaml").read_text().replace("target: twin", "target: https://agent.example/${key}")
    path.write_text(text + "variables: {key: {env: THE_KEY}}\n")
    for flags in ([], ["--json"]):
        result = CliRunner(env={"THE_KEY": "top-secret"}).invoke(
            check_command, [str(path), *flags], standalone_mode=False
        )
        assert result.exception is None
        assert "top-secret" not in result.output
        assert "agent.example/***" in result.output


def test_markup_in_a_scenario_is_only_text(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text((EXAMPLES / "smoke.yaml").read_text().replace("name: smoke", 'name: "[red]x[/nope]"'))
    assert "[red]x[/nope]" in run(str(path)).stdout


def test_a_bad_scenario_raises_all_problems(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text((EXAMPLES / "smoke.yaml").read_text().replace("opening_hours", "x").replace("call_success", "y"))
    result = run(str(path))
    assert isinstance(result.exception, BadInputError)
    assert len(result.exception.problems) == 2


def test_schema_is_printed_and_written(tmp_path):
    assert CliRunner().invoke(schema_command, []).stdout == schema_text()
    path = tmp_path / "new" / "s.json"
    for _ in range(2):
        assert CliRunner().invoke(schema_command, ["--write", str(path)], standalone_mode=False).exception is None
        assert path.read_text(encoding="utf-8") == schema_text()
    with pytest.raises(BadInputError, match="cannot be written"):
        CliRunner().invoke(
            schema_command, ["--write", str(path / "below")], standalone_mode=False, catch_exceptions=False
        )


@pytest.mark.parametrize(("hours", "words"), [([1, 2], "load.hours: needs 24 or more"), ([1] * 25, "at most 24")])
def test_a_day_has_24_hours(tmp_path, hours, words):
    path = tmp_path / "day.yaml"
    load = json.dumps({"shape": "day", "calls": 100, "hours": hours})
    path.write_text(f"name: day\ntarget: twin\nload: {load}\ncalls: [{{name: c, script: [hang_up]}}]\n")
    with pytest.raises(BadInputError, match=words):
        raise run(str(path)).exception
