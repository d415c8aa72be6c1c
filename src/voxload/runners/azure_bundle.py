"""A scenario as a test of Azure Load Testing: its fail criteria, its configuration, and the files to upload.

Formats: learn.microsoft.com, "Configure a load test in YAML" (v0.1) and "Define fail criteria for load tests"; what is
accepted of them: github.com/Azure/load-testing, YamlValidationUtil and PassFailCriteriaUtil.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path, PurePath
from typing import Any

from ruamel.yaml import YAML

from voxload import __version__
from voxload.errors import BadInputError, Problem
from voxload.model.load import ConcurrencyLoad
from voxload.model.scenario import TWIN_TARGET, EnvironmentVariable, Scenario, VariableSource
from voxload.model.source import Source, read_bytes
from voxload.runners.requests import ALL_CALLS, VERDICT_NAME
from voxload.runners.resources import is_file, spoken_places
from voxload.verdict.expression import Gate
from voxload.verdict.rules import placed_gates

AGGREGATES = {"mean": "avg", "min": "min", "max": "max", "p50": "p50", "p90": "p90", "p95": "p95", "p99": "p99"}
"""Ours → those of `response_time_ms`."""
OF_THE_WHOLE_LOAD = frozenset({"concurrent_calls", "peak_calls", "calls", "throughput", "arrival_rate"})
"""Levels that are the sum over engines: each engine has its part of the limit."""
CRITERIA_MAX = 50
ENGINES_MAX = 400
DESCRIPTION_LENGTH_MAX = 99
PLACEHOLDER = "https://agent.example"
VAULT = "https://VAULT.vault.azure.net/secrets"


@dataclass(slots=True)
class Bundle:
    """The files by name, and what a user has to know of them."""

    files: dict[str, bytes] = field(default_factory=dict)
    notes: list[Problem] = field(default_factory=list)


def names_of_environment(scenario: Scenario) -> dict[str, bool]:
    """Return the environment variables that a scenario reads; True: it has a default."""
    found: dict[str, bool] = {}
    for variable in scenario.variables.values():
        if isinstance(variable, VariableSource) and variable.env is not None:
            named = variable.env if isinstance(variable.env, EnvironmentVariable) else None
            name = named.name if named else str(variable.env)
            found[name] = bool(named and named.default is not None)
    return found


def azure_bundle(
    scenario: Scenario, source: Source, *, test_id: str, regions: Mapping[str, int], engines: int, wheel: Path | None
) -> Bundle:
    """Return what to upload: `load-test.yaml`, `locustfile.py`, `requirements.txt`, the scenario and its files.

    `regions` are engines by Azure region; empty: all `engines` where the resource is.

    Raises:
        BadInputError: a file that the scenario names cannot be read, or two have the same name.
    """
    bundle = Bundle()
    written, names = _scenario_text(scenario, source, engines, bundle)
    bundle.files["scenario.yaml"] = written
    bundle.files["locustfile.py"] = files("voxload.locust").joinpath("data/azure_locustfile.py").read_bytes()
    bundle.files["requirements.txt"] = (
        b"# The engines' Python is older than voxload's: uv fetches one of its own.\nuv\n"
    )
    if wheel is not None:
        bundle.files[wheel.name] = read_bytes(wheel)
        names = [*names, wheel.name]
    else:
        bundle.notes.append(
            Problem(
                "the engines install voxload from the package index",
                suggestion="--wheel dist/voxload-….whl uploads your own, made with: pip wheel --no-deps .",
            )
        )
    uploaded = ["requirements.txt", "scenario.yaml", *names]
    document = _configuration(scenario, test_id, engines, regions, uploaded)
    document["failureCriteria"] = _criteria(scenario, source, engines, bundle.notes)
    bundle.files["load-test.yaml"] = _dump(document, _HEAD)
    return bundle


_HEAD = """# A test of Azure Load Testing (configuration v0.1), made by `voxload export azure-load-testing`.
# VOXLOAD_ENGINES is engineInstances: each engine places that part of the load. The load's shape is the scenario's;
# LOCUST_USERS, LOCUST_SPAWN_RATE and LOCUST_RUN_TIME have no say.
"""


def _configuration(
    scenario: Scenario, test_id: str, engines: int, regions: Mapping[str, int], uploaded: list[str]
) -> dict[str, Any]:
    target = scenario.target if scenario.target not in {"", TWIN_TARGET} else PLACEHOLDER
    environment = {"VOXLOAD_ENGINES": str(engines)}
    if not scenario.targets:
        environment = {"LOCUST_HOST": target, **environment}
    document: dict[str, Any] = {
        "version": "v0.1",
        "testId": test_id,
        "displayName": f"voxload {scenario.name}"[:50],
        "description": " ".join(scenario.description.split())[:DESCRIPTION_LENGTH_MAX] or "Calls on a voice agent",
        "testType": "Locust",
        "testPlan": "locustfile.py",
        "configurationFiles": uploaded,
        "engineInstances": engines,
    }
    if regions:
        document["regionalLoadTestConfig"] = [
            {"region": region, "engineInstances": count} for region, count in regions.items()
        ]
    document["env"] = [{"name": name, "value": value} for name, value in environment.items()]
    secrets = [name for name, optional in names_of_environment(scenario).items() if not optional]
    if secrets:
        document["secrets"] = [{"name": name, "value": f"{VAULT}/{name.lower().replace('_', '-')}"} for name in secrets]
    document["autoStop"] = {"errorPercentage": 90, "timeWindow": 60}
    return document


def _criteria(scenario: Scenario, source: Source, engines: int, notes: list[Problem]) -> list[str | dict[str, str]]:
    """Return the fail criteria; what has none of its own is named, and judged with the verdict."""
    found: list[str | dict[str, str]] = [{VERDICT_NAME: "percentage(error) > 0"}]
    for place, _, gate in placed_gates(scenario, lambda *_: None):
        line = source.line(place)
        if gate.severity == "warn":
            notes.append(Problem(f"{gate.expression}: a warning decides nothing, no criterion", source.file, line))
            continue
        criterion, why = criterion_of(gate)
        if criterion is not None and len(found) < CRITERIA_MAX:
            found.append(criterion)
            continue
        message = f"{gate.expression}: {why or f'over {CRITERIA_MAX} criteria'}"
        hint = f"each engine judges it of its own calls, as part of {VERDICT_NAME}"
        if engines == 1:
            hint = f"voxload judges it, as part of {VERDICT_NAME}"
        notes.append(Problem(message, source.file, line, hint))
    return found


def criterion_of(gate: Gate) -> tuple[dict[str, str] | None, str]:
    """Return the fail criterion of a gate, or None and why there is none."""
    name = gate.metric.name
    if gate.per:
        return None, f"a criterion names one request, not each {gate.per}"
    if name in {"call_success", "error_rate"}:
        return _error_criterion(gate)
    if gate.metric.kind != "latency":
        return None, "criteria know response times, errors and request counts only"
    labels = dict(gate.labels)
    if set(labels) - {"turn"}:
        return None, "of labels, only turn is in the name of a request"
    aggregate = AGGREGATES.get(gate.aggregate)
    if aggregate is None:
        return None, f"criteria know no {gate.aggregate} (only {', '.join(AGGREGATES.values())})"
    if gate.compare not in {"<", "<=", ">", ">="}:
        return None, f"criteria cannot say {gate.compare}"
    limit_ms = gate.threshold / 1e6
    if limit_ms != int(limit_ms):
        return None, "the limit of a criterion is a whole number of ms"
    request = " ".join([name, *labels.values()])
    return {request: f"{aggregate}(response_time_ms) {_fails_when(gate)} {int(limit_ms)}"}, ""


def _error_criterion(gate: Gate) -> tuple[dict[str, str] | None, str]:
    labels = dict(gate.labels)
    if set(labels) - {"call"}:
        return None, "of labels, only call is the name of a request"
    success = gate.metric.name == "call_success"
    if gate.aggregate or gate.compare not in ({">", ">="} if success else {"<", "<="}):
        return None, "criteria know errors above a percentage only"
    percent = round((1 - gate.threshold if success else gate.threshold) * 100, 9)
    if percent != int(percent):
        return None, "the percentage of a criterion is cut to a whole number"
    return {labels.get("call", ALL_CALLS): f"percentage(error) > {int(percent)}"}, ""


def _fails_when(gate: Gate) -> str:
    return ">" if gate.compare in {"<", "<="} else "<"


def _scenario_text(scenario: Scenario, source: Source, engines: int, bundle: Bundle) -> tuple[bytes, list[str]]:
    """Return the scenario with its files beside it and limits of the whole load shared out, and the files' names."""
    yaml = YAML()
    yaml.width = 4096
    yaml.preserve_quotes = True
    yaml.indent(mapping=2, sequence=4, offset=2)
    document = yaml.load(read_bytes(Path(source.file)))
    names: dict[str, str] = {}

    def upload(place: Iterable[str | int], file: str) -> None:
        *way, last = place
        part = document
        for key in way:
            part = part[key]
        name = PurePath(file).name
        if names.setdefault(name, file) != file:
            message = f"{file} and {names[name]} have the same name, and Azure Load Testing knows no folders"
            raise BadInputError([Problem(message, source.file, source.line(tuple(place)))])
        bundle.files[name] = read_bytes(Path(source.file).parent / file)
        if isinstance(part[last], dict):
            part[last]["utterance"] = name
        else:
            part[last] = name

    for key, variable in scenario.variables.items():
        if isinstance(variable, VariableSource) and variable.csv is not None:
            upload(("variables", key, "csv", "file"), variable.csv.file)
    if scenario.tls.ca:
        upload(("tls", "ca"), scenario.tls.ca)
    for place, utterance in spoken_places(scenario):
        if is_file(utterance):
            short = not isinstance(_at(source.data, place[:-1]), dict)
            upload(place[:-1] if short else place, utterance)
    if engines > 1:
        _share_limits(scenario, source, document, engines, bundle.notes)
        _tell_of_shares(scenario, source, engines, bundle.notes)
    if scenario.target == TWIN_TARGET:
        message = f"the embedded agent is no target of Azure's engines: LOCUST_HOST is {PLACEHOLDER}"
        hint = "write your agent's address there, or as target:"
        bundle.notes.append(Problem(message, source.file, source.line(("target",)), hint))
    stream = io.StringIO()
    yaml.dump(document, stream)
    return stream.getvalue().encode(), sorted(names)


