"""From a scenario file and the options of a command to a plan that can be run."""

from __future__ import annotations

import copy
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from voxload.audio.recording_keeper import RecordingPolicy
from voxload.clock import utc_now
from voxload.errors import BadInputError, Collected, Problem
from voxload.measure.cost import CostModel
from voxload.measure.extra import require
from voxload.measure.quality import EXTRA
from voxload.model.plan import Plan
from voxload.model.scenario import AUTO, STAND_INS, TWIN_TARGET, Scenario
from voxload.model.source import Location, Source, read_source, validate, validate_partly
from voxload.runners.checks import Findings, check_scenario
from voxload.runners.overrides import Amount, override_load, stretched
from voxload.runners.probe_settings import check_probes
from voxload.runners.resources import gather
from voxload.runners.scoring import reference_file
from voxload.runners.source_addresses import check_sources
from voxload.runners.tiers import Reshaped, reshape, scaled_load

RUN_NAME_LENGTH_MAX = 40
OPTIONS = {
    "target": "--target",
    "seed": "--seed",
    "record": "--record",
    "source_addresses": "--source-address",
}
"""The options that set a part of the scenario file, by the part."""
INSECURE = "INSECURE: certificates are not verified, anybody can stand in for the target"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A checked scenario and its plan."""

    plan: Plan
    scenario: Scenario
    source: Source
    warnings: tuple[Problem, ...] = ()


def prepare(
    path: str | Path,
    *,
    target: str | None = None,
    users: int | None = None,
    duration: Amount | None = None,
    rate: Amount | None = None,
    seed: int | None = None,
    record: str | None = None,
    ca: Path | None = None,
    insecure: bool = False,
    source_addresses: Sequence[str] = (),
    tier: str | None = None,
    time_scale: float | None = None,
    share: float | None = None,
    environ: Mapping[str, str],
) -> Prepared:
    """Read a scenario, apply the options, check everything and return the plan.

    `tier` reshapes the load, `time_scale` its length; `users`, `duration` and `rate` then override it; `share` of the
    load is placed in the end.

    Raises:
        BadInputError: every problem found, in the order of the file's lines: of its form, of names, files and the
            environment.
    """
    given = Collected()
    changes = {
        "target": given.attempt(lambda: _checked_target(target)),
        "seed": seed,
        "record": record,
        "source_addresses": given.attempt(lambda: _written(source_addresses)),
    }
    source = _with_tls(_with_options(read_source(path), changes), ca, insecure)
    written, found, stood_in = validate_partly(source, Scenario, STAND_INS)
    if written is None:
        raise BadInputError([*found, *given.problems])
    amounts, scenario = (users, duration, rate), written
    reshaped: list[str] = []
    if found and ("load",) not in stood_in and amounts != (None, None, None):
        given.attempt(lambda: override_load(written.load, *amounts))
    elif not found and (
        changed := given.attempt(lambda: _with_load(source, written, (tier, time_scale), amounts, share))
    ):
        source, scenario, reshaped = changed
    resources = gather(scenario, source, environ)
    problems = [*found, *given.problems, *resources.problems]
    findings = Findings(source, problems, [Problem(text) for text in reshaped], stood_in)
    _check_after_the_calls(scenario, source, findings)
    findings.add(*check_probes(scenario, source, environ))
    resolved = check_scenario(scenario, resources, written.load, findings)
    addresses = check_sources(scenario, resolved, findings)
    if scenario.tls.insecure:
        findings.warn(("tls", "insecure"), INSECURE, "--ca FILE trusts an authority of your own")
    if findings.problems:
        raise BadInputError(sorted(findings.problems, key=lambda problem: (problem.file != source.file, problem.line)))
    plan = Plan(
        run_id=new_run_id(scenario.name),
        scenario=source.data,
        target=resolved[0].url if isinstance(resolved, tuple) else resolved,
        targets=resolved if isinstance(resolved, tuple) else (),
        constants=resources.constants,
        secrets=tuple(resources.secrets),
        tables=resources.tables,
        media=resources.media,
        authorities=resources.authorities,
        source_addresses=addresses,
    )
    return Prepared(plan, scenario, source, tuple(findings.warnings))


def _check_after_the_calls(scenario: Scenario, source: Source, findings: Findings) -> None:
    """Find out now what would otherwise fail after the run: recordings, their scores, prices."""

    def attempt(key: str, work: Callable[[], object]) -> None:
        try:
            work()
        except BadInputError as error:
            findings.problems += [source.problem((key,), item.message, item.suggestion) for item in error.problems]

    if scenario.record:
        attempt("record", lambda: RecordingPolicy.parse(scenario.record))
    if scenario.cost is not None:
        settings = scenario.cost
        attempt("cost", lambda: CostModel(settings))
    if scenario.quality is not None:
        attempt("quality", lambda: reference_file(scenario, source.file))
        attempt("quality", lambda: require("speechmos", EXTRA))


def with_target(prepared: Prepared, target: str) -> Prepared:
    """Return the same run against `target`, the address of the embedded agent."""
    return replace(prepared, plan=msgspec.structs.replace(prepared.plan, target=target.rstrip("/")))


def with_targets(prepared: Prepared, urls: Sequence[str]) -> Prepared:
    """Return the same run with the addresses of its several targets, in their order."""
    targets = tuple(
        msgspec.structs.replace(target, url=url.rstrip("/"))
        for target, url in zip(prepared.plan.targets, urls, strict=True)
    )
    plan = msgspec.structs.replace(prepared.plan, target=targets[0].url, targets=targets)
    return replace(prepared, plan=plan)


def with_dialect_option(prepared: Prepared, name: str, value: str) -> Prepared:
    """Return the same run with an option of its dialect set, such as the address of an exchange."""
    written = prepared.plan.scenario.get("dialect", {})
    settings = {"name": written} if isinstance(written, str) else written
    scenario = {**prepared.plan.scenario, "dialect": {**settings, name: value}}
    return replace(prepared, plan=msgspec.structs.replace(prepared.plan, scenario=scenario))


def new_run_id(name: str) -> str:
    """Return a name for a run that sorts by time, is a valid file name and is not given twice."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:RUN_NAME_LENGTH_MAX].rstrip("-")
    return f"{utc_now():%Y%m%d-%H%M%S}-{slug or 'run'}-{secrets.token_hex(2)}"


