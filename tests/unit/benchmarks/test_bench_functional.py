"""The benchmark's machinery counts frames right: sink and peers as processes, a few calls, no assertion on times."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))  # `benchmarks` is a folder of the repository, not a part of the package

from benchmarks.harness import Result  # noqa: E402
from benchmarks.peers import GUESSES, NEEDS, PEERS, guesses, missing  # noqa: E402
from benchmarks.processes import Sink, SinkView, compiler, run_peer  # noqa: E402
from benchmarks.search import Cell, Mode, Search, Step, judge  # noqa: E402
from benchmarks.table import DOES, DOES_COLUMNS, as_data, as_markdown, rows  # noqa: E402

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
    assert -1 <= result.lateness_p50_ms <= result.lateness_p99_ms  # uvloop's own timers count in ms


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


@pytest.mark.skipif(compiler() is None, reason="no C compiler")
@pytest.mark.parametrize("linger_ms", [0, 100])
def test_the_sink_in_c_speaks_as_the_other_one_does(linger_ms: int) -> None:
    with Sink(speak=True, light=True, linger_ms=linger_ms) as sink:
        result, seen = run_peer("voxload", sink, CALLS, 50, duplex=True, seconds=1.0)
        stats = sink.drain()
    assert result.errors == 0, result.error
    assert result.frames == pytest.approx(CALLS * 50, rel=0.1)
    assert result.frames_in == pytest.approx(CALLS * 50, rel=0.1)
    assert seen.frames_in_per_s == pytest.approx(CALLS * 50, rel=0.3)
    assert seen.frames_out_per_s == pytest.approx(CALLS * 50, rel=0.3)
    assert seen.lateness_p99_ms is not None
    assert stats["frames_out"] >= result.frames_in
    assert (stats["frames_dropped"], stats["connections"]) == (0, 0)


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
@pytest.mark.parametrize(("guess", "steps_max"), [(0, 14), (1, 4), (0.8, 6), (1.3, 7), (3, 14)])
def test_the_search_closes_in_on_the_limit(limit: int, guess: float, steps_max: int) -> None:
    """A machine that carries exactly `limit` calls, at a cost a frame that falls with the load, as real ones do."""

    def run(calls: int) -> Step:
        us = 1e6 / (limit * 50) * (0.8 + 20 / calls)
        cpu_s = min(us * calls * 50 * 4 / 1e6, 4.0)
        result = _result(calls=calls, duplex=False, frames=calls * 200, frames_in=0, cpu_s=cpu_s)
        return Step(result, SEEN, failed="" if calls <= limit else "too many")

    cell = Cell("voxload", Mode("up", "up", 50, duplex=False))
    cell.add(run(200))
    Search(cell, run, 4.0, 1e6, guess=round(limit * guess)).find()
    assert len(cell.steps) <= steps_max
    assert cell.best is not None
    assert cell.failed_at is not None
    assert cell.best.result.calls <= limit < cell.failed_at
    assert cell.failed_at <= max(1.16 * cell.best.result.calls, cell.best.result.calls + 1)
    assert not cell.lower_bound


def test_missing_peers_are_said_to_bemissing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NEEDS, "locust", ("no_such_package",))
    mode = Mode("up", "up", 50, duplex=False)
    ours = Cell("voxload", mode)
    ours.add(Step(_result(), SEEN))
    cells = [ours, Cell("locust", mode, missing=missing("locust"))]
    assert rows(cells)[1][1] == "missing: no_such_package not installed (pip install -e '.[bench]')"
    assert rows(cells)[0][1] == "≥ 100 (search ended)"
    assert as_data([(mode, cells)], {})["modes"][0]["peers"][1]["calls_a_core"] is None
    assert any("no_such_package not installed" in line for line in as_markdown([(mode, cells)]))


def _cell(peer: str, held: int, failed_at: int, disturbed: bool) -> Cell:
    cell = Cell(peer, Mode("up", "up", 50, duplex=False))
    wait_s = 1.0 if disturbed else 0.0
    cell.add(Step(_result(peer=peer, calls=held), SEEN))
    cell.add(Step(_result(peer=peer, calls=failed_at, wait_s=wait_s, cpu_s=3.6), SEEN, failed="late"))
    return cell


@pytest.mark.parametrize(
    ("ours_disturbed", "theirs_disturbed", "calls", "ratio"),
    [
        (False, False, ("800 (not 1600)", "400 (not 500)"), "2.00"),
        (True, False, ("≥ 800 (disturbed)", "400 (not 500)"), "≥ 2.00"),
        (False, True, ("800 (not 1600)", "≥ 400 (disturbed)"), "≤ 2.00"),
        (True, True, ("≥ 800 (disturbed)", "≥ 400 (disturbed)"), "unknown"),
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


def _searched(*verdicts: Step, guess: int) -> Cell:
    """A cell whose search gets these steps, whatever numbers of calls it asks for."""
    cell, left = Cell("voxload", Mode("up", "up", 50, duplex=False, same_calls=100)), list(verdicts)

    def run(calls: int) -> Step:
        step = left.pop(0)
        return replace(step, result=replace(step.result, calls=calls))

    cell.add(run(100))
    Search(cell, run, 4.0, 1e6, guess).find()
    assert not left
    return cell


HELD = Step(_result(cpu_s=3.6), SEEN)
LATE = Step(_result(cpu_s=3.6, lateness_p99_ms=9.0), SEEN, failed="late")
LATE_WITH_TIME_TO_SPARE = Step(_result(cpu_s=1.0, lateness_p99_ms=9.0), SEEN, failed="late")
LATE_BY_OTHERS = Step(_result(cpu_s=3.6, lateness_p99_ms=9.0, wait_s=0.5), SEEN, failed="late")


def test_a_disturbed_failure_is_tried_again_and_then_no_limit() -> None:
    cell = _searched(HELD, LATE_BY_OTHERS, HELD, LATE, guess=400)
    assert (cell.best.result.calls, cell.failed_at, cell.lower_bound) == (400, 460, False)
    cell = _searched(HELD, HELD, *[LATE_BY_OTHERS] * 4, guess=400)
    assert (cell.best.result.calls, cell.failed_at, cell.lower_bound) == (400, 460, True)


def test_a_client_that_had_time_to_spare_must_be_late_twice() -> None:
    cell = _searched(HELD, HELD, LATE_WITH_TIME_TO_SPARE, LATE_WITH_TIME_TO_SPARE, guess=400)
    assert (cell.best.result.calls, cell.failed_at, cell.lower_bound) == (400, 460, False)
    assert _searched(HELD, HELD, LATE_WITH_TIME_TO_SPARE, HELD, LATE, guess=400).best.result.calls >= 460


def test_what_never_held_while_others_had_the_core_is_unknown() -> None:
    cell = Cell("voxload", Mode("up", "up", 50, duplex=False, same_calls=100))
    cell.add(LATE_BY_OTHERS)
    assert rows([cell])[0][1] == "unknown (disturbed)"
    cell.add(LATE)
    assert rows([cell])[0][1] == "< 100"


def test_a_search_without_time_says_so() -> None:
    cell = Cell("voxload", Mode("up", "up", 50, duplex=False))
    cell.add(HELD)
    Search(cell, lambda _: pytest.fail("there was no time"), 4.0, 0.0, 400).find()
    assert rows([cell])[0][1] == "≥ 100 (search ended)"


def test_all_are_compared_at_one_load_by_the_median_of_their_good_rounds() -> None:
    mode = Mode("up", "up", 50, duplex=False, same_calls=100)
    ours, theirs = Cell("voxload", mode), Cell("aiohttp", mode)
    for cpu_s in (0.2, 0.4, 0.3):
        ours.add(Step(_result(cpu_s=cpu_s), SEEN))
    ours.add(Step(_result(cpu_s=4.0, wait_s=1.0), SEEN))  # disturbed
    theirs.add(Step(_result(cpu_s=0.6), SEEN))
    theirs.add(Step(_result(calls=400, cpu_s=0.6, frames=80_000), SEEN))  # another load
    assert [row[3:5] for row in rows([ours, theirs])] == [("15.0 (10.0-20.0)", "1.00"), ("30.0", "2.00")]
    disturbed = Cell("aiohttp", mode)
    disturbed.add(Step(_result(cpu_s=0.6, wait_s=1.0), SEEN))
    assert rows([ours, disturbed])[1][3] == "30.0 (disturbed)"


def test_the_last_limits_are_where_the_next_search_begins() -> None:
    mode = Mode("50/s up", "up", 50, duplex=False)
    firm, open_end = _cell("voxload", 800, 900, disturbed=False), _cell("aiohttp", 400, 500, disturbed=True)
    wide = _cell("websockets", 100, 400, disturbed=False)
    found = guesses(as_data([(mode, [firm, open_end, wide])], {}))
    assert found["50/s up"]["websockets"] == GUESSES["50/s up"]["websockets"]
    assert found["50/s up"]["voxload"] == 800
    assert found["50/s up"]["aiohttp"] == GUESSES["50/s up"]["aiohttp"]
    assert guesses(None) == GUESSES


def test_every_peer_says_what_it_does_for_its_cost() -> None:
    assert set(DOES) == set(PEERS)
    assert all(len(words) == len(DOES_COLUMNS) - 1 for words in DOES.values())


def test_a_peer_that_does_not_start_is_no_result_of_zero_calls() -> None:
    cell = Cell("locust", Mode("up", "up", 50, duplex=False))
    crashed = _result(peer="locust", seconds=0.0, frames=0, errors=1, error="exit 1: ImportError")
    cell.add(judge(crashed, SinkView()))
    Search(cell, lambda _: pytest.fail("fewer calls would not help"), window_s=4.0, budget_s=1e6).find()
    assert "ImportError" in cell.broken
    assert rows([cell])[0][1] == "did not run, see the raw steps"
