"""The file of a component test: its load and gates, which all components share, and the component's own options."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, Field, PrivateAttr

from voxload.clock import NS_PER_S
from voxload.errors import BadInputError, Problem
from voxload.model.base import Model, ShortModel
from voxload.model.gates import GateSettings, RegressionThresholds
from voxload.model.load import ConstantLoad, Load
from voxload.model.source import Location, Source, read_source, validate_partly
from voxload.model.telemetry import TelemetrySettings
from voxload.model.units import DurationNs
from voxload.model.usage import ResourceSource
from voxload.verdict.expression import parse_gate

DEFAULT_LOAD = ConstantLoad.model_validate({"shape": "constant", "arrival_rate": 5, "duration": "10s"})


def http_url(value: str) -> str:
    """Return a base URL without its trailing slash; an empty one stays.

    Raises:
        ValueError: it is no http URL.
    """
    if value and not value.startswith(("http://", "https://")):
        raise ValueError(f"{value!r} does not start with http:// or https://")
    return value.rstrip("/")


def host_and_port(value: str) -> str:
    """Return where to listen.

    Raises:
        ValueError: it is not written HOST:PORT.
    """
    host, _, port = value.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError("listen is written HOST:PORT, such as 0.0.0.0:8080 (port 0: a free one)")
    return value


class Secret(ShortModel):
    """A value that must not be printed: `{env: NAME}`, or the text itself."""

    short_field: ClassVar[str] = "text"

    text: str = Field("", description="The value itself; better kept out of files.")
    env: str = Field("", description="The environment variable that holds it.")
    _found: str = PrivateAttr("")

    def resolve(self, environ: Mapping[str, str]) -> bool:
        """Look the value up; returns whether there is one, or none is wanted."""
        self._found = environ.get(self.env, "") if self.env else self.text
        return bool(self._found) or not self.env

    @property
    def given(self) -> bool:
        """Whether the file names one."""
        return bool(self.text or self.env)

    @property
    def value(self) -> str:
        """The value, once resolved; empty where none was given."""
        return self._found


class ComponentSettings(Model):
    """What the file of every component test may say; a component's own class adds `component` and `options`."""

    component: str
    name: str = Field("", max_length=120, description="Of the run; the component's name by default.")
    description: str = ""
    load: Load = DEFAULT_LOAD
    gates: tuple[str | GateSettings, ...] = ()
    regression_thresholds: RegressionThresholds | None = Field(
        None, description="How much worse than a baseline a run may be."
    )
    timeout_ns: DurationNs = Field(
        120 * NS_PER_S, alias="timeout", gt=0, description="Longest unit of work; then it is given up."
    )
    operations_max: int = Field(0, ge=0, description="Units of work at once; more are shed. 0: no limit.")
    resources: tuple[ResourceSource, ...] = Field((), description="Where the service's CPU and memory are measured.")
    telemetry: TelemetrySettings = Field(
        TelemetrySettings(), description="Where live figures go: OpenTelemetry, Prometheus, Azure Monitor."
    )
    seed: int = Field(1, ge=0, description="Same seed, same work at the same instants.")
    _folder: Path = PrivateAttr(Path())

    @property
    def folder(self) -> Path:
        """Where the file lies: paths in it are relative to that."""
        return self._folder

    def found_in(self, source: Source) -> None:
        """Note where the file lies."""
        self._folder = Path(source.file).parent

    @classmethod
    def problems_outside(cls, source: Source) -> Iterable[Problem]:  # noqa: ARG003  # for those that name files
        """Return what is wrong with files that the source names; asked even where the rest of it is wrong."""
        return ()


AnySettings = TypeVar("AnySettings", bound=ComponentSettings)


def component_source(
    path: Path | None, kind: str, changes: Mapping[Location, Any], options: Mapping[Location, str] | None = None
) -> Source:
    """Return the file of a component test (or an empty one) with what the command line changes.

    `changes` holds values by their place in the file; None leaves the file's own. `options` names what changes them.

    Raises:
        BadInputError: the file cannot be read.
    """
    source = read_source(path) if path is not None else Source({"component": kind}, "")
    if not isinstance(source.data, dict):
        return source
    data = copy.deepcopy(source.data)
    for location, value in changes.items():
        place: Any = data
        for part in location[:-1]:
            place = place.setdefault(part, {}) if isinstance(place, dict) else {}
        if value is not None and isinstance(place, dict):
            place[location[-1]] = value
    given = {place: name for place, name in (options or {}).items() if changes.get(place) is not None}
    return replace(source, data=data, options=given)


def read_settings(source: Source, model: type[AnySettings], environ: Mapping[str, str]) -> AnySettings:
    """Return the settings that a source holds, with their secrets looked up.

    Raises:
        BadInputError: every problem of the file, in the order of its lines.
    """
    if not isinstance(source.data, dict):
        message, hint = "expected keys and values at the top", "start with component: on a line of its own"
        raise BadInputError([Problem(message, source.file, 1, hint)])
    settings, problems, _ = validate_partly(source, model)
    problems += model.problems_outside(source)
    if settings is not None:
        settings.found_in(source)
        problems += [
            source.problem(
                location,
                f"{'.'.join(map(str, location))}: the environment variable {secret.env} is not set",
                f"export {secret.env}=…",
            )
            for location, secret in secrets_of(settings)
            if not secret.resolve(environ)
        ]
        problems += _gate_problems(settings, source)
    if problems or settings is None:
        raise BadInputError(sorted(problems, key=lambda problem: problem.line))
    return settings


def _gate_problems(settings: ComponentSettings, source: Source) -> Iterator[Problem]:
    for number, gate in enumerate(settings.gates):
        try:
            parse_gate(gate if isinstance(gate, str) else gate.expression)
        except ValueError as error:
            yield Problem(str(error), source.file, source.line(("gates", number)))


def secrets_of(model: BaseModel, location: Location = ()) -> Iterator[tuple[Location, Secret]]:
    """Yield every secret in a model with its place in the file."""
    for name, field in type(model).model_fields.items():
        value, place = getattr(model, name), (*location, field.alias or name)
        if isinstance(value, Secret):
            yield place, value
        elif isinstance(value, BaseModel):
            yield from secrets_of(value, place)
