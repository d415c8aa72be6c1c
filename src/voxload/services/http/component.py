"""`voxload component http`: the plain endpoints of a backend, over HTTP/1.1 or HTTP/2."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any, ClassVar
from urllib.parse import quote

from voxload.errors import RunAbortedError
from voxload.model.json_path import MISSING, compile_path
from voxload.model.outcome import Outcome
from voxload.model.template import expand
from voxload.services.base import Component, ComponentRun, Operation, OperationFailedError
from voxload.services.http.client import Answer, Http1Client, Http2Client, HttpClient
from voxload.services.http.options import HttpRequest, HttpSettings
from voxload.services.settings import ComponentSettings
from voxload.services.stand_in import OwnStandIn


class HttpComponent(Component[HttpSettings]):
    """Makes requests to a backend or, where none is named, to a stand-in of its own."""

    name: ClassVar[str] = "http"
    settings_type: ClassVar[type[ComponentSettings]] = HttpSettings
    target_option: ClassVar[str] = "url"
    headline: ClassVar[tuple[str, ...]] = ("http_latency", "operation_latency")
    lateness_limit_ms: ClassVar[float] = 20.0

    def __init__(self, settings: HttpSettings, run: ComponentRun) -> None:
        super().__init__(settings, run)
        options = self._options = settings.options
        token = options.bearer_token.value
        self._headers = {**options.headers, **({"Authorization": f"Bearer {token}"} if token else {})}
        self._random = random.Random(settings.seed)
        self._weights = [request.weight for request in options.requests]
        self._stand_in = OwnStandIn("http")
        self._client: HttpClient | None = None
        self._url = options.url
        self._versions: Counter[str] = Counter()

    @property
    def target(self) -> str:
        """The base URL."""
        return self._options.url or "stand-in for a backend"

    async def set_up(self) -> None:
        """Start the stand-in if there is to be one, and see that the address answers at all."""
        if not self._options.url:
            self._url = await self._stand_in.start(self._options.service)
        self._client = (Http2Client if self._options.http == "2" else Http1Client)(self._options)
        try:
            await self._client.send("GET", f"{self._url}/", self._headers, None)
        except OperationFailedError as failed:
            if failed.outcome is Outcome.TIMEOUT:  # it is there; how slow it is, is what the run will tell
                return
            if failed.outcome is not Outcome.PROTOCOL_ERROR:
                raise RunAbortedError(f"{self._url} cannot be used: {failed.reason}") from None
            raise RunAbortedError(f"{self._url} does not speak HTTP/{self._options.http}: {failed.reason}") from None

    async def tear_down(self) -> None:
        """Close the connections, and stop the stand-in."""
        if self._client is not None:
            await self._client.close()
        await self._stand_in.stop()

    async def operate(self, operation: Operation) -> None:
        """Make the requests of one unit of work."""
        operation.ready_ns = operation.clock()
        requests = self._options.requests
        if self._options.order == "random":
            requests = tuple(self._random.choices(requests, self._weights))
        phone = f"+1555{operation.index % 10**7:07d}"
        values = {"id": operation.operation_id, "index": str(operation.index), "phone": phone}
        since_ns = operation.due_ns  # the first request is as late as the unit of work
        for request in requests:
            await self._make(operation, request, values, since_ns)
            since_ns = operation.clock()

    async def _make(self, operation: Operation, request: HttpRequest, values: dict[str, str], since_ns: int) -> None:
        assert self._client is not None
        label = request.label
        url = self._url + expand(request.path, {name: quote(value, safe="") for name, value in values.items()})
        headers = {**self._headers, **{name: expand(text, values) for name, text in request.headers.items()}}
        body = None if request.body is None else expand(request.body, values).encode()
        if request.body_json is not None:
            headers.setdefault("Content-Type", "application/json")
            body = json.dumps(_filled(request.body_json, values)).encode()
        try:
            answer = await self._client.send(request.method, url, headers, body)
        except OperationFailedError as failed:
            operation.recorder.http_answer(label, "error")
            operation.observe("http_success", False, name=label)
            raise OperationFailedError(failed.outcome, f"{label}: {failed.reason}") from None
        operation.latency("http_latency", since_ns, operation.clock(), name=label)
        self._note(operation, label, answer, body)
        right = answer.status in request.expect if request.expect else answer.status < 400
        operation.observe("http_success", right, name=label)
        if not right:
            words = " ".join(answer.body[:200].decode(errors="replace").split())
            raise OperationFailedError(Outcome.REJECTED, f"{label}: {answer.status} {words}".rstrip())
        _capture(request, answer, values)

    def _note(self, operation: Operation, label: str, answer: Answer, body: bytes | None) -> None:
        self._versions[answer.version] += 1
        operation.recorder.http_answer(label, str(answer.status))
        operation.observe("throttled", answer.status == 429)
        operation.recorder.bytes_sent += len(body or b"")
        operation.recorder.bytes_received += len(answer.body)

    def died(self) -> str:
        """Return whether the stand-in has died."""
        return self._stand_in.died()

    def doubt(self) -> str:
        """Return whether the stand-in met a limit of this machine."""
        return self._stand_in.doubt()

    def facts(self) -> dict[str, str]:
        """Tell what was spoken."""
        return {f"answers over HTTP/{version}": f"{count:,}" for version, count in sorted(self._versions.items())}


def _filled(value: Any, values: dict[str, str]) -> Any:
    if isinstance(value, str):
        return expand(value, values)
    if isinstance(value, dict):
        return {name: _filled(item, values) for name, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, values) for item in value]
    return value


def _capture(request: HttpRequest, answer: Answer, values: dict[str, str]) -> None:
    if not request.capture:
        return
    try:
        data = json.loads(answer.body)
    except ValueError:
        raise OperationFailedError(Outcome.STEP_FAILED, f"{request.label}: the answer is not JSON") from None
    for name, path in request.capture.items():
        found = compile_path(path)(data)
        if found is MISSING or found is None:
            raise OperationFailedError(Outcome.STEP_FAILED, f"{request.label}: the answer has no {path} ({name})")
        values[name] = found if isinstance(found, str) else json.dumps(found)
