"""Checks what a model of the file cannot see: names, templates, gates and the sense of scripts."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import urlsplit

from voxload.audio.corpus import load_corpus, utterance_from_wav
from voxload.dialects.base import CallIdentity, Dialect
from voxload.dialects.registry import build_dialect
from voxload.errors import BadInputError, Problem
from voxload.load.workload import CALL_VALUES, CALLER_NUMBER
from voxload.measure.recovery import RECOVERY_METRICS
from voxload.model.explain import did_you_mean
from voxload.model.load import ConcurrencyLoad, Load
from voxload.model.persona import resolve_personas
from voxload.model.plan import PlannedTarget
from voxload.model.scenario import TWIN_TARGET, Scenario, VariableSource
from voxload.model.script import (
    BackchannelStep,
    BargeInStep,
    DtmfStep,
    ListenStep,
    RepeatStep,
    SayStep,
    Step,
    ThinkStep,
    WaitForHangUpStep,
    walk_steps,
)
from voxload.model.source import Location, Source
from voxload.model.template import expand, template_names
from voxload.runners.resources import Resources, is_file, spoken_places
from voxload.verdict.expression import Gate
from voxload.verdict.rules import placed_gates, stop_gates

PLACEHOLDER_TARGET = "http://127.0.0.1:1"
"""Stands for the embedded agent until it listens; nothing is sent to it."""

_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


@dataclass(slots=True)
class Findings:
    """Problems end a command, warnings are shown and do not."""

    source: Source
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    stood_in: frozenset[Location] = frozenset()
    """The parts of the scenario that are not the file's, whose own are wrong: nothing is said of them."""

    def problem(self, location: Location, message: str, suggestion: str = "") -> None:
        """Note a problem at a place of the scenario file."""
        self.problems.append(self.source.problem(location, message, suggestion))

    def warn(self, location: Location, message: str, suggestion: str = "") -> None:
        """Note a warning at a place of the scenario file."""
        self.warnings.append(self.source.problem(location, message, suggestion))

    def add(self, problems: Sequence[Problem], warnings: Sequence[Problem]) -> None:
        """Take in what another check has found."""
        self.problems += problems
        self.warnings += warnings


def check_scenario(
    scenario: Scenario, resources: Resources, written_load: Load, findings: Findings
) -> str | tuple[PlannedTarget, ...]:
    """Check a scenario beyond its model and return its target with constants filled in, empty for the embedded agent.

    Several targets come back as planned.

    `written_load` is the load before the options of the command line.
    """
    targets = _check_targets(scenario, resources, findings)
    target = targets[0].url if targets else _check_target(scenario.target, ("target",), scenario, resources, findings)
    dialect = _check_dialect(scenario, target or PLACEHOLDER_TARGET, findings)
    _check_utterances(scenario, resources, findings)
    _check_variables(scenario, findings)
    _check_templates(scenario, dialect, findings)
    _check_gates(scenario, written_load, findings)
    _check_recovery(scenario, findings)
    if not isinstance(scenario.load, ConcurrencyLoad) and not any(phase.calls for phase in scenario.load.phases()):
        findings.problem(("load",), "load: places no call, every rate is 0")
    for number, call in enumerate(scenario.calls):
        location: Location = ("calls", number, "script")
        _check_order(call.script, location, findings)
        _check_script(scenario, call.script, location, findings)
    return targets or target


# --- the target and its protocol --------------------------------------------------------------------------------------


def _check_targets(scenario: Scenario, resources: Resources, findings: Findings) -> tuple[PlannedTarget, ...]:
    whole = math.fsum(target.weight for target in scenario.targets)
    return tuple(
        PlannedTarget(
            target.name,
            _check_target(target.url, ("targets", number, "url"), scenario, resources, findings),
            target.weight / whole,
            target.region,
        )
        for number, target in enumerate(scenario.targets)
    )


def _check_target(
    written: str, location: Location, scenario: Scenario, resources: Resources, findings: Findings
) -> str:
    if written == TWIN_TARGET:
        return ""
    if not _check_template(written, location, "target", _constants(scenario), findings, scenario.variables):
        return ""
    try:
        target = expand(written, resources.constants).rstrip("/")
    except KeyError:
        return ""  # an environment variable that is not set: reported as that
    try:
        parts = urlsplit(target)
        valid = bool(parts.hostname) and parts.port != 0 and not any(char.isspace() for char in target)
    except ValueError:
        valid = False
    if not valid:
        findings.problem(location, "target: not a URL", "write for example https://agent.example:8443")
        return ""
    if parts.query or parts.fragment:
        findings.problem(location, "target: must end with the path, without ? and #")
    return target


def _check_dialect(scenario: Scenario, target: str, findings: Findings) -> Dialect | None:
    settings = scenario.dialect
    try:
        return build_dialect(settings.name, target, settings.options)
    except BadInputError as error:
        for problem in error.problems:
            named = re.search(r"option '?([\w.]+)", problem.message)
            steps = named[1].split(".") if named else ["name"]
            location: Location = ("dialect", *(int(step) if step.isdecimal() else step for step in steps))
            findings.problem(location, problem.message, problem.suggestion)
        return None


