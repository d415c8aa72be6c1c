"""A twin in a child process that cannot outlive its parent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from voxload.child import START_TIMEOUT_S, ChildProcess
from voxload.model.twin import TwinSettings
from voxload.twin.job import TwinJob, encode_job


class TwinProcess(ChildProcess):
    """Starts an embedded agent, `voxload.twin`, and stops it; see `ChildProcess`."""

    def __init__(
        self,
        settings: TwinSettings | None = None,
        dialect: str = "rtmed",
        options: Mapping[str, Any] | None = None,
        port: int = 0,
        start_timeout_s: float = START_TIMEOUT_S,
        certificates: str = "",
        server_name: str = "",
    ) -> None:
        job = TwinJob(
            settings=settings or TwinSettings(),
            dialect=dialect,
            options=dict(options or {}),
            port=port,
            certificates=certificates,
            server_name=server_name,
        )
        super().__init__("voxload.twin", "the embedded agent", encode_job(job), start_timeout_s)
