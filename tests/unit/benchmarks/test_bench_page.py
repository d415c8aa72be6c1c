"""The parts of the benchmark measure, and the page keeps what each has found."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path

import pytest
from benchmarks import growth, loads, memory, page, pieces, profile, run
from benchmarks.harness import Result
from benchmarks.page import Section
from benchmarks.processes import SinkView, compiler, setup_s
from benchmarks.search import Step
from benchmarks.table import memory_kb
from rich.console import Console

ABOUT = {"processor": "p", "load before the start": "0.10"}


def _step(calls: int, rss_mib: float, failed: str = "", peer: str = "voxload", us: float = 10.0) -> Step:
    frames = calls * 10 * 3
    result = Result(peer, calls, 10, False, seconds=3.0, frames=frames, cpu_s=us * frames / 1e6, rss_mib=rss_mib)
    result.lateness_p99_ms = 2.5
    return Step(result, SinkView(setup_s=calls / 800), failed=failed)


def test_growth_is_measured() -> None:
    few = growth.Series("few quiet calls", ("voxload_quiet",), 1, (10, 20, 10_000))
    section, found = growth.measure(Console(file=io.StringIO()), calls_max=10, window_s=1.0, all_series=[few])
    (step,) = found[0]["voxload_quiet"]
    assert step.result.errors == 0, step.result.error
    assert step.result.frames == pytest.approx(10 * step.result.seconds, abs=5)
    assert section.held
    assert any(line.startswith("| 10 |") for line in section.lines)


def test_growth_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    talking = {"voxload": [_step(100, 80.0), _step(1000, 100.0)], "floor": [_step(100, 40.0), _step(1000, 40.0)]}
    assert growth.draw([talking, {"voxload_quiet": [_step(100, 80.0)]}], tmp_path / "one.svg") == ""
    assert growth.draw([talking, {"voxload_quiet": [_step(100, 80.0)]}], tmp_path / "two.svg") == ""
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def test_a_row_of_growth_has_the_cost_the_memory_and_what_did_not_hold() -> None:
    found = {
        "voxload": [_step(100, 80.0), _step(10_000, 80.0 + 9_900 * 25_000 / 2**20, failed="late", us=13.0)],
        "floor": [_step(100, 40.0, peer="floor"), _step(10_000, 40.0, peer="floor")],
    }
    few, many = growth.rows(growth.TALKING, found)
    assert few[:4] == ("100", "10.0", "10.0", "1.00")
    assert many == ("10,000", "13.0", "10.0", "1.30", "2.5 ms", "2.5 ms", "25.0", "800", "1.30", "late")


def test_memory_a_call_needs_twice_the_calls() -> None:
    assert memory_kb(_step(100, 80.0), _step(150, 90.0)) is None
    assert memory_kb(None, _step(150, 90.0)) is None


def test_the_rate_of_set_ups_is_what_the_target_saw() -> None:
    def sample(number: int, connections: int) -> dict[str, int]:
        quarter_ns = 250_000_000
        return {"start_ns": number * quarter_ns, "end_ns": (number + 1) * quarter_ns, "connections": connections}

    rising = [sample(n, 100 * n) for n in range(11)]
    assert setup_s(rising, 1000) == 2.5
    assert setup_s(rising, 1001) is None
    assert setup_s([sample(0, 10)], 10) is None, "within one sample: no rate to tell"


def test_a_section_measured_again_leaves_the_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(page, "PAGE", tmp_path / "RESULTS.md")
    monkeypatch.setattr(page, "KEPT", tmp_path / "results.json")
    page.keep("growth", Section(["growing"], [1]), ABOUT)
    page.keep("peers", Section(["first"], [1]), ABOUT)
    page.keep("peers", Section(["second"], [2]), {**ABOUT, "processor": "q", "load before the start": "0.30"})
    text = (tmp_path / "RESULTS.md").read_text()
    assert "first" not in text
    assert text.index("second") < text.index("growing")
    assert "- processor: q" in text
    assert "Measured otherwise: processor: p\n" in text
    assert "`python -m benchmarks.run --only growth --write` (load before the start: 0.10)" in text
    assert json.loads((tmp_path / "results.json").read_text())["peers"]["data"] == [2]


def test_the_pieces_are_timed() -> None:
    pytest.importorskip("pytest_benchmark")
    section = pieces.section(quick=True)
    assert section.held, section.data
    assert {row["workload"] for row in section.data} >= {"ear and meters", "decode twilio"}
    assert all(0 < row["min"] <= row["median"] for row in section.data)


def test_a_part_or_peer_that_does_not_exist_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    for words, wanted in ((["--only", "pears"], "no part 'pears'"), (["--peers", "pears"], "no peer 'pears'")):
        with pytest.raises(SystemExit) as stopped:
            run.main(words)
        assert stopped.value.code == 2
        assert wanted in capsys.readouterr().err


LOOKS = """
 100.000001000:
        ffffffff81a0 tcp_sendmsg ([kernel.kallsyms])
        ffffffff81a1 __x64_sys_write+0x10 ([kernel.kallsyms])
            7f0000 write+0x4d (/usr/lib/x86_64-linux-gnu/libc.so.6)

 100.500000000:
            7f0001 on_frame (/x/voxload/engine/_mouth.cpython-311-x86_64-linux-gnu.so)

 100.600000000:
            7f0002 _PyEval_EvalFrameDefault (/usr/lib/libpython3.11.so.1.0)

 100.700000000:
        ffffffff81a3 asm_sysvec_apic_timer_interrupt ([kernel.kallsyms])
            7f0002 _PyEval_EvalFrameDefault (/usr/lib/libpython3.11.so.1.0)

 102.000000000:
            7f0003 clock_gettime ([vdso])
