"""The strategy's Artillery test as it stands there: imported, it is the call flow of the example, and it runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from ruamel.yaml import YAML

from voxload.model.twin import TwinSettings
from voxload.twin.process import TwinProcess

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).parent / "data" / "artillery-test.yml"


def test_the_specifications_artillery_test_is_its_call_flow_and_runs(voxload, tmp_path):
    shutil.copy(SCRIPT, tmp_path)
    done = voxload("import", "artillery", SCRIPT.name)
    assert done.code == 0, (done.out, done.err)
    assert "artillery-test.yml:14: plugin azure-metrics" in done.err
    file = tmp_path / "artillery-test-voxload.yaml"
    scenario = YAML(typ="safe").load(file)
    ours = YAML(typ="safe").load(ROOT / "examples" / "specification.yaml")
    (call,), (known,) = scenario["calls"], ours["calls"]
    assert call["script"] == [step for step in known["script"] if isinstance(step, dict)]
    assert (call["name"], call["weight"]) == (known["name"], known["weight"])
    assert [{**stage, "name": ""} for stage in scenario["load"]["stages"]] == [
        {**stage, "name": ""} for stage in ours["load"]["stages"]
    ]
    assert scenario["variables"] == ours["variables"]
    assert json.loads(voxload("check", file.name, "--json").out)["plan"]["calls"] == 75_000

    call["script"][0]["repeat"]["times"] = 1  # ten turns take a minute and a half
    file.write_text(json.dumps({**scenario, "gates": ["p95(turn_latency) < 5s"]}))
    settings = {"latency": {"turn": "300ms"}, "greeting": False, "reply_seconds_max": 0.4}
    with TwinProcess(TwinSettings.model_validate(settings), "rtmed", {}) as twin:
        options = ["--target", twin.url, "--rate", "3", "--duration", "1s", "--quiet", "--gate", "calls >= 3"]
        done = voxload("run", file.name, *options, timeout_s=90)
    summary = done.summary
    assert summary.totals.outcomes == {"completed": 3}
    assert summary.histogram("turn_latency").count == 3
    if not done.fell_behind:
        assert done.code == 0, (summary.verdict, done.err)


def test_a_file_without_a_call_is_bad_input_and_nothing_is_written(voxload, tmp_path):
    (tmp_path / "http.yml").write_text("config: {phases: [{duration: 5, arrivalRate: 1}]}\nscenarios: [{flow: []}]\n")
    done = voxload("import", "artillery", "http.yml")
    assert done.code == 2, (done.out, done.err)
    assert "http.yml:2: no flow holds a call" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["http.yml"]
