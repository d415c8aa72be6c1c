"""What a distributed run makes of the words of its workers, and of peers that are none."""

import asyncio
import time

import msgspec
import pytest

from voxload import __version__
from voxload.clock import NS_PER_S, monotonic_ns
from voxload.engine import wire
from voxload.measure.collector import Collector
from voxload.measure.snapshot import Counters, Snapshot
from voxload.model.plan import Plan
from voxload.runners.distributed import BEHIND_S_MAX, DistributedRunner, Settings
from voxload.runners.locust.silence import Silence
from voxload.runners.locust.words import Hello, Said, encode

SCENARIO = {"name": "s", "target": "http://127.0.0.1:9", "calls": [{"name": "c", "script": [{"say": "opening_hours"}]}]}


def report(shard, end_s, calls=1):
    counters = Counters(started=calls, ended=calls, outcomes={"completed": calls})
    return Snapshot(shard, round((end_s - 1) * NS_PER_S), round(end_s * NS_PER_S), 0, 5.0, 50.0, [], counters, [])


@pytest.fixture
def spread():
    """A run that is shared out to two workers of one process each, before its first call."""
    told = []
    plan = Plan(run_id="r", scenario=SCENARIO, target="http://127.0.0.1:9")
    runner = DistributedRunner(plan, Settings(workers=2), Collector(), told=told.append)
    for name in ("a", "b"):
        say(runner, name, Hello(f"host-{name}", 1, "", __version__))
    runner._assign()
    runner.told = told
    return runner


def say(runner, name, message):
    runner._on_word(Said(name, message if isinstance(message, bytes) else encode(message)))


@pytest.mark.parametrize(
    "word", [b"\xc1 garbage", msgspec.msgpack.encode({"type": "hello", "host": "old", "cores": 4}), b""]
)
def test_a_peer_that_speaks_otherwise_is_told_of_once_and_ignored(spread, word):
    for _ in range(3):
        say(spread, "stray", word)
    assert [text for text in spread.told if text.startswith("stray")] == [
        f"stray says what voxload {__version__} does not know, and is ignored: another version?"
    ]
    say(spread, "a", wire.Prepared(0))
    assert spread._ready == {0}


def test_only_the_worker_that_has_a_shard_speaks_for_it(spread):
    spread._go()
    say(spread, "b", report(0, 1.0))
    say(spread, "stray", report(1, 1.0))
    say(spread, "a", report(0, 1.0))
    assert {shard: state.calls for shard, state in spread.collector.shards.items()} == {0: 1}


def test_a_worker_of_another_version_is_named():
    plan = Plan(run_id="r", scenario=SCENARIO, target="http://127.0.0.1:9")
    runner = DistributedRunner(plan, Settings(workers=1), Collector())
    say(runner, "a", Hello("elsewhere", 1, "", "0.0.9"))
    assert runner._failure == f"the worker on elsewhere is voxload 0.0.9, this is {__version__}"


def test_calls_that_began_late_are_a_doubt_and_late_reports_are_not(spread):
    spread._running, spread._start_ns = True, monotonic_ns() - 20 * NS_PER_S
    say(spread, "a", report(0, 20 - BEHIND_S_MAX - 1))
    say(spread, "b", report(1, 2))  # kept up somewhere
    say(spread, "b", report(1, 20))
    spread._doubt_late_starts()
    (doubt,) = spread._doubts
    assert doubt.startswith("the calls of the worker on host-a (process 0) began 4.0 s after the plan's")


def test_shards_are_not_taken_for_hung_because_the_command_was_stopped(spread, monkeypatch):
    """Ctrl-Z and fg: the shards have gone on, their reports wait to be read."""
    monkeypatch.setattr("voxload.runners.runner.SILENT_SHARD_S", 0.8)
    monkeypatch.setattr("voxload.runners.runner.STALLED_S", 0.7)
    spread._running, spread._start_ns = True, monotonic_ns()
    stops = iter([1.0])

    def on_tick(_elapsed_s):
        stop_s = next(stops, 0)
        time.sleep(stop_s)  # the whole process stands still
        if not stop_s:
            for name, shard in (("a", 0), ("b", 1)):
                say(spread, name, msgspec.structs.replace(report(shard, 1.0), final=True))

    spread.on_tick = on_tick
    asyncio.run(spread._watch())
    assert [shard.lost for shard in spread.collector.shard_health()] == ["", ""]


@pytest.mark.parametrize("noticed_s", [3, 8])
def test_calls_of_a_lost_shard_are_not_counted_as_up(spread, noticed_s):
    spread._go()
    for second in range(1, 11):
        if second <= 3:
            say(spread, "a", msgspec.structs.replace(report(0, second), active=7))
        say(spread, "b", msgspec.structs.replace(report(1, second), active=2))
        if second == noticed_s:
            spread.collector.lose(0, "killed")
    assert spread.collector.levels() == [9] * 3 + [2] * 7
    assert spread.collector.active() == 2


def test_a_shard_that_says_nothing_is_hung(spread, monkeypatch):
    monkeypatch.setattr("voxload.runners.runner.SILENT_SHARD_S", 0.6)
    spread._running, spread._start_ns = True, monotonic_ns()
    asyncio.run(spread._watch())
    assert [shard.lost for shard in spread.collector.shard_health()] == ["hung: no report for 0.6 s"] * 2
    assert spread.collector.levels() == []


def test_a_wall_clock_that_is_set_makes_no_silence():
    silence, hour = Silence(), 3600.0
    assert silence.lasted_s(None, 5 * NS_PER_S) == 0
    assert silence.lasted_s(1000.0, 6 * NS_PER_S) == 0
    assert silence.lasted_s(1000.0 + hour, 7 * NS_PER_S) == 0
    assert silence.lasted_s(1000.0, 8 * NS_PER_S) == 0  # and back
    assert silence.lasted_s(1000.0, 19 * NS_PER_S) == 11
