from __future__ import annotations

import itertools
import math
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from voxload.clock import NS_PER_S
from voxload.load.arrivals import Arrival, arrivals, closed_starts, count_calls, slice_arrivals
from voxload.model.load import ConcurrencyLoad, DayLoad, Phase, StagesLoad
from voxload.runners.overrides import stretched

rates = st.one_of(st.just(0.0), st.floats(0.01, 40), st.integers(0, 40).map(float))


@st.composite
def phase_lists(draw: st.DrawFn) -> tuple[Phase, ...]:
    sizes = draw(st.lists(st.tuples(st.integers(1, 20_000), rates, rates), min_size=1, max_size=4))
    return tuple(Phase(f"p{n}", ms * 1_000_000, start, end) for n, (ms, start, end) in enumerate(sizes))


def area_until(phases: tuple[Phase, ...], at_ns: int) -> float:
    """The cumulative rate, computed apart from the code under test."""
    area, start_ns = 0.0, 0
    for phase in phases:
        share = min(max((at_ns - start_ns) / phase.duration_ns, 0.0), 1.0)
        mean = phase.rate_start_per_s + (phase.rate_end_per_s - phase.rate_start_per_s) * share / 2
        area += mean * share * phase.duration_ns / NS_PER_S
        start_ns += phase.duration_ns
    return area


@given(phase_lists())
def test_even_arrivals_follow_the_cumulative_rate(phases):
    found = list(arrivals(phases, "even", 1))
    area = sum(phase.calls for phase in phases)
    total_ns = sum(phase.duration_ns for phase in phases)
    assert len(found) in {math.ceil(area), math.ceil(area - 1e-6)}
    assert [arrival.index for arrival in found] == list(range(len(found)))
    for arrival in found:
        assert 0 <= arrival.due_ns < total_ns
        assert area_until(phases, arrival.due_ns) == pytest.approx(arrival.index, abs=1e-4)
    assert all(a.due_ns <= b.due_ns for a, b in itertools.pairwise(found))


@given(phase_lists(), st.sampled_from(["even", "poisson"]), st.integers(0, 2**32))
def test_counts_by_phase_are_those_of_the_sequence(phases, process, seed):
    found = list(arrivals(phases, process, seed))
    by_phase = [sum(arrival.phase == phase.name for arrival in found) for phase in phases]
    assert count_calls(phases, process, seed) == by_phase
    start_ns = 0
    for phase in phases:
        inside = [arrival for arrival in found if arrival.phase == phase.name]
        assert all(start_ns <= arrival.due_ns < start_ns + phase.duration_ns for arrival in inside)
        start_ns += phase.duration_ns


@given(phase_lists(), st.sampled_from(["even", "poisson"]), st.integers(0, 2**32), st.integers(1, 9))
def test_slices_are_a_partition(phases, process, seed, shards):
    whole = list(arrivals(phases, process, seed))
    parts = [list(slice_arrivals(arrivals(phases, process, seed), shard, shards)) for shard in range(shards)]
    assert all(arrival.index % shards == shard for shard, part in enumerate(parts) for arrival in part)
    assert sorted(itertools.chain(*parts), key=lambda arrival: arrival.index) == whole


def test_constant_rate_is_exact():
    found = list(arrivals((Phase("c", 10 * NS_PER_S, 20, 20),), "even", 1))
    assert [arrival.due_ns for arrival in found] == [k * 50_000_000 for k in range(200)]


def test_first_call_is_due_when_the_rate_rises_above_zero():
    phases = (Phase("idle", 3 * NS_PER_S, 0, 0), Phase("busy", NS_PER_S, 2, 2))
    found = list(arrivals(phases, "even", 1))
    assert found == [Arrival(0, 3 * NS_PER_S, "busy"), Arrival(1, 3_500_000_000, "busy")]


def test_no_rate_no_calls():
    assert list(arrivals((Phase("idle", NS_PER_S, 0, 0),), "poisson", 1)) == []
    assert list(arrivals((Phase("idle", NS_PER_S, 0, 0),), "even", 1)) == []


def test_ramp_density_grows_linearly():
    found = list(arrivals((Phase("ramp", 100 * NS_PER_S, 0, 20),), "even", 1))
    assert len(found) == 1000
    tenths = [sum(k * 10 <= arrival.due_ns / NS_PER_S < (k + 1) * 10 for arrival in found) for k in range(10)]
    for number, count in enumerate(tenths):
        assert abs(count - (20 * number + 10)) <= 1


