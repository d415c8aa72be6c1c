"""The live view on a terminal and in a log, and the summary at the end."""

from __future__ import annotations

import io
import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from voxload.measure.progress import Progress
from voxload.measure.series import Quantiles
from voxload.measure.summary import GateResult, Summary
from voxload.report.terminal import LiveView, live_panel, plain_line, print_summary, sparkline

PROGRESS = Progress(
    elapsed_s=12.0,
    planned_s=60.0,
    phase="ramp",
    planned_calls=1200,
    active=200,
    started=240,
    completed=36,
    failed=0,
    shed=0,
    failures_by_outcome={},
    turn=Quantiles(300, 640.0, 812.4, 1203.0, 2000.0),
    setup=Quantiles(240, 40.0, 90.0, 120.0, 200.0),
    lateness_p99_ms=1.2,
    cpu_percent=34.0,
    active_history=[0, 50, 100, 150, 200],
    p95_history=[700.0, 750.0, 812.4],
)


def console(*, terminal: bool = False, **options: object) -> Console:
    environment = {"TERM": "xterm-256color", "COLUMNS": "100", **options.pop("env", {})}  # type: ignore[dict-item]
    return Console(file=io.StringIO(), force_terminal=terminal, _environ=environment, **options)  # type: ignore[arg-type]


def written(target: Console) -> str:
    return target.file.getvalue()  # type: ignore[attr-defined]


def test_plain_line() -> None:
    assert plain_line(PROGRESS) == (
        "12 s  active 200  started 240  completed 36  failed 0  turn p95 812 ms  lateness p99 1.2 ms"
    )
    bare = msgspec.structs.replace(PROGRESS, turn=None, lateness_p99_ms=None, shed=3, message="stopping\x1b[2J")
    assert plain_line(bare).endswith("failed 0  shed 3  turn p95 —  lateness p99 —  stopping\\x1b[2J")


def test_the_line_names_the_latency_that_the_run_is_about() -> None:
    progress = msgspec.structs.replace(PROGRESS, metric="call_setup", lateness_limit_ms=20.0, lateness_p99_ms=12.0)
    assert "call setup p95 812 ms" in plain_line(progress)
    shown = console(terminal=True)
    shown.print(live_panel(progress, shown))
    assert "limit" not in written(shown)


def test_a_log_gets_a_plain_line_every_five_seconds_and_the_last() -> None:
    target = console(width=40)
    with LiveView(target) as live:
        for tenth in range(0, 176, 5):
            live.update(msgspec.structs.replace(PROGRESS, elapsed_s=tenth / 10))
    lines = written(target).splitlines()
    assert [line.split("  ")[0] for line in lines] == ["0 s", "5 s", "10 s", "15 s", "18 s"]
    assert "\x1b" not in written(target)


def test_a_new_message_is_written_at_once() -> None:
    target = console()
    with LiveView(target) as live:
        live.update(PROGRESS)
        live.update(msgspec.structs.replace(PROGRESS, elapsed_s=12.5, message="stopping: ending calls"))
    assert written(target).splitlines()[1].endswith("stopping: ending calls")


def test_no_update_writes_nothing() -> None:
    target = console()
    with LiveView(target):
        pass
    assert written(target) == ""


def test_a_terminal_is_redrawn_in_place() -> None:
    target = console(terminal=True)
    with LiveView(target) as live:
        live.update(PROGRESS)
        live.update(msgspec.structs.replace(PROGRESS, failed=2, failures_by_outcome={"agent_silent": 2}))
    shown = written(target)
    assert "\x1b[" in shown
    for part in ("ramp", "12 s of 1 m 00 s", "48 s left", "200 active", "240 of 1,200 started", "p95 812 ms"):
        assert part in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
    assert "agent_silent 2" in shown


def test_no_color_is_respected() -> None:
    target = console(terminal=True, env={"NO_COLOR": "1"})
    late = msgspec.structs.replace(PROGRESS, lateness_p99_ms=9.0, failed=3, failures_by_outcome={"rejected": 3})
    with LiveView(target) as live:
        live.update(late)
    colours = [code for code in re.findall(r"\x1b\[([0-9;]*)m", written(target)) if re.search(r"\b[349][0-7]\b", code)]
    assert colours == []


def test_a_dumb_terminal_gets_plain_lines() -> None:
    target = console(terminal=True, env={"TERM": "dumb", "NO_COLOR": "1"})
    with LiveView(target) as live:
        live.update(PROGRESS)
    assert written(target) == plain_line(PROGRESS) + "\n"


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_the_live_view_fits_its_width(width: int) -> None:
    target = console(width=width)
    closed = msgspec.structs.replace(PROGRESS, elapsed_s=80.0, planned_calls=0, turn=None, p95_history=[])
    for progress in (PROGRESS, closed):
        target.print(live_panel(progress, target))
    assert max(map(len, written(target).splitlines())) <= width


@given(st.lists(st.floats(-1, 1e6)), st.integers(0, 80))
def test_sparklines_show_the_latest_values(values: list[float], width: int) -> None:
    line = sparkline(values, width)
    assert len(line) == min(len(values), width)
    shown = values[len(values) - len(line) :]
    if max(shown, default=0) > 0:
        assert line[shown.index(max(shown))] == "█"


def test_the_summary_is_readable_without_unicode(summary: Summary) -> None:
    raw = io.BytesIO()
    target = Console(file=io.TextIOWrapper(raw, encoding="ascii", write_through=True), width=100)
    print_summary(target, summary, {"report.html": "/results/größe/report.html"})
    shown = raw.getvalue().decode("ascii")
    assert "FAILED" in shown
    assert "798 ms" in shown
    with LiveView(target) as live:
        live.update(PROGRESS)


def test_paths_are_never_wrapped(summary: Summary) -> None:
    path = "/results/" + "long/" * 40 + "report.html"
    target = console(width=60)
    print_summary(target, summary, {"report.html": path, "x": "/y"})
    assert f"report.html  {path}\n" in written(target)
    assert "x            /y\n" in written(target)
    assert "\x1b" not in written(target)


def test_gates_keep_their_words_whole_at_80_columns(summary: Summary) -> None:
    gates = [
        GateResult("p95(voice_response) < 150ms", "pass", 90.8, 150.0, "ms", 1234, margin=59.2),
        GateResult("max(target_cpu) < 70%", "fail", 72.5, 70.0, "percent", 60, margin=-2.5),
    ]
    target = console(env={"COLUMNS": "80"})
    print_summary(target, msgspec.structs.replace(summary, gates=gates), {})
    shown = written(target)
    for words in ("p95(voice_response)", "max(target_cpu) <", "72.50 %", "-2.50 %"):
        assert words in shown
