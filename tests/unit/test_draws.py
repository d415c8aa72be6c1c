"""The samplers: right distributions, and draws that depend on nothing but seed, call, turn and stage."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxload.draws import build_sampler, chance, lognormal_quantile_ns, uniform
from voxload.model.twin import Gamma, LatencySettings, Lognormal

MS = 1_000_000
COUNT = 4000


def draws(latency, seed=1, stage="llm", count=COUNT):
    sample = build_sampler(latency, seed, stage)
    return sorted(sample(f"call-{index // 5}", index % 5) for index in range(count))


def share_at_most(values, limit):
    return sum(value <= limit for value in values) / len(values)


def within_sampling_error(share, fraction, count=COUNT):
    # Five standard errors of a binomial share: fails by chance once in 1.7 million.
    return abs(share - fraction) <= 5 * math.sqrt(fraction * (1 - fraction) / count)


def test_fixed_is_always_the_same():
    assert set(draws(LatencySettings.model_validate("700ms"))) == {700 * MS}


@settings(max_examples=15, deadline=None)
@given(
    median_ms=st.integers(1, 2000),
    spread=st.floats(1.05, 8),
    fraction=st.sampled_from([0.05, 0.25, 0.5, 0.75, 0.95, 0.99]),
    seed=st.integers(0, 2**32),
)
def test_lognormal_meets_its_quantiles(median_ms, spread, fraction, seed):
    shape = Lognormal(median=f"{median_ms}ms", p95=f"{round(median_ms * spread * 1000)}us")
    values = draws(LatencySettings(lognormal=shape), seed)
    assert within_sampling_error(share_at_most(values, lognormal_quantile_ns(shape, fraction)), fraction)


def test_lognormal_is_anchored_at_the_given_percentiles():
    shape = Lognormal(median="300ms", p95="900ms")
    assert lognormal_quantile_ns(shape, 0.5) == pytest.approx(300 * MS)
    assert lognormal_quantile_ns(shape, 0.95) == pytest.approx(900 * MS)


@settings(max_examples=15, deadline=None)
@given(mean_ms=st.integers(1, 2000), shape=st.integers(1, 12), factor=st.floats(0.2, 2), seed=st.integers(0, 2**32))
def test_gamma_meets_its_distribution(mean_ms, shape, factor, seed):
    # With a whole shape k the gamma distribution is Erlang's: F(x) = 1 - exp(-y) * sum(y^n / n!), n < k,
    # y = x k / mean.
    values = draws(LatencySettings(gamma=Gamma(mean=f"{mean_ms}ms", shape=shape)), seed)
    y = factor * shape
    fraction = 1 - math.exp(-y) * sum(y**n / math.factorial(n) for n in range(shape))
    assert within_sampling_error(share_at_most(values, factor * mean_ms * MS), fraction) or fraction > 0.999


def test_empirical_draws_each_value_evenly():
    given_ns = [100 * MS, 200 * MS, 900 * MS]
    values = draws(LatencySettings(empirical=["100ms", "200ms", "900ms"]))
    assert set(values) == set(given_ns)
    assert all(within_sampling_error(values.count(value) / COUNT, 1 / 3) for value in given_ns)


@given(order=st.permutations([(f"call-{call}", turn) for call in range(4) for turn in range(3)]))
def test_draws_do_not_depend_on_arrival_order(order):
    latency = LatencySettings(lognormal=Lognormal(median="300ms", p95="900ms"))
    expected = build_sampler(latency, 7, "stt")
    shuffled = build_sampler(latency, 7, "stt")
    seen = {key: shuffled(*key) for key in order}
    assert all(expected(*key) == value for key, value in seen.items())


def test_seed_call_turn_and_stage_all_matter():
    latency = LatencySettings(gamma=Gamma(mean="1s", shape=4))
    base = build_sampler(latency, 1, "stt")("a", 1)
    others = [
        build_sampler(latency, 2, "stt")("a", 1),
        build_sampler(latency, 1, "llm")("a", 1),
        build_sampler(latency, 1, "stt")("b", 1),
        build_sampler(latency, 1, "stt")("a", 2),
    ]
    assert len({base, *others}) == 5


def test_stages_are_not_correlated():
    pairs = [(uniform(1, str(n), 0, "stt"), uniform(1, str(n), 0, "llm")) for n in range(COUNT)]
    covariance = sum((x - 0.5) * (y - 0.5) for x, y in pairs) / COUNT
    assert abs(covariance * 12) < 5 / math.sqrt(COUNT)


def test_chance_is_never_always_and_in_between():
    calls = [str(index) for index in range(COUNT)]
    assert not any(chance(0.0, 1, call, 0, "drop") for call in calls)
    assert all(chance(1.0, 1, call, 0, "drop") for call in calls)
    assert within_sampling_error(sum(chance(0.2, 1, call, 0, "drop") for call in calls) / COUNT, 0.2)
