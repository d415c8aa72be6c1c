"""The stand-ins that `voxload twin --services` serves beside the agent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from voxload.child import ChildProcess
from voxload.cli.acs import exchange_variables
from voxload.errors import BadInputError, Problem
from voxload.model.exchange import ExchangeSettings
from voxload.model.explain import did_you_mean
from voxload.model.source import read_source
from voxload.standins.acs.process import ExchangeProcess
from voxload.standins.acs.server import Served
from voxload.standins.web import KINDS, StandInProcess, environment_of

ACS = "acs"
NAMES = (ACS, *KINDS)
"""What `--services` knows: the exchange has a process of its own kind, the others are alike."""


class Service(NamedTuple):
    """A stand-in that listens."""

    what: str
    url: str
    environment: dict[str, str]
    """What a backend is told of it, as its SDK's samples name it."""


def wanted_services(text: str, file: Path | None, port: int) -> dict[str, tuple[dict[str, Any], int]]:
    """Return (settings, port) by kind, from `blob,eventgrid` and a file of settings by kind.

    With a fixed `port` of the agent the stand-ins take those that follow.

    Raises:
        BadInputError: no such stand-in, or a file that says nothing of one that is served; every problem is listed.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    problems = [_unknown(name) for name in names if name not in NAMES]
    source = read_source(file) if file is not None else None
    data: Any = source.data if source is not None else {}
    if source is not None and not isinstance(data, dict):
        problems.append(Problem("expected the name of a stand-in and below it its settings", source.file, 1))
        data = {}
    for name, value in data.items():
        if name not in names or not isinstance(value, dict):
            assert source is not None
            message = f"{name!r} is not among --services" if name not in names else f"{name}: expected settings"
            problems.append(Problem(message, source.file, source.line((name,))))
    if problems:
        raise BadInputError(problems)
    return {name: (data.get(name, {}), port + 1 + place if port else 0) for place, name in enumerate(names)}


def _unknown(name: str) -> Problem:
    return Problem(f"--services: no stand-in is called {name!r}", suggestion=did_you_mean(name, NAMES))


def start_services(
    wanted: Mapping[str, tuple[Mapping[str, Any], int]], host: str, stack: ExitStack
) -> tuple[dict[str, Service], Callable[[], str]]:
    """Start the stand-ins, each in a process of its own that ends with `stack`.

    Returns them, and what tells in words which of them has died; nothing while all live.

    Raises:
        BadInputError: settings that are wrong.
        RunAbortedError: one does not start.
    """
    found, processes = {}, list[ChildProcess]()
    for kind, (settings, port) in wanted.items():
        if kind == ACS:
            exchange = stack.enter_context(ExchangeProcess(settings, host, port))
            processes.append(exchange)
            found[kind] = _exchange(exchange, settings)
            continue
        process = stack.enter_context(StandInProcess(kind, settings, host, port))
        processes.append(process)
        found[kind] = Service(KINDS[kind].what, process.url, environment_of(kind, settings, process.url))
    return found, lambda: next(filter(None, (process.died() for process in processes)), "")


def _exchange(process: ExchangeProcess, settings: Mapping[str, Any]) -> Service:
    served = Served(process.url, process.endpoint, process.authority, process.identity_header)
    key = ExchangeSettings.model_validate(dict(settings)).access_key
    return Service("the stand-in for Communication Services", process.endpoint, exchange_variables(served, key))


def describe(services: Mapping[str, Service]) -> Sequence[str]:
    """Return the lines that tell a person of them."""
    lines = []
    for service in services.values():
        lines += ["", f"{service.what[0].upper()}{service.what[1:]} listening on {service.url}"]
        lines += [f"  {name}={value}" for name, value in service.environment.items()]
    return lines
