"""`voxload calibrate`: is the meter right? Stated against measured, on this machine."""

from __future__ import annotations

import click
import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

from voxload.cli.command import CheckedCommand
from voxload.errors import ExitCode
from voxload.model.scenario import Scenario
from voxload.runners.calibration import Row, experiments, run_experiment, trusted
from voxload.twin.process import TwinProcess

ATTEMPTS = 3
"""Runs of an experiment in which the generator could not keep time, before the answer is unknown."""

WIDTH = 110
"""Columns of the table where there is no terminal to ask."""

EPILOG = """\b
Examples:
  voxload calibrate            the whole grid, some four minutes
  voxload calibrate --short    one point of each kind, about a minute
  voxload calibrate --json

\b
Exit codes: 0 every value lies within its bounds, 1 one does not, 4 this machine could not keep time.
"""


@click.command("calibrate", cls=CheckedCommand, epilog=EPILOG)
@click.option("--short", is_flag=True, help="One point of each kind.")
@click.option("--calls", type=click.IntRange(20, 1000), default=100, show_default=True, help="Calls an experiment.")
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON, nothing else.")
def calibrate_command(short: bool, calls: int, as_json: bool) -> int:
    """Drive the embedded agent over a grid of known behaviour and compare what the meter says."""
    console = Console(stderr=as_json)
    if not console.is_terminal:
        console = Console(stderr=as_json, width=WIDTH)
    rows: list[Row] = []
    kept_time = True
    for experiment in experiments(short):
        for _ in range(ATTEMPTS):
            found, lateness_ms = run_experiment(experiment, calls, _start_twin)
            if trusted(lateness_ms) and all(row.kept for row in found):
                break
        kept_time = kept_time and trusted(lateness_ms)
        rows += found
        console.print(f"{'✓' if all(row.kept for row in found) else '✗'} {experiment.name}", highlight=False)
    if as_json:
        shown = [msgspec.to_builtins(row) | {"kept": row.kept} for row in rows]
        click.echo(msgspec.json.format(msgspec.json.encode(shown), indent=2).decode())
    else:
        console.print(_table(rows))
    if not kept_time:
        console.print("? unknown: this machine could not keep time; close what else runs on it")
        return ExitCode.UNKNOWN
    wrong = [row for row in rows if not row.kept]
    console.print(f"✗ {len(wrong)} of {len(rows)} values are wrong" if wrong else f"✓ all {len(rows)} values are right")
    return ExitCode.GATE_FAILED if wrong else ExitCode.PASSED


def _start_twin(scenario: Scenario) -> TwinProcess:
    return TwinProcess(scenario.twin, scenario.dialect.name, scenario.dialect.options)


def _table(rows: list[Row]) -> Table:
    table = Table("Quantity", "Stated", "Measured", "Error", "Bounds", "Observations", box=box.SIMPLE)
    table.columns[0].no_wrap = True
    for column in table.columns[1:]:
        column.justify, column.no_wrap = "right", True
    last = ""
    for row in rows:
        if row.experiment != last:
            last = row.experiment
            table.add_section()
            table.add_row(f"[bold]{last}[/]")
        measured = "—" if row.measured is None else f"{row.measured:.2f} {row.unit}"
        error = "—" if row.measured is None else f"{row.measured - row.stated:+.2f}"
        table.add_row(
            f"{'✓' if row.kept else '✗'} {row.quantity}",
            f"{row.stated:g} {row.unit}",
            measured,
            error,
            f"{row.low:.1f} … {row.high:.1f}",
            f"{row.observations:,}",
        )
    return table
