"""`voxload history`: import, list, trend, changes, prune; many writers; bad files."""

import re
import sqlite3
import subprocess
import sys

import pytest
from recorded_runs import decoded, made_probe, made_run

from voxload.clock import utc_ago
from voxload.measure.summary import read_summary
from voxload.report.history import sparkline
from voxload.runners.history import History


@pytest.fixture
def months(voxload):
    """24 runs, one a day; from the 15th on turns take 30 % longer; every other run is on a branch."""
    for day in range(24):
        made_run(
            voxload.folder / "results",
            f"202601{day + 1:02d}-000000-demo-{day:04d}",
            started_at=f"2026-01-{day + 1:02d}T00:00:00+00:00",
            seed=day + 1,
            shift=1.3 if day >= 14 else 1.0,
            calls=100,
            commit=f"c{day + 1:02d}",
            branch="main" if day % 2 else "topic",
        )
    done = voxload("history", "import", *sorted((voxload.folder / "results").glob("*")))
    assert done.code == 0, done.err
    assert "24 runs added" in done.out
    return voxload


def test_runs_are_listed_and_chosen(months):
    rows = decoded(months("history", "--json").out)
    assert len(rows) == 24
    run = read_summary(months.folder / "results" / rows[3]["run_id"])
    assert rows[3]["figures"]["p95(turn_latency)"] == run.histogram("turn_latency").quantile(0.95) / 1e6
    assert rows[3]["figures"]["call_success"] == 100
    assert len(decoded(months("history", "list", "--limit", "5", "--json").out)) == 5
    assert len(decoded(months("history", "--branch", "topic", "--json").out)) == 12
    assert len(decoded(months("history", "--since", "2026-01-20", "--json").out)) == 5
    shown = months("history", "--scenario", "demo").out
    assert "c24" in shown
    for choice in (("--scenario", "other"), ("--branch", "x"), ("--since", "2030-01-01")):
        done = months("history", *choice)
        assert done.code == 2
        assert "no run fits" in done.err
    assert months("history", "--since", "soon").code == 2


def test_importing_again_changes_nothing(months):
    done = months("history", "import", *sorted((months.folder / "results").glob("*")))
    assert "0 runs added, 24 known already, 1 folder without a summary passed over" in done.out
    (months.folder / "results" / "broken").mkdir()
    (months.folder / "results" / "broken" / "summary.json").write_text("{")
    done = months("history", "import", *sorted((months.folder / "results").glob("*")))
    assert done.code == 2
    assert "broken" in done.err
    assert months("history", "import", "nothing").code == 2


def test_the_commits_between_which_a_figure_moved(months):
    found = decoded(months("history", "changes", "--json").out)
    turns = {trend["figure"]: trend for trend in found}
    assert "p50(turn_latency)" in turns
    assert "p95(call_setup)" not in turns
    (change,) = turns["p50(turn_latency)"]["changes"]
    assert change["at"] == 14
    assert "c14" in change["words"]
    assert "c15" in change["words"]
    assert "p50(turn_latency)" in months("history", "changes", "--figure", "turn_latency").out
    assert "No figure has moved" in months("history", "changes", "--figure", "call_setup").out
    assert "fewer than 10 runs" in months("history", "changes", "--since", "2026-01-20").out


def test_trends_on_a_terminal_and_on_a_page(months):
    done = months("history", "trend", "--figure", "turn_latency", "--html", "trend.html")
    assert done.code == 0
    assert "demo (24 runs)" in done.out
    assert "moved:" in done.out
    assert any(bar in done.out for bar in "▁█")
    page = (months.folder / "trend.html").read_text()
    assert len(re.findall(r"<circle", page)) == 24 * 3
    assert "<script" not in page
    assert 'class="change"' in page
    done = months("history", "trend", "--figure", "turn_latensy")
    assert done.code == 2
    assert "p95(turn_latency)" in done.err


def test_untrusted_runs_are_listed_and_not_judged(voxload):
    for day in range(20):
        made_run(
            voxload.folder / "results", f"r{day:02d}", started_at=f"2026-01-{day + 1:02d}T00:00:00+00:00", seed=day + 1,
            calls=60, shift=3.0 if day >= 12 else 1.0, status="unknown" if day >= 12 else "passed",
        )  # fmt: skip
    voxload("history", "import", *sorted((voxload.folder / "results").glob("r*")))
    assert decoded(voxload("history", "changes", "--figure", "turn_latency", "--json").out) == []
    (trend,) = decoded(voxload("history", "trend", "--figure", "p50(turn_latency)", "--json").out)
    assert len(trend["points"]) == 20


