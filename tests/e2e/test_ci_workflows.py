"""The workflows in `deploy/`: valid by the schemas that editors use, and their commands run as CI's shell runs them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import SCENARIO
from ruamel.yaml import YAML

from voxload.measure.summary import read_summary
from voxload.model.twin import TwinSettings
from voxload.runners.tiers import TIERS
from voxload.twin.process import TwinProcess

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
ON_GITHUB = sorted((DEPLOY / "github").glob("*.yml"))
PIPELINE = DEPLOY / "azure-pipelines" / "load-test.yml"
WORKFLOW = DEPLOY / "github" / "load-test.yml"


def read(path):
    return YAML(typ="safe").load(path.read_text())


def steps(path):
    """The steps by name."""
    return {step["name"]: step for step in read(path)["jobs"]["load-test"]["steps"] if "name" in step}


def valid(path, schema, *options):
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *options, str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("path", ON_GITHUB, ids=lambda path: path.name)
def test_workflows_of_github_are_valid(path, tmp_path):
    done = valid(path, "vendor.github-workflows")
    assert done.returncode == 0, done.stdout + done.stderr
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(path.read_text().replace("runs-on:", "run-on:"))
    assert valid(wrong, "vendor.github-workflows").returncode == 1


@pytest.mark.skipif(shutil.which("actionlint") is None, reason="actionlint is not installed")
@pytest.mark.parametrize("path", ON_GITHUB, ids=lambda path: path.name)
def test_actionlint_finds_nothing(path):
    done = subprocess.run(["actionlint", str(path)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


def test_the_pipeline_of_azure_is_valid(tmp_path):
    """AzureLoadTest comes from the marketplace: the schema does not know it, its documentation names its inputs."""
    pipeline = read(PIPELINE)
    (azure,) = [step for step in pipeline["steps"] if step.get("task") == "AzureLoadTest@1"]
    required = {"azureSubscription", "loadTestConfigFile", "resourceGroup", "loadTestResource"}
    assert set(azure["inputs"]) == required
    pipeline["steps"].remove(azure)
    (tmp_path / "pipeline.json").write_text(json.dumps(pipeline))
    done = valid(tmp_path / "pipeline.json", "vendor.azure-pipelines", "--regex-variant", "nonunicode")
    assert done.returncode == 0, done.stdout + done.stderr


def test_tiers_offered_are_those_there_are():
    tiers = list(TIERS)
    assert read(WORKFLOW)["on"]["workflow_dispatch"]["inputs"]["tier"]["options"] == tiers
    assert read(PIPELINE)["parameters"][0]["values"] == tiers


@pytest.mark.parametrize("path", ON_GITHUB, ids=lambda path: path.name)
def test_no_shell_reads_what_others_can_write(path):
    """An input in a script would be run as one: inputs come in by the environment."""
    for step in steps(path).values():
        assert "${{" not in step.get("run", "")


def shell(script, folder, **environment):
    """Run a step's script as GitHub's runner does, with the environment that its YAML names and nothing more."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    settings = {name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")}
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        cwd=folder,
        env={**settings, "PATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


@pytest.fixture
def agent():
    settings = {"latency": {"turn": "300ms"}, "greeting": False, "reply_seconds_max": 0.4}
    with TwinProcess(TwinSettings.model_validate(settings), "rtmed", {}) as twin:
        yield twin.url


def scenario(folder):
    calls = [{"name": "hours", "script": [{"say": "opening_hours"}, "wait_for_agent"]}]
    gates = ["p95(turn_latency) < 900ms", "calls >= 2"]
    (folder / "scenario.yaml").write_text(json.dumps({**SCENARIO, "target": "twin", "calls": calls, "gates": gates}))


def test_the_steps_of_the_workflow_run_to_a_verdict_a_page_and_a_baseline(tmp_path, agent):
    scenario(tmp_path)
    found = steps(WORKFLOW)
    page = tmp_path / "step-summary.md"
    environment = {"SCENARIO": "scenario.yaml", "TIER": "smoke", "TARGET": agent, "USERS": "3", "DURATION": "2s"}
    assert {*environment} == {*read(WORKFLOW)["env"], *found["Run"]["env"]}
    on_runner = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(page), "GITHUB_SHA": "0123abc"}
    done = shell(found["Run"]["run"], tmp_path, **environment, **on_runner)
    summary = read_summary(next((tmp_path / "results").glob("*/")))
    if any("fell behind" in reason for reason in summary.verdict.reasons):
        pytest.skip("the machine was too busy to keep time")
    assert done.returncode == 0, done.stdout + done.stderr
    assert summary.plan.model == "closed"
    assert "passed" in page.read_text().lower()
    saved = shell(found["Baseline to be"]["run"], tmp_path, **environment, **on_runner)
    assert saved.returncode == 0, saved.stderr
    assert (tmp_path / "results" / "baseline-smoke.json").exists()

    # the next run is held against it, and the comment finds its page
    (tmp_path / "baselines").mkdir()
    (tmp_path / "results" / "baseline-smoke.json").rename(tmp_path / "baselines" / "smoke.json")
    shutil.rmtree(tmp_path / "results")
    shell(found["Run"]["run"], tmp_path, **environment, **on_runner)
    assert read_summary(next((tmp_path / "results").glob("*/"))).baseline is not None
    (tmp_path / "bin").mkdir()
    gh = tmp_path / "bin" / "gh"
    gh.write_text('#!/bin/sh\necho "$@" > gh.txt\n')
    gh.chmod(0o755)
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    commented = shell(found["Comment"]["run"], tmp_path, PULL_REQUEST="7", PATH=path)
    assert commented.returncode == 0, commented.stderr
    assert re.match(r"pr comment 7 --body-file results/\S+/summary.md --edit-last", (tmp_path / "gh.txt").read_text())


def test_the_step_is_red_when_the_target_is_none(tmp_path):
    scenario(tmp_path)
    environment = {"SCENARIO": "scenario.yaml", "TIER": "smoke", "USERS": "", "DURATION": ""}
    done = shell(steps(WORKFLOW)["Run"]["run"], tmp_path, **environment, TARGET="ftp://nowhere")
    assert done.returncode == 2
    assert "ftp://nowhere" in done.stderr


def test_the_other_workflows_commands_are_the_command_lines(tmp_path):
    scenario(tmp_path)
    script = steps(DEPLOY / "github" / "azure-load-testing.yml")["Write the test"]["run"]
    done = shell(script, tmp_path, SCENARIO="scenario.yaml", ENGINES="4")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "azure-test" / "load-test.yaml").exists()
    scripts = [step["script"] for step in read(PIPELINE)["steps"] if step.get("script", "").startswith("voxload ")]
    assert len(scripts) == 2
    environment = {"TIER": "smoke", "VOXLOAD_TARGET": "http://127.0.0.1:9", "ENGINES": "2"}
    for script in scripts:
        done = shell(script.replace("voxload run", "voxload check").replace(" --quiet", ""), tmp_path, **environment)
        assert done.returncode == 0, done.stderr
