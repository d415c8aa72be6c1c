"""What `voxload run` is asked to do: scenario and options, read and checked before anything is started."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from voxload.cli.after_run import AfterRun
from voxload.cli.options import prepare_with_gates, spread_settings
from voxload.cli.telemetry import LiveFigures
from voxload.errors import BadInputError, Collected, Problem
from voxload.model.fingerprint import fingerprint
from voxload.model.gates import GateRules
from voxload.runners.distributed import Settings
from voxload.runners.estimate import Estimate
from voxload.runners.preflight import (
    CONNECTIONS,
    estimate_here,
    machine_warnings,
    proxies_in_words,
    sources_in_words,
    with_auto_sources,
)
from voxload.runners.prepare import Prepared
from voxload.runners.scoring import reference_file
from voxload.verdict.offered import gate_warnings
from voxload.verdict.rules import NamedGate


class Asked(NamedTuple):
    """A run as it is asked for."""

    prepared: Prepared
    spread: Settings | None
    figures: LiveFigures
    gates: list[NamedGate]
    rules: GateRules
    after: AfterRun
    reference: Path | None
    warnings: list[Problem]
    facts: list[str]
    """What is said before the run: its environment, where its calls come from."""


def read_run(
    scenario: Path, processes: int, gates_file: Path | None, extra_gates: tuple[str, ...], options: dict[str, Any]
) -> Asked:
    """Read a scenario with the options of `voxload run`, which are taken out of `options`.

    Raises:
        BadInputError: everything that is wrong with either.
    """
    wrong = Collected()
    after_run = AfterRun.options(options)
    spread = wrong.attempt(lambda: spread_settings(processes, options))
    figures = wrong.attempt(lambda: LiveFigures.of(options, scenario))
    wrong.attempt(lambda: AfterRun.of(after_run, GateRules().thresholds()))  # are the options percentages?
    prepared, about, gates, rules = prepare_with_gates(scenario, gates_file, extra_gates, options, wrong)
    assert figures is not None
    after = AfterRun.of(after_run, rules.thresholds())
    after.check(prepared.scenario.name, fingerprint(prepared.scenario))
    prepared, estimate, limits, ways = _from_sources(prepared, spread)
    reference = reference_file(prepared.scenario, str(scenario))
    unreachable = gate_warnings(gates, estimate.peak_calls, bool(prepared.scenario.resources))
    warnings = [*prepared.warnings, *limits, *unreachable]
    return Asked(prepared, spread, figures, gates, rules, after, reference, warnings, [about, *ways])


def _from_sources(prepared: Prepared, spread: Settings | None) -> tuple[Prepared, Estimate, list[Problem], list[str]]:
    """Return the run with its source addresses, what it needs, limits of this machine in its way, and its way in words.

    Raises:
        BadInputError: addresses of this machine for calls that are all placed elsewhere, too few for `auto`, or a proxy
            that is none.
    """
    elsewhere = spread is not None and not spread.start_local
    if elsewhere and prepared.plan.source_addresses:
        hint = "voxload worker --source-address ADDRESS, on each of them"
        raise BadInputError(
            [Problem("source addresses of this machine are not those of --remote workers", suggestion=hint)]
        )
    prepared = with_auto_sources(prepared)
    estimate = estimate_here(prepared)
    if elsewhere:
        return prepared, estimate, [], []
    limits = machine_warnings(prepared, estimate, CONNECTIONS)
    return prepared, estimate, limits, [sources_in_words(prepared), proxies_in_words(prepared)]
