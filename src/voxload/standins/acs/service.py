"""Runs an exchange in this process until it is told to stop."""

from __future__ import annotations

from collections.abc import Callable

import uvloop

from voxload.process import raise_file_limit
from voxload.standins.acs.job import ExchangeJob
from voxload.standins.acs.server import Served, serve


def run_exchange(job: ExchangeJob, announce: Callable[[Served], None], parent: bool = False) -> None:
    """Serve until SIGTERM or SIGINT; `announce` is called once the exchange listens.

    With `parent` the end of standard input stops it too: the process that holds its other end is gone.

    Raises:
        RunAbortedError: the address cannot be listened on, or the certificates cannot be made.
    """
    raise_file_limit()
    uvloop.run(serve(job, announce, parent))
