"""`voxload component`: load on one service behind the agent, with the vendor's own client."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import msgspec
import uvloop
from rich.console import Console

from voxload import __version__
from voxload.cli.after_run import AfterRun, after_options, tell_ci
from voxload.cli.command import CheckedCommand, out_option
from voxload.cli.options import load_overrides, read_gates
from voxload.cli.signals import HeldBack, on_ending_signal
from voxload.cli.telemetry import LiveFigures, telemetry_options, tell_losses
from voxload.clock import monotonic_ns, unix_ns, utc_now
from voxload.measure.collector import Collector
from voxload.measure.recorder import Recorder
from voxload.measure.snapshot import Snapshot
from voxload.measure.summarize import build_summary
from voxload.measure.summary import PlanFacts, RunFacts, Summary
from voxload.model.fingerprint import fingerprint
from voxload.model.load import ConcurrencyLoad
from voxload.model.source import Location
from voxload.process import freeze_garbage, prefer_this_process, raise_file_limit, take_turns_often
from voxload.report.files import write_reports
from voxload.report.terminal import LiveView, print_summary
from voxload.runners.environment import environment_facts
from voxload.runners.estimate import planned_phases
from voxload.runners.overrides import override_load
from voxload.runners.prepare import new_run_id
from voxload.runners.probe_settings import names_a_service
from voxload.runners.progress import ProgressTracker
from voxload.runners.results import ResultsFolder
from voxload.runners.telemetry.live import Telemetry
from voxload.runners.telemetry.origin import OPERATIONS
from voxload.runners.usage.sampler import UsageSampler, build_sources
from voxload.runners.usage.source import UsageSource
from voxload.services.base import AnyComponent, ComponentRun
from voxload.services.registry import COMPONENTS, component_type
from voxload.services.runner import LEAD_NS, ComponentResult, ComponentRunner
from voxload.services.settings import ComponentSettings, component_source, read_settings
from voxload.verdict.gate import judge

EPILOG = """\b
Examples:
  voxload component redis --rate 50 --duration 30s
  voxload component redis --target rediss://cache.example:6380/0 --users 300
  voxload component http --target https://agent.example --rate 200 --duration 1m
  voxload component openai --rate 5 --gate "p95(time_to_first_token) < 600ms"
  voxload component openai chat.yaml --client fast --rate 50 --duration 5m --gate "goodput >= 48"
  voxload component eventgrid --rate 100 --gate "event_loss < 0.1%"
  voxload component speech --users 500 --duration 1m --gate "p95(stt_final_latency) < 1s"
  voxload component speech --mode tts --client sdk --rate 20
  voxload component acs outbound.yaml --rate 10 --duration 5m
  voxload component acs outbound.yaml --gate "p95(call_setup) < 2s" --json
  voxload component all --with redis,http,blob      side by side, as calls grow; see voxload component all --help
