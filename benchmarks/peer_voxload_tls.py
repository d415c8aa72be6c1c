"""voxload over wss://, certificates verified: the same engine and frames, TLS on both sides."""

from __future__ import annotations

import sys

import uvloop

from benchmarks.harness import read_job
from benchmarks.peer_voxload import run

PEER = "voxload_tls"


def main() -> int:
    """Entry point."""
    uvloop.run(run(read_job(PEER), PEER)).print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
