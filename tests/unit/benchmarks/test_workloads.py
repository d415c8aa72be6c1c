"""The workloads do what they say, and the counts of their instructions are judged right."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from benchmarks import instructions
from benchmarks.speech import agent_frame
from benchmarks.workloads import CALLS, FRAME_NS, WORKLOADS, OneSided

LOOPS = "import os\nfor times in (1000, 2000): os.getppid(); sum(range(times)); os.getppid()"


@pytest.mark.parametrize("name", list(WORKLOADS))
def test_a_workload_can_be_repeated(name: str) -> None:
    run = WORKLOADS[name][0]()
    run(1)
    run(2)


def test_each_call_sends_and_hears_one_frame_a_turn() -> None:
    world = OneSided()
    payload = agent_frame("rtmed")
    for _ in range(3):
        for call in world.calls:
            call.on_message(payload, True, world.clock())
        world.turn(FRAME_NS)
        assert world.told.counters.frames_sent == world.told.counters.frames_received == CALLS


def test_the_committed_counts_are_of_these_workloads() -> None:
    for platform, entry in instructions.load().items():
        names = [name for name in WORKLOADS if "compiled" in platform or name != "socket, one frame heard"]
        assert list(entry["counts"]) == names
        assert all(count > 0 for count in entry["counts"].values())


def test_more_instructions_are_slower_and_fewer_are_not() -> None:
    committed = {"a": 100.0, "b": 100.0}
    assert instructions.compare({"a": 104.9, "b": 50.0}, committed, 0.05) == (
        [("a", 104.9, pytest.approx(0.049)), ("b", 50.0, -0.5)],
        False,
    )
    assert instructions.compare({"a": 105.1, "b": 50.0}, committed, 0.05)[1]
    assert instructions.compare({"new": 1.0}, committed, 0.05) == ([("new", 1.0, None)], False)


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_callgrind_counts_between_marks() -> None:
    start, once, _, twice = instructions.stretches(["-I", "-S", "-c", LOOPS])
    assert start > 1_000_000
    assert 1.5 < twice / once < 2.5


def _check(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, committed: float | None, now: float, *words: str) -> int:
    name, counts = next(iter(WORKLOADS)), tmp_path / "counts.json"
    if committed is not None:
        counts.write_text(json.dumps({instructions.platform_key(): {"packages": {}, "counts": {name: committed}}}))
    monkeypatch.setattr(instructions, "COUNTS", counts)
    monkeypatch.setattr(instructions.shutil, "which", lambda _: "/usr/bin/valgrind")
    monkeypatch.setattr(instructions, "count", lambda names: dict.fromkeys(names, now))
    return instructions.main(["--only", name, *words])


@pytest.mark.parametrize(("committed", "now", "code"), [(100, 104, 0), (100, 20, 0), (100, 106, 1), (None, 100, 4)])
def test_the_exit_code_tells(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, committed: float | None, now: float, code: int
) -> None:
    assert _check(monkeypatch, tmp_path, committed, now) == code


def test_what_is_written_is_what_is_compared_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert _check(monkeypatch, tmp_path, 50, 100, "--write") == 0
    assert json.loads((tmp_path / "counts.json").read_text())[instructions.platform_key()]["counts"] == {
        next(iter(WORKLOADS)): 100
    }


def test_without_valgrind_it_is_unknown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(instructions.shutil, "which", lambda _: None)
    assert instructions.main([]) == instructions.UNKNOWN
    assert "valgrind is not installed" in capsys.readouterr().out
