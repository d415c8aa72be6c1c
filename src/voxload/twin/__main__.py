"""A twin as a child process: its job is the first line of standard input, and it ends when that input ends."""

from __future__ import annotations

import sys

from voxload.child import announce, read_job
from voxload.errors import VoxloadError
from voxload.twin.job import decode_job
from voxload.twin.service import run_twin


def main() -> int:
    """Run the twin; returns the exit code."""
    job = read_job()
    if job is None:
        return 0
    try:
        run_twin(decode_job(job), lambda url: announce(url=url), parent=True)
    except VoxloadError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
