"""Gathers what a scenario takes from outside its file: environment, CSV columns, WAV files."""

from __future__ import annotations

import csv
import io
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from voxload.errors import BadInputError, Problem
from voxload.model.explain import did_you_mean
from voxload.model.scenario import CsvFeeder, EnvironmentVariable, Scenario, VariableSource
from voxload.model.script import spoken
from voxload.model.source import Location, Source, read_bytes

WAV_SUFFIX = ".wav"


@dataclass(slots=True)
class Resources:
    """What was found, as a plan holds it, and what was not."""

    constants: dict[str, str] = field(default_factory=dict)
    secrets: list[str] = field(default_factory=list)
    tables: dict[str, tuple[str, ...]] = field(default_factory=dict)
    media: dict[str, bytes] = field(default_factory=dict)
    authorities: str = ""
    problems: list[Problem] = field(default_factory=list)


def gather(scenario: Scenario, source: Source, environ: Mapping[str, str]) -> Resources:
    """Return everything that the scenario names; files are looked up beside the scenario file."""
    found = Resources()
    folder = Path(source.file).parent
    for name, variable in scenario.variables.items():
        location: Location = ("variables", name)
        if not isinstance(variable, VariableSource):
            found.constants[name] = source.texts.get(location, str(variable))
        elif variable.env is not None:
            _add_environment(found, name, variable.env, environ, source)
        elif variable.csv is not None:
            try:
                found.tables[name] = _read_column(variable.csv, folder, source, (*location, "csv"))
            except BadInputError as error:
                found.problems += error.problems
    if scenario.tls.ca:
        try:
            found.authorities = _read_authorities(folder / scenario.tls.ca)
        except BadInputError as error:
            found.problems += _placed(error, source, ("tls", "ca"))
    for location, utterance in spoken_places(scenario):
        if is_file(utterance) and utterance not in found.media:
            try:
                found.media[utterance] = read_bytes(folder / utterance)
            except BadInputError as error:
                found.problems += _placed(error, source, location)
    return found


def is_file(utterance: str) -> bool:
    """Return whether a script's utterance is a WAV file and not a name of the corpus."""
    return utterance.lower().endswith(WAV_SUFFIX)


def spoken_places(scenario: Scenario) -> Iterator[tuple[Location, str]]:
    """Yield every utterance that the scripts say, with its place."""
    for number, call in enumerate(scenario.calls):
        yield from spoken(call.script, ("calls", number, "script"))


def _placed(error: BadInputError, source: Source, location: Location) -> list[Problem]:
    """Return the problems of a file that the scenario names, at the line that names it."""
    return [source.problem(location, f"{item.file}: {item.message}", item.suggestion) for item in error.problems]


def _read_authorities(path: Path) -> str:
    """Return a file of certificate authorities.

    Raises:
        BadInputError: it cannot be read, or holds no certificate.
    """
    pem = read_bytes(path).decode("ascii", "replace")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=pem)
    except (ssl.SSLError, TypeError):  # the latter where there is more than text in it
        hint = "a PEM file: -----BEGIN CERTIFICATE-----; openssl x509 -inform der makes one of a DER file"
        raise BadInputError([Problem("there is no certificate in it", str(path), 0, hint)]) from None
    return pem


def _add_environment(
    found: Resources, name: str, variable: EnvironmentVariable | str, environ: Mapping[str, str], source: Source
) -> None:
    wanted, default = (variable, None) if isinstance(variable, str) else (variable.name, variable.default)
    value = environ.get(wanted)
    if value is not None:
        found.constants[name] = value
        found.secrets.append(name)
    elif default is not None:
        found.constants[name] = default  # it stands in the file for all to read: no secret
    else:
        line = source.line(("variables", name, "env"))
        message = f"variables.{name}: the environment variable {wanted} is not set"
        found.problems.append(Problem(message, source.file, line, f"export {wanted}=… or give it a default"))


def _read_column(feeder: CsvFeeder, folder: Path, source: Source, location: Location) -> tuple[str, ...]:
    """Return one column of a CSV file.

    Raises:
        BadInputError: the file cannot be read, has no such column or no row, or rows that lack the column.
    """
    path = folder / feeder.file
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except BadInputError as error:
        raise BadInputError(_placed(error, source, (*location, "file"))) from None
    except UnicodeDecodeError:
        raise BadInputError([Problem("not a text file in UTF-8", str(path))]) from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[str] = []
    problems: list[Problem] = []
    try:
        header = [cell.strip() for cell in next(reader, [])]
        if feeder.column not in header:
            line = source.line((*location, "column"))
            message = f"{path} has no column {feeder.column!r}"
            raise BadInputError([Problem(message, source.file, line, did_you_mean(feeder.column, header))])
        position = header.index(feeder.column)
        for row in reader:
            if len(row) > position:
                rows.append(row[position])
            elif row:
                problems.append(Problem(f"the row has no column {feeder.column!r}", str(path), reader.line_num))
    except csv.Error as error:
        problems.append(Problem(f"not valid CSV: {error}", str(path), reader.line_num))
    if not rows and not problems:
        problems.append(Problem("the file has a header but no row", str(path)))
    if problems:
        raise BadInputError(problems)
    return tuple(rows)
