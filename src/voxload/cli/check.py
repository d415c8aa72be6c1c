"""`voxload check`: validate a scenario and print its plan; no call is placed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from voxload.cli.command import CheckedCommand
from voxload.cli.options import (
    gate_options,
    load_overrides,
    prepare_with_gates,
    source_options,
    targets_in_words,
    tier_options,
    tls_options,
)
from voxload.clock import NS_PER_S
from voxload.errors import Collected, Problem
from voxload.model.quantities import format_duration
from voxload.model.scenario import TWIN_TARGET, Scenario
from voxload.model.usage import ResourceSource
from voxload.runners.checks import PLACEHOLDER_TARGET
from voxload.runners.durations import ASSUMED_LATENCY_S, ASSUMED_REPLY_S
from voxload.runners.estimate import Estimate
from voxload.runners.preflight import (
    estimate_here,
    machine_warnings,
    proxies_in_words,
    sources_in_words,
    with_auto_sources,
)
from voxload.runners.prepare import Prepared
from voxload.runners.probe_settings import probe_words
from voxload.verdict.implied import implied_gates
from voxload.verdict.offered import gate_warnings
from voxload.verdict.rules import NamedGate

EPILOG = """\b
Examples:
  voxload check examples/demo.yaml
  voxload check scenario.yaml --users 500 --duration 10m --json
  voxload check scenario.yaml --tier smoke --gates quality-gates.yml
Exit codes: 0 the scenario can be run, 2 it cannot: every problem is listed with its line.
"""


@click.command("check", cls=CheckedCommand, epilog=EPILOG)
@click.argument("scenario", type=click.Path(path_type=Path))
@load_overrides
@tier_options
@tls_options
@source_options
@gate_options
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON, nothing else.")
def check_command(
    scenario: Path, gates_file: Path | None, extra_gates: tuple[str, ...], as_json: bool, **overrides: Any
) -> int:
    """Validate SCENARIO and print what a run of it would do; no call is placed."""
    prepared, about, gates, _ = prepare_with_gates(scenario, gates_file, extra_gates, overrides, Collected())
    prepared = with_auto_sources(prepared)
    scenario_target = prepared.plan.target or PLACEHOLDER_TARGET  # that of the embedded agent is known when it listens
    proxies = proxies_in_words(prepared)
    if prepared.scenario.resources:
        from voxload.runners.usage.sampler import build_sources  # noqa: PLC0415  # asyncio, for few scenarios

        build_sources(prepared.scenario.resources, scenario_target, os.environ)
    estimate = estimate_here(prepared)
    cores = len(os.sched_getaffinity(0))
    warnings = [
        *prepared.warnings,
        *_capacity_warnings(prepared, estimate),
        *gate_warnings(gates, estimate.peak_calls, bool(prepared.scenario.resources)),
    ]
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
    for fact in (about, proxies):
        if fact:
            click.echo(fact, err=True)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(_as_json(prepared, estimate, gates, warnings)), indent=2))
    else:
        print_plan(Console(highlight=False), prepared, estimate, gates, cores)
    return 0


def _capacity_warnings(prepared: Prepared, estimate: Estimate) -> list[Problem]:
    found = machine_warnings(prepared, estimate)
    limit = prepared.scenario.measurement.calls_max
    if limit and estimate.peak_calls > limit:
        message = f"about {estimate.peak_calls:,.0f} calls will be up at once, over measurement.calls_max ({limit:,})"
        found.append(Problem(message, suggestion="the calls beyond it will be shed"))
    return found


def _as_json(prepared: Prepared, estimate: Estimate, gates: list[NamedGate], warnings: list[Problem]) -> dict[str, Any]:
    return {
        "scenario": prepared.scenario.name,
        "target": targets_in_words(prepared),
        "source_addresses": prepared.plan.source_addresses,
        "seed": prepared.scenario.seed,
        "plan": estimate,
        "gates": _gate_texts(prepared.scenario, gates),
        "resources": [_resource_words(item) for item in prepared.scenario.resources],
        "probes": [
            {"name": probe.label, "component": probe.component, "rate_per_s": probe.rate_per_s}
            for probe in prepared.scenario.probes
        ],
        "warnings": [str(warning) for warning in warnings],
    }


def _gate_texts(scenario: Scenario, gates: list[NamedGate]) -> list[str]:
    """Return the gates, and those that the scenario sets without writing them."""
    return [gate.expression for _, gate in [*gates, *implied_gates(scenario, gates)]]


def print_plan(console: Console, prepared: Prepared, estimate: Estimate, gates: list[NamedGate], cores: int) -> None:
    """Print the plan as tables."""
    scenario = prepared.scenario
    target = targets_in_words(prepared)
    console.print(f"[bold]{_plain(scenario.name)}[/]  {_plain(target)}, dialect {_plain(scenario.dialect.name)}")
    if scenario.description:
        console.print(_plain(" ".join(scenario.description.split())), style="dim")
    console.print(_load_table(estimate))
    console.print(_calls_table(estimate))
    console.print(_peak_table(estimate, cores))
    if sources := sources_in_words(prepared):
        console.print(sources)
    for gate in _gate_texts(scenario, gates):
        console.print(f"gate  {_plain(gate)}")
    for source in scenario.resources:
        console.print(f"resource  {_plain(_resource_words(source))}")
    for words in probe_words(scenario):
        console.print(f"probe  {_plain(words)}")
    if scenario.recovery is not None:
        console.print(f"after the load  {_plain(scenario.recovery.in_words)}")
    assumed = ""
    if scenario.target != TWIN_TARGET:
        assumed = f" Agent turns are taken as {ASSUMED_LATENCY_S:g} s of latency and {ASSUMED_REPLY_S:g} s of speech."
    console.print(f"[green]ready to run[/] · seed {scenario.seed}.{assumed}")


def _resource_words(source: ResourceSource) -> str:
    """Return where a part of the target's use is measured."""
    ways = ("pid", "port", "process", "prometheus", "azure_monitor")
    way = next(name for name in ways if getattr(source, name) is not None)
    where = getattr(source, way)
    if source.prometheus is not None:
        where = source.prometheus.url
    elif source.azure_monitor is not None:
        where = source.azure_monitor.resource
    return f"{source.label}: CPU and memory by {way.replace('_', ' ')} {where}"


