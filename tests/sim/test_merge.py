"""Parts of a test, each of its own seed on the virtual clock, become one run with the figures of all calls together."""

import json
import shutil

import msgspec
import pytest
from click.testing import CliRunner

from voxload.cli.merge import merge_command
from voxload.clock import NS_PER_S, monotonic_ns
from voxload.errors import BadInputError
from voxload.measure.histogram import Histogram
from voxload.measure.snapshot import Snapshot
from voxload.measure.summarize import build_summary
from voxload.measure.summary import SUMMARY_FILE, PlanFacts, PlannedPhase, RunFacts, Summary, encode_summary
from voxload.model.fingerprint import fingerprint
from voxload.model.plan import Plan
from voxload.model.scenario import Scenario
from voxload.runners.merge import merge_parts, read_parts
from voxload.runners.parts import PART_FILE, PartFile
from voxload.runners.results import ResultsFolder, read_calls
from voxload.testing.virtual import VirtualWorld

SECONDS = 8
SCENARIO = {
    "name": "spread",
    "target": "http://agent.example",
    "load": {"shape": "constant", "arrival_rate": 3, "duration": f"{SECONDS}s"},
    "calls": [{"name": "hours", "script": [{"say": "opening_hours"}, "wait_for_agent"]}],
    "twin": {"greeting": False, "latency": {"turn": {"lognormal": {"median": "600ms", "p95": "1200ms"}}}},
}
WHOLE = Scenario.model_validate(SCENARIO)
MARKS = fingerprint(WHOLE)
BEGAN_NS = monotonic_ns()


class Part(VirtualWorld):
    """One machine of the test, which writes what it has measured."""

    def __init__(self, folder, seed, share, began_s):
        super().__init__(Plan(folder.name, {**SCENARIO, "seed": seed}, "http://agent.example"))
        self.file, self.began_ns = PartFile(folder, share), BEGAN_NS + round(began_s * NS_PER_S)
        self.taken: list[Snapshot] = []

    def _report(self, end_ns, final=False):
        snapshot = self._understanding.complete(self.recorder.take(end_ns, self.placer.active, 0.0, 0.0, final))
        self.collector.add(snapshot)
        self.file.take(snapshot, self.began_ns)
        self.taken.append(snapshot)


def part(place, name, seed, share=0.5, began_s=0.0, **run):
    """A part's folder and what it measured."""
    folder = place / name
    folder.mkdir()
    world = Part(folder, seed, share, began_s)
    world.run()
    world.file.close()
    phase = PlannedPhase("hold", 0.0, float(SECONDS), 3.0, 3.0, 3 * SECONDS)
    plan = PlanFacts("open", [phase], 3 * SECONDS, float(SECONDS), {"hours": 1.0}, 20, 1, fingerprint=MARKS)
    facts = RunFacts(name, "spread", "", "2026-11-28T00:00:00+00:00", 10.0, "t", "rtmed", seed, "1")
    summary = build_summary(world.collector, msgspec.structs.replace(facts, **run), plan, WHOLE.load)
    (folder / SUMMARY_FILE).write_bytes(encode_summary(summary))
    return folder, world


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    place = tmp_path_factory.mktemp("parts")
    return [part(place, "first", 1), part(place, "second", 2, began_s=2.1)]


def merged(folders, out):
    found = read_parts(folders, "spread", MARKS)
    results = ResultsFolder(out)
    summary = merge_parts(found, "whole", WHOLE.load, MARKS, lambda snapshot: results.append_calls(snapshot.calls))
    results.close()
    return summary, list(read_calls(out))


def test_percentiles_and_counts_are_those_of_all_calls(parts, tmp_path):
    summary, calls = merged([folder for folder, _ in parts], tmp_path / "out")
    assert summary.totals.outcomes == {"completed": 6 * SECONDS}
    assert summary.levels["calls"] == summary.plan.calls == len(calls) == 6 * SECONDS
    one = Histogram()
    for call in calls:
        for turn in call.turns:
            one.record(round(turn.latency_ms * 1e6))
    assert summary.histogram("turn_latency").to_data() == one.to_data()
    for series in summary.series:  # each series, to the bucket
        both = Histogram()
        for _, world in parts:
            for other in world.collector.series():
                if (other.metric, other.labels) == (series.metric, series.labels):
                    both.merge(Histogram.from_data(other.histogram))
        assert series.histogram == both.to_data()
    assert not summary.run.doubts