def _checked_target(target: str | None) -> str | None:
    if target is not None and target != TWIN_TARGET and not target.startswith(("http://", "https://")):
        message = f"{target!r} does not start with http:// or https://, and is not twin"
        raise BadInputError([Problem(message, "--target")])
    return target


def _written(source_addresses: Sequence[str]) -> str | list[str] | None:
    """Return what a scenario says of source addresses after `--source-address`; None where it is not given."""
    if AUTO in source_addresses and len(source_addresses) > 1:
        raise BadInputError([Problem("auto goes alone", "--source-address")])
    return AUTO if AUTO in source_addresses else list(source_addresses) or None


def _with_options(source: Source, changes: dict[str, Any]) -> Source:
    """Return the file with the parts that options have set; None: not set."""
    changes = {key: value for key, value in changes.items() if value is not None}
    if not changes or not isinstance(source.data, dict):
        return source
    data = copy.deepcopy(source.data)
    if "target" in changes:
        data.pop("targets", None)  # the option names the one target of this run
    options: dict[Location, str] = {(key,): OPTIONS[key] for key in changes}
    return replace(source, data={**data, **changes}, options={**source.options, **options})


def _with_tls(source: Source, ca: Path | None, insecure: bool) -> Source:
    """Return the file with what `--ca` and `--insecure` say of TLS."""
    if not isinstance(source.data, dict):
        return source
    changes: dict[str, Any] = {} if ca is None else {"ca": str(ca.absolute())}
    if insecure:
        changes["insecure"] = True
    if not changes:
        return source
    written = source.data.get("tls")
    options: dict[Location, str] = {("tls", key): f"--{key}" for key in changes}
    tls = {**written, **changes} if isinstance(written, dict) else changes
    return replace(source, data={**source.data, "tls": tls}, options={**source.options, **options})


def _with_load(
    source: Source,
    scenario: Scenario,
    shape: tuple[str | None, float | None],
    amounts: tuple[int | None, Amount | None, Amount | None],
    share: float | None,
) -> tuple[Source, Scenario, list[str]]:
    """Return the file and the scenario with the load that the options ask for, and what a tier could not do.

    `shape` is the tier and the scale of time, `amounts` users, duration and rate.

    Raises:
        BadInputError: options that exclude each other, or a load that cannot be.
    """
    tier, time_scale = shape
    reshaped: list[str] = []
    if tier is not None or time_scale is not None:
        source, reshaped = _reshaped(source, scenario, tier, time_scale or 1.0)
        scenario = _validate_options(source)
    if any(amount is not None for amount in amounts):
        source = replace(source, data={**source.data, "load": override_load(scenario.load, *amounts)})
        scenario = _validate_options(source)
    if share is not None:
        source = replace(source, data={**source.data, "load": scaled_load(scenario.load, source.data["load"], share)})
        scenario = _validate_options(source)
    return source, scenario, reshaped


def _reshaped(source: Source, scenario: Scenario, tier: str | None, time_scale: float) -> tuple[Source, list[str]]:
    """Return the file as a tier has it, and what the tier could not do."""
    if tier is None:
        length_ns = sum(phase.duration_ns for phase in scenario.load.phases())
        changed = Reshaped({"load": stretched(scenario.load, max(round(length_ns * time_scale), 1))}, [])
    else:
        changed = reshape(scenario, source.data, tier, time_scale)
    return replace(source, data={**copy.deepcopy(source.data), **changed.changes}), changed.warnings


def _validate_options(source: Source) -> Scenario:
    """Check the load that the options made: what is wrong with it is not a line of the file."""
    try:
        return validate(source, Scenario)
    except BadInputError as error:
        message = "the load after --users, --duration and --rate (or --tier, --time-scale, --env)"
        raise BadInputError(
            [Problem(f"{message}: {item.message}", suggestion=item.suggestion) for item in error.problems]
        ) from None
