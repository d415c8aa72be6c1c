"""`voxload component all`: the services behind an agent side by side, as calls grow, and which gives way first."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import msgspec
import uvloop
from rich.console import Console
from rich.table import Table

from voxload.cli.command import CheckedCommand, out_option
from voxload.cli.component_services import services_of
from voxload.cli.peers import start_peers
from voxload.cli.signals import HeldBack, on_ending_signal
from voxload.cli.telemetry import LiveFigures, telemetry_options, tell_losses
from voxload.errors import BadInputError, ExitCode, Problem
from voxload.measure.snapshot import Snapshot
from voxload.model.quantities import parse_duration_ns
from voxload.model.telemetry import TelemetrySettings
from voxload.planning.profile import FIELDS, CallProfile, profile_of
from voxload.report import text
from voxload.report.side_by_side import ServiceLine, render_side_by_side
from voxload.runners.prepare import new_run_id, prepare
from voxload.runners.results import ResultsFolder, write_atomically
from voxload.runners.side_by_side import Service, SideBySide, Steps
from voxload.runners.telemetry.live import Telemetry
from voxload.runners.telemetry.origin import side_by_side
from voxload.verdict.gate import RATE_OBSERVATIONS_MIN
from voxload.verdict.steps import ServiceResult, StepResult, first_to_break

EPILOG = """\b
Examples:
  voxload component all --with redis,http,blob --calls 200..1200
  voxload component all scenario.yaml --calls 500..3000 --steps 6 --step 30s
  voxload component all --with redis,blob=blob.yaml --calls 100,200 --gate 'p95(blob_upload{probe="blob"}) < 1s'
  voxload component all --with openai,redis --assume call_s=120 --assume turns=12 --per-call redis=2

\b
The services are the scenario's probes: and those of --with (KIND, or KIND=FILE as for voxload component KIND); one
without an address is a stand-in. What a call asks of each follows the model of voxload plan.
Exit codes: 0 every service carries the last step, 1 one gives way, 3 one is not there, or Ctrl-C, 4 not known.
"""
CALLS_DEFAULT = "200..1200"
RESULT_FILE = "components.json"
NAMELESS = "services"
UNITS_MIN = 2 * RATE_OBSERVATIONS_MIN
"""Units of work that a step should have: arrivals are random, and a share of fewer than half of them is not judged."""


class AllResult(msgspec.Struct, frozen=True):
    """What `components.json` holds."""

    name: str
    calls: tuple[float, ...]
    step_s: float
    profile: CallProfile
    origins: dict[str, str]
    services: list[ServiceResult]
    first: list[str]
    """The services that give way at the fewest calls."""
    answer: str
    interrupted: bool = False


@click.command("all", cls=CheckedCommand, epilog=EPILOG)
@click.argument("scenario", required=False, type=click.Path(path_type=Path))
@click.option("--with", "kinds", default="", metavar="KIND[=FILE],…", help="Further services.")
@click.option("--calls", default=CALLS_DEFAULT, show_default=True, help="Calls at once: FROM..TO, or a list.")
@click.option("--steps", default=6, show_default=True, type=click.IntRange(2, 50), help="How many, with FROM..TO.")
@click.option("--step", default="15s", show_default=True, help="Length of each step.")
@click.option("--assume", multiple=True, metavar="FIELD=VALUE", help=f"A figure of the mean call: {', '.join(FIELDS)}.")
@click.option("--per-call", multiple=True, metavar="NAME=N", help="Units of work of a service that one call makes.")
@click.option("--gate", "gates", multiple=True, help="A further gate; may be given several times.")
@click.option(
    "--slowdown",
    default=5.0,
    show_default=True,
    type=click.FloatRange(0),
    help="A p95 so many times that of the first step (and 50 ms over it) is giving way; 0: only gates count.",
)
@out_option
@telemetry_options
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON, nothing else.")
def all_command(scenario: Path | None, out: Path, as_json: bool, **options: Any) -> int:
    """Load the services of SCENARIO side by side, in growing steps, and tell which one gives way first."""
    console, figures = Console(stderr=as_json), LiveFigures.of(options, scenario)
    prepared = prepare(scenario, environ=os.environ) if scenario is not None else None
    profile, origins = profile_of(prepared, options["assume"])
    steps = Steps(*_calls(options), profile.call_s, options["slowdown"])
    name = prepared.scenario.name if prepared is not None else NAMELESS
    run_id = new_run_id(f"{name}-all")
    settings = TelemetrySettings() if prepared is None else prepared.scenario.telemetry
    with ExitStack() as stack:
        telemetry = stack.enter_context(figures.open(settings, console, run_id, name))
        if prepared is not None and any(probe.options.get("url") == "target" for probe in prepared.scenario.probes):
            prepared, _ = start_peers(prepared, stack, console)
        services = services_of(prepared, options["kinds"], options["per_call"], options["gates"], profile, run_id)
        folder = ResultsFolder(out / run_id)
        folder.close()
        _say_what(console, services, steps)

        def result_of(results: list[ServiceResult], interrupted: bool = False) -> AllResult:
            names = [service.name for service in first_to_break(results)]
            told = answer(results, interrupted)
            return AllResult(name, steps.calls, steps.step_s, profile, origins, results, names, told, interrupted)

        def told(number: int, results: list[ServiceResult]) -> None:
            _say_step(console, steps, number, results)
            _write(folder.path, result_of(results), services)

        test = SideBySide(services, steps, run_id, told)
        uvloop.run(_run(test, telemetry))
        with HeldBack():
            found = result_of(test.results(), test.interrupted)
            _write(folder.path, found, services)
    tell_losses(telemetry.losses(), console)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        _print(console, found, folder.path)
    return exit_code(found)


async def _run(test: SideBySide, telemetry: Telemetry) -> None:
    origins = {name: side_by_side(name) for name in test.collectors}
    for name, collector in test.collectors.items():
        telemetry.watch(collector, lambda: test.start_ns, origins[name])

    def on_snapshot(name: str, snapshot: Snapshot) -> None:
        telemetry.take(snapshot, origins[name])
        telemetry.on_tick()

    test.on_snapshot = on_snapshot

    def on_signal(_: str) -> None:
        if test.interrupted:
            test.kill()
        else:
            test.stop()

    on_ending_signal(on_signal)
    await test.run()


def exit_code(found: AllResult) -> ExitCode:
    """Return the command's exit code for what was found."""
    if found.interrupted:
        return ExitCode.ABORTED
    if found.first:
        return ExitCode.GATE_FAILED
    return ExitCode.PASSED if all(map(_holds_all, found.services)) else ExitCode.UNKNOWN


