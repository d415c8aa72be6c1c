"""What `voxload run` does about baselines and the history, without placing a call."""

import json

from recorded_runs import made_run
from rich.console import Console

from voxload.cli.after_run import AfterRun
from voxload.measure.summary import read_summary
from voxload.verdict.regression import Thresholds

SCENARIO = {
    "name": "demo",
    "target": "twin",
    "load": {"shape": "constant", "arrival_rate": 20, "duration": "1s"},
    "calls": [{"name": "booking", "script": [{"listen": "500ms"}]}],
}


def test_what_is_wrong_with_a_baseline_is_found_before_the_calls(voxload):
    (voxload.folder / "scenario.yaml").write_text(json.dumps(SCENARIO))
    other = made_run(voxload.folder / "made", "r")
    voxload("baseline", "save", other, "--to", "b.json")
    for options, words in (
        (("--baseline", "none.json"), "no such baseline"),
        (("--baseline", "b.json"), "differs in load, calls"),
        (("--latency", "x"), "no percentage"),
        (("--threshold", "nothing=1%"), "METRIC=10%"),
    ):
        done = voxload("run", "scenario.yaml", *options)
        assert done.code == 2
        assert words in done.err
    assert not (voxload.folder / "results").exists()


def test_a_run_whose_calls_were_cut_off_is_unknown(voxload):
    runs = [made_run(voxload.folder / "made", f"r{n}", seed=n, calls=200) for n in (1, 2)]
    voxload("baseline", "save", runs[0], "--to", "b.json")
    summary, after = read_summary(runs[1]), AfterRun(voxload.folder / "b.json", Thresholds(), history=False)
    assert after.judged(summary, runs[1]).verdict.status == "passed"
    calls = runs[1] / "calls.jsonl.zst"
    calls.write_bytes(calls.read_bytes()[:-2000])
    judged = after.judged(summary, runs[1])
    assert (judged.verdict.status, judged.verdict.exit_code) == ("unknown", 4)
    assert "of 200 calls were written" in " ".join(judged.verdict.reasons)


def test_a_damaged_history_does_not_spoil_a_run(voxload, capsys):
    run = made_run(voxload.folder / "results", "r")
    history = voxload.folder / "results" / "history.db"
    history.write_text("nonsense" * 1000)
    AfterRun(None, Thresholds(), history=True).remember(read_summary(run), run, Console())
    assert "the history cannot be used" in capsys.readouterr().out
    assert history.read_text() == "nonsense" * 1000
