"""`voxload component blob`: the recordings and transcripts of calls in Blob Storage, by azure-storage-blob."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any, ClassVar, NamedTuple

from voxload.clock import NS_PER_S
from voxload.errors import RunAbortedError
from voxload.measure.extra import require
from voxload.model.outcome import Outcome
from voxload.services.base import Component, ComponentRun, Operation, OperationFailedError
from voxload.services.blob.options import BlobTestSettings
from voxload.services.settings import ComponentSettings
from voxload.services.stand_in import OwnStandIn
from voxload.standins.blob.settings import BlobServiceSettings

CLEAN_UP_S = 5.0
REMOVE_TRIES, REMOVE_PAUSE_S = 5, 0.5
THROTTLED = frozenset({429, 503})
_TYPES = {"recording": "audio/wav", "transcript": "text/plain"}
_SUFFIXES = {"recording": "wav", "transcript": "txt"}


class _Object(NamedTuple):
    """Something that a call stores."""

    kind: str
    name: str
    content: bytes


class BlobComponent(Component[BlobTestSettings]):
    """Stores in an account or, where none is named, in a stand-in of its own."""

    name: ClassVar[str] = "blob"
    settings_type: ClassVar[type[ComponentSettings]] = BlobTestSettings
    target_option: ClassVar[str] = "account_url"
    headline: ClassVar[tuple[str, ...]] = ("blob_upload", "blob_download")
    lateness_limit_ms: ClassVar[float] = 20.0

    def __init__(self, settings: BlobTestSettings, run: ComponentRun) -> None:
        super().__init__(settings, run)
        options = self._options = settings.options
        self._random = random.Random(settings.seed)
        largest = max(high for span in (options.recording, options.transcript) if span for high in span[1:])
        self._content = random.Random(settings.seed).randbytes(largest)
        self._stand_in = OwnStandIn("blob")
        self._clients: Any = None
        self._container: Any = None
        self._own_container = False
        self._failure: Callable[[Exception, str], OperationFailedError] = _not_set_up
        self._errors: tuple[type[Exception], ...] = ()
        self._left_over = 0

    @property
    def target(self) -> str:
        """The account's address."""
        if self._options.own_service:
            return "stand-in for Blob Storage"
        return self._options.account_url or (self._clients.account.url if self._clients else "storage account")

    async def set_up(self) -> None:
        """Start the stand-in if there is to be one, connect, and make the container."""
        require("azure.storage.blob.aio", "blob")
        from voxload.services.blob import client  # noqa: PLC0415  # the extra blob

        self._failure, self._errors = client.failure, client.ERRORS
        options = self._options
        connection_string = options.connection_string.value
        if options.own_service:
            connection_string = await self._start_stand_in()
        self._clients = client.BlobClients(options, connection_string)
        name = options.container or re.sub(r"[^a-z0-9]+", "-", f"voxload-{self.run.run_id}".lower())[:63].strip("-")
        self._container = self._clients.account.get_container_client(name)
        try:
            if options.container:
                await self._container.get_container_properties()
            else:
                await self._container.create_container()
                self._own_container = True
        except self._errors as error:
            raise RunAbortedError(f"{self.target} cannot be used: {self._failure(error, 'container').reason}") from None

    async def _start_stand_in(self) -> str:
        url = await self._stand_in.start(self._options.service)
        settings = BlobServiceSettings.model_validate(self._options.service)
        login = f"AccountName={settings.account};AccountKey={settings.key}"
        return f"DefaultEndpointsProtocol=http;{login};BlobEndpoint={url}/{settings.account};"

    async def tear_down(self) -> None:
        """Remove what is left of ours, close, stop the stand-in."""
        try:
            if self._own_container and not self.died():
                await self._remove_container()
            elif self._container is not None and not self.died():
                await self._remove_left_overs()
        finally:
            if self._clients is not None:
                with contextlib.suppress(Exception):
                    await self._clients.close()
            await self._stand_in.stop()

    async def _remove_container(self) -> None:
        for tries_left in reversed(range(REMOVE_TRIES)):
            try:
                await self._container.delete_container()
            except self._errors:  # a service that is still busy with the load
                if not tries_left:
                    raise
                await asyncio.sleep(REMOVE_PAUSE_S)
            else:
                return

    async def _remove_left_overs(self) -> None:
        with contextlib.suppress(*self._errors):  # without a set-up there is nothing
            async for name in self._container.list_blob_names(name_starts_with=f"{self.run.run_id}/"):
                await self._container.delete_blob(name)
                self._left_over += 1

    # --- one call ---

    async def operate(self, operation: Operation) -> None:
        """Store, read back, list and delete what one call stores."""
        operation.ready_ns = operation.clock()
        prefix = f"{self.run.run_id}/{operation.operation_id}/"
        objects = [
            _Object(kind, f"{prefix}{kind}.{_SUFFIXES[kind]}", self._content[: self._random.randint(*span)])
            for kind, span in (("recording", self._options.recording), ("transcript", self._options.transcript))
            if span is not None
        ]
        steps: dict[str, Callable[[], Awaitable[None]]] = {
            "upload": lambda: self._upload(operation, objects),
            "download": lambda: self._download(operation, objects),
            "list": lambda: self._list(operation, prefix, objects),
            "delete": lambda: self._delete(operation, objects),
        }
        over = False
        try:
            for step in self._options.steps:
                await steps[step]()
            over = True
        finally:
            if not over:
                await self._clean_up(objects)

    async def _upload(self, operation: Operation, objects: list[_Object]) -> None:
        from azure.storage.blob import ContentSettings  # noqa: PLC0415  # the extra blob

        for item in objects:
            settings = ContentSettings(content_type=_TYPES[item.kind])
            upload = self._container.upload_blob(
                item.name,
                item.content,
                overwrite=True,
                content_settings=settings,
                metadata={"call_id": operation.operation_id},
                max_concurrency=self._options.parallel,
                raw_response_hook=self._noting(operation, "upload"),
            )
            taken_ns, _ = await self._timed(operation, "upload", upload, object=item.kind)
            self._throughput(operation, "upload", item, taken_ns)
            operation.recorder.bytes_sent += len(item.content)

    async def _download(self, operation: Operation, objects: list[_Object]) -> None:
        for item in objects:
            taken_ns, found = await self._timed(operation, "download", self._read(operation, item), object=item.kind)
            self._throughput(operation, "download", item, taken_ns)
            operation.recorder.bytes_received += len(found)
            if self._options.verify and found != item.content:
                reason = f"download: the {item.kind} came down as other {len(found)} bytes than went up"
                raise OperationFailedError(Outcome.STEP_FAILED, reason)

    async def _read(self, operation: Operation, item: _Object) -> bytes:
        hook = self._noting(operation, "download")
        stream = await self._container.download_blob(
            item.name, max_concurrency=self._options.parallel, raw_response_hook=hook
        )
        found: bytes = await stream.readall()
        return found

    async def _list(self, operation: Operation, prefix: str, objects: list[_Object]) -> None:
        async def names() -> list[str]:
            hook = self._noting(operation, "list")
            listed = self._container.list_blobs(name_starts_with=prefix, raw_response_hook=hook)
            return [item.name async for item in listed]

        _, found = await self._timed(operation, "list", names())
        if sorted(found) != sorted(item.name for item in objects):
            reason = f"list: {len(found)} names where {len(objects)} were stored"
            raise OperationFailedError(Outcome.STEP_FAILED, reason)

    async def _delete(self, operation: Operation, objects: list[_Object]) -> None:
        for item in objects:
            work = self._container.delete_blob(item.name, raw_response_hook=self._noting(operation, "delete"))
            await self._timed(operation, "delete", work, object=item.kind)

    # --- how a step is done ---

    async def _timed(self, operation: Operation, step: str, work: Awaitable[Any], **labels: str) -> tuple[int, Any]:
        """Do a step and record its latency; returns (how long it took in ns, its answer)."""
        since_ns = operation.clock()
        try:
            answer = await work
        except self._errors as error:
            raise self._failure(error, step) from None
        until_ns = operation.clock()
        operation.latency(f"blob_{step}", since_ns, until_ns, **labels)
        return until_ns - since_ns, answer

    @staticmethod
    def _throughput(operation: Operation, direction: str, item: _Object, taken_ns: int) -> None:
        megabytes_per_s = len(item.content) / 1e6 / (max(taken_ns, 1) / NS_PER_S)
        operation.observe("blob_throughput", megabytes_per_s, direction=direction, object=item.kind)

    @staticmethod
    def _noting(operation: Operation, step: str) -> Callable[[Any], None]:
        """Return what counts every answer, those to requests that are tried again included."""

        def note(response: Any) -> None:
            status = response.http_response.status_code
            operation.recorder.http_answer(step, "2xx" if 200 <= status < 300 else str(status))
            operation.observe("throttled", status in THROTTLED)

        return note

    async def _clean_up(self, objects: list[_Object]) -> None:
        """Remove what a call that did not come to its end has stored; what cannot be removed now is later."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLEAN_UP_S):
                for item in objects:
                    with contextlib.suppress(*self._errors):
                        await self._container.delete_blob(item.name)

    def died(self) -> str:
        """Return whether the stand-in has died."""
        return self._stand_in.died()

    def doubt(self) -> str:
        """Return whether the stand-in met a limit of this machine."""
        return self._stand_in.doubt()

    def facts(self) -> dict[str, str]:
        """Tell the client, and what we had to clean up."""
        facts = {"client": f"azure-storage-blob {_version()}"}
        if self._options.container:
            facts["blobs left over and removed"] = str(self._left_over)
        return facts


def _not_set_up(error: Exception, step: str) -> OperationFailedError:
    return OperationFailedError(Outcome.INTERNAL_ERROR, f"{step} before the set-up: {error!r}")


def _version() -> str:
    return version("azure-storage-blob")
