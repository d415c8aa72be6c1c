"""`voxload doctor`: what this machine can generate, what stands in the way, and how to lift it."""

from __future__ import annotations

import click
import msgspec
from rich.console import Console
from rich.table import Table

from voxload.cli.command import CheckedCommand
from voxload.errors import RunAbortedError, VoxloadError
from voxload.model.scenario import Scenario
from voxload.runners.environment import environment_facts
from voxload.runners.machine import FILES_BESIDE_CALLS, Finding, Machine, diagnose, read_machine
from voxload.runners.self_benchmark import CALLS, CALLS_MAX, FRAMES_PER_S, Measured, measure, remember
from voxload.twin.process import TwinProcess

EPILOG = """\b
Examples:
  voxload doctor               limits, and a benchmark of some seconds against the embedded agent
  voxload doctor --no-benchmark --json

\b
`voxload check` uses the last benchmark to warn before a run that this machine cannot carry.
Exit codes: 0 all is well, 1 something stands in the way.
"""


@click.command("doctor", cls=CheckedCommand, epilog=EPILOG)
@click.option("--benchmark/--no-benchmark", default=True, help="Place quiet calls for some seconds.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON, nothing else.")
def doctor_command(benchmark: bool, as_json: bool) -> int:
    """Tell what this machine can generate."""
    machine = read_machine()
    findings = diagnose(machine)
    measured = None
    if benchmark:
        try:
            measured = _measure(machine)
            remember(measured)
        except VoxloadError as error:
            findings.append(Finding("warning", "benchmark", str(error)))
    if as_json:
        found = {
            "machine": machine,
            "environment": environment_facts(),
            "findings": findings,
            "benchmark": measured,
        }
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        _print(Console(highlight=False), findings, measured, machine.cores)
    return 1 if any(finding.status == "warning" for finding in findings) else 0


def _measure(machine: Machine) -> Measured:
    """Make the benchmark.

    Raises:
        VoxloadError: it could not be made.
    """
    files = CALLS + FILES_BESIDE_CALLS
    if machine.files_max < files:
        raise RunAbortedError(f"not made: its {CALLS} calls need {files} open files")
    alone = machine.cores == 1  # the agent takes its share of the same core
    return measure(_start_twin, CALLS if alone else min(CALLS_MAX, machine.files_max - FILES_BESIDE_CALLS))


def _start_twin(scenario: Scenario) -> TwinProcess:
    return TwinProcess(scenario.twin, scenario.dialect.name, scenario.dialect.options)


def _print(console: Console, findings: list[Finding], measured: Measured | None, cores: int) -> None:
    facts = environment_facts()
    console.print(
        f"{facts.get('cpu', facts['machine'])}, {cores} cores, {facts['memory']}, Python {facts['python']}, "
        f"uvloop {facts['uvloop']}, picows {facts['picows']}"
    )
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for finding in findings:
        sign = "[green]✓[/]" if finding.status == "ok" else "[yellow]![/]"
        table.add_row(sign, finding.subject, finding.detail + (f"\n→ {finding.remedy}" if finding.remedy else ""))
    console.print(table)
    if measured is not None:
        console.print(
            f"{measured.calls} quiet calls at {FRAMES_PER_S} frames a second: {measured.cpu_us_per_frame:.1f} µs of "
            f"CPU a frame, lateness p99 {measured.lateness_p99_ms:.1f} ms, {measured.memory_mib:.0f} MiB."
        )
        console.print(
            f"One core carries about {measured.calls_per_core:,} such calls, this machine about "
            f"{measured.calls_per_core * cores:,} if the target runs elsewhere; agents that speak cost more.",
            style="bold",
        )
