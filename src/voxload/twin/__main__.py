"""A twin as a child process: its job is the first line of standard input, and it ends when that input ends."""

from __future__ import annotations

import json
import os
import sys

from voxload.errors import VoxloadError
from voxload.twin.service import decode_job, run_twin


def _announce(url: str) -> None:
    sys.stdout.write(json.dumps({"ready": True, "url": url, "pid": os.getpid()}) + "\n")
    sys.stdout.flush()


def main() -> int:
    """Run the twin; returns the exit code."""
    line = bytearray()
    while not line.endswith(b"\n"):  # byte by byte: nothing beyond the line may be taken from the pipe
        byte = os.read(0, 1)
        if not byte:
            return 0
        line += byte
    try:
        run_twin(decode_job(line.decode()), _announce, parent=True)
    except VoxloadError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