"""


def test_looks_of_perf_count_to_their_parts_within_the_window() -> None:
    assert profile.shares(LOOKS, 100_000_000_000, 101_000_000_000) == {
        "kernel: send": 1,
        "mouth: stamp, mask, write, count (C)": 1,
        "Python": 1,
        profile.OTHER_KERNEL: 1,
    }
    assert profile.shares(LOOKS, 101_500_000_000, 103_000_000_000) == {"clock": 1}


def test_the_profile_goes_between_the_marks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "hot-path.md"
    path.write_text(f"before\n{profile.BEGIN}\nold\n{profile.END}\nafter\n")
    monkeypatch.setattr(profile, "PAGE", path)
    for _ in range(2):
        profile.write(Section(["new"], {}))
    assert path.read_text() == f"before\n{profile.BEGIN}\nnew\n{profile.END}\nafter\n"


def test_a_profile_is_made_where_perf_works() -> None:
    if profile.shutil.which("perf") is None:
        pytest.skip("perf is not installed")
    try:
        result, costs = profile.measure("voxload", 50, True, 20, 1.0)
    except RuntimeError as error:
        if "perf" in str(error) or "paranoid" in str(error):
            pytest.skip(f"perf may not look here: {error}")
        raise
    assert sum(costs.values()) == pytest.approx(result.us_per_frame)
    assert costs["kernel: send"] > 0
    assert costs["Python"] > 0


@pytest.mark.skipif(compiler() is None, reason="no C compiler")
def test_a_run_of_all_cores_is_read_from_its_summary() -> None:
    found = loads.machine(loads.MachineLoad(60, 20, duplex=True, setups_per_s=60), steady_s=5.0)
    assert found["outcomes"] == {"completed": 60}, found
    assert found["frames_per_s"] == pytest.approx(1200, rel=0.2)
    assert found["heard_per_s"] == pytest.approx(3000, rel=0.2)
    assert len(found["shards"]) == len(loads.cores_used())
    assert any("completed 60" in line for line in loads.machine_lines(found))


def _summary(active: int = 100, frames: int = 1000, late_ms: float = 1.0, **outcomes: int) -> dict[str, object]:
    latencies = {"frame_lateness": {"p99_ms": late_ms}}
    point = {"active": active, "frames_sent": frames, "duration_s": 1.0, "started": 100, "latencies": latencies}
    point["frames_received"] = 0
    shard = {"lateness_p99_ms": late_ms, "cpu_percent_mean": 50.0, "memory_mib": 80.0}
    return {
        "timeline": [{**point, "start_s": float(second)} for second in range(9)],
        "totals": {"outcomes": outcomes or {"completed": 100}},
        "shards": [shard],
    }


@pytest.mark.parametrize(
    ("summary", "verdict"),
    [
        (_summary(), "held"),
        (_summary(completed=99, shed=1), "not all calls were completed: {'shed': 1}"),
        (_summary(active=99), "all calls were up at once for 0 s only"),
        (_summary(frames=980), "980 of 1,000 frames a second"),
        (_summary(late_ms=5.1), "frame lateness p99 5.1 ms"),
    ],
)
def test_a_run_of_all_cores_is_judged(summary: dict[str, object], verdict: str) -> None:
    found = loads.judge_machine(summary, loads.MachineLoad(100, 10, duplex=False), 9.0, 0)
    assert found["verdict"] == verdict
    assert f"**{verdict}**" in " ".join(loads.machine_lines(found))


def _soak(**levels: object) -> dict[str, object]:
    """Readings of ten minutes, once a second: MiB as a function of the second."""
    readings = {f"{name} (1)": [[second, mib(second)] for second in range(600)] for name, mib in levels.items()}
    return {"duration_s": 600.0, "start_s": 60.0, "readings": readings}


def test_a_soak_is_judged_after_its_start_up_and_every_process_counts() -> None:
    steady = {"command": lambda second: 20.0 if second < 50 else 100.0, "agent": lambda second: 90 + second / 600}
    lines, flat = memory.told(_soak(**steady))
    assert flat
    assert lines[0] == "| process | from 1 m 00 s, MiB | 25% | 50% | 75% | end | end against start |"
    assert lines[2] == "| command | 100.0 | 100.0 | 100.0 | 100.0 | 100.0 | +0.0% |"
    assert lines[-1] == "**Flat within 5%**: at most +0.9% (agent)."
    lines, flat = memory.told(_soak(**steady, shard=lambda second: 80 + second / 60))
    assert not flat
    assert lines[-1].startswith("**NOT flat within 5%**: at most +9.")


def test_a_process_that_was_hardly_read_is_not_called_flat() -> None:
    found = _soak(command=lambda _: 100.0)
    found["readings"]["agent (2)"] = [[599, 90.0]]
    lines, flat = memory.told(found)
    assert not flat
    assert "Not told" in lines[-1]


def test_a_short_soak_is_measured_from_real_processes() -> None:
    found = memory._soak(["--duration", "6s", "--calls", "5"])
    roles = Counter(name.split(" (")[0] for name in found["readings"])
    assert roles["command, collector"] == roles["embedded agent"] == 1
    assert roles["generator shard"] >= 1
    assert set(roles) == {"command, collector", "embedded agent", "generator shard"}
    assert all(20 < mib < 1000 for _, mib in found["readings"][next(iter(found["readings"]))][-3:])
