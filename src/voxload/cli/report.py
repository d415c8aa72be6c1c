"""`voxload report`: make every report of a run again, from its summary alone."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec
from rich.console import Console

from voxload.cli.command import CheckedCommand
from voxload.measure.summary import PARTIAL_FILE, SUMMARY_FILE, Summary, encode_summary, read_summary
from voxload.report.files import write_reports
from voxload.report.terminal import print_summary
from voxload.runners.results import CALLS_FILE, RecordingFiles, read_calls, write_atomically

EPILOG = """\b
Examples:
  voxload report results/20261123-101500-demo
  voxload report results/20261123-101500-demo/summary.json --out /tmp/report --json
"""


@click.command("report", cls=CheckedCommand, epilog=EPILOG)
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Folder to write to (default: the run's)."
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON, nothing else.")
def report_command(run: Path, out: Path | None, as_json: bool) -> None:
    """Rebuild the reports of RUN (a folder under results/, or its summary.json) and print its verdict.

    A run that was killed is reported as far as it had been written, and says so.

    The exit code is 0 whatever the verdict: the run was judged when it ran.
    """
    summary = read_summary(run)
    partial = run.is_dir() and not (run / SUMMARY_FILE).exists()
    folder = out or (run if run.is_dir() else run.parent)
    folder.mkdir(parents=True, exist_ok=True)
    source = run if run.is_dir() else run.parent

    def write(name: str, content: bytes | str) -> Path:
        if partial and name == SUMMARY_FILE:  # the run may go on still: its own summary is yet to come
            return folder / PARTIAL_FILE
        return write_atomically(folder / name, content)

    if partial:
        from voxload.runners.recordings import render_spooled  # noqa: PLC0415  # asyncio and audio, for runs that were killed

        render_spooled(run)
        summary = _with_doubt(summary, run)
    paths = write_reports(summary, write, RecordingFiles(source))
    if as_json:
        click.echo(encode_summary(summary).decode(), nl=False)
    else:
        print_summary(Console(), summary, paths)


def _with_doubt(summary: Summary, run: Path) -> Summary:
    """Return the summary of a run without an end, with how many of its calls are on the disk."""
    try:
        count = sum(1 for _ in read_calls(run))
    except OSError:
        count = 0
    reason = f"{count} calls were written to {CALLS_FILE}; the figures here are of {summary.totals.attempted} of them"
    verdict = msgspec.structs.replace(summary.verdict, reasons=[*summary.verdict.reasons, reason])
    return msgspec.structs.replace(summary, verdict=verdict)
