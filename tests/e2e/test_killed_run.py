"""A command that is killed by SIGKILL keeps what was written, and its report says that it is incomplete."""

import itertools
import os
import signal
import subprocess

import msgspec
import psutil
import pytest
from conftest import VoxloadRunner, scenario_with, wait_for

from voxload.measure.summary import read_summary
from voxload.runners import partial
from voxload.runners.results import CALLS_FILE, ResultsFolder, read_calls

LONG = scenario_with(load={"shape": "constant", "arrival_rate": 20, "duration": "60s"})


def test_a_killed_run_keeps_what_was_written(voxload):
    process = voxload.start("run", str(voxload.write(LONG)), "--processes", "2", "--quiet", "--record", "30%")

    def calls_written():
        found = list((voxload.folder / "results").glob("*/calls.jsonl.zst"))
        return found and len(list(read_calls(found[0].parent))) >= 25

    wait_for(calls_written, timeout_s=30)
    children = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    done = voxload.finish(process, 15)
    assert not (done.folder / "summary.json").exists()
    calls = list(read_calls(done.folder))
    assert len(calls) >= 25
    assert {call.outcome for call in calls} == {"completed"}
    shown = voxload("report", str(done.folder))
    assert shown.code == 0
    assert "killed: incomplete" in " ".join(shown.out.split())
    assert f"{len(calls)} calls" in " ".join(shown.out.split())
    assert "killed: incomplete" in (done.folder / "report.html").read_text()
    summary = read_summary(done.folder)
    assert summary.verdict.status == "aborted"
    assert not (done.folder / "summary.json").exists()
    recorded = [call.recording for call in calls if call.recording]
    assert len(recorded) >= 3
    for name in recorded:  # those that were not rendered yet, the report has rendered
        assert (done.folder / name).stat().st_size > 50_000
        assert (done.folder / name).with_suffix(".txt").read_text()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive, "shards and the embedded agent end with the command"


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 64 KiB."""
    place = tmp_path / "tiny"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_neither_ends_the_run_nor_loses_the_verdict(voxload, tiny_disk, monkeypatch):
    others = voxload.folder / "temporary"
    others.mkdir()
    monkeypatch.setenv("TMPDIR", str(others))
    load = {"shape": "constant", "arrival_rate": 5, "duration": "2s"}
    done = voxload.run(scenario_with(load=load), "--out", str(tiny_disk / "results"), "--record", "100%")
    assert "Traceback" not in done.err
    told = " ".join(done.out.split())
    assert "recordings are missing" in told
    assert "No space left on device" in told
    (folder,) = [path for path in (tiny_disk / "results").iterdir() if path.is_dir()]
    assert not [
        path for path in folder.rglob("*") if path.is_file() and not path.stat().st_size and path.suffix == ".spool"
    ]
    (kept,) = others.glob(f"{folder.name}-*")  # the summary, which the disk did not hold
    assert str(kept) in told
    summary = read_summary(kept)
    assert summary.totals.outcomes == {"completed": 10}
    assert done.code == summary.verdict.exit_code
    assert voxload("report", str(kept)).code == 0


@pytest.mark.parametrize("room", ["none", "little"])
def test_a_file_of_calls_on_a_full_disk_is_closed_without_a_traceback(tiny_disk, finished, room):
    results = ResultsFolder(tiny_disk / "run")
    calls = list(read_calls(finished))
    results.append_calls(calls[:1])
    free = os.statvfs(tiny_disk).f_bavail * 4096
    (tiny_disk / "filler").write_bytes(bytes(free - (4096 if room == "little" else 0)))
    for number in range(40):
        noise = [msgspec.structs.replace(call, call_id=os.urandom(400).hex(), index=number) for call in calls]
        results.append_calls(noise)
    results.close()
    assert results.losses() == ["calls.jsonl.zst: No space left on device; calls are missing"]
    kept = list(read_calls(tiny_disk / "run"))
    assert kept[0] == calls[0]
    assert len(kept) < len(calls) * 40


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a run that came to its end."""
    runner = VoxloadRunner(tmp_path_factory.mktemp("finished"))
    path = runner.write(scenario_with(load={"shape": "constant", "arrival_rate": 20, "duration": "2s"}))
    return runner("run", str(path), "--processes", "1", "--quiet").folder


def test_a_folder_without_any_figures_is_named_as_such(voxload):
    (voxload.folder / "results" / "killed").mkdir(parents=True)
    shown = voxload("report", "results/killed")
    assert shown.code == 2
    assert "results/killed: no summary.json: not a run, or one that was killed before" in shown.err


def test_a_run_that_ends_leaves_no_partial_summary(finished):
    assert (finished / "summary.json").exists()
    assert not (finished / "summary.partial.json").exists()


def test_the_partial_summary_is_written_at_intervals_that_its_cost_allows(tmp_path, finished, monkeypatch):
    summary, written = read_summary(finished), []
    without = msgspec.structs.replace(summary, timeline=[])

    def summarise(elapsed_s):
        written.append(elapsed_s)
        return without

    def points():
        yield from summary.timeline

    keeper = partial.PartialSummary(tmp_path, summarise, points, interval_s=10)
    for tick in range(200):
        keeper.on_tick(tick / 2)
    assert written[0] == 0
    assert 3 <= len(written) <= 14
    assert all(after - before >= min(10, max(1, before)) for before, after in itertools.pairwise(written))
    assert sum(at <= 10 for at in written) >= 2  # the first seconds too
    assert read_summary(tmp_path) == summary
    monkeypatch.setattr(partial, "COST_SHARE_MAX", 1e-9)  # as if it were very dear
    keeper = partial.PartialSummary(tmp_path, summarise, points, interval_s=1)
    written.clear()
    for tick in range(200):
        keeper.on_tick(tick / 2)
    assert written == [0]


@pytest.mark.parametrize("cut", [0.3, 0.9])
def test_a_file_of_calls_that_was_cut_off_gives_what_it_holds(tmp_path, finished, cut):
    whole = list(read_calls(finished))
    data = (finished / CALLS_FILE).read_bytes()
    (tmp_path / CALLS_FILE).write_bytes(data[: int(len(data) * cut)])
    found = list(read_calls(tmp_path))
    assert len(found) < len(whole)
    assert found == whole[: len(found)]
