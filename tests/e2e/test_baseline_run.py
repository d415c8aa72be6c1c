"""A run checked against a baseline right after it, its place in the history, and what it tells GitHub."""

import json

import msgspec
from conftest import scenario_with

from voxload.runners.history import History

LOAD = {"shape": "constant", "arrival_rate": 40, "duration": "2s"}


def test_a_run_against_a_baseline(voxload, monkeypatch):
    scenario = scenario_with(load=LOAD, gates=["call_success >= 99%"])
    history = History(voxload.folder / "results" / "history.db")
    first = voxload.run(scenario, "--no-history")
    assert first.code == 0, first.err
    assert not history.path.exists()
    assert voxload("baseline", "save", str(first.folder), "--to", "b.json").code == 0
    step = voxload.folder / "step.md"
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(step))
    slower = {**scenario, "twin": {"latency": {"turn": "600ms"}, "reply_seconds_max": 0.6}}
    done = voxload.run(slower, "--baseline", "b.json", "--seed", "9")
    assert done.code == 1, done.summary.verdict
    report = done.summary.baseline
    assert "turn_latency_p50" in {item.metric for item in report.regressions}
    assert 80 < next(item for item in report.regressions if item.metric == "turn_latency_p50").regression_percent < 120
    assert any(reason.startswith("baseline: p50(turn_latency)") for reason in done.summary.verdict.reasons)
    assert "::error title=Worse than the baseline%3A p50(turn_latency)::" in done.out
    assert "turn" in step.read_text()
    again = voxload("baseline", "check", str(done.folder), "--baseline", "b.json", "--json")
    assert msgspec.json.decode(again.out.encode())["regressions"] == msgspec.to_builtins(report.regressions)
    assert json.loads((done.folder / "badge.json").read_text())["color"] == "red"
    assert done.folder.name in {run.run_id for run in history.runs()}
    assert first.folder.name not in {run.run_id for run in history.runs()}
