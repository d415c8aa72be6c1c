"""`voxload component acs`: concurrent outbound calls through Azure Communication Services, by its own SDK."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, ClassVar

from voxload.errors import RunAbortedError
from voxload.measure.extra import require
from voxload.model.exchange import DEVELOPMENT_KEY
from voxload.services.acs.options import AcsSettings, Callees
from voxload.services.acs.receiver import Receiver
from voxload.services.base import Component, ComponentRun, Operation, OperationFailedError
from voxload.services.settings import ComponentSettings


class AcsComponent(Component[AcsSettings]):
    """Places calls on the service or, where none is named, on a stand-in of its own."""

    name: ClassVar[str] = "acs"
    settings_type: ClassVar[type[ComponentSettings]] = AcsSettings
    target_option: ClassVar[str] = "endpoint"
    headline: ClassVar[tuple[str, ...]] = ("call_setup", "recognize", "hang_up")
    success_metric: ClassVar[str] = "call_success"
    lateness_limit_ms: ClassVar[float] = 20.0  # steps take hundreds of milliseconds; the SDK's own work takes some

    def __init__(self, settings: AcsSettings, run: ComponentRun) -> None:
        super().__init__(settings, run)
        self._options = settings.options
        self._callees = Callees(self._options.to)
        self._receiver = Receiver(run.clock)
        self._client: Any = None
        self._call_type: Any = None
        self._exchange: Any = None
        self._alive: Callable[[], bool] = lambda: True
        self._target = self._options.endpoint
        self._up = self._most_up = 0

    @property
    def target(self) -> str:
        """The service's endpoint."""
        return "stand-in for ACS" if self._options.own_service else self._target

    async def set_up(self) -> None:
        """Listen for callbacks, start the stand-in if there is to be one, and try the service."""
        require("azure.communication.callautomation.aio", "acs")
        from voxload.services.acs.call import OutboundCall  # noqa: PLC0415  # the extra acs
        from voxload.services.acs.client import AcsClient, parse_connection_string  # noqa: PLC0415  # the extra acs

        self._call_type = OutboundCall
        options = self._options
        host, _, port = options.listen.rpartition(":")
        await self._receiver.open(host, int(port), options.callback_url)
        key = options.access_key.value
        if options.own_service:
            key = DEVELOPMENT_KEY
            self._target = await self._start_exchange(key)
        elif options.connection_string.given:
            endpoint, key = parse_connection_string(options.connection_string.value)
            self._target = options.endpoint or endpoint
        self._client = AcsClient(options, self._target, key, self.run)
        try:
            await self._client.probe()
        except OperationFailedError as failure:
            raise RunAbortedError(f"{self._target} cannot be used: {failure.reason}") from None

    async def _start_exchange(self, key: str) -> str:
        from voxload.standins.acs.process import ExchangeProcess  # noqa: PLC0415  # only where it is wanted

        exchange = self._exchange = ExchangeProcess({"access_key": key, **self._options.service}, "127.0.0.1", 0)
        await asyncio.to_thread(exchange.__enter__)
        self._alive = lambda: bool(exchange.running)
        return str(exchange.url)

    async def operate(self, operation: Operation) -> None:
        """Place one call."""
        callee = self._callees.raw_id(operation.index)
        await self._call_type(operation, self._client, self._receiver, self._options, callee).run(self._changed)

    def _changed(self, by: int) -> None:
        self._up += by
        self._most_up = max(self._most_up, self._up)

    async def tear_down(self) -> None:
        """Close the client and the receiver, and stop the stand-in."""
        if self._client is not None:
            await self._client.close()
        await self._receiver.close()
        if self._exchange is not None:
            await asyncio.to_thread(self._exchange.__exit__, None, None, None)

    def active(self, in_flight: int) -> int:  # noqa: ARG002  # the base's signature
        """Return the calls that are connected."""
        return self._up

    def died(self) -> str:
        """Return whether the stand-in has died."""
        return "" if self._alive() else "the stand-in for ACS died"

    def doubt(self) -> str:
        """Return whether the stand-in met a limit of this machine."""
        return self._exchange.doubt() if self._exchange is not None else ""

    @property
    def stand_in_pid(self) -> int:
        """Process id of the stand-in; 0 when there is none."""
        return int(self._exchange.pid) if self._exchange is not None else 0

    def facts(self) -> dict[str, str]:
        """Tell the limits that were hit, and what came to our webhook and socket."""
        counts = self._receiver.counts
        facts = {"SDK": f"azure-communication-callautomation {version('azure-communication-callautomation')}"}
        if self._client is not None:
            facts["429 answers"] = str(self._client.counts["throttled"])
            facts["waited for 429 and 503"] = f"{self._client.back_off_s:.2f} s over all calls"
        facts["most calls up at once"] = str(self._most_up)
        facts["callbacks"] = str(counts["callbacks"])
        for name in ("duplicate", "no such call", "malformed"):
            if counts[name]:
                facts[f"callbacks: {name}"] = str(counts[name])
        if self._options.media:
            facts["audio packets received"] = str(counts["audio packets"])
        return facts
