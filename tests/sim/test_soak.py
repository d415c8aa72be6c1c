"""A long run on the virtual clock needs no more memory at its end than early on.

The short run of the suite looks at live objects; the whole day is `python -m benchmarks.soak --virtual 24h`.
"""

import gc
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from voxload.engine.call import Call
from voxload.engine.listener import Listener
from voxload.measure import collector as collector_module
from voxload.measure.collector import Collector
from voxload.measure.histogram import Histogram
from voxload.measure.levels import OPEN_SECONDS
from voxload.measure.series import Series
from voxload.measure.snapshot import Counters, Snapshot
from voxload.model.plan import Plan
from voxload.testing.virtual import VirtualWorld
from voxload.twin import desk
from voxload.twin.agent import Agent

sys.path.insert(0, str(Path(__file__).parents[2]))  # `benchmarks` is a folder of the repository, not of the package

from benchmarks.soak import live_bytes, soak_scenario


class Watched(VirtualWorld):
    """Looks at itself once a virtual second."""

    look: Callable[[float], None] = staticmethod(lambda _: None)

    def _report(self, end_ns: int, final: bool = False) -> None:
        super()._report(end_ns, final)
        if not final:
            self.look(end_ns / 1e9)


def test_memory_is_flat(monkeypatch):
    """From the middle of the run on, when what has an upper limit is full; the limits are low here to be reached."""
    monkeypatch.setattr(desk, "ENDED_CALLS_KEPT", 10)
    seen: dict[int, int] = {}
    world = Watched(Plan("soak", soak_scenario(2400, arrival_rate=0.1), "http://agent.example"))
    world.collector = Collector(stretch_s=60)

    def look(second: float) -> None:
        if round(second) in {1200, 1600, 2000, 2390}:
            seen[round(second)] = live_bytes([world.collector, world.recorder, world.placer, world.wheel])

    world.look = look
    collector = world.run()
    assert sum(collector.outcomes.values()) == 240
    assert len(seen) == 4
    assert max(seen.values()) <= 1.05 * seen[1200], seen


def snapshot(second: int, active: int = 1, shard: int = 0, **counts: dict[str, int]) -> Snapshot:
    return Snapshot(shard, (second - 1) * 10**9, second * 10**9, active, 1.0, 1.0, [], Counters(**counts), [], False)


def test_levels_are_the_same_settled_or_not():
    """Process 1 is silent for a while and keeps its level; a report that comes too late changes nothing."""
    collector = Collector()
    seconds = 3 * OPEN_SECONDS
    for second in range(1, seconds + 1):
        collector.add(snapshot(second, active=second))
        if second % 10 == 1:
            collector.add(snapshot(second, active=5, shard=1))
    assert collector.levels() == [second + 5 for second in range(1, seconds + 1)]
    assert collector.active() == seconds + 5
    collector.add(snapshot(2, active=1000))
    assert collector.levels()[1] == 7


def test_a_peer_that_invents_codes_for_hours_does_not_fill_the_memory():
    collector = Collector()
    for second in range(1, 500):
        collector.add(snapshot(second, unknown_messages={f"kind {second}": 1}, peer_errors={f"code {second}": 2}))
    totals = collector.totals()
    assert len(totals.unknown_messages) <= 51
    assert sum(totals.unknown_messages.values()) == 499
    assert sum(totals.peer_errors.values()) == 998


def measured(second: int) -> Snapshot:
    """A report of one second whose values are the second itself and twice that."""
    latency, share = Histogram(), Histogram()
    for value_ms in (second, 2 * second):
        latency.record(value_ms * 10**6)
    share.record_many(10**9, second % 7)
    share.record_many(0, 3)
    series = [Series("turn_latency", {"call": "a"}, latency.to_data()), Series("call_success", {}, share.to_data())]
    return Snapshot(0, (second - 1) * 10**9, second * 10**9, 1, 1.0, 1.0, series, Counters(ended=second), [], False)


def test_packing_the_time_line_changes_no_figure(monkeypatch):
    packed = Collector()
    monkeypatch.setattr(collector_module, "OPEN_S", 10_000)
    monkeypatch.setattr(collector_module, "RECENT_S", 10_000)
    whole = Collector()
    for second in range(1, 300):
        whole.add(measured(second))
    monkeypatch.undo()
    for second in range(1, 300):
        packed.recent("turn_latency", 60)  # as a rule that ends runs asks for it all the time
        packed.add(measured(second))
    assert list(packed.timeline({})) == list(whole.timeline({}))
    assert list(packed.timeline({}))[100].latencies["turn_latency"].count == 2
    assert packed.recent("turn_latency", 60).to_data() == whole.recent("turn_latency", 60).to_data()
    assert packed.recent("turn_latency", 60).count == 120
    assert packed.recent("call_success", 60).count < whole.recent("call_success", 60).count
    assert live_bytes([packed]) < 0.75 * live_bytes([whole])


def test_a_call_that_is_over_is_freed_without_garbage_collection():
    """Generators collect garbage seldom, because a collection holds up frames: a cycle would stay for hours."""
    scenario = soak_scenario(120, arrival_rate=1)
    scenario["calls"][0]["script"] += [
        {"barge_in": {"utterance": "cancel_appointment", "after": "300ms"}},
        {"repeat": {"until": "20s", "steps": [{"say": "opening_hours"}, "wait_for_agent"]}},
    ]
    scenario["twin"]["faults"] = {"silent_rate": 0.1, "drop_rate": 0.1, "reject_rate": 0.1, "flood_rate": 0.1}
    scenario["twin"]["envelopes"] = [{"moment": "reply", "send": {"type": "note"}}]
    world = VirtualWorld(Plan("soak", scenario, "http://agent.example"))
    gc.unfreeze()  # a shard in this process may have left calls where no collection looks
    gc.collect()
    gc.disable()
    try:
        collector = world.run()
        world.wheel.advance(world.clock() + 100 * 10**9)  # time-outs that have lost their meaning
        left = Counter(type(each) for each in gc.get_objects() if isinstance(each, Call | Agent | Listener))
    finally:
        gc.enable()
    assert sum(collector.outcomes.values()) == 120
    assert len(collector.outcomes) >= 4
    assert sum(left.values()) <= 3, left  # the last one may be held by what the test itself looks at
