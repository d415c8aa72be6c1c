"""`voxload schema`: the JSON Schema of scenario files and of component tests, for editors and other tools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel

from voxload.cli.command import CheckedCommand
from voxload.errors import BadInputError, Problem
from voxload.model.base import Model
from voxload.model.scenario import DialectSettings, Scenario
from voxload.runners.results import write_atomically
from voxload.services.registry import COMPONENTS, component_type

DIALECT = "https://json-schema.org/draft/2020-12/schema"
SCHEMA_ID = "https://voxload.dev/schema/scenario.schema.json"
_NS_PER = (("h", 3_600_000_000_000), ("m", 60_000_000_000), ("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000))


def scenario_schema() -> dict[str, Any]:
    """Return the JSON Schema of a scenario file: names, short forms and defaults as a user writes them."""
    schema = Scenario.model_json_schema(by_alias=True)
    definitions: dict[str, Any] = schema["$defs"]
    for model in _models(Model):
        place = schema if model is Scenario else definitions.get(model.__name__, {})
        _show_defaults(model, _properties(place))
    # A dialect without options may be written as its name alone.
    full = definitions[DialectSettings.__name__]
    definitions[DialectSettings.__name__] = {"anyOf": [{"type": "string"}, full]}
    # One target, or several.
    schema["required"].remove("target")
    schema["oneOf"] = [{"required": ["target"]}, {"required": ["targets"]}]
    title = {"$schema": DIALECT, "$id": SCHEMA_ID, "title": "voxload scenario"}
    return {**title, **{key: value for key, value in schema.items() if key not in title}}


def component_schema() -> dict[str, Any]:
    """Return the JSON Schema of the files of `voxload component KIND`, told apart by their key `component`."""
    definitions: dict[str, Any] = {}
    forms = []
    for kind in COMPONENTS:
        model = component_type(kind).settings_type
        schema = model.model_json_schema(by_alias=True)
        own: dict[str, Any] = schema.pop("$defs", {})
        for each in _models(Model):
            _show_defaults(each, _properties(schema if each is model else own.get(each.__name__, {})))
        clashes = [name for name, definition in own.items() if definitions.get(name, definition) != definition]
        assert not clashes, f"two models of components are named {clashes}"
        definitions |= own
        definitions[model.__name__] = schema
        condition = {"properties": {"component": {"const": kind}}, "required": ["component"]}
        forms.append({"if": condition, "then": {"$ref": f"#/$defs/{model.__name__}"}})
    return {
        "$schema": DIALECT,
        "$id": SCHEMA_ID.replace("scenario", "component"),
        "title": "voxload component test",
        "type": "object",
        "required": ["component"],
        "properties": {"component": {"enum": list(COMPONENTS)}},
        "allOf": forms,
        "$defs": definitions,
    }


SCHEMAS = {"scenario": scenario_schema, "component": component_schema}
"""By the kind of file that they describe."""


def schema_text(kind: str = "scenario") -> str:
    """Return a schema as the file that is committed."""
    return json.dumps(SCHEMAS[kind](), indent=2, ensure_ascii=False) + "\n"


def _models(base: type[BaseModel]) -> list[type[BaseModel]]:
    found: list[type[BaseModel]] = []
    for model in base.__subclasses__():
        found += [model, *_models(model)]
    return found


def _properties(definition: dict[str, Any]) -> dict[str, Any]:
    """Return the properties of a model's definition, behind its short form too."""
    forms = [definition, *definition.get("anyOf", [])]
    return next((form["properties"] for form in forms if "properties" in form), {})


def _show_defaults(model: type[BaseModel], properties: dict[str, Any]) -> None:
    """Write default durations as people do, and leave out defaults that are whole blocks."""
    for name, field in model.model_fields.items():
        shown = properties.get(field.alias or name)
        if shown is None or "default" not in shown:
            continue
        default = shown["default"]
        if isinstance(default, dict) or default is None:
            del shown["default"]
        elif name.endswith("_ns"):
            spans = default if isinstance(default, list | tuple) else [default]
            shown["default"] = "..".join(dict.fromkeys(_duration(value) for value in spans))


def _duration(duration_ns: int) -> str:
    unit, size = next(((unit, size) for unit, size in _NS_PER if not duration_ns % size), ("us", 1_000))
    return f"{duration_ns // size}{unit}" if duration_ns else "0s"


EPILOG = """\b
Examples:
  voxload schema > scenario.schema.json
  voxload schema --write .vscode/scenario.schema.json
  voxload schema component --write .vscode/component.schema.json
"""


@click.command("schema", cls=CheckedCommand, epilog=EPILOG)
@click.argument("kind", type=click.Choice(list(SCHEMAS)), default="scenario", metavar="[KIND]")
@click.option("--write", "path", type=click.Path(path_type=Path), help="Write it to this file.")
def schema_command(kind: str, path: Path | None) -> int:
    """Print the JSON Schema of scenario files; with KIND component that of the files of component tests.

    Editors with a YAML language server check and complete a file that begins with
    `# yaml-language-server: $schema=` and the path of this file.
    """
    text = schema_text(kind)
    if path is None:
        click.echo(text, nl=False)
        return 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInputError([Problem(f"cannot be written: {error.strerror}", str(path))]) from None
    write_atomically(path, text)
    return 0
