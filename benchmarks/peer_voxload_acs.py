"""voxload as Azure Communication Services: the same engine, media streaming to a backend that is quiet."""

from __future__ import annotations

import sys

import uvloop

from benchmarks.harness import read_job
from benchmarks.peer_voxload import run

PEER = "voxload_acs"


def main() -> int:
    """Entry point."""
    uvloop.run(run(read_job(PEER), PEER, {"name": "acs_media"})).print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
