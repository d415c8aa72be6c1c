"""The options of live figures, and what a run says of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import click
from rich.console import Console
from rich.markup import escape

from voxload import __version__
from voxload.cli.options import Command, Parsed
from voxload.model.telemetry import checked_otlp, listen_address
from voxload.runners.environments import find_environment
from voxload.runners.prepare import Prepared
from voxload.runners.telemetry.live import RunIdentity, Telemetry


def telemetry_options(command: Command) -> Command:
    """Add the options of live figures."""
    for option in (
        click.option(
            "--azure-monitor",
            is_flag=True,
            help="Send live figures to Application Insights (APPLICATIONINSIGHTS_CONNECTION_STRING).",
        ),
        click.option(
            "--prometheus",
            type=Parsed("HOST:PORT", listen_address),
            help="Serve live figures to Prometheus there (127.0.0.1:9464).",
        ),
        click.option(
            "--otlp",
            type=Parsed("url", checked_otlp),
            help="Send live figures to this OTLP/HTTP receiver (http://collector:4318).",
        ),
    ):
        command = option(command)
    return command


class LiveFigures(NamedTuple):
    """What the options say of live figures, on top of the scenario."""

    changes: dict[str, Any]
    environment: str

    @classmethod
    def of(cls, options: dict[str, Any], scenario: Path) -> LiveFigures:
        """Take the options of `telemetry_options` out of `options`.

        Raises:
            BadInputError: `voxload.toml` is wrong.
        """
        given = {name: options.pop(name) for name in ("otlp", "prometheus", "azure_monitor")}
        environment = find_environment(options.get("env"), scenario)
        return cls({name: value for name, value in given.items() if value}, environment[0] if environment else "")

    @contextmanager
    def open(self, prepared: Prepared, console: Console) -> Iterator[Telemetry]:
        """Open the ways out that scenario and options name; the last figures go out at the end.

        Raises:
            BadInputError: one cannot be opened.
        """
        scenario = prepared.scenario
        settings = scenario.telemetry.model_copy(update=self.changes)
        identity = RunIdentity(prepared.plan.run_id, scenario.name, __version__, scenario.region, self.environment)

        def tell(words: str) -> None:
            console.print(f"[yellow]warning:[/] telemetry: {escape(words)}", highlight=False)

        telemetry = Telemetry(settings, identity, os.environ, tell)
        if telemetry.url:
            console.print(f"Prometheus: {telemetry.url}", highlight=False)
        try:
            yield telemetry
        finally:
            telemetry.close()