def test_forms_of_a_scenario_are_series_of_their_own(voxload):
    for number in range(4):
        made_run(voxload.folder / "results", f"r{number}", fingerprint={"load": str(number % 2)}, calls=30)
    voxload("history", "import", *(voxload.folder / "results").glob("r*"))
    trends = decoded(voxload("history", "trend", "--figure", "p50(turn_latency)", "--json").out)
    assert [(trend["title"], len(trend["points"])) for trend in trends] == [("demo (form 1)", 2), ("demo (form 2)", 2)]


def test_old_runs_are_forgotten(months):
    assert "10 runs forgotten" in months("history", "prune", "--older-than", "2026-01-11").out
    assert len(decoded(months("history", "--json").out)) == 14
    path = months.folder / "results" / "history.db"
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(DISTINCT run_id) FROM figures").fetchone() == (14,)
    made_run(months.folder / "results", "new", started_at=utc_ago(3600).isoformat(timespec="seconds"), calls=30)
    months("history", "import", months.folder / "results" / "new")
    assert "14 runs forgotten" in months("history", "prune", "--older-than", "1d").out
    assert [row["run_id"] for row in decoded(months("history", "--json").out)] == ["new"]


def test_empty_missing_and_damaged_files(voxload):
    for command in ((), ("trend",), ("changes",), ("prune", "--older-than", "1d")):
        done = voxload("history", *command)
        assert done.code == 2
        assert "the history is empty" in done.err
    path = voxload.folder / "h.db"
    path.write_bytes(b"nonsense " * 200)
    done = voxload("history", "--file", path)
    assert done.code == 2
    assert "history import" in done.err
    run = made_run(voxload.folder / "results", "r", calls=30)
    assert voxload("history", "import", run, "--file", path).code == 2
    assert path.read_bytes().startswith(b"nonsense")
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE other (x)")
    assert "no history of voxload" in voxload("history", "--file", path).err
    path.unlink()
    voxload("history", "import", run, "--file", path)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 9")
    assert "history of version 9" in voxload("history", "--file", path).err


def test_many_writers_at_once(tmp_path):
    code = (
        "import sys; from pathlib import Path; from voxload.runners.history import History;"
        "from voxload.measure.summary import read_summary;"
        "[History(Path(sys.argv[1])).add(read_summary(Path(run)), run) for run in sys.argv[2:]]"
    )
    runs = [made_run(tmp_path, f"r{number:02d}", calls=20, seed=number) for number in range(12)]
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "history.db"), *map(str, runs[start::3])])
        for start in range(3)
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert len(History(tmp_path / "history.db").runs()) == 12


def test_sparkline():
    assert sparkline([1, 2, 3, 8]) == "▁▂▃█"
    assert sparkline([5, 5]) == "▄▄"
    assert sparkline([]) == ""
    assert len(sparkline(range(100))) == 40


def test_figures_of_probes_have_a_history_too(voxload):
    """From the 9th run on the cache is slower; in the 16th its probe could not be judged."""
    for day in range(16):
        probe = made_probe(seed=day, shift=1.4 if day >= 8 else 1.0, problem="refused" if day == 15 else "")
        started_at = f"2026-01-{day + 1:02d}T00:00:00+00:00"
        made_run(voxload.folder / "results", f"r{day:02d}", started_at=started_at, calls=30, seed=1, probes=[probe])
    voxload("history", "import", *(voxload.folder / "results").glob("r*"))
    figure = 'p95(operation_latency{probe="cache"})'
    rows = decoded(voxload("history", "--json").out)
    own = read_summary(voxload.folder / "results" / "r03").probe("cache").histogram("operation_latency")
    assert rows[3]["figures"][figure] == pytest.approx(own.quantile(0.95) / 1e6)
    assert rows[3]["figures"]['operation_success{probe="cache"}'] == 100
    assert "p95(operation_latency)" not in rows[3]["figures"]
    assert figure not in rows[15]["figures"]
    found = {trend["figure"]: trend for trend in decoded(voxload("history", "changes", "--json").out)}
    assert set(found) == {figure}, "shown without being named; and no figure of the calls has moved"
    assert found[figure]["changes"][0]["at"] == 8
    trends = decoded(voxload("history", "trend", "--figure", "redis_command", "--json").out)
    assert [trend["figure"] for trend in trends] == [f'p{n}(redis_command{{probe="cache"}})' for n in (50, 95, 99)]
    assert figure in voxload("history", "trend", "--figure", 'operation_latency{probe="cache"}').out
