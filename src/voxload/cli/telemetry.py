"""The options of live figures, and what a run says of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import click
from rich.console import Console
from rich.markup import escape

from voxload import __version__
from voxload.cli.command import Command, with_options
from voxload.cli.options import Parsed
from voxload.model.telemetry import TelemetrySettings, checked_otlp, listen_address, parse_spans
from voxload.runners.environments import find_environment
from voxload.runners.prepare import Prepared
from voxload.runners.telemetry.live import RunIdentity, Telemetry


def telemetry_options(command: Command) -> Command:
    """Add the options of live figures."""
    return with_options(
        command,
        click.option(
            "--spans",
            type=Parsed("share", parse_spans),
            help="Send calls as trace spans too: a share (10%) and all that failed, or failed (only those).",
        ),
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
    )


class LiveFigures(NamedTuple):
    """What the options say of live figures, on top of the file."""

    changes: dict[str, Any]
    environment: str = ""

    @classmethod
    def of(cls, options: dict[str, Any], scenario: Path | None = None) -> LiveFigures:
        """Take the options of `telemetry_options` out of `options`; `scenario` tells the environment.

        Raises:
            BadInputError: `voxload.toml` is wrong.
        """
        given = {name: options.pop(name) for name in ("otlp", "prometheus", "azure_monitor", "spans")}
        parsed = {"otlp": checked_otlp, "spans": parse_spans}
        changes = {name: parsed.get(name, lambda text: text)(value) for name, value in given.items() if value}
        environment = None if scenario is None else find_environment(options.get("env"), scenario)
        return cls(changes, environment[0] if environment else "")

    @contextmanager
    def of_run(self, prepared: Prepared, console: Console, run_id: str = "") -> Iterator[Telemetry]:
        """Open the ways out of the figures of a run, or of what `run_id` names.

        Raises:
            BadInputError: one cannot be opened.
        """
        scenario, run_id = prepared.scenario, run_id or prepared.plan.run_id
        with self.open(scenario.telemetry, console, run_id, scenario.name, scenario.region) as telemetry:
            yield telemetry

    @contextmanager
    def open(
        self, settings: TelemetrySettings, console: Console, run_id: str, name: str, region: str = ""
    ) -> Iterator[Telemetry]:
        """Open the ways out that a file's settings and the options name; the last figures go out at the end.

        Raises:
            BadInputError: one cannot be opened.
        """
        chosen = settings.model_copy(update=self.changes)
        identity = RunIdentity(run_id, name, __version__, region, self.environment)

        def tell(words: str) -> None:
            console.print(f"[yellow]warning:[/] telemetry: {escape(words)}", highlight=False)

        telemetry = Telemetry(chosen, identity, os.environ, tell)
        if telemetry.url:
            console.print(f"Prometheus: {telemetry.url}", highlight=False)
        try:
            yield telemetry
        finally:
            telemetry.close()


def tell_losses(losses: Iterable[str], console: Console) -> None:
    """Say at the end what was not kept, or did not go out."""
    for loss in losses:
        console.print(f"[yellow]warning:[/] {escape(loss)}", highlight=False, soft_wrap=True)