def _load_table(estimate: Estimate) -> Table:
    total = f"{estimate.calls:,} calls" if estimate.model == "open" else f"about {estimate.calls:,} calls"
    table = Table(title=f"Load ({estimate.model}): {total} in {_time(estimate.load_duration_s)}", title_justify="left")
    table.add_column("phase", overflow="fold")
    for name in ("from", "for", "calls a second", "calls"):
        table.add_column(name, justify="right")
    closed = estimate.model == "closed"
    for phase in estimate.phases:
        rate = _rate(phase.rate_start_per_s)
        if phase.rate_end_per_s != phase.rate_start_per_s:
            rate += f" → {_rate(phase.rate_end_per_s)}"
        if closed and not phase.rate_start_per_s:
            rate = "as calls end"
        calls = "" if closed else f"{phase.calls:,}"
        table.add_row(_plain(phase.name), _time(phase.start_s), _time(phase.duration_s), rate, calls)
    return table


def _calls_table(estimate: Estimate) -> Table:
    table = Table(title="Calls, expected", title_justify="left")
    table.add_column("call", overflow="fold")
    for name in ("share", "length", "caller speaks", "agent speaks", "turns"):
        table.add_column(name, justify="right")
    for call in estimate.call_types:
        speech = (_time(call.caller_speech_s), _time(call.agent_speech_s))
        table.add_row(_plain(call.name), f"{call.share:.1%}", _time(call.duration_s), *speech, f"{call.turns:.3g}")
    return table


def _peak_table(estimate: Estimate, cores: int) -> Table:
    table = Table(title="At the peak, expected", title_justify="left", show_header=False)
    table.add_column("what")
    table.add_column("value", justify="right")
    rows = [
        ("calls at once", f"{estimate.peak_calls:,.0f}"),
        (f"frames up, {estimate.frame_ms_up} ms", _traffic(estimate.frames_up_per_s, estimate.mbit_up_per_s)),
        (f"frames down, {estimate.frame_ms_down} ms", _traffic(estimate.frames_down_per_s, estimate.mbit_down_per_s)),
        ("generator CPU", f"{estimate.cpu_cores:.2f} cores, {estimate.frame_up_us:.0f} µs a frame up"),
        ("processes recommended", f"{estimate.processes:,} (this machine has {cores} cores)"),
        ("run, last calls included", _time(estimate.run_duration_s)),
    ]
    if estimate.side_requests_per_s:
        rows.insert(3, ("side requests", f"{estimate.side_requests_per_s:,.1f}/s"))
    for row in rows:
        table.add_row(*row)
    return table


def _rate(per_s: float) -> str:
    return f"{per_s:,.0f}" if per_s >= 1000 else f"{per_s:.4g}"


def _traffic(frames_per_s: float, mbit_per_s: float) -> str:
    return f"{frames_per_s:,.0f}/s · {mbit_per_s:,.1f} Mbit/s"


def _time(seconds: float) -> str:
    return "0 s" if not seconds else format_duration(seconds * NS_PER_S)


def _plain(text: str) -> str:
    """Return a user's text so that rich prints it and obeys nothing in it."""
    return text.replace("[", r"\[")
