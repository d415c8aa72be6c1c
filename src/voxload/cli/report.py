"""`voxload report`: make every report of a run again, from its summary alone."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from voxload.measure.summary import encode_summary, read_summary
from voxload.report.files import write_reports
from voxload.report.terminal import print_summary
from voxload.runners.results import RecordingFiles, write_atomically

EPILOG = """\b
Examples:
  voxload report results/20261123-101500-demo
  voxload report results/20261123-101500-demo/summary.json --out /tmp/report --json
"""


@click.command("report", epilog=EPILOG)
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Folder to write to (default: the run's)."
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON, nothing else.")
def report_command(run: Path, out: Path | None, as_json: bool) -> None:
    """Rebuild the reports of RUN (a folder under results/, or its summary.json) and print its verdict.

    The exit code is 0 whatever the verdict: the run was judged when it ran.
    """
    summary = read_summary(run)
    folder = out or (run if run.is_dir() else run.parent)
    folder.mkdir(parents=True, exist_ok=True)
    source = run if run.is_dir() else run.parent
    paths = write_reports(
        summary, lambda name, content: write_atomically(folder / name, content), RecordingFiles(source)
    )
    if as_json:
        click.echo(encode_summary(summary).decode(), nl=False)
    else:
        print_summary(Console(), summary, paths)
