"""`voxload capacity`: the highest load that a target carries within the gates."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import click
import msgspec
import uvloop
from rich.console import Console
from rich.table import Table

from voxload.cli.command import CheckedCommand, out_option
from voxload.cli.options import read_gates, source_options, tls_options
from voxload.cli.peers import Peers, start_peers
from voxload.cli.run import run_facts
from voxload.cli.signals import on_ending_signal
from voxload.cli.telemetry import LiveFigures, telemetry_options, tell_losses
from voxload.clock import NS_PER_S, utc_now
from voxload.errors import BadInputError, ExitCode, Problem
from voxload.measure.collector import Collector
from voxload.measure.summarize import build_summary
from voxload.measure.summary import Summary, encode_summary
from voxload.model.quantities import parse_duration_ns
from voxload.report.knee import KneePoint, render_knee
from voxload.runners.capacity import STATE_VERSION, SearchState, read_state, search
from voxload.runners.estimate import plan_facts
from voxload.runners.local import LocalRunner
from voxload.runners.preflight import proxies_in_words, sources_in_words, with_auto_sources
from voxload.runners.prepare import Prepared, new_run_id, prepare
from voxload.runners.probes import Probes
from voxload.runners.results import ResultsFolder, write_atomically
from voxload.runners.runner import RunData
from voxload.runners.telemetry.live import Telemetry
from voxload.verdict.capacity import Capacity, Probe, SearchSettings
from voxload.verdict.gate import judge
from voxload.verdict.offered import CONCURRENCY

EPILOG = """\b
Examples:
  voxload capacity scenario.yaml --gate "call_success >= 99%" --gate "p95(turn_latency) < 1500ms"
  voxload capacity scenario.yaml --by rate --start 1 --step 60s
  voxload capacity scenario.yaml --resume results/20260101-120000-capacity-1a2b

\b
Each probe is a run of its own at one load: a ramp of growing loads until one fails, then bisection, then the answer
once more, and the load above it once more. Ctrl-C keeps what is known; --resume goes on from there.
Exit codes: 0 a capacity was found; 1 even the lowest load fails; 4 the generator is the limit, or the search was ended.
"""

Settings = dict[str, Any]


@click.command("capacity", cls=CheckedCommand, epilog=EPILOG)
@click.argument("scenario", type=click.Path(path_type=Path))
@click.option("--gate", "extra_gates", multiple=True, help="A gate that a load must pass; repeatable.")
@click.option("--gates", "gates_file", type=click.Path(path_type=Path), help="File with gates, not the scenario's.")
@click.option(
    "--by",
    type=click.Choice(["concurrency", "rate"]),
    default="concurrency",
    show_default=True,
    help="Search calls at once (closed load) or calls a second (open load).",
)
@click.option("--start", type=click.FloatRange(0, min_open=True), help="First load (default: 10 calls, or 1/s).")
@click.option("--max", "maximum", type=click.FloatRange(0, min_open=True), help="Highest load (default: 10000).")
@click.option("--growth", type=click.FloatRange(1.05, 10), default=1.5, show_default=True, help="Step of the ramp.")
@click.option(
    "--tolerance", type=click.FloatRange(0, 0.5), default=0.05, show_default=True, help="Of the answer, by load."
)
@click.option(
    "--confirm", type=click.IntRange(1, 10), default=2, show_default=True, help="Probes the answer must pass."
)
@click.option("--step", default="30s", show_default=True, help="Length of a probe's load.")
@click.option("--settle", default="1s", show_default=True, help="Pause between two probes.")
@click.option("--processes", type=click.IntRange(1, 256), help="Generator processes (default: the machine's cores).")
@click.option("--target", help="Base URL of the agent, or twin.")
@tls_options
@source_options
@telemetry_options
@click.option("--resume", type=click.Path(path_type=Path), help="Folder of a search to go on with.")
@out_option
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON, nothing else.")
def capacity_command(
    scenario: Path,
    extra_gates: tuple[str, ...],
    gates_file: Path | None,
    processes: int | None,
    target: str | None,
    resume: Path | None,
    out: Path,
    as_json: bool,
    **options: Any,
) -> int:
    """Find the highest load of SCENARIO that passes every gate."""
    figures = LiveFigures.of(options, scenario)
    chosen = {name: options[name] for name in ("ca", "insecure", "source_addresses")}
    prepared = prepare(scenario, target=target, environ=os.environ, **chosen)
    written, _ = read_gates(prepared.scenario, gates_file, extra_gates)
    gates = [item for item in written if item[1].metric.name not in CONCURRENCY]
    if not gates:
        hint = 'for example --gate "call_success >= 99%" --gate "p95(turn_latency) < 1500ms"'
        raise BadInputError([Problem("a capacity needs a gate: what must a load pass?", suggestion=hint)])
    step_ns, settle_ns = _durations(options["step"], options["settle"])
    expressions = [item[1].expression for item in gates]
    state = SearchState(
        STATE_VERSION, prepared.scenario.name, options["by"], expressions, _settings(options), step_ns / NS_PER_S
    )
    folder = out / new_run_id(f"{prepared.scenario.name}-capacity")
    if resume is not None:
        state, folder = _resumed(read_state(resume), state, resume), resume
    console = Console(stderr=as_json)
    left_out = [
        Problem(f"{gate.expression} is left out: calls at once are what is searched, or come of it")
        for _, gate in written
        if gate.metric.name in CONCURRENCY
    ]
    for warning in (*prepared.warnings, *left_out):
        console.print(f"[yellow]warning:[/] {warning}", highlight=False)
    for way in (sources_in_words(prepared), proxies_in_words(prepared)):
        if way:
            console.print(way, highlight=False)
    with ExitStack() as stack:
        telemetry = stack.enter_context(figures.of_run(prepared, console, folder.name))
        running, peers = start_peers(prepared, stack, console)
        if resume is None:
            ResultsFolder(folder).close()
        count = processes or len(os.sched_getaffinity(0))
        prober = Prober(scenario, running, gates, count, peers, state, settle_ns, telemetry)
        prober.listen()

        def told(probe: Probe, found: Capacity) -> None:
            console.print(f"{len(state.probes):3d}  {_words(probe, state.by)}", highlight=False)
            prober.keep(folder, len(state.probes))
            write_atomically(folder / "capacity.html", _page(state, found))

        console.print(f"Searching the highest {_unit(state.by)} that passes: {'; '.join(expressions)}", highlight=False)
        search(state, folder, prober.run, told, lambda: prober.interrupted)
    tell_losses(telemetry.losses(), console)
    assert state.result is not None
    if as_json:
        click.echo(msgspec.json.encode(state).decode())
    else:
        _print(console, state, state.result, folder)
    return exit_code(state.result)


def exit_code(found: Capacity) -> ExitCode:
    """Return the command's exit code for what was found."""
    if found.passes is None and found.bound == "start":
        return ExitCode.GATE_FAILED
    return ExitCode.PASSED if found.done and found.bound != "generator" else ExitCode.UNKNOWN