def test_each_part_has_its_place_in_time(parts, tmp_path):
    summary, calls = merged([folder for folder, _ in parts], tmp_path / "out")
    assert len({call.index for call in calls}) == len(calls)
    assert [shard.calls for shard in summary.shards] == [3 * SECONDS] * 2
    assert sum(point.started for point in summary.timeline) == 6 * SECONDS
    started = [point.started for point in summary.timeline]
    assert sum(started[2:4]) > sum(started[:2])  # the second began 2 s after the first
    assert summary.timeline[-1].active == 0
    assert summary.run.environment["parts"] == "2, begun within 2 s"
    alone = max(point.active for _, world in parts for point in world.collector.timeline({}))
    assert summary.levels["peak_calls"] > alone
    second = [call.due_s for call in calls if call.shard == 1]
    assert min(second) == pytest.approx(2, abs=0.5)


def test_what_is_missing_is_a_doubt(parts, tmp_path):
    (first, _), (second, _) = parts
    shutil.copytree(second, tmp_path / "cut")
    whole = (second / PART_FILE).read_bytes()
    (tmp_path / "cut" / PART_FILE).write_bytes(whole[: len(whole) // 2])
    summary, _ = merged([first, tmp_path / "cut"], tmp_path / "out")
    assert [shard.lost for shard in summary.shards] == ["", f"{tmp_path / 'cut'} does not hold its last report"]
    third, _ = part(tmp_path, "third", 3)
    summary, _ = merged([first, second, third], tmp_path / "too-many")
    assert summary.run.doubts == ["the parts are 1.5 of the load, not all of it once: is one missing, or too many?"]
    late, _ = part(tmp_path, "late", 4, began_s=60, cut_short="interrupted")
    summary, _ = merged([late, first], tmp_path / "apart")
    assert summary.run.doubts == ["late began when the load of first was over"]
    assert summary.run.cut_short == "late: interrupted"


def test_folders_that_are_no_parts_are_all_named(parts, tmp_path):
    (first, _), _ = parts
    shutil.copytree(first, tmp_path / "copy")
    (tmp_path / "empty").mkdir()
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / PART_FILE).write_bytes(b"no compressed file")
    folders = [first, tmp_path / "copy", tmp_path / "empty", tmp_path / "strange"]
    with pytest.raises(BadInputError) as caught:
        read_parts(folders, "spread", MARKS)
    found = [str(problem) for problem in caught.value.problems]
    assert len(found) == 3, found
    assert found[0] == f"{tmp_path / 'copy'}: the same run as {first}"
    assert "not a part of a test" in found[1]
    with pytest.raises(BadInputError, match="its scenario has other calls"):
        read_parts([first], "spread", {**MARKS, "calls": "0"})
    with pytest.raises(BadInputError, match="of the scenario spread, not other"):
        read_parts([first], "other", MARKS)


def test_the_command_judges_the_whole_test(parts, tmp_path):
    gates = [f"calls >= {6 * SECONDS}", "p95(turn_latency) < 100ms"]
    scenario = tmp_path / "scenario.yaml"
    scenario.write_text(json.dumps({**SCENARIO, "gates": gates}))
    folders = [str(folder) for folder, _ in parts]

    def merge(*arguments):
        words = [str(scenario), *arguments, "--out", str(tmp_path / "results"), "--no-history", "--json"]
        return CliRunner().invoke(merge_command, words, standalone_mode=False)

    done = merge(*folders)
    assert done.return_value == 1, done.exception
    summary = msgspec.json.decode(done.stdout, type=Summary)
    assert [gate.status for gate in summary.gates] == ["pass", "fail"]
    (made,) = (tmp_path / "results").iterdir()
    assert {"report.html", "junit.xml", SUMMARY_FILE} <= {path.name for path in made.iterdir()}
    alone = merge(folders[0])
    assert "one part alone is nothing to merge" in str(alone.exception)
    assert merge(*folders, "--gate", "p95(turn_latencee) < 1s").exception.exit_code == 2
    assert list((tmp_path / "results").iterdir()) == [made]
