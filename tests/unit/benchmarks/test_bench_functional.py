"""The benchmark's machinery counts frames right: sink and peers as processes, a few calls, no assertion on times."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))  # `benchmarks` is a folder of the repository, not a part of the package

from benchmarks.harness import Result  # noqa: E402
from benchmarks.peers import NEEDS, missing  # noqa: E402
from benchmarks.processes import Sink, SinkView, compiler, run_peer  # noqa: E402
from benchmarks.search import Cell, Mode, Search, Step, judge  # noqa: E402
from benchmarks.table import as_data, as_markdown, rows  # noqa: E402

CALLS = 5


@pytest.mark.parametrize(
    "peer", ["voxload", "voxload_tls", "websockets", "bare", "locust", "floor", "aiohttp", "artillery"]
)
def test_a_peer_sends_and_hears_what_the_sink_counts(peer: str) -> None:
    if missing(peer):
        pytest.skip(missing(peer))
    with Sink(speak=True) as sink:
        result, seen = run_peer(peer, sink, CALLS, 50, duplex=True, seconds=1.0)
        stats = sink.stats()
    assert result.errors == 0, result.error
    assert result.calls == CALLS
    assert result.seconds == pytest.approx(1.0, abs=0.5)
    assert result.frames == pytest.approx(result.frames_expected, rel=0.2)  # a window may cut a late burst
    assert result.frames_in == pytest.approx(result.frames_expected, rel=0.2)
    assert seen.frames_in_per_s == pytest.approx(CALLS * 50, rel=0.3)
    assert stats["frames_in"] >= result.frames
    assert stats["frames_out"] >= result.frames_in
    assert stats["frames_dropped"] == 0
    assert stats["connections"] == 0
    assert 0 < result.cpu_s < result.seconds * 1.5
    assert result.lateness_p50_ms is not None
    assert result.lateness_p99_ms is not None
    assert 0 <= result.lateness_p50_ms <= result.lateness_p99_ms


def test_chunks_of_100_ms_and_a_silent_sink() -> None:
    with Sink(speak=False) as sink:
        result, _ = run_peer("websockets", sink, CALLS, 10, duplex=False, seconds=1.0)
        stats = sink.stats()
    assert result.errors == 0, result.error
    assert result.frames == pytest.approx(CALLS * 10, abs=CALLS)
    assert result.frames_in == stats["frames_out"] == 0


@pytest.mark.skipif(compiler() is None, reason="no C compiler")
@pytest.mark.parametrize("peer", ["voxload", "websockets", "bare"])
def test_the_sink_in_c_counts_the_same(peer: str) -> None:
    with Sink(speak=False, light=True) as sink:
        result, seen = run_peer(peer, sink, CALLS, 10, duplex=False, seconds=1.0)
        stats = sink.drain()
    assert result.errors == 0, result.error
    assert result.frames == pytest.approx(CALLS * 10 * result.seconds, abs=CALLS)
    assert seen.frames_in_per_s == pytest.approx(CALLS * 10, rel=0.3)
    assert stats["frames_in"] >= result.frames
    assert stats["connections"] == 0


def test_voxload_as_acs_streams_to_a_quiet_backend() -> None:
    with Sink(speak=False) as sink:
        result, seen = run_peer("voxload_acs", sink, CALLS, 50, duplex=False, seconds=1.0)
    assert result.errors == 0, result.error
    assert result.frames == pytest.approx(result.frames_expected, rel=0.2)
    assert seen.frames_in_per_s == pytest.approx(CALLS * 50, rel=0.3)


def test_a_peer_without_a_target_is_a_failed_step() -> None:
    with Sink(speak=False) as sink:
        sink_url, sink.url = sink.url, "http://127.0.0.1:9"
        command_result, _ = _run_against_nothing(sink, sink_url)
    assert command_result.errors > 0
    assert judge(command_result, SinkView()).failed


def _run_against_nothing(sink: Sink, real_url: str) -> tuple[Result, SinkView]:
    """Let the peer dial a closed port while the statistics still come from the real sink."""

    class Elsewhere(Sink):
        def __init__(self) -> None:
            self.url = "http://127.0.0.1:9"

        def drain(self) -> dict[str, object]:
            sink.url = real_url
            return sink.stats()

    return run_peer("bare", Elsewhere(), 2, 50, duplex=False, seconds=1.0)


def _result(**changes: object) -> Result:
    values: dict[str, object] = {
        "peer": "voxload",
        "calls": 100,
        "rate": 50,
        "duplex": True,
        "seconds": 4.0,
        "frames": 20_000,
        "frames_in": 20_000,
        "cpu_s": 1.0,
        "lateness_p50_ms": 0.5,
        "lateness_p99_ms": 2.0,
    }
    return Result(**{**values, **changes})  # type: ignore[arg-type]


SEEN = SinkView(5000.0, 5000.0, 0.3, lateness_p99_ms=1.0)


def test_a_clean_step_holds() -> None:
    assert judge(_result(), SEEN).failed == ""


@pytest.mark.parametrize(
    ("changes", "seen", "reason"),
    [
        ({"errors": 1, "error": "reset"}, SEEN, "errors"),
        ({"frames": 19_700}, SEEN, "sent"),
        ({"frames_in": 19_700}, SEEN, "received"),
        ({"lateness_p99_ms": 5.1}, SEEN, "lateness"),
        ({"lateness_p99_ms": None}, SEEN, "no frames"),
        ({}, SinkView(4800.0, 5000.0, 0.3, lateness_p99_ms=1.0), "the sink saw"),
        ({}, SinkView(), "the sink saw"),
    ],
)
def test_a_step_that_is_not_clean_fails(changes: dict[str, object], seen: SinkView, reason: str) -> None:
    step = judge(_result(**changes), seen)
    assert reason in step.failed
    assert not step.target_bound


def test_a_step_limited_by_the_sink_is_marked() -> None:
    slow = SinkView(4800.0, 4800.0, 0.99, lateness_p99_ms=8.0)
    assert judge(_result(), slow).target_bound
    assert not judge(_result(cpu_s=3.9), slow).target_bound, "the client was saturated too: its own limit"


@pytest.mark.parametrize("limit", [7, 60, 100, 437, 1290, 3999])
def test_the_search_closes_in_on_the_limit(limit: int) -> None:
    """A machine that carries exactly `limit` calls, at a cost a frame that falls with the load, as real ones do."""

    def run(calls: int) -> Step:
        us = 1e6 / (limit * 50) * (0.8 + 20 / calls)
        cpu_s = min(us * calls * 50 * 4 / 1e6, 4.0)
        result = _result(calls=calls, duplex=False, frames=calls * 200, frames_in=0, cpu_s=cpu_s)
        return Step(result, SEEN, failed="" if calls <= limit else "too many")

    cell = Cell("voxload", Mode("up", "up", 50, duplex=False))
    Search(cell, run, window_s=4.0, budget_s=1e6).find()
    assert len(cell.steps) <= 14
    assert cell.best is not None
    assert cell.failed_at is not None
    assert cell.best.result.calls <= limit < cell.failed_at
    assert cell.failed_at <= max(1.06 * cell.best.result.calls, cell.best.result.calls + 1)


def test_missing_peers_are_said_to_bemissing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NEEDS, "locust", ("no_such_package",))
    mode = Mode("up", "up", 50, duplex=False)
    ours = Cell("voxload", mode)
    ours.fixed = ours.best = Step(_result(), SEEN)
    ours.steps.append(ours.best)
    cells = [ours, Cell("locust", mode, missing=missing("locust"))]
    assert rows(cells)[1][1] == "missing: no_such_package not installed (pip install -e '.[bench]')"
    assert rows(cells)[0][1] == "≥ 100"
    assert as_data([(mode, cells)], {})["modes"][0]["peers"][1]["calls_a_core"] is None
    assert any("no_such_package not installed" in line for line in as_markdown([(mode, cells)]))


def _cell(peer: str, held: int, failed_at: int, disturbed: bool) -> Cell:
    cell = Cell(peer, Mode("up", "up", 50, duplex=False))
    cell.fixed = cell.best = Step(_result(peer=peer, calls=held), SEEN)
    wait_s = 1.0 if disturbed else 0.0
    cell.steps = [cell.best, Step(_result(peer=peer, calls=failed_at, wait_s=wait_s), SEEN, failed="late")]
    cell.failed_at = failed_at
    return cell


@pytest.mark.parametrize(
    ("ours_disturbed", "theirs_disturbed", "calls", "ratio"),
    [
        (False, False, ("800 (not 1600)", "400 (not 500)"), "2.00"),
        (True, False, ("≥ 800", "400 (not 500)"), "≥ 2.00"),
        (False, True, ("800 (not 1600)", "≥ 400"), "≤ 2.00"),
        (True, True, ("≥ 800", "≥ 400"), "unknown"),
    ],
)
def test_a_disturbed_failure_is_no_limit_and_gives_no_firm_ratio(
    ours_disturbed: bool, theirs_disturbed: bool, calls: tuple[str, str], ratio: str
) -> None:
    cells = [_cell("voxload", 800, 1600, ours_disturbed), _cell("websockets", 400, 500, theirs_disturbed)]
    shown = rows(cells)
    assert (shown[0][1], shown[1][1]) == calls
    assert shown[1][2] == ratio


def test_a_quiet_repeat_makes_the_limit_firm_again() -> None:
    cell = _cell("voxload", 800, 1600, disturbed=True)
    cell.steps.append(Step(_result(calls=1600), SEEN, failed="late"))
    assert not cell.lower_bound


def test_a_peer_that_does_not_start_is_no_result_of_zero_calls() -> None:
    cell = Cell("locust", Mode("up", "up", 50, duplex=False))
    crashed = _result(peer="locust", seconds=0.0, frames=0, errors=1, error="exit 1: ImportError")
    Search(cell, lambda _: judge(crashed, SinkView()), window_s=4.0, budget_s=1e6).find()
    assert len(cell.steps) == 1
    assert "ImportError" in cell.broken
    assert rows([cell])[0][1] == "did not run, see the raw steps"
