"""The histogram: its error bound, exact merges, and agreement with the HdrHistogram port."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given
from hypothesis import strategies as st

from voxload.measure.histogram import (
    BUCKETS,
    RELATIVE_ERROR,
    VALUE_MAX,
    Histogram,
    bucket_bounds,
    bucket_index,
    merged,
    rank_of,
)

values = st.integers(0, VALUE_MAX) | st.integers(0, 5000) | st.integers(10**6, 10**10)


def filled(numbers):
    histogram = Histogram()
    for number in numbers:
        histogram.record(number)
    return histogram


@given(values)
def test_each_value_lies_within_its_bucket(value):
    low, high = bucket_bounds(bucket_index(value))
    assert low <= value <= high
    assert abs((low + high) / 2 - value) <= RELATIVE_ERROR * value
    if low:
        assert bucket_index(low - 1) == bucket_index(low) - 1


@given(values)
def test_record_uses_the_same_bucket_as_bucket_index(value):
    assert list(filled([value]).counts) == [bucket_index(value)]


@given(st.lists(values, min_size=1, max_size=200), st.floats(0, 1))
def test_a_quantile_is_within_the_bound_of_the_nearest_rank(numbers, fraction):
    rank = min(max(math.ceil(fraction * len(numbers)), 1), len(numbers))
    exact = sorted(numbers)[rank - 1]
    assert filled(numbers).quantile(fraction) == pytest.approx(exact, rel=RELATIVE_ERROR * 1.001, abs=0.5)


@given(st.lists(st.lists(values, max_size=60), max_size=5))
def test_merging_is_the_same_as_recording_everything_in_one(parts):
    one = filled([number for part in parts for number in part])
    many = merged(Histogram.from_data(filled(part).to_data()) for part in parts)
    assert many.to_data() == one.to_data()
    assert many.quantile(0.95) == one.quantile(0.95)


@given(st.lists(st.integers(1, 10**10), min_size=20, max_size=300))
def test_agrees_with_hdrhistogram(numbers):
    peer = HdrHistogram(1, 10**11, 3)
    for number in numbers:
        peer.record_value(number)
    ours = filled(numbers)
    for percentile in (50, 90, 99):
        # the port rounds the rank to the nearest, we round it up: at most one rank apart
        low = peer.get_value_at_percentile(percentile)
        high = peer.get_value_at_percentile(min(percentile + 100 / len(numbers), 100))
        assert low * 0.996 <= ours.quantile(percentile / 100) <= high * 1.004


def test_overflow_is_counted_and_read_as_the_maximum():
    histogram = filled([1000, VALUE_MAX + 1, 10**18])
    assert histogram.overflow == 2
    assert histogram.count == 3
    assert histogram.quantile(0.99) == 10**18
    assert histogram.quantile(0.6) == 10**18
    assert Histogram.from_data(histogram.to_data()).count == 3


def test_the_ends_are_exact_and_negative_values_count_as_zero():
    histogram = filled([123_456_789, 987_654_321_123, -5])
    assert histogram.quantile(0) == 0
    assert histogram.quantile(1) == 987_654_321_123
    assert histogram.minimum == 0


def test_empty():
    histogram = Histogram()
    assert histogram.quantile(0.5) is None
    assert histogram.mean is None
    assert histogram.share_at_most(5) is None
    histogram.merge(Histogram())
    assert histogram.count == 0
    histogram.merge(filled([7]))
    assert (histogram.minimum, histogram.maximum) == (7, 7)


def test_share_at_most():
    assert filled(range(1, 101)).share_at_most(25) == 0.25


@given(
    st.lists(st.one_of(st.integers(-5, 5000), st.integers(0, 1 << 54)), max_size=80), st.lists(st.integers(0, 1 << 53))
)
def test_many_values_at_once_count_as_each_alone(values, before):
    one_by_one, at_once = Histogram(), Histogram()
    for value in before:
        one_by_one.record(value)
        at_once.record(value)
    for value in values:
        one_by_one.record(value)
    at_once.record_all(np.array(values, dtype=np.int64))
    assert at_once.to_data() == one_by_one.to_data()


def test_the_last_bucket_holds_the_largest_value():
    assert bucket_index(VALUE_MAX) == BUCKETS - 1


@given(st.lists(st.one_of(st.integers(0, 5000), st.integers(0, 1 << 54)), max_size=40))
def test_a_packed_histogram_is_the_same_one(values):
    histogram = filled(values)
    assert histogram.to_packed().to_data() == histogram.to_data()


@pytest.mark.parametrize("count", [1000, 2000, 7000])
@pytest.mark.parametrize("percentile", ["50", "90", "95", "99", "99.5", "99.9"])
def test_a_whole_rank_stays_whole_whatever_floats_say(count, percentile):
    exact = math.ceil(Fraction(percentile) * count / 100)
    assert rank_of(float(percentile) / 100, count) == exact


@given(st.integers(1, 10**7), st.decimals("0.01", "99.99", places=2))
def test_ranks_are_those_of_exact_arithmetic(count, percentile):
    exact = max(math.ceil(Fraction(percentile) * count / 100), 1)
    assert rank_of(float(percentile) / 100, count) == exact
