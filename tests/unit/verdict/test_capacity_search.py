"""The search finds a limit that is there, whatever chance does to single probes."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxload.verdict.capacity import Probe, SearchSettings, capacity, next_load


def run(target, start=10.0, maximum=10_000.0, probes_max=200, **changes):
    chosen = SearchSettings(start=start, maximum=maximum, **changes)
    probes = []
    while (load := next_load(chosen, probes)) is not None:
        assert len(probes) < probes_max, [probe.load for probe in probes]
        probes.append(Probe(load, target(load), ("too much",)))
    return capacity(chosen, probes), probes


def limit(value):
    return lambda load: "passed" if load <= value else "failed"


@given(st.integers(1, 5000), st.integers(1, 300))
@settings(max_examples=200, deadline=None)
def test_a_sharp_limit_is_found_within_the_tolerance(value, start):
    found, probes = run(limit(value), start=float(start))
    assert found.done
    assert found.passes is not None
    assert found.fails is not None
    assert found.passes <= value < found.fails
    assert found.fails - found.passes <= max(1.0, 0.05 * found.passes)
    assert sum(probe.load == found.passes for probe in probes) >= 2
    assert sum(probe.load == found.fails for probe in probes) >= 2
    assert found.breaking == ("too much",)


def test_rates_are_searched_in_fractions():
    found, _ = run(limit(3.37), start=1.0, resolution=0.1, tolerance=0.01)
    assert found.passes == pytest.approx(3.3)
    assert found.fails == pytest.approx(3.4)


@pytest.mark.parametrize("seed", range(20))
def test_chance_failures_do_not_lower_the_answer_far(seed):
    """One probe in twenty fails for no reason of the load."""
    chance = random.Random(seed)
    found, _ = run(lambda load: "failed" if load > 60 or chance.random() < 0.05 else "passed")
    assert found.done
    assert 45 <= found.passes <= 60


def test_a_chance_failure_in_the_ramp_is_looked_at_again():
    tried = []

    def target(load):
        tried.append(load)
        return "failed" if load > 100 or (load == 23 and tried.count(23) == 1) else "passed"

    found, _ = run(target)
    assert found.done
    assert 95 <= found.passes <= 100


def test_a_load_that_passes_once_and_then_fails_is_not_the_capacity():
    tried = []

    def target(load):
        tried.append(load)
        return "passed" if load <= 40 or (load <= 60 and tried.count(load) == 1) else "failed"

    found, _ = run(target)
    assert found.done
    assert 38 <= found.passes <= 40


def test_the_maximum_bounds_the_search():
    found, probes = run(limit(1e9), maximum=50.0)
    assert (found.passes, found.fails, found.bound, found.done) == (50.0, None, "maximum", True)
    assert max(probe.load for probe in probes) == 50


def test_a_target_that_carries_nothing():
    found, _ = run(limit(0))
    assert (found.passes, found.bound, found.done) == (None, "start", True)


def test_a_generator_that_falls_behind_ends_the_search_with_what_is_known():
    found, probes = run(lambda load: "passed" if load <= 30 else "unknown")
    assert (found.passes, found.fails, found.bound, found.done) == (23, None, "generator", True)
    assert [probe.status for probe in probes[-3:]] == ["unknown"] * 3


def test_one_probe_that_cannot_be_trusted_is_repeated():
    tried = []

    def target(load):
        tried.append(load)
        return "unknown" if len(tried) == 3 else limit(60)(load)

    found, _ = run(target)
    assert found.done
    assert 57 <= found.passes <= 60


def test_the_next_load_depends_on_the_probes_alone():
    """So a search can be resumed after any of them."""
    chosen = SearchSettings(start=10, maximum=1000)
    _, probes = run(limit(60))
    for count in range(len(probes)):
        assert next_load(chosen, probes[:count]) == probes[count].load
