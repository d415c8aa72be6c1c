"""Where the C parts were not compiled, the same run gives the same answer."""

from conftest import scenario_with


def test_a_run_without_the_compiled_parts(voxload, monkeypatch):
    monkeypatch.setenv("VOXLOAD_PURE_PYTHON", "1")
    done = voxload.run(scenario_with())
    assert done.code == 0, (done.out, done.err)
    summary = done.summary
    assert summary.totals.frames_sent > 500
    assert summary.totals.frames_dropped == 0
    assert summary.totals.outcomes == {"completed": 20}