Without a FILE, or where it names no service, the component is tested against a stand-in that the command starts.
Ctrl-C ends the work in good order and still writes the report; a second Ctrl-C ends at once.
"""


class _OneOrAll(CheckedCommand):
    """`all` has options of its own."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Hand `component all …` on to its command."""
        if args[:1] == ["all"]:
            from voxload.cli.component_all import all_command  # noqa: PLC0415  # most uses need none of it

            return all_command.make_context(f"{info_name} all", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


@click.command("component", cls=_OneOrAll, epilog=EPILOG)
@click.argument("kind", type=click.Choice(list(COMPONENTS)), metavar="KIND")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@partial(load_overrides, target="Address of the service (default: a stand-in here).")
@after_options
@telemetry_options
@click.option("--client", type=click.Choice(["fast", "sdk"]), help="The vendor's SDK, or a faster client of ours.")
@click.option("--mode", type=click.Choice(["stt", "tts", "both"]), help="speech: recognise, synthesise, or both.")
@click.option("--gate", "extra_gates", multiple=True, help="A further gate; may be given several times.")
@out_option
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON, nothing else.")
@click.option("--quiet", is_flag=True, help="No live view.")
def component_command(
    kind: str,
    file: Path | None,
    extra_gates: tuple[str, ...],
    out: Path,
    as_json: bool,
    quiet: bool,
    **overrides: Any,
) -> int:
    """Load one service as FILE says, with the vendor's own client, and judge the result.

    KIND is acs (outbound calls through Azure Communication Services), openai (chat completions of Azure OpenAI and
    others), redis (the sessions of calls), eventgrid (events followed to a webhook), blob (recordings and transcripts
    in Blob Storage), speech (recognition of streams in real time, and synthesis) or http (plain endpoints).
    """
    found, after_run, figures = component_type(kind), AfterRun.options(overrides), LiveFigures.of(overrides)
    settings = _settings(found, kind, file, **overrides)
    gates, rules = read_gates(settings, None, extra_gates)
    after = AfterRun.of(after_run, rules.thresholds())
    facts = _plan_facts(found, settings)
    name = settings.name or f"component-{kind}"
    after.check(name, facts.fingerprint)
    run_id = new_run_id(name)
    folder = ResultsFolder(out / run_id)
    console = Console(stderr=as_json)
    collector = Collector.of_duration(facts.load_duration_s)
    started_at = utc_now().isoformat(timespec="seconds")
    recorder = Recorder(lateness_metric="loop_lateness")
    component = found(settings, ComponentRun(run_id, recorder, monotonic_ns, unix_ns))
    view = None if quiet or as_json else LiveView(console)
    started_here = not names_a_service(found, settings)
    sources = build_sources(settings.resources, component.target, os.environ, started_here=started_here)
    with ExitStack() as stack:
        with folder, figures.open(settings.telemetry, console, run_id, name) as telemetry:
            result = uvloop.run(_run(component, recorder, _Sinks(collector, folder, facts, view, telemetry), sources))
            stack.enter_context(HeldBack())
        folder.close()
        run = RunFacts(
            run_id=run_id,
            scenario=name,
            description=settings.description,
            started_at=started_at,
            duration_s=result.duration_s,
            target=component.target,
            dialect=f"component {kind}",
            seed=settings.seed,
            voxload_version=__version__,
            cut_short=result.cut_short,
            doubts=result.doubts,
            environment=environment_facts(),
        )
        summary = build_summary(collector, run, facts, settings.load)
        summary = msgspec.structs.replace(summary, facts=component.facts(), telemetry=telemetry.close())
        summary = after.judged(judge(summary, gates), folder.path)
        paths = write_reports(summary, folder.write)
        for warning in (*result.warnings, *folder.losses()):
            console.print(f"[yellow]warning:[/] {warning}", highlight=False)
        tell_losses(telemetry.losses(), console)
    after.remember(summary, folder.path, console)
    _print(summary, paths, console, as_json)
    tell_ci(summary, paths, os.environ, to_stderr=as_json)
    return summary.verdict.exit_code


@dataclass(frozen=True, slots=True)
class _Sinks:
    """Where the numbers of a run go."""

    collector: Collector
    folder: ResultsFolder
    facts: PlanFacts
    view: LiveView | None
    telemetry: Telemetry


async def _run(
    component: AnyComponent, recorder: Recorder, sinks: _Sinks, sources: Sequence[UsageSource]
) -> ComponentResult:
    """Run with the live view, and let Ctrl-C stop in good order."""
    raise_file_limit()
    prefer_this_process()
    if sinks.telemetry.sends:
        take_turns_often()

    def emit(snapshot: Snapshot) -> None:
        sinks.collector.add(snapshot)
        sinks.folder.append_calls(snapshot.calls)
        sinks.telemetry.take(snapshot, OPERATIONS)
        if snapshot.final:
            sampler.end()

    with ExitStack() as stack:
        live, tracker = None, ProgressTracker(sinks.collector, sinks.facts)
        if sinks.view is not None:
            live = stack.enter_context(sinks.view)

        def on_tick(elapsed_s: float) -> None:
            sinks.telemetry.on_tick()
            if live is not None:
                live.update(tracker.update(elapsed_s, "stopping: ending what is up" if runner.stopping else ""))

        async def start_at() -> int:
            await sampler.open()  # only now: the service may be one that was started by the set-up
            return monotonic_ns() + LEAD_NS

        runner = ComponentRunner(component, recorder, emit, on_tick, freeze_garbage, start_at=start_at)
        sinks.telemetry.watch(sinks.collector, lambda: runner.start_ns, OPERATIONS)

        def on_signal(name: str) -> None:
            if runner.stopping:
                runner.kill()
            else:
                runner.stop(f"interrupted: ended before its plan ({name})")

        on_ending_signal(on_signal)
        sampler = UsageSampler(sources, sinks.collector, lambda: runner.start_ns)
        async with sampler.sampling(opened=True):
            result = await runner.run()
        result.doubts += sampler.doubts
        return result


def _settings(
    found: type[AnyComponent],
    kind: str,
    file: Path | None,
    *,
    target: str | None,
    seed: int | None,
    users: int | None,
    duration: Any,
    rate: Any,
    client: str | None,
    mode: str | None,
) -> ComponentSettings:
    """Return the settings of the file after the options of the command line.

    Raises:
        BadInputError: every problem of the file and the options.
    """
    changes: dict[Location, Any] = {
        ("seed",): seed,
        ("options", found.target_option): target,
        ("options", "client"): client,
        ("options", "mode"): mode,
    }
    names = ("--seed", "--target", "--client", "--mode")
    source = component_source(file, kind, changes, dict(zip(changes, names, strict=True)))
    settings = read_settings(source, found.settings_type, os.environ)
    if users is None and duration is None and rate is None:
        return settings
    source = replace(source, data={**source.data, "load": override_load(settings.load, users, duration, rate)})
    return read_settings(source, found.settings_type, os.environ)


def _plan_facts(found: type[AnyComponent], settings: ComponentSettings) -> PlanFacts:
    load, phases = settings.load, planned_phases(settings.load, settings.seed)
    closed = isinstance(load, ConcurrencyLoad)
    return PlanFacts(
        model="closed" if closed else "open",
        phases=phases,
        calls=0 if closed else sum(phase.calls for phase in phases),
        load_duration_s=sum(phase.duration_s for phase in phases),
        call_types={},
        frame_ms=0,
        processes=1,
        component=found.name,
        headline=found.headline_of(settings),
        lateness_limit_ms=found.lateness_limit_ms,
        fingerprint=fingerprint(settings),
    )


def _print(summary: Summary, paths: dict[str, Path], console: Console, as_json: bool) -> None:
    if as_json:
        click.echo(paths["summary.json"].read_bytes().decode(), nl=False)
    else:
        print_summary(console, summary, paths)
