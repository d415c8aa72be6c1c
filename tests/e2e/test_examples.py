"""Every example is valid and runs: on the virtual clock where that can be, the smallest on real sockets too."""

from pathlib import Path

import pytest

from voxload.runners.prepare import prepare
from voxload.testing.virtual import VirtualWorld

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
FILES = sorted(EXAMPLES.glob("*.yaml"))
ON_SOCKETS = ("acs", "canary")
"""Their callers ring through an exchange, or call several agents, which a virtual world does not have."""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_check(voxload, path):
    done = voxload("check", str(path))
    assert done.code == 0, done.err


@pytest.mark.parametrize("path", [path for path in FILES if path.stem not in ON_SOCKETS], ids=lambda path: path.stem)
def test_run_on_the_virtual_clock(path):
    """The whole script with some ten calls in two seconds, against the agent that the file describes."""
    prepared = prepare(path, target="twin", rate="5/s", duration="2s", environ={})
    collector = VirtualWorld(prepared.plan).run()
    assert set(collector.outcomes) == {"completed"}, collector.errors()
    assert collector.histogram("turn_latency").count >= 4


@pytest.mark.parametrize("name", ["smoke", "probes", *ON_SOCKETS])
def test_run_for_real(voxload, name):
    options = [] if name == "smoke" else ["--rate", "3/s", "--duration", "2s"]
    done = voxload("run", str(EXAMPLES / f"{name}.yaml"), "--quiet", *options, timeout_s=100, judged=False)
    assert done.code in {0, 4}, done.err
    assert set(done.summary.totals.outcomes) == {"completed"}, done.summary.errors