# --- what callers say and bring along ---------------------------------------------------------------------------------


def _check_utterances(scenario: Scenario, resources: Resources, findings: Findings) -> None:
    corpus = load_corpus()
    names = list(corpus.names())
    broken: set[str] = set()
    for location, utterance in spoken_places(scenario):
        if is_file(utterance):
            data = resources.media.get(utterance)
            if data is None or utterance in broken:
                continue  # reported as missing
            try:
                utterance_from_wav(data, utterance)
            except BadInputError as error:
                broken.add(utterance)
                for problem in error.problems:
                    findings.problem(location, f"{utterance}: {problem.message}", problem.suggestion)
        elif utterance not in names:
            message = f"no utterance or intent is called {utterance!r}"
            findings.problem(location, message, did_you_mean(utterance, names))


def _check_variables(scenario: Scenario, findings: Findings) -> None:
    for name in scenario.variables:
        if not _VARIABLE_NAME.fullmatch(name):
            hint = "use letters, digits and _, and begin with a letter or _"
            findings.problem(("variables", name), f"{name!r} cannot be the name of a variable", hint)
        elif name in CALL_VALUES and name != CALLER_NUMBER:
            findings.problem(("variables", name), f"the variable {name} is set by voxload for each call")


def _check_templates(scenario: Scenario, dialect: Dialect | None, findings: Findings) -> None:
    per_call = [*scenario.variables, *CALL_VALUES]
    for option, text in scenario.dialect.options.items():
        if isinstance(text, str):
            _check_template(text, ("dialect", option), f"dialect.{option}", per_call, findings)
    for place, template in (dialect.templates() if dialect else {}).items():
        label = ".".join(map(str, ("dialect", *place)))
        _check_template(template.text, ("dialect", *place), label, [*per_call, *template.names], findings)
    constant = _constants(scenario)
    for header, text in scenario.headers.items():
        where: Location = ("headers", header)
        _check_template(text, where, f"headers.{header}", constant, findings, per_call)
        if not _HEADER_NAME.fullmatch(header) or not text.isprintable():
            findings.problem(where, f"headers.{header}: not a valid HTTP header")
        if header.lower() == "traceparent" and scenario.tracing == "on":
            hint = "write tracing: off to send your own"
            findings.problem(where, f"headers.{header}: every call gets a trace context of its own", hint)
    if scenario.side_traffic is None:
        return
    brought = dialect.caller(CallIdentity(0, "check")).template_values() if dialect else {"session_id": ""}
    for number, request in enumerate(scenario.side_traffic.requests):
        here: Location = ("side_traffic", "requests", number, "get")
        label = f"side_traffic.requests[{number}].get"
        _check_template(request.get, here, label, [*per_call, *brought], findings)
        if not request.get.startswith("/"):
            findings.problem(here, f"{label}: a path on the target begins with /")


def _constants(scenario: Scenario) -> list[str]:
    """Return the names of the variables that have one value for the whole run."""
    return [
        name
        for name, source in scenario.variables.items()
        if not isinstance(source, VariableSource) or source.env is not None
    ]


def _check_template(
    text: str,
    location: Location,
    label: str,
    known: Collection[str],
    findings: Findings,
    per_call: Collection[str] = (),
) -> bool:
    """Note names in a template that are not known there; return whether all is well."""
    try:
        names = template_names(text)
    except ValueError as error:
        findings.problem(location, f"{label}: {error}")
        return False
    unknown = [name for name in names if name not in known]
    for name in unknown:
        if name in per_call:
            hint = "only plain texts and env variables can stand here"
            findings.problem(location, f"{label}: ${{{name}}} differs from call to call", hint)
        else:
            findings.problem(location, f"{label}: no variable is called {name!r}", did_you_mean(name, known))
    return not unknown


# --- gates ------------------------------------------------------------------------------------------------------------


def _check_gates(scenario: Scenario, written_load: Load, findings: Findings) -> None:
    stop_gates(scenario, findings.problem)
    for location, _, gate in placed_gates(scenario, findings.problem):
        if gate.metric.name in RECOVERY_METRICS and scenario.recovery is None:
            hint = "add recovery: {health: [{get: /health, sessions: $.active_calls}]}"
            findings.problem(location, f"{gate.expression!r} needs a look after the load", hint)
        _check_labels(gate, scenario, written_load, findings, location)


