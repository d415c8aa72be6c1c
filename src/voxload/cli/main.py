"""The `voxload` command: its groups, and how errors end it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

import click

from voxload import __version__
from voxload.cli.check import check_command
from voxload.cli.report import report_command
from voxload.cli.run import run_command
from voxload.cli.schema import schema_command
from voxload.cli.twin import twin_command
from voxload.errors import BadInputError, ExitCode, VoxloadError

EPILOG = """\b
Exit codes:
  0  passed
  1  a gate failed
  2  bad input: every error is listed, with file and line
  3  the target cannot be reached, or the run was cut short
  4  unknown: the generator fell behind, a process was lost, or a gate had no data

\b
Examples:
  voxload run examples/demo.yaml
  voxload run scenario.yaml --target https://agent.example --users 500 --duration 10m
  voxload check scenario.yaml
  voxload twin --turn 700ms
"""


@click.group(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="voxload")
def cli() -> None:
    """Load tests for real-time voice agents: thousands of callers, measured from the caller's ear."""


for _command in (run_command, check_command, twin_command, report_command, schema_command):
    cli.add_command(_command)


def run_command_line(arguments: Sequence[str], command: Callable[..., object] = cli.main) -> int:
    """Run one command and return its exit code; problems go to standard error, without a traceback."""
    try:
        result = command(args=list(arguments), prog_name="voxload", standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("voxload: interrupted", err=True)
        return ExitCode.ABORTED
    except click.ClickException as error:
        error.show()
        return ExitCode.BAD_INPUT
    except BadInputError as error:
        for problem in error.problems:
            click.echo(f"voxload: {problem}", err=True)
        return error.exit_code
    except VoxloadError as error:
        click.echo(f"voxload: {error}", err=True)
        return error.exit_code
    except BrokenPipeError:  # the reader of our output has left (`voxload … | head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.PASSED
    return result if isinstance(result, int) else ExitCode.PASSED
