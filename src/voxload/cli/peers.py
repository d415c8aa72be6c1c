"""What a run needs beside its generators: the embedded agent, and the exchange that rings agents by telephone."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from rich.console import Console

from voxload.dialects.registry import build_dialect
from voxload.model.scenario import TWIN_TARGET
from voxload.model.template import fill_options
from voxload.runners.checks import PLACEHOLDER_TARGET
from voxload.runners.prepare import Prepared, with_dialect_option, with_target, with_targets
from voxload.twin.process import TwinProcess


def _alive(process: TwinProcess) -> bool:
    return process.running


def start_peers(prepared: Prepared, stack: ExitStack, console: Console) -> tuple[Prepared, Callable[[], str]]:
    """Start what the scenario needs; returns the run against it, and what tells why it cannot go on ("" while it can).

    Raises:
        BadInputError: settings that cannot work.
        RunAbortedError: a process did not get ready.
    """
    scenario = prepared.scenario
    name, options = scenario.dialect.name, scenario.dialect.options
    watched: list[tuple[str, Callable[[], bool]]] = []
    job = build_dialect(name, prepared.plan.target or PLACEHOLDER_TARGET, options).exchange_job()
    if job is not None:
        from voxload.standins.acs.process import ExchangeProcess  # noqa: PLC0415  # few runs need its libraries

        exchange = stack.enter_context(ExchangeProcess(job.settings, job.host, job.port))
        options = {**options, "exchange": exchange.url}
        prepared = with_dialect_option(prepared, "exchange", exchange.url)
        watched.append(("the exchange", lambda: exchange.running))
        if scenario.target != TWIN_TARGET:
            console.print(f"Telephone exchange (ACS endpoint of the backend): {exchange.endpoint}", highlight=False)
            if exchange.authority:
                trust = f"REQUESTS_CA_BUNDLE and SSL_CERT_FILE: {exchange.authority}"
                console.print(f"The backend must trust its authority: {trust}", highlight=False)
    if scenario.targets:
        filled = fill_options(options, prepared.plan.constants)
        urls = []
        for planned, target in zip(prepared.plan.targets, scenario.targets, strict=True):
            url = planned.url
            if target.url == TWIN_TARGET:
                own = stack.enter_context(TwinProcess(target.twin or scenario.twin, name, filled))
                watched.append((f"the embedded agent {target.name}", partial(_alive, own)))
                url = own.url
            urls.append(url)
        prepared = with_targets(prepared, urls)
    if scenario.target == TWIN_TARGET:
        options = fill_options(options, prepared.plan.constants)
        twin = stack.enter_context(TwinProcess(scenario.twin, name, options))
        prepared = with_target(prepared, twin.url)
        watched.append(("the embedded agent", lambda: twin.running))

    def died() -> str:
        return next((f"{what} died" for what, alive in watched if not alive()), "")

    return prepared, died
