"""`voxload compare`: the figures of two and three sides, by label, as text, JSON and a page."""

import re

import pytest
from recorded_runs import FINGERPRINT, decoded, made_probe, made_run

from voxload.measure.histogram import Histogram
from voxload.measure.summary import read_summary
from voxload.report.charts import curve


@pytest.fixture
def runs(tmp_path):
    shifts = (1.0, 1.3, 0.8)
    return [
        made_run(tmp_path / "results", f"20260101-00000{n}-demo-000{n}", seed=n + 1, shift=shift, calls=300)
        for n, shift in enumerate(shifts)
    ]


def rows_of(done):
    return {row["figure"]: row for row in decoded(done.out)["rows"]}


def test_three_runs(voxload, runs):
    done = voxload("compare", *runs, "--json")
    assert done.code == 0, done.err
    row = rows_of(done)["p50(turn_latency)"]
    slower, faster = row["changes"]
    assert (slower["word"], faster["word"]) == ("worse", "better")
    assert slower["low"] < 30 < slower["high"]
    assert faster["low"] < -20 < faster["high"]
    for run, value in zip(runs, row["values"], strict=True):
        assert value == read_summary(run).histogram("turn_latency").quantile(0.5) / 1e6
    assert rows_of(done)["p50(call_setup)"]["changes"][0]["word"] == "same"
    text = voxload("compare", *runs).out
    assert "B differs from A" in text
    assert "C differs from A" in text


def test_by_labels(voxload, runs):
    done = voxload("compare", *runs[:2], "--by", "call,phase,turn", "--metric", "turn_latency", "--json")
    rows = rows_of(done)
    figure = 'p50(turn_latency{turn="book"})'
    before = read_summary(runs[0]).histogram("turn_latency", {"turn": "book"})
    assert rows[figure]["values"][0] == before.quantile(0.5) / 1e6
    assert rows[figure]["counts"] == [300, 300]
    assert rows[figure]["changes"][0]["word"] == "worse"
    assert {'p50(turn_latency{call="billing"})', 'p50(turn_latency{phase="hold"})'} <= rows.keys()
    whole, part = rows["p50(turn_latency)"]["changes"][0], rows['p50(turn_latency{phase="ramp"})']["changes"][0]
    assert part["high"] - part["low"] > whole["high"] - whole["low"]
    assert all(name.startswith("p") for name in rows)


def test_a_ratio_by_turn_claims_no_certainty(voxload, runs):
    done = voxload("compare", *runs[:2], "--by", "turn", "--json")
    for row in decoded(done.out)["rows"]:
        if row["labels"].get("turn") and row["unit"] == "%":
            assert row["changes"][0]["word"] == "unknown"


def test_a_baseline_against_a_run(voxload, runs):
    assert voxload("baseline", "save", runs[0], "--to", "b.json").code == 0
    done = voxload("compare", "b.json", runs[1], "--by", "phase", "--json")
    rows = rows_of(done)
    straight = rows_of(voxload("compare", *runs[:2], "--by", "phase", "--json"))
    for figure in ("p50(turn_latency)", 'p95(turn_latency{phase="hold"})', "call_success"):
        assert rows[figure]["values"] == straight[figure]["values"]
        assert rows[figure]["changes"][0]["low"] == pytest.approx(straight[figure]["changes"][0]["low"], abs=2.5)
    done = voxload("compare", "b.json", runs[1], "--by", "turn")
    assert done.code == 2
    assert "keeps call and phase" in done.err


def test_the_page_holds_the_distributions(voxload, runs):
    done = voxload("compare", *runs, "--by", "call", "--html", "c.html")
    assert "c.html" in done.out
    page = (voxload.folder / "c.html").read_text()
    data = decoded(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])
    for run, drawn in zip(runs, data["curves"]["turn_latency\n"], strict=True):
        assert drawn == curve(read_summary(run).histogram("turn_latency"))
        assert drawn[1][-1] == 100
    billing = read_summary(runs[0]).histogram("turn_latency", {"call": "billing"})
    assert data["curves"]["turn_latency\ncall: billing"][0] == curve(billing)
    assert not re.search(r"\b(src|href)=", page.split("<script>")[0])
    assert page.count("</script>") == 3
    assert len(page) < 1_000_000