def _durations(step: str, settle: str) -> tuple[int, int]:
    problems, found = [], []
    for name, value in (("--step", step), ("--settle", settle)):
        try:
            found.append(parse_duration_ns(value))
        except ValueError as error:
            problems.append(Problem(f"{name}: {error}"))
    if problems:
        raise BadInputError(problems)
    return found[0], found[1]


def _settings(options: Settings) -> SearchSettings:
    by_rate = options["by"] == "rate"
    start, maximum = options["start"] or (1.0 if by_rate else 10.0), options["maximum"] or 10_000.0
    resolution = 0.1 if by_rate else 1.0
    start = max(round(start / resolution) * resolution, resolution)
    if start > maximum:
        raise BadInputError([Problem(f"--start {start:g} is over --max {maximum:g}")])
    return SearchSettings(start, maximum, options["growth"], options["tolerance"], resolution, options["confirm"])


def _resumed(found: SearchState, wanted: SearchState, folder: Path) -> SearchState:
    """Return the old search, unless it asked another question."""
    for name in ("scenario", "by", "gates", "step_s"):
        before, now = getattr(found, name), getattr(wanted, name)
        if before != now:
            hint = "give the same scenario and options, or begin a new search without --resume"
            raise BadInputError([Problem(f"--resume: its {name} is {before!r}, not {now!r}", str(folder), 0, hint)])
    found.settings = wanted.settings
    found.probes = [probe for probe in found.probes if probe.status != "unknown"]  # they are worth another try
    return found