def test_poisson_gaps_are_exponential():
    found = [arrival.due_ns / NS_PER_S for arrival in arrivals((Phase("c", 2000 * NS_PER_S, 5, 5),), "poisson", 11)]
    assert len(found) == pytest.approx(10_000, abs=4 * 100)
    gaps = [b - a for a, b in itertools.pairwise([0.0, *found])]
    assert stats.kstest(gaps, "expon", args=(0, 1 / 5)).pvalue > 0.01
    assert abs(stats.spearmanr(gaps[:-1], gaps[1:]).statistic) < 0.05


def test_poisson_ramp_is_uniform_on_the_scale_of_its_area():
    # Given their number, the arrivals of a Poisson process are independent with the density of the rate.
    phases = (Phase("up", 600 * NS_PER_S, 0, 20), Phase("down", 300 * NS_PER_S, 20, 2))
    total = sum(phase.calls for phase in phases)
    found = [area_until(phases, arrival.due_ns) / total for arrival in arrivals(phases, "poisson", 3)]
    assert stats.kstest(found, "uniform").pvalue > 0.01


def test_seeds_differ_and_repeat():
    phases = (Phase("c", 10 * NS_PER_S, 5, 5),)
    assert list(arrivals(phases, "poisson", 1)) == list(arrivals(phases, "poisson", 1))
    assert list(arrivals(phases, "poisson", 1)) != list(arrivals(phases, "poisson", 2))


def test_memory_is_bounded_over_a_long_run():
    soak = itertools.islice(arrivals((Phase("soak", 14_400 * NS_PER_S, 50, 50),), "poisson", 1), 100_000)
    tracemalloc.start()
    try:
        assert sum(1 for _ in soak) == 100_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100_000


@given(st.integers(1, 300), st.integers(1, 60), st.integers(0, 60), st.integers(1, 7))
@settings(max_examples=50)
def test_closed_callers_are_dealt_out_once(concurrency, duration_s, ramp_s, shards):
    load = ConcurrencyLoad.model_validate(
        {"shape": "concurrency", "concurrency": concurrency, "duration": duration_s, "ramp_up": min(ramp_s, duration_s)}
    )
    parts = [list(closed_starts(load, shard, shards)) for shard in range(shards)]
    callers = sorted(itertools.chain(*parts), key=lambda arrival: arrival.index)
    assert [caller.index for caller in callers] == list(range(concurrency))
    assert all(caller.index % shards == shard for shard, part in enumerate(parts) for caller in part)
    assert all(a.due_ns <= b.due_ns for a, b in itertools.pairwise(callers))
    assert all(0 <= caller.due_ns < max(load.ramp_up_ns, 1) for caller in callers)
    assert {caller.phase for caller in callers} == {"ramp" if load.ramp_up_ns else "hold"}


def test_a_day_has_its_calls_by_the_hour():
    load = DayLoad(shape="day", calls=100_000)
    phases = load.phases()
    assert (len(phases), phases[10].name) == (24, "h10")
    assert sum(phase.calls for phase in phases) == pytest.approx(100_000)
    assert max(phases, key=lambda phase: phase.calls) is phases[10]
    assert phases[10].calls == pytest.approx(15_000)
    counts = count_calls(phases, load.process, 7)
    assert sum(counts) == pytest.approx(100_000, rel=0.02)
    assert counts[10] == pytest.approx(15_000, rel=0.04)
    night = DayLoad(shape="day", calls=240, hours=[0] * 23 + [2], process="even")
    assert count_calls(night.phases(), night.process, 7) == [0] * 23 + [240]
    with pytest.raises(ValueError, match="the hours place no call"):
        DayLoad(shape="day", calls=1, hours=[0] * 24)


def test_a_shortened_day_keeps_its_rates():
    load = DayLoad(shape="day", calls=100_000)
    short = StagesLoad.model_validate(stretched(load, 24 * 10**9))
    assert [phase.name for phase in short.phases()] == [phase.name for phase in load.phases()]
    assert {phase.duration_ns for phase in short.phases()} == {10**9}
    assert [phase.rate_start_per_s for phase in short.phases()] == [phase.rate_start_per_s for phase in load.phases()]
    assert short.process == "poisson"
