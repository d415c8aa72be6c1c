"""`voxload acs`: Azure Communication Services on this machine, to develop a backend against."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import aiohttp
import click

from voxload.cli.command import CheckedCommand
from voxload.errors import BadInputError, ExitCode, Problem, RunAbortedError
from voxload.model.exchange import ExchangeSettings, check_access_key
from voxload.model.outcome import Outcome
from voxload.model.source import load_yaml_model
from voxload.standins.acs.job import ExchangeJob
from voxload.standins.acs.server import RING_PATH, Served
from voxload.standins.acs.service import run_exchange
from voxload.standins.acs.tokens import IDENTITY_PATH, KEYS_PATH
from voxload.standins.log import COUNTERS_PATH

DEFAULT_EXCHANGE = "http://127.0.0.1:8181"
SERVE_EPILOG = """\b
Examples:
  voxload acs serve                          the ACS endpoint on http://127.0.0.1:8181
  voxload acs serve --tls                    https, with certificates of its own authority
  voxload acs serve service.yaml --port 0    delays, limits and callees from a file, on a free port
  voxload acs serve --json                   one line of JSON when it listens, for scripts

\b
service.yaml holds what a scenario's "dialect: {name: acs, service: ...}" holds, for example:
  limits: {concurrent_calls: 100, requests_per_s: 50}
  callee: {outcomes: {answered: 0.9, busy: 0.1}, answer_delay: 1s..4s, digits: "1234"}
"""
CALL_EPILOG = """\b
Examples:
  voxload acs call http://127.0.0.1:8000/api/incomingCall
  voxload acs call http://127.0.0.1:8000/api/incomingCall --seconds 20 --from +15550100009
  voxload acs call http://127.0.0.1:8000/api/incomingCall --json
"""


@click.group("acs")
def acs_command() -> None:
    """Play Azure Communication Services to a backend on this machine."""


@acs_command.command("serve", cls=CheckedCommand, epilog=SERVE_EPILOG)
@click.argument("settings", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8181, show_default=True, type=click.IntRange(0, 65535), help="Port; 0: a free one.")
@click.option("--tls", is_flag=True, help="Speak https, as the SDK's connection strings want it.")
@click.option("--certificates", help="Folder of the certificates (default: .voxload-acs).")
@click.option("--access-key", help="Key that signs requests, base64 (default: a development key).")
@click.option("--webhook", default="", help="What `voxload acs call` rings when it names no webhook.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON when it listens, nothing else.")
def serve_command(
    settings: Path | None,
    host: str,
    port: int,
    tls: bool,
    certificates: str | None,
    access_key: str | None,
    webhook: str,
    as_json: bool,
) -> None:
    """Serve the Call Automation API, callbacks, tokens and a managed identity until Ctrl-C.

    SETTINGS is an optional YAML file. `voxload acs call` and scenarios with `exchange:` ring through it.
    """
    chosen = load_yaml_model(settings, ExchangeSettings) if settings is not None else ExchangeSettings()
    if access_key is not None:
        try:
            check_access_key(access_key)
        except ValueError as error:
            raise BadInputError([Problem(f"--access-key: {error}")]) from None
    changes = {"tls": tls or None, "certificates": certificates, "access_key": access_key}
    chosen = chosen.model_copy(update={name: value for name, value in changes.items() if value is not None})

    def announce(served: Served) -> None:
        variables = exchange_variables(served, chosen.access_key)
        if as_json:
            click.echo(json.dumps({"ready": True, "pid": os.getpid(), **served._asdict(), "environment": variables}))
        else:
            click.echo(_welcome(served, variables))

    run_exchange(ExchangeJob(settings=chosen, host=host, port=port, webhook=webhook), announce)


def exchange_variables(served: Served, access_key: str) -> dict[str, str]:
    """Return the environment of a backend that takes the exchange for Azure."""
    trust = {"REQUESTS_CA_BUNDLE": served.authority, "SSL_CERT_FILE": served.authority} if served.authority else {}
    return {
        "COMMUNICATION_SERVICES_CONNECTION_STRING": f"endpoint={served.endpoint}/;accesskey={access_key}",
        "COMMUNICATION_SERVICES_ENDPOINT": served.endpoint,
        "COMMUNICATION_SERVICES_ACCESS_KEY": access_key,
        "IDENTITY_ENDPOINT": served.endpoint + IDENTITY_PATH,
        "IDENTITY_HEADER": served.identity_header,
        **trust,
    }


def _welcome(served: Served, variables: dict[str, str]) -> str:
    exports = "\n".join(f"  export {name}='{value}'" for name, value in variables.items())
    plain = f"\n  {served.url}    the same on plain http, for callers" if served.url != served.endpoint else ""
    note = (
        ""
        if served.authority
        else "\nPlain http: build the client with its endpoint and key; connection strings want --tls."
    )
    return f"""\
Azure Communication Services, played by voxload, on {served.endpoint}{plain}
  {served.endpoint}{KEYS_PATH}    keys of the tokens on callbacks and media sockets
  {served.url}{COUNTERS_PATH}    what has happened

For the backend:
{exports}{note}

Ring it from another terminal:
  voxload acs call http://127.0.0.1:8000/api/incomingCall --exchange {served.url}
or write in a scenario:
  dialect: {{name: acs, exchange: "{served.url}", webhook: /api/incomingCall}}
Ctrl-C stops it."""


@acs_command.command("call", cls=CheckedCommand, epilog=CALL_EPILOG)
@click.argument("webhook", required=False, default="")
@click.option(
    "--exchange", default=DEFAULT_EXCHANGE, show_default=True, help="Where `voxload acs serve` listens (http)."
)
@click.option("--from", "caller", default="+15550100001", show_default=True, help="Who calls.")
@click.option("--to", "callee", default="+18005550100", show_default=True, help="The number that is called.")
@click.option("--seconds", default=5.0, show_default=True, type=click.FloatRange(0, 3600), help="How long to stay.")
@click.option("--json", "as_json", is_flag=True, help="Print each step as a line of JSON.")
def call_command(webhook: str, exchange: str, caller: str, callee: str, seconds: float, as_json: bool) -> int:
    """Ring a backend's WEBHOOK once and tell every step; the exit code is 0 when there was a call with media.

    Without WEBHOOK the one is rung that `voxload acs serve --webhook` was given.
    """
    body = {"webhook": webhook, "from": caller, "to": callee, "seconds": seconds}
    completed = asyncio.run(_ring(exchange.rstrip("/"), body, as_json))
    return ExitCode.PASSED if completed else ExitCode.ABORTED


async def _ring(exchange: str, body: dict[str, Any], as_json: bool) -> bool:
    step: dict[str, Any] = {}
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as http,
            http.post(exchange + RING_PATH, json=body) as answer,
        ):
            if answer.status != 200:
                raise BadInputError([Problem(f"the exchange answered {answer.status}: {await answer.text()}")])
            async for line in answer.content:
                step = json.loads(line)
                click.echo(line.decode().rstrip() if as_json else _step_text(step))
    except (aiohttp.ClientError, OSError) as error:
        hint = "start it with: voxload acs serve"
        raise RunAbortedError(f"the exchange at {exchange} cannot be reached: {error} ({hint})") from None
    return step.get("outcome") == Outcome.COMPLETED.value


def _step_text(step: dict[str, Any]) -> str:
    if "outcome" in step:
        return f"{step['outcome']}: {step['reason']}"
    if "complaint" in step:
        return f"complaint: {step['complaint']}: {step['message']}"
    return str(step["step"])
