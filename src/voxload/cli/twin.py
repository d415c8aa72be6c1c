"""`voxload twin`: the embedded voice agent, to develop and to calibrate against."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from voxload.dialects.registry import build_dialect, dialect_names
from voxload.errors import BadInputError, Problem
from voxload.model.source import load_yaml_model
from voxload.model.twin import AgentLatency, LatencySettings, TwinSettings
from voxload.model.units import parse_duration_ns
from voxload.twin.service import TwinJob, run_twin

EPILOG = """\b
Examples:
  voxload twin                                   serve the agent on a free port
  voxload twin --port 8080 --turn 700ms          every reply exactly 700 ms after the caller's last word
  voxload twin twin.yaml --dialect rtmed         latencies, quotas and faults from a file
  voxload twin --option message_rate=50          an option of the dialect
  voxload twin --json                            one line of JSON when it listens, for scripts

\b
twin.yaml holds what a scenario's "twin:" holds, for example:
  latency: {stt: 120ms, llm: {lognormal: {median: 350ms, p95: 900ms}}, tts: 130ms}
  quotas: {connections: 100, tokens_per_minute: 240000}
  faults: {silent_rate: 0.01}
"""


@click.command("twin", epilog=EPILOG)
@click.argument("settings", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=0, type=click.IntRange(0, 65535), help="Port to listen on (default: a free one).")
@click.option("--dialect", default="rtmed", show_default=True, help="Wire protocol to speak.")
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="Option of the dialect; repeatable.")
@click.option("--turn", help="Latency of every turn, such as 700ms: from the caller's last word to the reply.")
@click.option("--seed", type=click.IntRange(0), help="Same seed, same latencies and faults for the same calls.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON when it listens, nothing else.")
def twin_command(
    settings: Path | None,
    host: str,
    port: int,
    dialect: str,
    options: tuple[str, ...],
    turn: str | None,
    seed: int | None,
    as_json: bool,
) -> None:
    """Run a voice agent whose latencies, quotas and faults are known, until Ctrl-C.

    SETTINGS is an optional YAML file. The agent serves HTTP and WebSockets on one port.
    """
    chosen = load_yaml_model(settings, TwinSettings) if settings is not None else TwinSettings()
    if turn is not None:
        chosen = chosen.model_copy(update={"latency": AgentLatency(turn=_latency(turn))})
    if seed is not None:
        chosen = chosen.model_copy(update={"seed": seed})
    job = TwinJob(settings=chosen, dialect=dialect, options=_options(options), host=host, port=port)
    build_dialect(job.dialect, "http://127.0.0.1", job.options)  # wrong names are told before anything starts

    def announce(url: str) -> None:
        if as_json:
            click.echo(json.dumps({"ready": True, "url": url, "pid": os.getpid()}))
        else:
            click.echo(_welcome(url, dialect))

    run_twin(job, announce)


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


def _welcome(url: str, dialect: str) -> str:
    return f"""\
Voice agent ({dialect}) listening on {url}
  {url}/health    state
  {url}/metrics   Prometheus metrics
Dialects: {", ".join(dialect_names())}

Call it from another terminal:
  voxload run SCENARIO.yaml --target {url}
or write in the scenario:
  target: {url}
  dialect: {dialect}
Ctrl-C stops it."""
