"""Entry point of the `voxload` command."""

from __future__ import annotations

import sys

from voxload.cli.main import run_command_line
from voxload.cli.streams import Streams
from voxload.process import settle_libraries


def main() -> None:
    """Run the command line and leave with its exit code."""
    settle_libraries()
    streams = Streams()
    sys.exit(streams.end(run_command_line(sys.argv[1:])))


if __name__ == "__main__":
    main()
