"""The order of the tests where several processes share them."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import pytest

FIRST = Path(__file__).parent / "e2e"
WHOLE = "test_acs_exchange.py"
"""This file ends with a look back on all its tests, which one process must have run."""
_whole = pytest.StashKey[bool]()


@pytest.fixture
def whole_in_one_process(request: pytest.FixtureRequest) -> bool:
    """Whether the file `WHOLE` is run by one process from its beginning to its end."""
    return request.config.stash[_whole]


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node) -> None:
    """Tell each process of pytest-xdist how the tests are dealt."""
    node.workerinput["dist"] = node.config.option.dist


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let each process begin with its share of the end-to-end tests, so that short tests even out the end.

    `--dist worksteal` of pytest-xdist cuts the list into as many stretches as there are processes, and later moves the
    ends of long ones. A file that is to stay whole therefore stands at a beginning.
    """
    told = getattr(config, "workerinput", {"workercount": 1, "dist": "no"})
    processes = told["workercount"]
    kept = sum(item.path.name == WHOLE for item in items) <= len(items) // processes // 2  # the half is not moved
    config.stash[_whole] = processes == 1 or (told["dist"] == "worksteal" and kept)
    if processes == 1 or told["dist"] != "worksteal":
        return
    stretches: list[list[pytest.Item]] = [[] for _ in range(processes)]
    rest: list[pytest.Item] = []
    for path, tests in groupby(items, lambda item: item.path):
        if path.name == WHOLE:
            stretches[0][:0] = tests
        elif FIRST in path.parents:
            min(stretches, key=len).extend(tests)
        else:
            rest += tests
    left = len(items)
    for number, stretch in enumerate(stretches):
        size = left // (processes - number)
        left -= size
        more = max(size - len(stretch), 0)
        stretch.extend(rest[:more])
        rest = rest[more:]
    items[:] = [item for stretch in stretches for item in stretch] + rest
