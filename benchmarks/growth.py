"""How the cost grows with the calls: one process on one core from 100 to 10,000 calls, beside the C floor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from benchmarks.page import Section, grid
from benchmarks.peers import missing
from benchmarks.processes import Sink, run_peer
from benchmarks.search import LATENESS_P99_MS_MAX, Step, judge
from benchmarks.table import LABELS, memory_kb

PLOT = Path(__file__).with_name("growth.svg")
CALLS_FEWEST = 100
CALLS = (CALLS_FEWEST, 1000, 3000, 10_000)
QUIET_CALLS = (CALLS_FEWEST, 1000, 10_000)
SETUPS_PER_S = 1000
"""At which calls are placed: what is reached is measured."""
REPEAT_CALLS_MAX = 3000
COLUMNS = (
    "calls", "µs/frame", "floor", "ratio", "lateness p99", "floor's", "kB a call", "set-ups/s", "cores", "",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Series:
    """One kind of traffic, at growing numbers of calls."""

    name: str
    peers: tuple[str, ...]
    rate: int
    calls: tuple[int, ...]


TALKING = Series("10 messages/s of 100 ms (16 kHz PCM, 4.3 kB)", ("voxload", "floor"), 10, CALLS)
QUIET = Series("1 message/s (8 kHz µ-law, 10.7 kB)", ("voxload_quiet",), 1, QUIET_CALLS)
Found = dict[str, list[Step]]
"""Steps by peer, in order of the calls."""


def measure(
    progress: Console, calls_max: int = 10_000, window_s: float = 3.0, all_series: Sequence[Series] = (TALKING, QUIET)
) -> tuple[Section, list[Found]]:
    """Measure each series; returns the section of the page, and the steps."""
    lines, raw, found = [], [], []
    for series in all_series:
        steps = _run(series, progress, calls_max, window_s)
        found.append(steps)
        lines += [f"### {series.name}", "", *grid(COLUMNS, rows(series, steps)), ""]
        raw.append(
            {"series": asdict(series), "steps": {peer: [asdict(step) for step in steps[peer]] for peer in steps}}
        )
    lines += [caption(), "", f"![Growth of the cost]({PLOT.name})"]
    return Section(
        lines, raw, all(step.result.frames > 0 for steps in found for step in steps[next(iter(steps))])
    ), found


def _run(series: Series, progress: Console, calls_max: int, window_s: float) -> Found:
    found: Found = {}
    for peer in series.peers:
        if missing(peer):
            progress.print(f"{LABELS[peer]} is missing: {missing(peer)}", markup=False)
            continue
        found[peer] = []
        with Sink(speak=False, light=True) as sink:
            for calls in (count for count in series.calls if count <= calls_max):
                step = judge(*run_peer(peer, sink, calls, series.rate, False, window_s, SETUPS_PER_S))
                if step.disturbed and step.failed and calls <= REPEAT_CALLS_MAX:
                    step = judge(*run_peer(peer, sink, calls, series.rate, False, window_s, SETUPS_PER_S))
                found[peer].append(step)
                verdict = (step.failed or "held") + (" (disturbed)" if step.disturbed else "")
                cost = f"{step.result.us_per_frame or 0:.1f} µs/frame"
                line = f"{LABELS[peer]}, {series.name}: {calls} calls, {cost}: {verdict}"
                progress.print(line, markup=False, highlight=False, soft_wrap=True)
    return found


def rows(series: Series, found: Found) -> list[tuple[str, ...]]:
    """Return a row for each number of calls."""
    ours, floor = found[series.peers[0]], {step.result.calls: step for step in found.get("floor", [])}
    lines = []
    for step in ours:
        result, below = step.result, floor.get(step.result.calls)
        us, us_floor = result.us_per_frame, below.result.us_per_frame if below is not None else None
        setup_s = step.sink.setup_s
        lines.append(
            (
                f"{result.calls:,}",
                _number(us),
                _number(us_floor),
                f"{us / us_floor:.2f}" if us and us_floor else "—",
                _milliseconds(step),
                _milliseconds(below) if below is not None else "—",
                _number(memory_kb(ours[0], step)),
                f"{result.calls / setup_s:,.0f}" if setup_s else "—",
                f"{us * result.calls * series.rate / 1e6:.2f}" if us else "—",
                (step.failed or "held") + (", disturbed" if step.disturbed else ""),
            )
        )
    return lines


def _number(value: float | None) -> str:
    return "—" if value is None else f"{value:.1f}"


def _milliseconds(step: Step) -> str:
    late_ms = step.result.lateness_p99_ms
    return "—" if late_ms is None or not step.result.frames else f"{late_ms:.1f} ms"


def caption() -> str:
    """Return what the columns mean."""
    return (
        "One process on one core each, a target in C on another. µs/frame: CPU time of the client for each frame sent; "
        f"kB a call: resident memory that each call adds to that of {CALLS_FEWEST} calls; set-ups/s: calls from "
        f"the first open socket to the last, as the target saw it ({SETUPS_PER_S:,}/s were asked for; each is an HTTP "
        "request and a WebSocket handshake); cores: µs/frame times all the frames of a second, and where that is over "
        f"1, one core cannot hold it. Held: all frames sent and lateness p99 ≤ {LATENESS_P99_MS_MAX:g} ms. What one "
        "process cannot hold, several do: a run spreads over all cores."
    )


def draw(found: Sequence[Found], path: Path = PLOT) -> str:
    """Draw the plot; returns why it could not be drawn, or nothing."""
    try:
        import matplotlib as mpl
    except ImportError:
        return "no plot: matplotlib is not installed (pip install -e '.[bench]')"
    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "voxload"  # the same figures give the same file
    from matplotlib import pyplot as plt
    from matplotlib.ticker import ScalarFormatter

    figure, (cost, late, memory) = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    names = {
        "voxload": ("voxload, 10/s", "C0"),
        "floor": ("C floor, 10/s", "C1"),
        "voxload_quiet": ("voxload, 1/s", "C2"),
    }
    for steps in found:
        for peer, of_peer in steps.items():
            good = [step for step in of_peer if step.result.frames]
            calls = [step.result.calls for step in good]
            style = dict(zip(("label", "color"), names[peer], strict=True), marker="o")
            cost.plot(calls, [step.result.us_per_frame for step in good], **style)
            late.plot(calls, [step.result.lateness_p99_ms for step in good], **style)
            kilobytes = [(step.result.calls, memory_kb(of_peer[0], step)) for step in good[1:]]
            if peer != "floor":
                memory.plot([c for c, kb in kilobytes if kb], [kb for _, kb in kilobytes if kb], **style)
    late.axhline(LATENESS_P99_MS_MAX, linestyle=":", color="grey")
    late.set_yscale("symlog", linthresh=10)  # a process past its limit is late by seconds
    for axes, title in ((cost, "CPU, µs a frame"), (late, "frame lateness p99, ms"), (memory, "memory, kB a call")):
        axes.set_title(title)
        axes.set_xlabel("calls in one process")
        axes.set_xscale("log")
        axes.grid(alpha=0.3)
        axes.legend()
    for axes in (cost, late, memory):
        axes.set_ylim(0, max(axes.get_ylim()[1] * 1.05, 10))
    late.set_yticks([0, 2, 5, 10, *(ms for ms in (100, 1000, 10_000) if ms < late.get_ylim()[1])])
    late.yaxis.set_major_formatter(ScalarFormatter())
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return ""
