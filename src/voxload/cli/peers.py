"""What a run needs beside its generators: the embedded agent, and the exchange that rings agents by telephone."""

from __future__ import annotations

from contextlib import ExitStack

from rich.console import Console

from voxload.child import ChildProcess
from voxload.dialects.registry import build_dialect
from voxload.model.scenario import TWIN_TARGET
from voxload.model.template import fill_options
from voxload.runners.checks import PLACEHOLDER_TARGET
from voxload.runners.prepare import Prepared, with_dialect_option, with_target, with_targets
from voxload.twin.process import TwinProcess


class Peers:
    """The processes that a run needs beside its generators."""

    def __init__(self) -> None:
        self._watched: list[tuple[str, ChildProcess]] = []

    def add(self, what: str, process: ChildProcess) -> None:
        """Watch a process."""
        self._watched.append((what, process))

    def died(self) -> str:
        """Return why the run cannot go on; empty while it can."""
        return next((f"{what} died" for what, process in self._watched if not process.running), "")

    def doubts(self) -> list[str]:
        """Return why what was measured says nothing of the target; to be asked while they run."""
        return [doubt for _, process in self._watched if (doubt := process.doubt())]


def start_peers(prepared: Prepared, stack: ExitStack, console: Console) -> tuple[Prepared, Peers]:
    """Start what the scenario needs; returns the run against it, and the processes.

    Raises:
        BadInputError: settings that cannot work.
        RunAbortedError: a process did not get ready.
    """
    scenario = prepared.scenario
    name, options = scenario.dialect.name, scenario.dialect.options
    peers = Peers()
    job = build_dialect(name, prepared.plan.target or PLACEHOLDER_TARGET, options).exchange_job()
    if job is not None:
        from voxload.standins.acs.process import ExchangeProcess  # noqa: PLC0415  # few runs need its libraries

        exchange = stack.enter_context(ExchangeProcess(job.settings, job.host, job.port))
        options = {**options, "exchange": exchange.url}
        prepared = with_dialect_option(prepared, "exchange", exchange.url)
        peers.add("the exchange", exchange)
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
                peers.add(f"the embedded agent {target.name}", own)
                url = own.url
            urls.append(url)
        prepared = with_targets(prepared, urls)
    if scenario.target == TWIN_TARGET:
        options = fill_options(options, prepared.plan.constants)
        twin = stack.enter_context(TwinProcess(scenario.twin, name, options))
        prepared = with_target(prepared, twin.url)
        peers.add("the embedded agent", twin)
    return prepared, peers
