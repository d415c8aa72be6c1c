"""Runs a module of ours as a process, sooner than `python -m MODULE`: `python -m voxload.start MODULE`."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from voxload.process import load, settle_libraries


def start_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module, or the `__main__` of a package, as a process: its `main()`."""
    return [sys.executable, "-m", "voxload.start", module, *arguments]


def main() -> int:
    """Import the module that the command line names and run it; returns its exit code."""
    settle_libraries()
    name = sys.argv.pop(1)
    found = find_spec(name)
    if found is not None and found.submodule_search_locations is not None:
        name += ".__main__"
    return int(load(name).main())


if __name__ == "__main__":
    sys.exit(main())
