"""Where a series moved: false alarms, power and place, by simulation."""

import numpy as np
import pytest

from voxload.verdict.changepoint import change_points, relative


def series(rng, lengths, levels, noise=0.04):
    return np.concatenate([level * np.exp(rng.normal(0, noise, n)) for n, level in zip(lengths, levels, strict=True)])


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def test_a_steady_series_has_no_change(rng):
    found = sum(bool(change_points(series(rng, [30], [800]))) for _ in range(150))
    assert found <= 150 * 0.01 + 4  # one in a hundred, and three sigma


def test_a_shift_is_found_at_its_place(rng):
    exact = covered = 0
    for _ in range(40):
        (point,) = change_points(series(rng, [18, 12], [800, 920]))[:1]
        exact += point.at == 18
        covered += point.earliest <= 18 <= point.latest
        assert point.p_value < 0.01
        assert abs(point.at - 18) <= 3
        assert point.earliest <= point.at <= point.latest
        assert relative(point.before, point.after) == pytest.approx(0.15, abs=0.06)
    assert exact > 30
    assert covered >= 37


def test_several_shifts(rng):
    points = change_points(series(rng, [15, 15, 15], [800, 1000, 700]))
    assert [point.at for point in points] == [15, 30]
    assert [round(point.after / 100) for point in points] == [10, 7]


def test_one_odd_run_is_no_change(rng):
    values = series(rng, [24], [800])
    values[11] *= 5
    assert change_points(values) == []


def test_small_short_and_flat_series(rng):
    assert change_points([1.0] * 9) == []
    assert change_points([800.0] * 40) == []
    assert change_points(series(rng, [20, 20], [800, 816], 0.002), least=0.03) == []
    assert len(change_points(series(rng, [20, 20], [800, 816], 0.002), least=0.01)) == 1
    assert change_points([]) == []
    assert relative(0.0, 5.0) == float("inf")
    assert relative(0.0, 0.0) == 0


def test_the_same_series_gives_the_same_answer(rng):
    values = series(rng, [14, 11], [800, 900])
    assert change_points(values) == change_points(values)
