"""`voxload run`: place the calls, watch live, write the results, exit with the verdict."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import msgspec
import uvloop
from rich.console import Console
from rich.markup import escape

from voxload import __version__
from voxload.cli.after_run import after_options, tell_ci
from voxload.cli.asked import read_run
from voxload.cli.command import CheckedCommand, out_option
from voxload.cli.options import (
    Share,
    gate_options,
    load_overrides,
    source_options,
    spread_options,
    targets_in_words,
    tier_options,
    tls_options,
)
from voxload.cli.peers import start_peers
from voxload.cli.signals import HeldBack, on_ending_signal
from voxload.cli.telemetry import telemetry_options, tell_losses
from voxload.clock import utc_now
from voxload.engine import wire
from voxload.errors import BadInputError, Problem, RunAbortedError
from voxload.measure.collector import Collector
from voxload.measure.recovery import with_recovery
from voxload.measure.snapshot import Snapshot
from voxload.measure.summarize import build_summary, timeline_of
from voxload.measure.summary import PlanFacts, Recovery, RunFacts, Summary
from voxload.model.plan import Plan
from voxload.report.files import write_reports
from voxload.report.terminal import LiveView, print_summary
from voxload.runners.distributed import DistributedRunner, Settings
from voxload.runners.environment import environment_facts
from voxload.runners.estimate import plan_facts
from voxload.runners.local import LocalRunner
from voxload.runners.partial import PartialSummary
from voxload.runners.prepare import Prepared
from voxload.runners.probes import Probes
from voxload.runners.progress import ProgressTracker
from voxload.runners.recordings import RecordingWriter
from voxload.runners.requests import RequestLog
from voxload.runners.results import RecordingFiles, ResultsFolder
from voxload.runners.runner import RunData, Runner
from voxload.runners.scoring import score_calls
from voxload.runners.stopping import StopRules
from voxload.runners.telemetry.live import Telemetry
from voxload.runners.usage.sampler import UsageSampler, build_sources
from voxload.runners.usage.source import UsageSource
from voxload.verdict.gate import judge
from voxload.verdict.implied import implied_gates
from voxload.verdict.rules import NamedGate, stop_gates

if TYPE_CHECKING:
    from voxload.runners.recovery import RecoveryCheck

EPILOG = """\b
Examples:
  voxload run examples/demo.yaml
  voxload run scenario.yaml --target https://agent.example --users 500 --duration 10m
  voxload run scenario.yaml --gate "p95(turn_latency) < 1500ms" --json
  voxload run scenario.yaml --tier smoke --env staging
  voxload run scenario.yaml --baseline baselines/scenario.json
  voxload run scenario.yaml --otlp http://collector:4318 --prometheus 127.0.0.1:9464