def _check_labels(gate: Gate, scenario: Scenario, written_load: Load, findings: Findings, location: Location) -> None:
    """A gate on a phase or a call that does not exist would never have data."""
    problem, warn = partial(findings.problem, location), partial(findings.warn, location)
    if gate.metric.name == "stage" and "stage" not in dict(gate.labels):
        warn(f"{gate.expression!r} mixes all stages", 'name one, as in p95(stage{stage="llm_first_token"})')
    targets = [target.name for target in scenario.targets]
    regions = [scenario.region, *(target.region for target in scenario.targets)]
    calls = [call.name for call in scenario.calls]
    phases = [phase.name for phase in scenario.load.phases()]
    written = [phase.name for phase in written_load.phases()]
    personas = [persona.name for persona in resolve_personas(scenario.personas)]
    probes = [probe.label for probe in scenario.probes]
    of_probe = "probe" in dict(gate.labels) or gate.per == "probe"
    if gate.metric.of_component and not of_probe:
        hint = f'write {gate.metric.name}{{probe="{probes[0]}"}}' if probes else "add the service to probes:"
        problem(f"{gate.expression!r}: only probes have {gate.metric.name} in a run of calls", hint)
    names = {"call": calls, "phase": phases, "persona": personas, "region": regions, "target": targets}
    unsure = {label for label, part in (("call", "calls"), ("phase", "load")) if (part,) in findings.stood_in}
    for label, value in gate.labels:
        if of_probe and label in names:
            problem(f"{gate.expression!r}: the figures of probes have no label {label}")
        known = {"probe": probes}.get(label) if of_probe else names.get(label)
        if known is None or value in known or label in unsure:
            continue
        message = f"{gate.expression!r}: no {label} is called {value!r}"
        if label == "phase" and value in written:
            warn(f"{message} after the options that change the load; the gate will have no data")
        else:
            problem(message, did_you_mean(value, known))


def _check_recovery(scenario: Scenario, findings: Findings) -> None:
    settings = scenario.recovery
    if settings is None:
        return
    calls = [call.name for call in scenario.calls]
    if settings.call and settings.call not in calls and ("calls",) not in findings.stood_in:
        message = f"recovery.call: no call is called {settings.call!r}"
        findings.problem(("recovery", "call"), message, did_you_mean(settings.call, calls))
    if not settings.probes and not settings.health:
        findings.problem(("recovery",), "recovery: looks at nothing; give it probes or health")
    for number, check in enumerate(settings.health):
        here: Location = ("recovery", "health", number, "get")
        label = f"recovery.health[{number}].get"
        _check_template(check.get, here, label, _constants(scenario), findings, scenario.variables)
        if not check.get.startswith(("/", "http://", "https://")):
            findings.problem(here, f"{label}: a path on the target begins with /")
        if check.of is not None and check.sessions is None:
            findings.problem(here, f"recovery.health[{number}].of: says nothing without sessions")


# --- scripts ----------------------------------------------------------------------------------------------------------


def _check_order(steps: Sequence[Step], location: Location, findings: Findings) -> bool:
    """Note steps that are never reached; return whether the call is over after these steps."""
    for number, step in enumerate(steps):
        over = step in {"hang_up", "wait_for_hang_up"} or isinstance(step, WaitForHangUpStep)
        if isinstance(step, RepeatStep):
            over = _check_order(step.repeat.steps, (*location, number, "repeat", "steps"), findings)
        if over and number + 1 < len(steps):
            findings.problem((*location, number + 1), "this step is never reached: the call is over before it")
            return True
        if over:
            return True
    return False


def _check_script(scenario: Scenario, script: Sequence[Step], location: Location, findings: Findings) -> None:
    silent_agent = scenario.target == TWIN_TARGET and not scenario.twin.greeting
    spoken_before = False
    for here, step in walk_steps(script, location):
        if isinstance(step, SayStep | BargeInStep):
            spoken_before = True
        waits = step == "wait_for_agent" or hasattr(step, "wait_for_agent")
        if waits and silent_agent and not spoken_before:
            hint = "let the caller speak first, or give the twin its greeting"
            findings.warn(here, "nobody has spoken yet: the caller waits for an agent that does not greet", hint)
        if isinstance(step, RepeatStep) and step.repeat.until_ns is not None:
            if not _takes_time(step.repeat.steps):
                hint = "add a say, or a think or listen of more than 0"
                findings.problem(here, "repeat until: a round may take no time and would never end", hint)
            if step.repeat.until_ns >= scenario.timeouts.call_ns:
                findings.warn(here, "repeat until: timeouts.call ends the call before", "raise timeouts.call")


def _takes_time(steps: Sequence[Step]) -> bool:
    """Return whether one round of the steps always takes some time, whatever the agent does."""
    for step in steps:
        match step:
            case SayStep() | BargeInStep() | BackchannelStep() | WaitForHangUpStep() | "hang_up" | "wait_for_hang_up":
                return True
            case ThinkStep(think=pause) | ListenStep(listen=pause) if pause.duration_ns[0] > 0:
                return True
            case DtmfStep(dtmf=dtmf) if dtmf.gap_ns > 0:
                return True
            case RepeatStep(repeat=repeat) if _takes_time(repeat.steps):
                return True
            case _:
                pass
    return False
