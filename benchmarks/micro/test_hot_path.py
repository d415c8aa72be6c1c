"""Micro-benchmarks of the hot path: `python -m pytest benchmarks/micro` (pytest-benchmark; not a part of the tests)."""

from __future__ import annotations

import gc

import pytest

from benchmarks.workloads import WORKLOADS


@pytest.mark.parametrize("name", list(WORKLOADS))
def test_workload(benchmark, name):
    factory, times = WORKLOADS[name]
    run = factory()
    run(times)  # the interpreter specialises its code first
    benchmark.extra_info.update(workload=name, frames=times)
    gc.freeze()  # as in voxload's own processes
    benchmark(run, times)
