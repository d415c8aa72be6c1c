"""`voxload baseline`: save, pool, check, list, show, and what is wrong with files."""

import json
from pathlib import Path

import pytest
from recorded_runs import FINGERPRINT, decoded, made_run

from voxload.measure.histogram import Histogram, merged
from voxload.measure.packing import unpack_series
from voxload.measure.summary import read_summary
from voxload.verdict.baseline import read_baseline

EXAMPLE = Path(__file__).parents[3] / "examples" / "specification-baseline.json"


def made(folder, number, **options):
    return made_run(folder / "results", f"20260101-00000{number}-demo-000{number}", seed=number, **options)


def saved(voxload, *numbers):
    runs = [made(voxload.folder, number) for number in numbers]
    assert voxload("baseline", "save", *runs).code == 0
    return voxload.folder / "baselines" / "demo.json", runs


def test_a_baseline_of_two_runs_is_that_of_their_calls(voxload):
    path, runs = saved(voxload, 1, 2)
    baseline = read_baseline(path)
    assert [run.calls for run in baseline.runs] == [120, 120]
    assert baseline.runs[0].git_commit == "abc123"
    series = unpack_series(baseline.histograms)
    for metric in ("turn_latency", "call_success", "message_rtt"):
        of_runs = merged(read_summary(run).histogram(metric) for run in runs)
        kept = merged(Histogram.from_data(each.histogram) for each in series if each.metric == metric)
        assert kept.to_data() == of_runs.to_data()
    assert path.stat().st_size < 40_000


def test_adding_a_run_gives_what_saving_all_at_once_gives(voxload):
    path, _ = saved(voxload, 1)
    third = made(voxload.folder, 3)
    assert voxload("baseline", "save", third, "--add").code == 0
    added = read_baseline(path)
    runs = sorted((voxload.folder / "results").iterdir())
    assert voxload("baseline", "save", *runs, "--to", "both.json").code == 0
    both = read_baseline(voxload.folder / "both.json")
    assert (added.metrics, added.histograms, added.calls) == (both.metrics, both.histograms, both.calls)
    done = voxload("baseline", "save", third, "--add")
    assert done.code == 2
    assert "is in the baseline already" in done.err
    assert "--replace" in voxload("baseline", "save", third).err


def test_a_slower_run_fails_and_an_equal_one_passes(voxload):
    saved(voxload, 1, 2, 3)
    same = voxload("baseline", "check", made(voxload.folder, 4))
    assert same.code == 0, same.out
    assert "No regression" in same.out
    slower = voxload("baseline", "check", made(voxload.folder, 5, shift=1.5), "--json")
    assert slower.code == 1
    report = decoded(slower.out)
    assert {"timestamp", "baseline_version", "test_summary", "regressions", "improvements"} <= report.keys()
    assert report["timestamp"] == "2026-01-01T00:00:00+00:00"
    assert {"p50", "p95", "p99", "success_rate"} <= report["test_summary"].keys()
    worse = {item["metric"]: item for item in report["regressions"]}
    assert 35 < worse["turn_latency_p50"]["regression_percent"] < 65
    assert worse["turn_latency_p50"]["low"] < 50 < worse["turn_latency_p50"]["high"]
    faster = voxload("baseline", "check", made(voxload.folder, 6, shift=0.6), "--json")
    assert faster.code == 0
    assert "turn_latency_p50" in {item["metric"] for item in decoded(faster.out)["improvements"]}


def test_thresholds_can_be_set(voxload):
    saved(voxload, 1, 2, 3)
    slower = made(voxload.folder, 5, shift=1.5)
    for options in (("--latency", "80%"), ("--threshold", "turn_latency=80%")):
        done = voxload("baseline", "check", slower, *options)
        assert done.code == 0, done.out
    (voxload.folder / "quality-gates.yml").write_text("regression_thresholds: {response_time_degradation: 80}\n")
    assert voxload("baseline", "check", slower, "--gates", "quality-gates.yml").code == 0
    assert voxload("baseline", "check", slower, "--gates", "quality-gates.yml", "--latency", "10%").code == 1
    exact = decoded(voxload("baseline", "check", made(voxload.folder, 6), "--latency", "0%", "--json").out)
    assert "unknown" not in {change["status"] for change in exact["changes"]}
    done = voxload("baseline", "check", slower, "--latency", "x", "--threshold", "nothing=3%")
    assert done.code == 2
    assert "--latency" in done.err
    assert "nothing" in done.err