def answer(services: Sequence[ServiceResult], interrupted: bool = False) -> str:
    """Return which service gives way first, in words."""
    words = [
        f"{service.name} gives way at {service.breaks.calls:g} calls at once ({service.breaks.reasons[0]})"
        for service in first_to_break(services)
        if service.breaks is not None
    ]
    if words:
        words[0] = f"first {words[0]}"
    elif services and all(_holds_all(service) for service in services):
        words.append(f"every service carries {services[0].steps[-1].calls:g} calls at once")
    unknown = [service for service in services if service.breaks is None and service.unknown is not None]
    words += [
        f"{service.name} is not known from {service.unknown.calls:g} calls on: {service.unknown.reasons[0]}"
        for service in unknown
        if service.unknown is not None
    ]
    if interrupted:
        words.append("interrupted (Ctrl-C)")
    told = "; ".join(words) or "nothing is known"
    return f"{told[0].upper()}{told[1:]}."


def _holds_all(service: ServiceResult) -> bool:
    return bool(service.steps) and service.breaks is None and service.holds_calls == service.steps[-1].calls


def _calls(options: dict[str, Any]) -> tuple[tuple[float, ...], float]:
    """Return (calls of each step, length of a step in s).

    Raises:
        BadInputError: they cannot be read.
    """
    problems, calls, step_ns = [], [], 1
    written = options["calls"]
    span = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*\.\.\s*(\d+(?:\.\d+)?)\s*", written)
    try:
        if span:
            low, high, count = float(span[1]), float(span[2]), options["steps"]
            calls = [round(low + (high - low) * number / (count - 1), 1) for number in range(count)]
        else:
            calls = [float(item) for item in written.split(",")]
    except ValueError:
        calls = []
    if len(calls) < 1 or calls[0] <= 0 or any(a >= b for a, b in pairwise(calls)):
        message = f"--calls: {written!r} is no growing number of calls"
        problems.append(Problem(message, suggestion="write 200..1200, or 100,200,400"))
    try:
        step_ns = parse_duration_ns(options["step"])
        if step_ns < 10**9:
            problems.append(Problem("--step: a step lasts a second at least"))
    except ValueError as error:
        problems.append(Problem(f"--step: {error}"))
    if problems:
        raise BadInputError(problems)
    return tuple(calls), step_ns / 1e9


