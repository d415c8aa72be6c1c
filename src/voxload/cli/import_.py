"""`voxload import`: the load test of another tool as a scenario."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import click
from ruamel.yaml import YAML

from voxload.cli.command import CheckedCommand, with_options
from voxload.importers.artillery import import_artillery
from voxload.importers.azure_load_test import import_azure_load_test
from voxload.importers.notes import Imported
from voxload.model.scenario import Scenario
from voxload.model.source import load_yaml_model
from voxload.runners.results import write_atomically

EPILOG = """\b
Examples:
  voxload import artillery artillery-test.yml --out scenario.yaml
  voxload import artillery artillery-test.yml --json
  voxload import azure-load-testing azure-load-test.yaml --out scenario.yaml
Exit codes: 0 written (what could not be brought over is listed by line), 2 there is no call in the file.
"""
HEAD = "# Made of {} by voxload import; docs/scenario.md says what can stand here.\n"


def _output_options(command: Callable[..., int]) -> Callable[..., int]:
    return with_options(
        command,
        click.option(
            "--json", "as_json", is_flag=True, help="Print the scenario and the notes as JSON, write nothing."
        ),
        click.option(
            "--out",
            type=click.Path(path_type=Path),
            help="The scenario's file (default: SCRIPT-voxload.yaml beside it).",
        ),
    )


@click.group("import", epilog=EPILOG)
def import_command() -> None:
    """Make a scenario of another tool's load test."""


@import_command.command("artillery", cls=CheckedCommand, epilog=EPILOG)
@click.argument("script", type=click.Path(path_type=Path))
@_output_options
def artillery_command(script: Path, out: Path | None, as_json: bool) -> int:
    """Make a scenario of the Artillery test SCRIPT; list what could not be brought over, with its line."""
    return _write(import_artillery(script), script, out, as_json)


@import_command.command("azure-load-testing", epilog=EPILOG)
@click.argument("script", type=click.Path(path_type=Path))
@_output_options
def azure_load_testing_command(script: Path, out: Path | None, as_json: bool) -> int:
    """Make a scenario of a test with testPlan:, threadGroups: and websocket:; list what could not be brought over."""
    return _write(import_azure_load_test(script), script, out, as_json)


def _write(imported: Imported, script: Path, out: Path | None, as_json: bool) -> int:
    """Write a scenario and the files that go beside it, and tell the notes."""
    notes = [str(note) for note in imported.notes]
    if as_json:
        click.echo(
            json.dumps({"scenario": imported.scenario, "notes": notes, "files": sorted(imported.files)}, indent=2)
        )
        return 0
    place = out or script.with_name(f"{script.stem}-voxload.yaml")
    place.parent.mkdir(parents=True, exist_ok=True)
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.width = 110
    yaml.indent(mapping=2, sequence=4, offset=2)
    stream = io.StringIO()
    yaml.dump(imported.scenario, stream)
    write_atomically(place, HEAD.format(script.name) + stream.getvalue())
    for name, content in imported.files.items():
        write_atomically(place.parent / name, content)
    for note in notes:
        click.echo(f"note: {note}", err=True)
    load_yaml_model(place, Scenario)  # what is still wrong with it is listed by the lines of the scenario
    click.echo(f"{place}: voxload check {place}")
    return 0