def test_other_scenarios_and_untrusted_runs_are_refused(voxload):
    path, _ = saved(voxload, 1)
    other = made(voxload.folder, 2, fingerprint={**FINGERPRINT, "load": "other"}, scenario="elsewhere")
    done = voxload("baseline", "check", other, "--baseline", path)
    assert done.code == 2
    assert "scenario 'demo'" in done.err
    assert "differs in load" in done.err
    assert voxload("baseline", "save", other, "--add", "--to", path).code == 2
    cut = made(voxload.folder, 3, cut_short="interrupted (Ctrl-C)")
    assert "cannot be trusted" in voxload("baseline", "save", cut, "--to", "x.json").err
    short = made(voxload.folder, 4, calls=300) / "calls.jsonl.zst"
    short.write_bytes(short.read_bytes()[:-3000])
    assert "calls were written" in voxload("baseline", "save", short.parent, "--to", "x.json").err
    done = voxload("baseline", "check", cut)
    assert done.code == 4
    ended = made(voxload.folder, 5, stopped_early="error_rate > 5%")
    assert "ended early: error_rate" in voxload("baseline", "save", ended, "--to", "x.json").err
    assert "interrupted" in done.out


def test_a_run_without_its_calls_is_unknown(voxload):
    saved(voxload, 1)
    run = made(voxload.folder, 2)
    (run / "calls.jsonl.zst").unlink()
    assert voxload("baseline", "check", run).code == 4
    assert "calls.jsonl.zst" in voxload("baseline", "save", run, "--add").err
    few = made(voxload.folder, 3, calls=20)
    done = voxload("baseline", "check", few)
    assert done.code == 4
    assert "only 20 calls" in done.out


def test_list_and_show(voxload):
    saved(voxload, 1, 2)
    assert "demo" in voxload("baseline", "list").out
    (row,) = decoded(voxload("baseline", "list", "--json").out)
    assert (row["runs"], row["calls"]) == (2, 240)
    shown = voxload("baseline", "show", "baselines/demo.json")
    assert "turn_latency" in shown.out
    assert decoded(voxload("baseline", "show", "baselines/demo.json", "--json").out)["scenario"] == "demo"
    (voxload.folder / "baselines" / "broken.json").write_text("{")
    done = voxload("baseline", "list")
    assert done.code == 2
    assert "demo" in done.out
    assert "broken.json" in done.err
    assert voxload("baseline", "list", "nowhere").code == 2


def edited(path, change):
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data.update(kind="something"), "not a baseline"),
        (lambda data: data.update(version=99), "baseline of version 99"),
        (lambda data: data.update(runs="x"), "not a baseline"),
        (lambda data: data.update(calls=data["calls"][:-40]), "damaged"),
        (lambda data: data.update(histograms="AAAA"), "damaged"),
        (lambda data: data["metrics"]["turn_latency"].update(p95=1.0), "edited by hand"),
    ],
)
def test_a_bad_file_is_a_clear_error(voxload, change, words):
    path, runs = saved(voxload, 1)
    edited(path, change)
    done = voxload("baseline", "check", runs[0])
    assert done.code == 2
    assert words in done.err
    assert "demo.json" in done.err


def test_a_file_that_is_not_there_or_no_json(voxload):
    run = made(voxload.folder, 1)
    done = voxload("baseline", "check", run)
    assert done.code == 2
    assert "voxload baseline save" in done.err
    (voxload.folder / "x.json").write_bytes(b"\xff\x00")
    assert voxload("baseline", "check", run, "--baseline", "x.json").code == 2


def test_the_specification_s_baseline(voxload):
    points = read_baseline(EXAMPLE).metrics
    assert points["call_setup"] == {"unit": "s", "p50": 1.2, "p95": 2.1, "p99": 3.5}
    assert points["voice_response"] == {"unit": "ms", "p50": 85, "p95": 140, "p99": 200}
    run = made(voxload.folder, 1, calls=1200)
    done = voxload("baseline", "check", run, "--baseline", EXAMPLE, "--json")
    report = decoded(done.out)
    by_figure = {change["figure"]: change for change in report["changes"]}
    assert by_figure["p95(call_setup)"]["baseline"] == 2100
    assert by_figure["p95(call_setup)"]["status"] == "improvement"
    assert by_figure["concurrent_calls"]["status"] == "unknown"  # 100 of the 1,000, and no more were offered
    assert "concurrent_calls: the load offered no more than " in " ".join(report["reasons"])
    assert by_figure["call_success"]["status"] == "unchanged"
    assert "voice_response: no data" in " ".join(report["reasons"])
    assert report["baseline_version"] == "v1.0"
    assert done.code == 4


def test_every_mistake_of_stated_figures_is_told_with_its_line(voxload):
    run = made(voxload.folder, 1)
    path = voxload.folder / "stated.json"
    text = """{"kind": "voxload-baseline", "version": 1, "baseline_version": "x",
  "metrics": {
    "turn_latensy": {"unit": "ms", "p50": 1},
    "call_setup": {"unit": "parsecs", "p50": 1},
    "message_rtt": {"unit": "ms", "p42": 1}
  }}"""
    path.write_text(text)
    done = voxload("baseline", "check", run, "--baseline", path)
    assert done.code == 2
    for line, word in ((3, "did you mean turn_latency"), (4, "parsecs"), (5, "p42")):
        assert f"stated.json:{line}: " in done.err
        assert word in done.err
