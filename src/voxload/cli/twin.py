"""`voxload twin`: the embedded voice agent, to develop and to calibrate against."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from voxload.cli.command import CheckedCommand
from voxload.cli.stand_ins import NAMES, describe, start_services, wanted_services
from voxload.dialects.registry import build_dialect, dialect_names
from voxload.errors import BadInputError, Problem
from voxload.model.quantities import parse_duration_ns
from voxload.model.scenario import TWIN_TARGET
from voxload.model.source import load_yaml_model
from voxload.model.template import fill_options
from voxload.model.twin import AgentLatency, LatencySettings, TwinSettings
from voxload.runners.prepare import prepare
from voxload.twin.job import TwinJob
from voxload.twin.service import run_twin

EPILOG = """\b
Examples:
  voxload twin                                   serve the agent on a free port
  voxload twin --port 8080 --turn 700ms          every reply exactly 700 ms after the caller's last word
  voxload twin twin.yaml --dialect rtmed         latencies, quotas and faults from a file
  voxload twin --option message_rate=50          an option of the dialect
  voxload twin --scenario scenario.yaml          the agent that a scenario with target: twin would start
  voxload twin --tls                             https and wss; prints the authority for --ca
  voxload twin --services openai,blob            stand-ins for the services behind the agent; prints their variables
  voxload twin --json                            one line of JSON when it listens, for scripts

\b
twin.yaml holds what a scenario's "twin:" holds, for example:
  latency: {stt: 120ms, llm: {lognormal: {median: 350ms, p95: 900ms}}, tts: 130ms}
  quotas: {connections: 100, tokens_per_minute: 240000}
  faults: {silent_rate: 0.01}
"""


@click.command("twin", cls=CheckedCommand, epilog=EPILOG)
@click.argument("settings", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=0, type=click.IntRange(0, 65535), help="Port to listen on (default: a free one).")
@click.option("--dialect", help="Wire protocol to speak.  [default: rtmed, or the scenario's]")
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="Option of the dialect; repeatable.")
@click.option(
    "--scenario",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Take the dialect, its options and the agent's settings from a scenario.",
)
@click.option("--turn", help="Latency of every turn, such as 700ms: from the caller's last word to the reply.")
@click.option("--tls", is_flag=True, help="Speak https and wss, with certificates of its own authority.")
@click.option("--certificates", default=".voxload-tls", show_default=True, help="Folder of the certificates.")
@click.option("--tls-name", default="", help="A further host name in the certificate (default: --host).")
@click.option(
    "--services", default="", help=f"Stand-ins to serve too, each on a port of its own; of {', '.join(NAMES)}."
)
@click.option(
    "--service-settings",
    type=click.Path(path_type=Path, dir_okay=False),
    help="YAML file: settings of the stand-ins, by name.",
)
@click.option("--seed", type=click.IntRange(0), help="Same seed, same latencies and faults for the same calls.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON when it listens, nothing else.")
def twin_command(
    settings: Path | None,
    host: str,
    port: int,
    dialect: str | None,
    options: tuple[str, ...],
    scenario: Path | None,
    turn: str | None,
    tls: bool,
    certificates: str,
    tls_name: str,
    services: str,
    service_settings: Path | None,
    seed: int | None,
    as_json: bool,
) -> None:
    """Run a voice agent whose latencies, quotas and faults are known, until Ctrl-C.

    SETTINGS is an optional YAML file. The agent serves HTTP and WebSockets on one port.
    """
    job = _job(settings, scenario, dialect, _options(options))
    chosen = job.settings
    if turn is not None:
        chosen = chosen.model_copy(update={"latency": AgentLatency(turn=_latency(turn))})
    if seed is not None:
        chosen = chosen.model_copy(update={"seed": seed})
    job = job.model_copy(update={"settings": chosen, "host": host, "port": port})
    if tls:
        job = job.model_copy(update={"certificates": certificates, "server_name": tls_name})
    authority = str(Path(certificates, "ca.pem").resolve()) if tls else ""
    build_dialect(job.dialect, "http://127.0.0.1", job.options)  # wrong names are told before anything starts

    wanted = wanted_services(services, service_settings, port)
    with ExitStack() as stack:
        served, died = start_services(wanted, host, stack)

        def announce(url: str) -> None:
            if as_json:
                told: dict[str, Any] = {"ready": True, "url": url, "pid": os.getpid()}
                told |= {"ca": authority} if tls else {}
                told |= {"services": {kind: item._asdict() for kind, item in served.items()}} if served else {}
                click.echo(json.dumps(told))
            else:
                click.echo("\n".join([_welcome(url, job.dialect, authority), *describe(served)]))

        run_twin(job, announce, died=died)


def _job(settings: Path | None, scenario: Path | None, dialect: str | None, options: dict[str, Any]) -> TwinJob:
    """Return what the files and the options of the command say.

    Raises:
        BadInputError: every mistake in the file that is given; two files that both say what the agent is like.
    """
    if scenario is None:
        chosen = load_yaml_model(settings, TwinSettings) if settings is not None else TwinSettings()
        return TwinJob(settings=chosen, dialect=dialect or "rtmed", options=options)
    if settings is not None:
        raise BadInputError([Problem(f"give {settings} or --scenario {scenario}, not both")])
    prepared = prepare(scenario, target=TWIN_TARGET, environ=os.environ)
    written = prepared.scenario.dialect
    if dialect is not None and dialect != written.name:
        return TwinJob(settings=prepared.scenario.twin, dialect=dialect, options=options)
    filled = fill_options(written.options, prepared.plan.constants)
    return TwinJob(settings=prepared.scenario.twin, dialect=written.name, options={**filled, **options})


def _latency(turn: str) -> LatencySettings:
    try:
        parse_duration_ns(turn)
    except ValueError as error:
        raise BadInputError([Problem(f"--turn: {error}")]) from None
    return LatencySettings.model_validate(turn)


def _options(pairs: tuple[str, ...]) -> dict[str, str]:
    """Return NAME=VALUE pairs as a dictionary; the dialect's model converts the values.

    Raises:
        BadInputError: a pair without `=`; every one is listed.
    """
    wrong = [Problem(f"--option {pair!r} is not NAME=VALUE") for pair in pairs if "=" not in pair]
    if wrong:
        raise BadInputError(wrong)
    return dict(pair.split("=", 1) for pair in pairs)


def _welcome(url: str, dialect: str, authority: str) -> str:
    trust = f" --ca {authority}" if authority else ""
    return f"""\
Voice agent ({dialect}) listening on {url}
  {url}/health    state
  {url}/metrics   Prometheus metrics
Dialects: {", ".join(dialect_names())}

Call it from another terminal:
  voxload run SCENARIO.yaml --target {url}{trust}
or write in the scenario:
  target: {url}
  dialect: {dialect}
Ctrl-C stops it."""
