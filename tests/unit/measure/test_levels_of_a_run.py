"""Numbers that stand for the whole run: levels of concurrency, and rates of a run that did not last as planned."""

import msgspec
import pytest

from voxload.measure.collector import Collector
from voxload.measure.recorder import Recorder
from voxload.measure.summarize import build_summary
from voxload.measure.summary import CallRecord, PlanFacts, RunFacts
from voxload.model.load import ConstantLoad

S = 1_000_000_000
RUN = RunFacts("r", "s", "", "2026-01-01T00:00:00Z", 60.4, "t", "rtmed", 1, "0")
PLAN = PlanFacts("open", [], 600, 600.0, {}, 20, 1)
LOAD = ConstantLoad.model_validate({"shape": "constant", "arrival_rate": 1, "duration": "600s"})


def snapshots(*reports, shard=0):
    """Yield those of (end in s, calls up, final)."""
    recorder = Recorder(shard)
    for end_s, active, final in reports:
        yield recorder.take(round(end_s * S), active, 1.0, 1.0, final)


@pytest.mark.parametrize("last_s", [3.02, 3.3, 3.49, 3.51, 3.9])
def test_the_last_report_leaves_the_second_before_as_it_was(last_s):
    collector = Collector()
    for snapshot in snapshots((1.002, 5, False), (2.001, 9, False), (3.003, 7, False), (last_s, 0, True)):
        collector.add(snapshot)
    assert collector.levels() == [5, 9, 7, 0]


def test_each_process_may_be_over_when_it_likes():
    collector = Collector()
    for snapshot in (
        *snapshots((1.002, 5, False), (1.2, 0, True)),
        *snapshots((1.001, 3, False), (2.001, 4, False), (2.7, 0, True), shard=1),
    ):
        collector.add(snapshot)
    assert collector.levels() == [8, 4, 0]


@pytest.mark.parametrize("reason", [{"cut_short": "interrupted (Ctrl-C)"}, {"stopped_early": "stop_when"}])
def test_rates_of_a_run_that_was_cut_are_of_the_time_that_it_lasted(reason):
    collector, recorder = Collector(), Recorder()
    for index in range(60):
        recorder.call_ended(CallRecord(index, f"c{index}", "c", "p", float(index), "completed"))
    collector.add(recorder.take(60 * S, 0, 1.0, 1.0, final=True))
    whole = build_summary(collector, RUN, PLAN, LOAD).levels
    assert (whole["throughput"], whole["arrival_rate"]) == (0.1, 0.1)
    cut = build_summary(collector, msgspec.structs.replace(RUN, **reason), PLAN, LOAD).levels
    assert cut["throughput"] == cut["arrival_rate"] == pytest.approx(60 / 60.4)
