"""`voxload export`: a scenario in the form of another tool."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import click

from voxload.cli.command import CheckedCommand
from voxload.errors import BadInputError, Problem
from voxload.model.scenario import Scenario
from voxload.model.source import read_source, validate
from voxload.runners.azure_bundle import ENGINES_MAX, azure_bundle, names_of_environment
from voxload.runners.prepare import prepare
from voxload.runners.results import write_atomically

EPILOG = """\b
Examples:
  voxload export azure-load-testing scenario.yaml --out azure-test --engines 4
  voxload export azure-load-testing scenario.yaml --out azure-test --region eastus=2 --region westeurope=2
Exit codes: 0 written (what Azure cannot judge by itself is named), 2 the scenario is wrong.
"""


class _Region(click.ParamType[tuple[str, int]]):
    """REGION=ENGINES."""

    name = "region=engines"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        """Parse the text."""
        match = re.fullmatch(r"([a-z][a-z0-9]+)=(\d+)", str(value))
        if match is None or not 1 <= int(match[2]) <= ENGINES_MAX:
            self.fail(f"{value!r}: write for example westeurope=2", param, ctx)
        return match[1], int(match[2])


class _TestId(click.ParamType[str]):
    """The identifier of a test."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the text."""
        if not re.fullmatch(r"[a-z0-9_-]{2,50}", str(value)):
            self.fail(f"{value!r}: 2 to 50 of a-z, 0-9, _ and -", param, ctx)
        return str(value)


@click.group("export", epilog=EPILOG)
def export_command() -> None:
    """Write a scenario in the form of another tool."""


@export_command.command("azure-load-testing", cls=CheckedCommand, epilog=EPILOG)
@click.argument("scenario", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the files; made if missing.")
@click.option("--engines", type=click.IntRange(1, ENGINES_MAX), help="Test engines, which share the load (1).")
@click.option("--region", "regions", type=_Region(), multiple=True, help="Engines in a region; two regions or more.")
@click.option("--test-id", type=_TestId(), help="Identifier of the test (default: of the scenario's name).")
@click.option("--wheel", type=click.Path(path_type=Path), help="Upload this wheel of voxload for the engines.")
@click.option("--json", "as_json", is_flag=True, help="Print files and notes as JSON, nothing else.")
def azure_command(
    scenario: Path,
    out: Path,
    engines: int | None,
    regions: tuple[tuple[str, int], ...],
    test_id: str | None,
    wheel: Path | None,
    as_json: bool,
) -> int:
    """Write SCENARIO as a Locust test of Azure Load Testing, ready to upload."""
    by_region = dict(regions)
    if regions and (len(by_region) < 2 or len(by_region) != len(regions)):
        raise BadInputError([Problem("--region: Azure Load Testing takes two or more different regions, or none")])
    if by_region and engines not in {None, sum(by_region.values())}:
        raise BadInputError([Problem(f"--engines {engines}: the regions have {sum(by_region.values())}")])
    source = read_source(scenario)
    written = validate(source, Scenario)
    # The engines' environment is not this one: what the scenario reads from it is checked there.
    there = dict.fromkeys(names_of_environment(written), "given on the engine")
    prepared = prepare(scenario, environ={**there, **os.environ})
    bundle = azure_bundle(
        prepared.scenario,
        source,
        test_id=test_id or _test_id(prepared.scenario.name),
        regions=by_region,
        engines=engines or sum(by_region.values()) or 1,
        wheel=wheel,
    )
    out.mkdir(parents=True, exist_ok=True)
    for name, content in bundle.files.items():
        write_atomically(out / name, content)
    if as_json:
        click.echo(json.dumps({"files": sorted(bundle.files), "notes": [str(note) for note in bundle.notes]}, indent=2))
        return 0
    for note in bundle.notes:
        click.echo(f"note: {note}", err=True)
    for name in sorted(bundle.files):
        click.echo(out / name)
    return 0


def _test_id(name: str) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:50]
    return slug if len(slug) > 1 else "voxload"
