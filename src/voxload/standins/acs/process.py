"""An exchange in a child process that cannot outlive its parent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from voxload.child import START_TIMEOUT_S, ChildProcess
from voxload.errors import BadInputError, Problem
from voxload.standins.acs.job import ExchangeJob


class ExchangeProcess(ChildProcess):
    """Starts an exchange, `voxload.standins.acs`, and stops it; see `ChildProcess`.

    `settings` are those of `ExchangeSettings` as a user writes them.
    """

    def __init__(
        self,
        settings: Mapping[str, Any] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        start_timeout_s: float = START_TIMEOUT_S,
    ) -> None:
        job = {"settings": dict(settings or {}), "host": host, "port": port}
        try:
            ExchangeJob.model_validate(job)
        except ValidationError as error:
            raise BadInputError([_problem(detail) for detail in error.errors()]) from None
        super().__init__("voxload.standins.acs", "the exchange", json.dumps(job), start_timeout_s)

    @property
    def endpoint(self) -> str:
        """What the backend takes for the endpoint of its Azure resource."""
        return str(self.ready.get("endpoint", ""))

    @property
    def authority(self) -> str:
        """File of the certificate authority to trust; empty without TLS."""
        return str(self.ready.get("authority", ""))

    @property
    def identity_header(self) -> str:
        """The secret of the managed identity's endpoint."""
        return str(self.ready.get("identity_header", ""))


def _problem(detail: Any) -> Problem:
    place = ".".join(str(part) for part in detail["loc"][1:])
    return Problem(f"the exchange, {place}: {detail['msg']}")
