"""`voxload merge`: the parts of a test that several machines placed become one run with one verdict."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from voxload.cli.after_run import AfterRun, after_options, tell_ci
from voxload.cli.command import out_option
from voxload.cli.options import gate_options, read_gates
from voxload.cli.telemetry import tell_losses
from voxload.errors import BadInputError, Problem
from voxload.measure.snapshot import Snapshot
from voxload.measure.summary import encode_summary
from voxload.model.fingerprint import fingerprint
from voxload.model.scenario import Scenario
from voxload.model.source import read_source, validate
from voxload.report.files import write_reports
from voxload.report.terminal import print_summary
from voxload.runners.merge import merge_parts, read_parts
from voxload.runners.prepare import new_run_id
from voxload.runners.results import ResultsFolder
from voxload.verdict.gate import judge
from voxload.verdict.implied import implied_gates

EPILOG = """\b
Examples:
  voxload run scenario.yaml --share 50%                      on each of two machines
  voxload merge scenario.yaml machine-1/RUN machine-2/RUN    the whole test, judged by the scenario's gates
Percentiles are those of all calls together, exactly. Parts that are missing, incomplete or did not run at the
same time make the verdict unknown.
Exit codes: as of `voxload run`.
"""


@click.command("merge", epilog=EPILOG)
@click.argument("scenario", type=click.Path(path_type=Path))
@click.argument("runs", type=click.Path(path_type=Path), nargs=-1, required=True)
@after_options
@gate_options
@out_option
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON, nothing else.")
def merge_command(
    scenario: Path,
    runs: tuple[Path, ...],
    gates_file: Path | None,
    extra_gates: tuple[str, ...],
    out: Path,
    as_json: bool,
    **options: Any,
) -> int:
    """Make one run of RUNS, folders under results/ that each hold a part (--share) of a test of SCENARIO."""
    if len(runs) < 2:
        raise BadInputError([Problem("one part alone is nothing to merge", suggestion="give the folders of all parts")])
    written = validate(read_source(scenario), Scenario)
    gates, rules = read_gates(written, gates_file, extra_gates)
    marks = fingerprint(written)
    after = AfterRun.of(AfterRun.options(options), rules.thresholds())
    after.check(written.name, marks)
    parts = read_parts(runs, written.name, marks)
    run_id = new_run_id(written.name)
    console = Console(stderr=as_json)
    with ResultsFolder(out / run_id) as folder:

        def take(snapshot: Snapshot) -> None:
            folder.append_calls(snapshot.calls)

        summary = merge_parts(parts, run_id, written.load, marks, take)
        folder.close()
    summary = judge(summary, [*gates, *implied_gates(written, gates)])
    summary = after.judged(summary, folder.path)
    paths = write_reports(summary, folder.write)
    tell_losses(folder.losses(), console)
    after.remember(summary, folder.path, console)
    if as_json:
        click.echo(encode_summary(summary).decode(), nl=False)
    else:
        print_summary(console, summary, paths)
    tell_ci(summary, paths, os.environ, to_stderr=as_json)
    return summary.verdict.exit_code
