"""Options that several commands share, and the gates that they read."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from voxload.cli.command import Command, with_options
from voxload.errors import BadInputError, Collected, Problem
from voxload.measure.extra import require_installed
from voxload.model.gates import GateRules
from voxload.model.quantities import parse_duration_ns, parse_rate_per_s
from voxload.model.scenario import TWIN_TARGET, checked_address
from voxload.model.source import Location
from voxload.runners.environments import allow, find_environment
from voxload.runners.estimate import estimate_plan
from voxload.runners.prepare import Prepared, prepare
from voxload.runners.tiers import TIERS
from voxload.services.settings import ComponentSettings
from voxload.verdict.expression import parse_gate
from voxload.verdict.rules import NamedGate, gates_of, read_rules, stop_gates

if TYPE_CHECKING:
    from voxload.runners.distributed import Settings

EMBEDDED = "embedded agent"


class Parsed(click.ParamType[Any]):
    """A click type from one of our parsers; the text is passed on as it is once it has been checked."""

    def __init__(self, name: str, parse: Callable[[object], object]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Check the text."""
        try:
            self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return value


class Share(click.ParamType[float]):
    """A share: 30% or 0.3."""

    name = "share"

    def __init__(self, *, below: float) -> None:
        self._below = below

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse the text."""
        text = str(value)
        try:
            share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            share = -1.0
        if not 0 < share < self._below:
            self.fail(f"{value!r} is not a share (write for example 30%)", param, ctx)
        return share


def load_overrides(command: Command, target: str = "Base URL of the agent, or twin.") -> Command:
    """Add the options that override a scenario: target, users, duration, rate, seed."""
    return with_options(
        command,
        click.option("--seed", type=click.IntRange(0), help="Same seed, same calls at the same instants."),
        click.option(
            "--rate", type=Parsed("rate", parse_rate_per_s), help="Constant arrival rate (10, 10/s, 600/min)."
        ),
        click.option("--duration", type=Parsed("duration", parse_duration_ns), help="Length of the load (90s, 10m)."),
        click.option("--users", type=click.IntRange(1), help="Fixed number of callers (closed load)."),
        click.option("--target", help=target),
    )


def tls_options(command: Command) -> Command:
    """Add the options of TLS: an authority to trust, no verification."""
    return with_options(
        command,
        click.option("--insecure", is_flag=True, help="Do not verify the target's certificate; every report says so."),
        click.option(
            "--ca", type=click.Path(path_type=Path), help="Trust the certificate authorities in this file too."
        ),
    )


def source_options(command: Command) -> Command:
    """Add the option of source addresses."""
    return click.option(
        "--source-address",
        "source_addresses",
        type=Parsed("address", checked_address),
        multiple=True,
        help="Calls come from this address of the machine; several in turn. auto: as many as a target here needs.",
    )(command)


def tier_options(command: Command) -> Command:
    """Add the options of schedule and environment: tier, time scale, environment."""
    return with_options(
        command,
        click.option("--yes", is_flag=True, help="Agree to a load over what the environment allows."),
        click.option("--env", help="Environment of voxload.toml: dev, staging, preprod, prod, or one of your own."),
        click.option(
            "--time-scale", type=click.FloatRange(0, min_open=True), help="Times all durations of the load (0.01: try)."
        ),
        click.option("--tier", type=click.Choice(list(TIERS)), help="Reshape the scenario to a tier of the schedule."),
    )


def gate_options(command: Command) -> Command:
    """Add the options of gates: a file of them, further ones."""
    return with_options(
        command,
        click.option("--gate", "extra_gates", multiple=True, help="A further gate; may be given several times."),
        click.option(
            "--gates", "gates_file", type=click.Path(path_type=Path), help="File with gates, instead of the scenario's."
        ),
    )


def prepare_in_environment(scenario: Path, options: dict[str, Any]) -> tuple[Prepared, str]:
    """Prepare a scenario with the options of `load_overrides` and `tier_options`, held to its environment.

    Returns it with the words to say about the environment.

    Raises:
        BadInputError: the scenario, an option or `voxload.toml` is wrong, or the load is over what is allowed.
    """
    chosen, agreed = find_environment(options.pop("env"), scenario), options.pop("yes")
    own_share = options.pop("share", None)
    if chosen is None:
        return prepare(scenario, share=own_share, environ=os.environ, **options), ""
    name, environment = chosen
    options["target"] = options["target"] or environment.target or None
    shares = [share for share in (environment.canary_share, own_share) if share is not None]
    prepared = prepare(scenario, share=math.prod(shares) if shares else None, environ=os.environ, **options)
    peak = estimate_plan(prepared).peak_calls
    allow(name, environment, peak, agreed)
    words = f"Environment {name}"
    if environment.canary_share is not None:
        words += f": canary, {environment.canary_share:.3g} of the scenario's load"
    elif environment.calls_max is not None:
        words += f": about {peak:,.0f} calls at once, {environment.calls_max:,} allowed"
    return prepared, words


def prepare_with_gates(
    scenario: Path, gates_file: Path | None, extra_gates: tuple[str, ...], options: dict[str, Any], wrong: Collected
) -> tuple[Prepared, str, list[NamedGate], GateRules]:
    """Prepare a scenario as `prepare_in_environment` does, and read its gates and those of the options.

    Raises:
        BadInputError: everything that is wrong with any of it, after what is in `wrong` already.
    """
    found = wrong.attempt(lambda: prepare_in_environment(scenario, options))
    settings = found[0].scenario if found is not None else GateRules()
    judged = wrong.attempt(lambda: read_gates(settings, gates_file, extra_gates))
    wrong.end()
    assert found is not None
    assert judged is not None
    return *found, *judged


def targets_in_words(prepared: Prepared) -> str:
    """Return where the calls go, for people."""
    plan, scenario = prepared.plan, prepared.scenario
    if plan.targets:
        return ", ".join(f"{each.name} {plan.redact(each.url) or EMBEDDED} ({each.share:.1%})" for each in plan.targets)
    return EMBEDDED if scenario.target == TWIN_TARGET else plan.redact(plan.target)


def spread_options(command: Command) -> Command:
    """Add the options that spread a run over machines."""
    return with_options(
        command,
        click.option("--web-port", type=click.IntRange(1, 65535), help="Serve Locust's own web view there."),
        click.option(
            "--worker-wait", type=click.FloatRange(1), default=120.0, show_default=True, help="For workers to join, s."
        ),
        click.option(
            "--master-port", type=click.IntRange(0, 65535), default=5557, show_default=True, help="0: a free one."
        ),
        click.option(
            "--master-bind",
            default="127.0.0.1",
            show_default=True,
            help="Address of this machine on which the master listens for workers (0.0.0.0: all).",
        ),
        click.option("--remote", is_flag=True, help="Start no worker here: wait for those of other machines."),
        click.option("--workers", type=click.IntRange(1, 1000), help="Spread the calls over so many Locust workers."),
    )


def spread_settings(processes: int, options: dict[str, Any]) -> Settings | None:
    """Take the options of `spread_options` out of `options`; returns None for a run in this machine's own processes.

    Raises:
        BadInputError: Locust is not installed, or an option makes no sense without `--workers`.
    """
    workers, remote = options.pop("workers"), options.pop("remote")
    bind_host, bind_port = options.pop("master_bind"), options.pop("master_port")
    web_port, wait_s = options.pop("web_port"), options.pop("worker_wait")
    if workers is None:
        if remote or web_port is not None:
            raise BadInputError([Problem("--remote and --web-port go with --workers N")])
        return None
    require_installed("locust", "locust")
    from voxload.runners.distributed import Settings  # noqa: PLC0415  # asyncio, for those that place calls

    each = max(1, processes // workers)
    return Settings(workers, not remote, bind_host, bind_port, web_port, wait_s, each)


def read_gates(
    settings: GateRules | ComponentSettings, file: Path | None, extra: tuple[str, ...]
) -> tuple[list[NamedGate], GateRules]:
    """Return the gates and the rules that they come from: `file` where given, else the settings; then the extra gates.

    Raises:
        BadInputError: every gate that does not parse, with file and line where it has one.
    """
    problems: list[Problem] = []
    gates: list[NamedGate] = []
    rules = settings if isinstance(settings, GateRules) else _rules_of(settings)
    if file is None:
        gates += gates_of(rules, lambda _, message: problems.append(Problem(message)))
    else:
        rules, source = read_rules(str(file))

        def wrong(place: Location, message: str) -> None:
            problems.append(Problem(message, source.file, source.line(place)))

        gates += gates_of(rules, wrong)
        stop_gates(rules, wrong)
    for expression in extra:
        try:
            gates.append(("", parse_gate(expression)))
        except ValueError as error:
            problems.append(Problem(str(error), "--gate"))
    if problems:
        raise BadInputError(problems)
    return gates, rules


def _rules_of(settings: ComponentSettings) -> GateRules:
    return GateRules(gates=settings.gates, regression_thresholds=settings.regression_thresholds)
