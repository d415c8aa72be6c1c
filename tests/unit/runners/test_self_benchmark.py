"""How many calls the machine's own benchmark places."""

import pytest

from voxload.runners import self_benchmark
from voxload.runners.self_benchmark import CALLS, CALLS_MAX, Measured, measure


@pytest.mark.parametrize(
    ("per_core", "calls_max", "placed"),
    [
        (400, CALLS_MAX, [CALLS, 400]),
        (5000, CALLS_MAX, [CALLS, CALLS_MAX]),
        (400, 300, [CALLS, 300]),
        (100, CALLS_MAX, [CALLS]),  # a slow machine: it has been loaded enough
        (400, CALLS, [CALLS]),
    ],
)
def test_a_core_is_measured_near_what_it_carries(monkeypatch, per_core, calls_max, placed):
    seen = []

    def place(start_twin, calls):
        seen.append(calls)
        return Measured(10.0, 0.5, calls, 80.0, per_core, "")

    monkeypatch.setattr(self_benchmark, "_place", place)
    assert measure(None, calls_max).calls == placed[-1]
    assert seen == placed
