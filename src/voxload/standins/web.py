"""Stand-ins on a port of their own, in a child process."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

import uvloop
from pydantic import BaseModel, ValidationError

from voxload.child import ChildProcess, announce, read_job
from voxload.errors import BadInputError, Problem, VoxloadError
from voxload.process import freeze_garbage, raise_file_limit
from voxload.serving import stop_signal
from voxload.standins.serving import Server, StandIn


class _Place(NamedTuple):
    """Where a stand-in and its settings live, and what it is called."""

    what: str
    stand_in: str
    settings: str


KINDS = {
    "blob": _Place(
        "the stand-in for Blob Storage",
        "voxload.standins.blob.server:BlobStandIn",
        "voxload.standins.blob.settings:BlobServiceSettings",
    ),
    "eventgrid": _Place(
        "the stand-in for Event Grid",
        "voxload.standins.eventgrid.server:EventGridStandIn",
        "voxload.standins.eventgrid.settings:EventGridSettings",
    ),
    "http": _Place(
        "the stand-in for a backend",
        "voxload.standins.plain:PlainStandIn",
        "voxload.standins.plain:PlainSettings",
    ),
    "openai": _Place(
        "the stand-in for OpenAI",
        "voxload.standins.openai.server:ChatStandIn",
        "voxload.standins.openai.settings:ChatSettings",
    ),
    "speech": _Place(
        "the stand-in for Speech",
        "voxload.standins.speech.server:SpeechStandIn",
        "voxload.standins.speech.settings:SpeechSettings",
    ),
}
"""The stand-ins by name."""


def _load(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


def build(kind: str, settings: Mapping[str, Any]) -> StandIn:
    """Return a stand-in with settings as a user writes them.

    Raises:
        BadInputError: they are wrong; every mistake is listed.
    """
    model: type[BaseModel] = _load(KINDS[kind].settings)
    try:
        found: StandIn = _load(KINDS[kind].stand_in)(model.model_validate(dict(settings)))
    except ValidationError as error:
        raise BadInputError(
            [
                Problem(f"{KINDS[kind].what}, {'.'.join(map(str, detail['loc']))}: {detail['msg']}")
                for detail in error.errors()
            ]
        ) from None
    return found


def environment_of(kind: str, settings: Mapping[str, Any], url: str) -> dict[str, str]:
    """Return the variables that lead a backend to a stand-in that listens at `url`."""
    return build(kind, settings).environment(url)


class StandInProcess(ChildProcess):
    """Starts a stand-in and stops it; see `ChildProcess`.

    Raises:
        BadInputError: the settings are wrong.
    """

    def __init__(self, kind: str, settings: Mapping[str, Any], host: str = "127.0.0.1", port: int = 0) -> None:
        build(kind, settings)  # wrong settings are told before anything starts
        job = {"kind": kind, "settings": dict(settings), "host": host, "port": port}
        super().__init__("voxload.standins.web", KINDS[kind].what, json.dumps(job))


async def _serve(job: dict[str, Any]) -> None:
    server = Server.of(build(job["kind"], job["settings"]), job["host"], job["port"])
    try:
        await server.start()
        stopping = await stop_signal(parent=True)
        freeze_garbage()
        announce(url=server.url)
        await stopping.wait()
    finally:
        await server.stop()


def main() -> int:
    """Serve what standard input asks for, until it ends; returns the exit code."""
    job = read_job()
    if job is None:
        return 0
    raise_file_limit()
    try:
        uvloop.run(_serve(json.loads(job)))
    except VoxloadError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
