"""The `voxload` command: its groups, and how errors end it."""

from __future__ import annotations

import difflib
import errno
import traceback
from collections.abc import Callable, Sequence

import click

from voxload import __version__
from voxload.errors import BadInputError, ExitCode, VoxloadError
from voxload.process import load

COMMANDS = {
    "run": "voxload.cli.run:run_command",
    "check": "voxload.cli.check:check_command",
    "capacity": "voxload.cli.capacity:capacity_command",
    "plan": "voxload.cli.plan:plan_command",
    "export": "voxload.cli.export:export_command",
    "import": "voxload.cli.import_:import_command",
    "worker": "voxload.cli.worker:worker_command_line",
    "component": "voxload.cli.component:component_command",
    "twin": "voxload.cli.twin:twin_command",
    "acs": "voxload.cli.acs:acs_command",
    "report": "voxload.cli.report:report_command",
    "merge": "voxload.cli.merge:merge_command",
    "doctor": "voxload.cli.doctor:doctor_command",
    "compare": "voxload.cli.compare:compare_command",
    "baseline": "voxload.cli.baseline:baseline_command",
    "history": "voxload.cli.history:history_command",
    "calibrate": "voxload.cli.calibrate:calibrate_command",
    "schema": "voxload.cli.schema:schema_command",
}
"""Where each command lives; imported when it is used, so that none waits for the libraries of another."""

SUMMARIES = {
    "run": "Place the calls of SCENARIO and judge the result.",
    "check": "Validate SCENARIO and print what a run of it would do; no call is placed.",
    "capacity": "Find the highest load of SCENARIO that passes every gate.",
    "plan": "Plan capacity: SCENARIO says what a call is, the limits what the services give.",
    "export": "Write a scenario in the form of another tool.",
    "import": "Make a scenario of another tool's load test.",
    "worker": "Place a part of another machine's run.",
    "component": "Load one service as FILE says, with the vendor's own client, and judge the result.",
    "twin": "Run a voice agent whose latencies, quotas and faults are known, until Ctrl-C.",
    "acs": "Play Azure Communication Services to a backend on this machine.",
    "report": "Rebuild the reports of RUN (a folder under results/, or its summary.json) and print its verdict.",
    "merge": "Make one run of RUNS, folders under results/ that each hold a part (--share) of a test of SCENARIO.",
    "doctor": "Tell what this machine can generate.",
    "compare": "Compare A with B (and C …): percentiles, their differences and intervals, and whole distributions.",
    "baseline": "Save what runs measured in a file to commit, and check new runs against it.",
    "history": "List past runs, plot how their figures went, and find where one moved.",
    "calibrate": "Drive the embedded agent over a grid of known behaviour and compare what the meter says.",
    "schema": "Print the JSON Schema of scenario files; with KIND component that of the files of component tests.",
}
"""The first sentence of each command's help, so that the list of them is shown without importing any."""

_OF_THE_USER = frozenset(
    {
        errno.ENOENT,
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
        errno.EEXIST,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
    }
)
"""What the system says of a file or folder that a user has named wrongly."""

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


class LazyGroup(click.Group):
    """A group that imports a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        """Return the names in the order of use."""
        return list(COMMANDS)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  # as above
        """Write the list of commands as click does."""
        width = formatter.width - 6 - max(map(len, SUMMARIES))
        rows = [(name, click.Command(name, help=text).get_short_help_str(width)) for name, text in SUMMARIES.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # as above
        """Import one command."""
        place = COMMANDS.get(cmd_name)
        if place is None:
            return None
        module, name = place.split(":")
        command = getattr(load(module), name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which one may have been meant."""
        close = difflib.get_close_matches(args[0], COMMANDS, 1)
        if args[0] not in COMMANDS and close:
            ctx.fail(f"no command is called {args[0]!r}; did you mean {close[0]}?")
        return super().resolve_command(ctx, args)


@click.group(
    cls=LazyGroup,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, prog_name="voxload")
def cli() -> None:
    """Load tests for real-time voice agents: thousands of callers, measured from the caller's ear."""


def _defect() -> ExitCode:
    """Tell of an error that is none of the user's; nothing is known of the target then."""
    click.echo(traceback.format_exc(), err=True, nl=False)
    click.echo("voxload: this is a defect of voxload: please report it with the lines above; no verdict", err=True)
    return ExitCode.UNKNOWN


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
    except OSError as error:
        if error.filename is None or error.errno not in _OF_THE_USER:
            return _defect()
        click.echo(f"voxload: {error.filename}: {error.strerror}", err=True)
        return ExitCode.BAD_INPUT
    except Exception:  # noqa: BLE001  # whatever it is, it must not look like a gate that failed
        return _defect()
    return result if isinstance(result, int) else ExitCode.PASSED