def _at(data: Any, place: Iterable[str | int]) -> Any:
    for key in place:
        data = data[key]
    return data


def _share_limits(scenario: Scenario, source: Source, document: Any, engines: int, notes: list[Problem]) -> None:
    """Divide the limits of gates on the whole load by the engines, each of which has a part of it."""
    limit = scenario.measurement.calls_max
    if limit:
        document["measurement"]["calls_max"] = -(-limit // engines)
    for place, _, gate in placed_gates(scenario, lambda *_: None):
        if gate.metric.name not in OF_THE_WHOLE_LOAD:
            continue
        share = f"{gate.threshold / engines:g}"
        if place[0] == "performance_gates":
            key = place[-1]
            part = document["performance_gates"]
            if isinstance(part[key], dict):
                part[key]["limit"] = gate.threshold / engines
            else:
                part[key] = gate.threshold / engines
        else:
            part = _at(document, place[:-1])
            part[place[-1]] = re.sub(r"(?<=[<>=])\s*\d+(\.\d+)?", f" {share}", gate.expression, count=1)
        message = f"{gate.expression}: each of {engines} engines has to reach its share, {share}"
        notes.append(Problem(message, source.file, source.line(place)))


def _tell_of_shares(scenario: Scenario, source: Source, engines: int, notes: list[Problem]) -> None:
    """Note what does not divide by the engines, and what each of them does in full."""
    load = scenario.load
    if isinstance(load, ConcurrencyLoad) and load.concurrency % engines:
        placed = max(round(load.concurrency / engines), 1) * engines
        message = f"{load.concurrency} callers do not divide by {engines} engines: {placed} call"
        hint = f"a multiple of {engines}"
        notes.append(Problem(message, source.file, source.line(("load", "concurrency")), hint))
    in_full = [key for key in ("probes", "recovery") if getattr(scenario, key)]
    notes += [Problem(f"{key}: every engine does all of it", source.file, source.line((key,))) for key in in_full]


def _dump(document: dict[str, Any], head: str) -> bytes:
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    stream = io.StringIO()
    yaml.dump(document, stream)
    return f"{head}# voxload {__version__}\n{stream.getvalue()}".encode()
