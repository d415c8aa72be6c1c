"""An exchange as a child process: its job is the first line of standard input, and it ends when that input ends."""

from __future__ import annotations

import sys

from voxload.child import announce, read_job
from voxload.errors import VoxloadError
from voxload.standins.acs.job import ExchangeJob
from voxload.standins.acs.service import run_exchange


def main() -> int:
    """Run the exchange; returns the exit code."""
    job = read_job()
    if job is None:
        return 0
    try:
        run_exchange(ExchangeJob.model_validate_json(job), lambda served: announce(**served._asdict()), parent=True)
    except VoxloadError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
