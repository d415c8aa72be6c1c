"""What a probe of the capacity says of its run is what the run says of itself."""

import pytest

from voxload.measure.collector import Collector
from voxload.measure.recorder import Recorder
from voxload.measure.summarize import build_summary
from voxload.measure.summary import CallRecord, PlanFacts, RunFacts
from voxload.model.load import ConstantLoad
from voxload.runners.capacity import probe_of
from voxload.verdict.gate import judge

NS_PER_S = 1_000_000_000


@pytest.mark.parametrize("tail_s", [0, 20])
def test_throughput_is_that_of_the_load_whatever_its_calls_take(tail_s):
    run = RunFacts("r", "s", "", "2026-01-01T00:00:00Z", 30.0 + tail_s, "t", "rtmed", 1, "0")
    load = ConstantLoad.model_validate({"shape": "constant", "arrival_rate": 2, "duration": "30s"})
    collector, recorder = Collector(), Recorder()
    for index in range(60):
        recorder.call_ended(CallRecord(index, f"c{index}", "c", "p", index / 2, "completed"))
    collector.add(recorder.take((30 + tail_s) * NS_PER_S, 0, 1.0, 1.0, final=True))
    summary = judge(build_summary(collector, run, PlanFacts("open", [], 60, 30.0, {}, 20, 1), load), [])
    probe = probe_of(2.0, summary)
    assert (probe.status, probe.calls) == ("passed", 60)
    assert probe.throughput_per_s == summary.levels["throughput"] == 2.0
