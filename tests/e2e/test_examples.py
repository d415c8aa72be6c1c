"""Every example is valid and runs: all of them on the virtual clock, the smallest on real sockets too."""

from pathlib import Path

import pytest

from voxload.runners.prepare import prepare
from voxload.testing.virtual import VirtualWorld

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
FILES = sorted(EXAMPLES.glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_check(voxload, path):
    done = voxload("check", str(path))
    assert done.code == 0, done.err


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_run_on_the_virtual_clock(path):
    """The whole script with some ten calls in two seconds, against the agent that the file describes."""
    prepared = prepare(path, target="twin", rate="5/s", duration="2s", environ={})
    collector = VirtualWorld(prepared.plan).run()
    assert set(collector.outcomes) == {"completed"}, collector.errors()
    assert collector.histogram("turn_latency").count >= 4


def test_run_for_real(voxload):
    done = voxload("run", str(EXAMPLES / "smoke.yaml"), "--quiet", timeout_s=100)
    assert done.code in {0, 4}, done.err
    assert set(done.summary.totals.outcomes) == {"completed"}, done.summary.errors