Ctrl-C ends the calls and still writes the report; a second Ctrl-C ends at once.
"""


@click.command("run", cls=CheckedCommand, epilog=EPILOG)
@click.argument("scenario", type=click.Path(path_type=Path))
@load_overrides
@tier_options
@tls_options
@source_options
@spread_options
@after_options
@telemetry_options
@click.option("--processes", type=click.IntRange(1, 256), help="Generator processes (default: the machine's cores).")
@gate_options
@out_option
@click.option(
    "--share",
    type=Share(below=1.0001),
    help="Place this share of the load (25%): one of several machines of a test (voxload merge).",
)
@click.option(
    "--requests", metavar="FILE", help="Write each latency and call to this file as a line of JSON (-: to stdout)."
)
@click.option("--record", help="Record calls: a share (1%), a number (10), or worst:20 of each process.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON, nothing else.")
@click.option("--quiet", is_flag=True, help="No live view.")
def run_command(
    scenario: Path,
    processes: int | None,
    gates_file: Path | None,
    extra_gates: tuple[str, ...],
    out: Path,
    as_json: bool,
    quiet: bool,
    **overrides: Any,
) -> int:
    """Place the calls of SCENARIO and judge the result."""
    count = processes or len(os.sched_getaffinity(0))
    requests, share = overrides.pop("requests"), overrides["share"]
    asked = read_run(scenario, count, gates_file, extra_gates, overrides)
    prepared, gates, rules, after = asked.prepared, asked.gates, asked.rules, asked.after
    log = _request_log(requests, gates, as_json)
    folder = ResultsFolder(out / prepared.plan.run_id, share)
    console = Console(stderr=as_json or log is not None)
    _tell_before(console, asked.warnings, *asked.facts)
    started_at = utc_now().isoformat(timespec="seconds")
    with folder, ExitStack() as stack:
        held = HeldBack()
        stack.callback(held.end)
        telemetry = stack.enter_context(asked.figures.of_run(prepared, console))
        prepared, peers = start_peers(prepared, stack, console)
        facts = plan_facts(prepared, count)
        collector = Collector.of_duration(facts.load_duration_s)
        check = _recovery_check(prepared)
        runner = _runner(prepared.plan, count, asked.spread, collector, console)
        runner.stop_when = lambda _: peers.died()
        runner.end_when = StopRules(stop_gates(rules, lambda *_: None))
        probes = Probes(prepared, collector.stretch_s, lambda: runner.start_ns)
        recordings = stack.enter_context(RecordingWriter(folder.path, prepared.scenario.quality is not None))
        partial = _partial(prepared, collector, facts, folder, started_at, gates, probes)
        beside = _Beside(_sources(prepared), probes, console, recordings, log, telemetry)
        data = uvloop.run(_run(runner, facts, folder, None if quiet or as_json else LiveView(console), beside, partial))
        held.begin()
        data.doubts += peers.doubts()
        recovery = _after_load(check, prepared, data, console)
    folder.close()
    _score(collector, folder, prepared, asked.reference, console)
    with held:
        facts = msgspec.structs.replace(facts, processes=max(len(collector.shards), 1))  # as many as workers had
        summary = build_summary(collector, run_facts(prepared, data, started_at), facts, prepared.scenario.load)
        summary = msgspec.structs.replace(summary, probes=probes.results(), telemetry=telemetry.close())
        if recovery is not None:
            summary = with_recovery(summary, recovery)
        summary = judge(summary, [*gates, *implied_gates(prepared.scenario, gates)])
        summary = after.judged(summary, folder.path)
        paths = write_reports(summary, folder.write, RecordingFiles(folder.path))
        if folder.elsewhere is None:
            partial.done()
        _tell_losses(folder, recordings, telemetry, console)
        after.remember(summary, folder.path, console)
    _print(summary, paths, console, as_json)
    _end_log(log, summary, console)
    tell_ci(summary, paths, os.environ, to_stderr=console.stderr)
    return summary.verdict.exit_code


def _sources(prepared: Prepared) -> Sequence[UsageSource]:
    return build_sources(prepared.scenario.resources, prepared.plan.target, os.environ)


def _request_log(place: str | None, gates: Sequence[NamedGate], as_json: bool) -> RequestLog | None:
    """Return what writes requests to `--requests`: the usual latencies, and those that gates judge.

    Raises:
        BadInputError: the summary wants the same place, or the file cannot be made.
    """
    if place is None:
        return None
    if as_json and place == "-":
        raise BadInputError(
            [Problem("--json and --requests - both want standard output", suggestion="--requests FILE")]
        )
    return RequestLog(place, frozenset(gate.metric.name for _, gate in gates if gate.metric.kind == "latency"))


def _end_log(log: RequestLog | None, summary: Summary, console: Console) -> None:
    if log is None:
        return
    log.close(summary.verdict)
    if log.write_error:
        console.print(f"[yellow]warning:[/] {escape(log.write_error)}; requests are missing", highlight=False)


def _recovery_check(prepared: Prepared) -> RecoveryCheck | None:
    """Return the look after the load, where there is to be one; it has read the health endpoints before."""
    settings = prepared.scenario.recovery
    if settings is None:
        return None
    from voxload.runners.recovery import RecoveryCheck  # noqa: PLC0415  # places calls: aiohttp and picows, for few runs

    check = RecoveryCheck(prepared, settings)
    check.look_before()
    return check


def _after_load(check: RecoveryCheck | None, prepared: Prepared, data: RunData, console: Console) -> Recovery | None:
    settings = prepared.scenario.recovery
    if check is None or settings is None or data.cut_short:
        return None
    console.print(f"After the load: {settings.in_words}", highlight=False)
    return check.run(data.ended_ns)


def _runner(plan: Plan, processes: int, spread: Settings | None, collector: Collector, console: Console) -> Runner:
    """Return what places the calls: the processes of this machine, or workers."""
    if spread is None:
        return LocalRunner(plan, processes, collector)
    return DistributedRunner(plan, spread, collector, told=lambda text: console.print(text, highlight=False))


def _tell_before(console: Console, warnings: Sequence[Problem], *facts: str) -> None:
    for warning in warnings:
        console.print(f"[yellow]warning:[/] {warning}", highlight=False)
    for fact in facts:
        if fact:
            console.print(fact, highlight=False)


def _score(
    collector: Collector, folder: ResultsFolder, prepared: Prepared, reference: Path | None, console: Console
) -> None:
    """Score recordings; Ctrl-C goes on without, as it may take minutes and everything else is measured."""
    try:
        problems = score_calls(collector, folder.path, prepared.scenario, reference)
    except KeyboardInterrupt:
        problems = ["interrupted (Ctrl-C): the recorded calls are not scored"]
    _tell_before(console, [Problem(f"quality: {problem}") for problem in problems])


def _tell_losses(folder: ResultsFolder, recordings: RecordingWriter, telemetry: Telemetry, console: Console) -> None:
    missing = [f"{recordings.write_error}; recordings are missing"] if recordings.write_error else []
    tell_losses((*folder.losses(), *missing, *telemetry.losses()), console)


class _Beside(NamedTuple):
    """What is measured beside the calls, where its troubles are told, and where recordings go."""

    sources: Sequence[UsageSource]
    probes: Probes
    console: Console
    recordings: RecordingWriter
    log: RequestLog | None
    telemetry: Telemetry


async def _run(
    runner: Runner,
    facts: PlanFacts,
    folder: ResultsFolder,
    view: LiveView | None,
    beside: _Beside,
    partial: PartialSummary,
) -> RunData:
    """Run the shards with the live view, and let Ctrl-C stop them in good order."""
    collector, telemetry = runner.collector, beside.telemetry
    telemetry.watch_run(runner, beside.probes)
    tracker = ProgressTracker(collector, facts)

    def on_snapshot(snapshot: Snapshot) -> None:
        folder.take(snapshot, runner.start_ns)
        if beside.log is not None:
            beside.log.take(snapshot)
        telemetry.take(snapshot)

    def on_recording(recording: wire.Recording) -> None:
        name = beside.recordings.take(recording)
        if name:
            collector.recordings[recording.call_id] = name
        collector.recordings.pop(recording.replaces, None)

    runner.on_snapshot, runner.on_recording = on_snapshot, on_recording

    def on_signal(name: str) -> None:
        if runner.stopping:
            runner.kill()
            beside.probes.kill()
        else:
            runner.stop(f"interrupted: ended before its plan ({name})")
            beside.probes.stop()

    on_ending_signal(on_signal)
    async with beside.probes.probing() as missing:
        for problem in missing:
            words = f"[yellow]warning:[/] {escape(problem)}; the calls are placed without it, it is tried again"
            beside.console.print(words, highlight=False)
        if runner.stopping:
            raise RunAbortedError("interrupted before the first call")
        with ExitStack() as stack:
            live = stack.enter_context(view) if view is not None else None

            def on_tick(elapsed_s: float) -> None:
                partial.on_tick(elapsed_s)
                telemetry.on_tick()
                if live is not None:
                    message = "stopping: ending calls" if runner.stopping else ""
                    live.update(tracker.update(elapsed_s, message))

            runner.on_tick = on_tick
            sampler = UsageSampler(beside.sources, collector, lambda: runner.start_ns)
            async with sampler.sampling():
                data = await runner.run()
            data.doubts += sampler.doubts
    return data


def _partial(
    prepared: Prepared,
    collector: Collector,
    facts: PlanFacts,
    folder: ResultsFolder,
    started_at: str,
    gates: Sequence[NamedGate],
    probes: Probes,
) -> PartialSummary:
    """Return what keeps the folder's partial summary, which is read only if the command is killed."""
    begun = run_facts(prepared, RunData(collector, 0.0), started_at)

    def so_far(elapsed_s: float) -> Summary:
        words = f"killed: incomplete, this is what had been measured after {elapsed_s:.0f} s"
        run = msgspec.structs.replace(begun, duration_s=elapsed_s, cut_short=words)
        summary = build_summary(collector, run, facts, prepared.scenario.load, with_timeline=False)
        return judge(msgspec.structs.replace(summary, probes=probes.results()), gates)

    return PartialSummary(folder.path, so_far, lambda: timeline_of(collector, prepared.scenario.load))


def run_facts(prepared: Prepared, data: RunData, started_at: str) -> RunFacts:
    """Return which run this was."""
    plan, scenario = prepared.plan, prepared.scenario
    return RunFacts(
        run_id=plan.run_id,
        scenario=scenario.name,
        description=scenario.description,
        started_at=started_at,
        duration_s=data.duration_s,
        target=targets_in_words(prepared),
        dialect=scenario.dialect.name,
        seed=scenario.seed,
        voxload_version=__version__,
        cut_short=data.cut_short,
        stopped_early=data.stopped_early,
        doubts=data.doubts,
        insecure=scenario.tls.insecure,
        environment=environment_facts(),
    )


def _print(summary: Summary, paths: dict[str, Path], console: Console, as_json: bool) -> None:
    if as_json:
        click.echo(paths["summary.json"].read_bytes().decode(), nl=False)
    else:
        print_summary(console, summary, paths)
