"""Runs a twin in this process until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import uvloop

from voxload.dialects.base import Dialect
from voxload.dialects.registry import build_dialect
from voxload.errors import RunAbortedError
from voxload.model.twin import TwinSettings
from voxload.process import freeze_garbage, prefer_this_process, raise_file_limit
from voxload.serving import listen, stop_signal
from voxload.twin.agent import Agent
from voxload.twin.extras import REAL_MODULES, require
from voxload.twin.job import TwinJob
from voxload.twin.real import APOLOGY, Interpreter, RealAgent
from voxload.twin.replies import CorpusRepertoire
from voxload.twin.server import MakeAgent, TwinServer
from voxload.twin.synthesis import synthesise
from voxload.twin.worker import RecogniserWorker

DIED_INTERVAL_S = 0.5


def run_twin(
    job: TwinJob, announce: Callable[[str], None], parent: bool = False, died: Callable[[], str] = lambda: ""
) -> None:
    """Serve until SIGTERM or SIGINT; `announce(url)` is called once the twin listens.

    With `parent` the end of standard input stops the twin too: the process that holds its other end is gone. `died()`
    is asked twice a second for what else cannot go on, in words.

    Raises:
        BadInputError: settings or options that cannot work, or the extra `real` is missing and needed.
        RunAbortedError: the address cannot be listened on, the certificates cannot be made, or something has died.
    """
    raise_file_limit()
    prefer_this_process()
    uvloop.run(_serve(job, announce, parent, died))


async def _serve(job: TwinJob, announce: Callable[[str], None], parent: bool, died: Callable[[], str]) -> None:
    listener, url = listen(job.host, job.port)
    tls = None
    if job.certificates:
        from voxload.certificates import ensure_certificates, server_tls  # noqa: PLC0415  # few need cryptography

        tls = server_tls(ensure_certificates(Path(job.certificates), job.server_name or job.host))
        url = url.replace("http://", "https://", 1)
    with listener:
        dialect = build_dialect(job.dialect, url, job.options)
        repertoire = CorpusRepertoire(dialect, job.settings.reply_seconds_max)
        async with _brain(job.settings, dialect, repertoire) as make_agent:
            server = TwinServer(job.settings, dialect, repertoire, make_agent=make_agent)
            await server.start(listener, tls)
            stopping = await stop_signal(parent)
            freeze_garbage()
            announce(url)
            reason = await _stopped_or_died(stopping, died)
            await server.stop()
    if reason:
        raise RunAbortedError(reason)


async def _stopped_or_died(stopping: asyncio.Event, died: Callable[[], str]) -> str:
    """Wait; returns why it cannot go on, nothing where it was told to stop."""
    while True:
        try:
            async with asyncio.timeout(DIED_INTERVAL_S):
                await stopping.wait()
                return ""
        except TimeoutError:
            if reason := died():
                return reason


@contextlib.asynccontextmanager
async def _brain(settings: TwinSettings, dialect: Dialect, repertoire: CorpusRepertoire) -> AsyncIterator[MakeAgent]:
    """Make ready what the agents think with, and stop it afterwards."""
    if settings.mode == "modelled":
        yield Agent
        return
    for module in REAL_MODULES:
        require(module)
    worker = RecogniserWorker()
    await worker.start(exchange.heard for exchange in repertoire.exchanges)
    try:
        apology = synthesise(APOLOGY, dialect, settings.reply_seconds_max)
        yield functools.partial(RealAgent, Interpreter(repertoire, worker.recognise, apology))
    finally:
        await worker.stop()