def _say_what(console: Console, services: Sequence[Service], steps: Steps) -> None:
    for service in services:
        rates = [steps.rate_per_s(number, service.per_call) for number in (0, len(steps.calls) - 1)]
        words = f"{service.name}: {service.component.target}; {service.per_call:g} a call ({service.about_work}), "
        words += f"{rates[0]:.3g} to {rates[1]:.3g} a second"
        console.print(words, markup=False, highlight=False, soft_wrap=True)
        few = [calls for number, calls in enumerate(steps.calls) if _units(steps, service, number) < UNITS_MIN]
        if few:
            words = f"[yellow]warning:[/] {service.name}: up to {few[-1]:g} calls a step has too little work to judge; "
            console.print(f"{words}more calls, or a longer --step", highlight=False, soft_wrap=True)


def _units(steps: Steps, service: Service, number: int) -> float:
    return steps.rate_per_s(number, service.per_call) * steps.step_s


def _say_step(console: Console, steps: Steps, number: int, results: Sequence[ServiceResult]) -> None:
    words = [f"{each.name} {_state(each.steps[number])}" for each in results if number < len(each.steps)]
    console.print(f"{steps.phase(number)}: {'; '.join(words)}", markup=False, highlight=False, soft_wrap=True)


def _state(step: StepResult) -> str:
    p95 = "" if step.p95_ms is None or step.status == "left alone" else f" (p95 {text.milliseconds(step.p95_ms)})"
    return f"{step.status}{p95}"


Rows = list[list[str]]


def _rows(found: AllResult) -> Rows:
    rows = []
    for service in found.services:
        for step in service.steps:
            alone = step.status == "left alone"
            rows.append(
                [
                    service.name,
                    f"{step.calls:g}",
                    f"{step.rate_per_s:.3g}",
                    "—" if alone else f"{step.completed} of {step.attempted}",
                    "—" if alone else text.milliseconds(step.p50_ms),
                    "—" if alone else text.milliseconds(step.p95_ms),
                    "—" if step.throttled is None or alone else text.percent(step.throttled),
                    step.status,
                    "; ".join(text.clean(reason, 160) for reason in step.reasons[:2]),
                ]
            )
    return rows


COLUMNS = ["service", "calls", "per s", "done", "p50", "p95", "429", "verdict", "why"]


def _print(console: Console, found: AllResult, folder: Path) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in COLUMNS[:-1]:
        table.add_column(column, justify="left" if column in {"service", "verdict"} else "right", no_wrap=True)
    styles = {"holds": "green", "breaks": "red", "unknown": "yellow", "left alone": "dim"}
    rows = _rows(found)
    for row in rows:
        cells = [cell.replace("[", r"\[") for cell in row[:-1]]
        cells[7] = f"[{styles[row[7]]}]{row[7]}[/]"
        table.add_row(*cells)
    console.print(table)
    for row in rows:
        if row[-1]:
            words = f"{row[0]} at {row[1]} calls {row[7]}: {row[-1]}"
            console.print(words, markup=False, highlight=False, soft_wrap=True)
    console.print(found.answer, markup=False, highlight=False, soft_wrap=True)
    console.print(f"Plot: {folder / 'components.html'}", markup=False, highlight=False, soft_wrap=True)


def _write(folder: Path, found: AllResult, services: Sequence[Service]) -> None:
    encoded = msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n"
    write_atomically(folder / RESULT_FILE, encoded)
    lines = [
        ServiceLine(
            f"{each.name}, {text.title(each.latency).lower()}",
            [(step.calls, step.p95_ms, step.status, _words(each, step)) for step in each.steps],
        )
        for each in found.services
    ]
    load = [
        [
            each.name,
            each.component.target,
            f"{each.per_call:g}",
            each.about_work,
            "; ".join(g.expression for g in each.gates),
        ]
        for each in services
    ]
    call = [[field, f"{getattr(found.profile, field):g}", found.origins[field]] for field in FIELDS]
    tables = [
        ("Step by step", COLUMNS, _rows(found)),
        ("What a call asks", ["service", "address", "units of work", "which are", "gates"], load),
        ("The mean call", ["", "value", "from"], call),
    ]
    page = render_side_by_side(
        "Services side by side" + (f": {found.name}" if found.name != NAMELESS else ""), found.answer, lines, tables
    )
    write_atomically(folder / "components.html", page.encode())


def _words(service: ServiceResult, step: StepResult) -> str:
    return f"{service.name}, {step.calls:g} calls: {_state(step)}" + (f"; {step.reasons[0]}" if step.reasons else "")
