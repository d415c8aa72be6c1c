"""`voxload worker`: lend this machine to a distributed run."""

from __future__ import annotations

import os

import click

from voxload.cli.command import CheckedCommand
from voxload.errors import BadInputError
from voxload.measure.extra import require_installed
from voxload.runners.distributed import worker_command
from voxload.runners.source_addresses import problems_of

EPILOG = """\b
Examples:
  voxload run scenario.yaml --workers 3 --remote --master-bind 0.0.0.0      on one machine
  voxload worker --master-host 10.0.0.4 --region westeurope                 on three others
The worker takes part in one run and leaves; it stops its calls when the master is gone.
Exit codes: 0 it took part, 2 an address that is not this machine's, 3 no master was found.
"""
WAITS_MIN = 5
"""Locust tries sixty times, for 5 s each."""


@click.command("worker", cls=CheckedCommand, epilog=EPILOG)
@click.option("--master-host", required=True, help="Where `voxload run --workers` listens.")
@click.option(
    "--master-port", type=click.IntRange(1, 65535), default=5557, show_default=True, help="Its --master-port."
)
@click.option("--processes", type=click.IntRange(1, 256), help="Generator processes (default: the machine's cores).")
@click.option("--region", default="", help="Where this machine is: the label `region` of its calls.")
@click.option(
    "--source-address",
    "source_addresses",
    multiple=True,
    help="Its calls come from this address of the machine; several in turn.",
)
def worker_command_line(
    master_host: str, master_port: int, processes: int | None, region: str, source_addresses: tuple[str, ...]
) -> int:
    """Place a part of another machine's run."""
    problems = problems_of(source_addresses)
    if problems:
        raise BadInputError(problems)
    require_installed("locust", "locust")
    waits = f"it is tried again for {WAITS_MIN} minutes"
    click.echo(f"voxload worker: looking for a master at {master_host}:{master_port}; {waits}", err=True)
    command = worker_command(master_host, master_port, processes or 0, region, source_addresses)
    os.execv(command[0], command)  # noqa: S606  # Locust must be the first to be imported in its process
    return 0