class Prober:
    """Runs the scenario at one load after the other against the same target."""

    def __init__(
        self,
        scenario: Path,
        running: Prepared,
        gates: Any,
        processes: int,
        peers: Peers,
        state: SearchState,
        settle_ns: int,
        telemetry: Telemetry,
    ) -> None:
        self._scenario = scenario
        self._running = running
        self._gates = gates
        self._processes = processes
        self._peers = peers
        self._state = state
        self._settle_s = settle_ns / NS_PER_S
        self._telemetry = telemetry
        self._last: Summary | None = None
        self.interrupted = False

    def run(self, load: float) -> Summary:
        """Place the calls of one probe and judge them."""
        chosen: dict[Literal["users", "rate"], Any] = (
            {"rate": load} if self._state.by == "rate" else {"users": round(load)}
        )
        prepared = prepare(self._scenario, duration=self._state.step_s, environ=os.environ, **chosen)
        plan = msgspec.structs.replace(
            prepared.plan,
            target=self._running.plan.target,
            scenario=self._with_peers(prepared.plan.scenario),
            authorities=self._running.plan.authorities,
            source_addresses=self._running.plan.source_addresses,
        )
        same = {name: getattr(self._running.scenario, name) for name in ("tls", "source_addresses")}
        verified = prepared.scenario.model_copy(update=same)
        prepared = with_auto_sources(Prepared(plan, verified, prepared.source))
        facts = plan_facts(prepared, self._processes)
        collector = Collector(1)
        started_at = utc_now().isoformat(timespec="seconds")
        runner = LocalRunner(prepared.plan, self._processes, collector, stop_when=lambda _: self._peers.died())
        probes = Probes(prepared, collector.stretch_s, lambda: runner.start_ns)
        self._telemetry.watch_run(runner, probes)
        data = uvloop.run(self._place(runner, probes))
        data.doubts += self._peers.doubts()
        self.listen()  # the event loop has put the default back
        summary = build_summary(collector, run_facts(prepared, data, started_at), facts, prepared.scenario.load)
        summary = msgspec.structs.replace(summary, probes=probes.results())
        self._last = judge(summary, self._gates)
        return self._last

    def _with_peers(self, scenario: dict[str, Any]) -> dict[str, Any]:
        """Return a scenario with what the options and the exchange have set for the whole search."""
        chosen = self._running.plan.scenario
        return {**scenario, **{key: chosen[key] for key in ("dialect", "tls", "source_addresses") if key in chosen}}

    async def _place(self, runner: LocalRunner, probes: Probes) -> RunData:
        def on_signal(name: str) -> None:
            self.interrupted = True
            if runner.stopping:
                runner.kill()
                probes.kill()
            else:
                runner.stop(f"interrupted ({name})")
                probes.stop()

        on_ending_signal(on_signal)
        async with probes.probing():
            data = await runner.run()
        if not self.interrupted:
            await asyncio.sleep(self._settle_s)
        return data

    def listen(self) -> None:
        """Take Ctrl-C for the wish to end the search, between probes too."""

        def on_signal(*_: object) -> None:
            self.interrupted = True

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, on_signal)

    def keep(self, folder: Path, number: int) -> None:
        """Write the summary of the last probe, so that `voxload report` can show it."""
        if self._last is not None:
            write_atomically(folder / f"probe-{number:02d}.json", encode_summary(self._last))


def _unit(by: str) -> str:
    return "calls at once" if by == "concurrency" else "calls a second"


def _words(probe: Probe, by: str) -> str:
    signs = {"passed": "[green]passed[/]", "failed": "[red]failed[/]", "unknown": "[yellow]unknown[/]"}
    facts = [f"{probe.load:g} {_unit(by)}", signs[probe.status]]
    if probe.throughput_per_s is not None:
        facts.append(f"{probe.throughput_per_s:.1f} completed/s")
    if probe.latency_p95_ms is not None:
        facts.append(f"p95 {probe.latency_p95_ms:.0f} ms")
    return "  ".join([*facts, *probe.reasons[:1]])


def _print(console: Console, state: SearchState, found: Capacity, folder: Path) -> None:
    table = Table(box=None)
    for column in (_unit(state.by), "probes", "passed", "completed/s", f"{_latency_name(state)} p95, ms"):
        table.add_column(column, justify="right")
    for load in sorted({probe.load for probe in state.probes}):
        probes = [probe for probe in state.probes if probe.load == load]
        passed = sum(probe.status == "passed" for probe in probes)
        last = probes[-1]
        cells = [last.throughput_per_s, last.latency_p95_ms]
        shown = ["—" if cell is None else f"{cell:.1f}" for cell in cells]
        table.add_row(f"{load:g}", str(len(probes)), str(passed), *shown)
    console.print(table)
    console.print(sentence(state, found), highlight=False)
    console.print(f"Plot: {folder / 'capacity.html'}", highlight=False)


def _page(state: SearchState, found: Capacity) -> str:
    points = [
        KneePoint(probe.load, probe.status, probe.throughput_per_s, probe.latency_p95_ms, probe.reasons)
        for probe in state.probes
    ]
    return render_knee(
        f"Capacity of {state.scenario}", _unit(state.by), sentence(state, found), points, _latency_name(state)
    )


def _latency_name(state: SearchState) -> str:
    return state.probes[-1].latency_metric.replace("_", " ") if state.probes else "latency"


def sentence(state: SearchState, found: Capacity) -> str:
    """Return the answer in words."""
    unit = _unit(state.by)
    if found.bound == "start":
        return f"No load passes: even {found.fails:g} {unit} fails ({'; '.join(found.breaking)})."
    if found.passes is None:
        return "Nothing is known yet."
    answer = f"Capacity: {found.passes:g} {unit}"
    if found.bound == "maximum":
        return f"{answer} at least: that is the search's own maximum (--max)."
    if found.bound == "generator":
        return f"{answer} at least: beyond it the generator, not the target, is the limit."
    if found.fails is not None:
        answer += f"; {found.fails:g} fails: {'; '.join(found.breaking)}"
    return answer + ("." if found.done else " (not yet certain: the search was ended).")
