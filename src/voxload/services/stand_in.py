"""The stand-in that a component test starts where it is told no service."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from voxload.standins.web import KINDS, StandInProcess


class OwnStandIn:
    """A stand-in in a process of its own, so that it takes no time of the measuring one."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._process: StandInProcess | None = None

    async def start(self, settings: Mapping[str, Any]) -> str:
        """Start it; returns its base address.

        Raises:
            BadInputError: the settings are wrong.
            RunAbortedError: it does not start.
        """
        self._process = StandInProcess(self._kind, settings)
        await asyncio.to_thread(self._process.start)
        return self._process.url

    async def stop(self) -> None:
        """Stop it, if it was started."""
        if self._process is not None:
            await asyncio.to_thread(self._process.stop)

    def doubt(self) -> str:
        """Return why what was measured against it says nothing, in words; empty while all is well."""
        return self._process.doubt() if self._process is not None else ""

    def died(self) -> str:
        """Return that it has died, in words; empty while it lives or was never started."""
        if self._process is None or self._process.running or not self._process.pid:
            return ""
        return f"{KINDS[self._kind].what} died"