def test_hostile_names_stay_text(voxload):
    evil = '</script><img src=x onerror=alert(1)>\n"'
    two = [
        made_run(voxload.folder / "results", f"r{n}", scenario=evil, commit=evil, seed=n, fingerprint={})
        for n in (1, 2)
    ]
    assert voxload("compare", *two, "--html", "c.html").code == 0
    assert "<img" not in (voxload.folder / "c.html").read_text()


def test_what_can_be_wrong(voxload, runs):
    assert voxload("compare", runs[0]).code == 2
    done = voxload("compare", "nothing", "nowhere")
    assert done.code == 2
    assert "nothing" in done.err
    assert "nowhere" in done.err
    done = voxload("compare", *runs[:2], "--by", "colour", "--metric", "turn_latensy")
    assert done.code == 2
    assert "colour" in done.err
    assert "turn_latensy" in done.err


def test_other_scenarios_and_missing_calls_are_noted(voxload, runs):
    other = made_run(voxload.folder / "results", "other", fingerprint={**FINGERPRINT, "calls": "x"})
    (other / "calls.jsonl.zst").unlink()
    done = voxload("compare", runs[0], other, "--json")
    assert done.code == 0
    notes = " ".join(decoded(done.out)["notes"])
    assert "differs in calls" in notes
    assert "no intervals" in notes
    assert {row["changes"][0]["word"] for row in decoded(done.out)["rows"]} == {"unknown"}


def test_an_empty_curve_is_empty():
    assert curve(Histogram()) == [[], []]


def test_probes_stand_below_the_calls(voxload):
    """Each by itself, with its differences; without intervals, and no part of the calls' own figures."""
    slow = [made_probe(seed=2, shift=1.5, failed=10), made_probe("added")]
    runs = [
        made_run(voxload.folder / "results", f"r{n}", probes=probes)
        for n, probes in enumerate(([made_probe()], slow, [made_probe(problem="refused")]))
    ]
    done = voxload("compare", *runs, "--by", "call,probe", "--html", "c.html", "--json")
    assert done.code == 0, done.err
    rows = rows_of(done)
    sides = [read_summary(run).probe("cache") for run in runs]
    for share in (50, 95, 99):
        row = rows[f'p{share}(redis_command{{probe="cache"}})']
        values = [side.histogram("redis_command").quantile(share / 100) / 1e6 for side in sides]
        assert row["values"] == pytest.approx(values)
        assert row["counts"] == [40, 40, 40]
    change = rows['p50(redis_command{probe="cache"})']["changes"][0]
    assert 30 < change["change"] < 70
    assert (change["word"], change["low"], change["high"]) == ("unknown", None, None)
    assert rows['operation_success{probe="cache"}']["changes"][0]["change"] == pytest.approx(-20)
    assert "refused" in rows['p50(operation_latency{probe="cache"})']["changes"][1]["reason"]
    added = rows['p50(operation_latency{probe="added"})']
    assert added["values"][0] is None
    assert added["changes"][0]["reason"] == "no data in A"
    assert not any("loop_lateness" in figure for figure in rows)
    assert not {"p50(operation_latency)", "p50(redis_command)"} & rows.keys()
    assert "C: the probe cache: refused" in decoded(done.out)["notes"]
    page = (voxload.folder / "c.html").read_text()
    assert page.lower().count("<h3>cache: redis command") == 1
    data = decoded(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert data["curves"]["redis_command\nprobe: cache"][1] == curve(sides[1].histogram("redis_command"))
    done = voxload("compare", *runs, "--metric", "redis_command")
    assert "redis_command" in done.out
    assert "turn_latency" not in done.out


def test_without_intervals_the_difference_is_still_told(voxload, runs):
    (runs[1] / "calls.jsonl.zst").unlink()
    row = rows_of(voxload("compare", *runs[:2], "--json"))["p50(turn_latency)"]
    assert row["changes"][0]["change"] == pytest.approx(100 * (row["values"][1] / row["values"][0] - 1))
    assert row["changes"][0]["word"] == "unknown"
