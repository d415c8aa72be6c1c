"""The HTTP face of the stand-in for Blob Storage: who asks, what for, and what is answered."""

from __future__ import annotations

import asyncio
import random
import re
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote

from aiohttp import web

from voxload.clock import NS_PER_S, Clock, monotonic_ns, unix_ns
from voxload.standins.blob import documents
from voxload.standins.blob.settings import BlobServiceSettings
from voxload.standins.blob.signing import is_authorized, string_to_sign
from voxload.standins.blob.store import Blob, Condition, Refusal, RefusedError, Store, content_md5
from voxload.standins.rate import RateLimit
from voxload.standins.serving import StandIn, new_application

LIST_MAX = 5000
_HTTP_HEADERS = (
    "content-type",
    "content-encoding",
    "content-language",
    "content-disposition",
    "cache-control",
    "content-md5",
)
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


class _Request(NamedTuple):
    """A request, taken apart."""

    http: web.Request
    container: str
    blob: str
    query: dict[str, str]
    now_s: int

    def header(self, name: str) -> str:
        """Return a header, or nothing."""
        return self.http.headers.get(name, "")

    @property
    def metadata(self) -> dict[str, str]:
        """`x-ms-meta-*`."""
        return {name[10:]: value for name, value in self.http.headers.items() if name.lower().startswith("x-ms-meta-")}

    @property
    def condition(self) -> Condition:
        """`If-Match`, `If-None-Match`."""
        return Condition(self.header("If-Match"), self.header("If-None-Match"))

    def blob_headers(self) -> dict[str, str]:
        """Return the headers that the blob is to be read with."""
        given = {name: self.header(f"x-ms-blob-{name}") for name in _HTTP_HEADERS}
        given["content-type"] = given["content-type"] or self.header("Content-Type") or "application/octet-stream"
        return {name: value for name, value in given.items() if value}


Handler = Callable[[_Request], Awaitable[web.StreamResponse]]


class BlobStandIn(StandIn):
    """A storage account at `/ACCOUNT/CONTAINER/BLOB`, as the emulators have it."""

    def __init__(
        self,
        settings: BlobServiceSettings | None = None,
        clock: Clock = monotonic_ns,
        wall_ns: Callable[[], int] = unix_ns,
    ) -> None:
        self.settings = settings or BlobServiceSettings()
        self.store = Store(self.settings.capacity_bytes)
        self.counts: Counter[str] = Counter()
        """Requests by `OPERATION STATUS`."""
        self._clock, self._wall_ns = clock, wall_ns
        self._random = random.Random(self.settings.seed)
        now_ns = clock()
        self._requests = RateLimit(self.settings.requests_per_s, now_ns)
        self._ingress = RateLimit(self.settings.ingress_bytes_per_s, now_ns)
        self._handlers: dict[tuple[str, str, str, str], Handler] = {
            # method, container or blob, restype, comp
            ("GET", "account", "", "list"): self._list_containers,
            ("GET", "account", "account", "properties"): self._account_information,
            ("HEAD", "account", "account", "properties"): self._account_information,
            ("PUT", "container", "container", ""): self._create_container,
            ("DELETE", "container", "container", ""): self._delete_container,
            ("GET", "container", "container", ""): self._container_properties,
            ("HEAD", "container", "container", ""): self._container_properties,
            ("GET", "container", "container", "list"): self._list_blobs,
            ("PUT", "blob", "", ""): self._put_blob,
            ("PUT", "blob", "", "block"): self._put_block,
            ("PUT", "blob", "", "blocklist"): self._put_block_list,
            ("GET", "blob", "", "blocklist"): self._get_block_list,
            ("GET", "blob", "", ""): self._get_blob,
            ("HEAD", "blob", "", ""): self._get_blob,
            ("DELETE", "blob", "", ""): self._delete_blob,
            ("PUT", "blob", "", "metadata"): self._set_metadata,
            ("GET", "blob", "", "metadata"): self._get_metadata,
            ("PUT", "blob", "", "properties"): self._set_properties,
        }

    def application(self) -> web.Application:
        """Return what serves it."""
        application = new_application(lambda: {"operations": dict(self.counts)})
        application.router.add_route("*", "/{path:.*}", self._answer)
        return application

    @property
    def connection_string(self) -> str:
        """What the SDK is given, less the address: append `BlobEndpoint=URL/ACCOUNT;`."""
        return f"DefaultEndpointsProtocol=http;AccountName={self.settings.account};AccountKey={self.settings.key};"

    def environment(self, url: str) -> dict[str, str]:
        """Return the variables that lead a backend to it."""
        account, key = self.settings.account, self.settings.key
        return {
            "AZURE_STORAGE_CONNECTION_STRING": f"{self.connection_string}BlobEndpoint={url}/{account};",
            "AZURE_STORAGE_ACCOUNT_URL": f"{url}/{account}",
            "AZURE_STORAGE_ACCOUNT": account,
            "AZURE_STORAGE_KEY": key,
        }

    async def _answer(self, http: web.Request) -> web.StreamResponse:
        request_id, operation = str(uuid.uuid4()), f"{http.method} ?"
        now_s = self._wall_ns() // NS_PER_S
        common = {
            "x-ms-request-id": request_id,
            "x-ms-version": http.headers.get("x-ms-version", "2021-12-02"),
            "Date": formatdate(now_s, usegmt=True),
            "Server": "Windows-Azure-Blob/1.0 (voxload stand-in)",
        }
        if "x-ms-client-request-id" in http.headers:
            common["x-ms-client-request-id"] = http.headers["x-ms-client-request-id"]
        try:
            request, kind = self._take_apart(http, now_s)
            comp, restype = request.query.get("comp", ""), request.query.get("restype", "")
            operation = " ".join(filter(None, (http.method, kind, comp)))
            self._admit(http)
            handler = self._handlers.get((http.method, kind, restype, comp))
            if handler is None:
                raise RefusedError(Refusal.NOT_IMPLEMENTED)
            await self._work()
            answer = await handler(request)
        except RefusedError as error:
            answer = self._refuse(error.refusal, http.method, request_id, now_s)
        self.counts[f"{operation} {answer.status}"] += 1
        if not answer.prepared:
            answer.headers.update(common)
        return answer

    def _take_apart(self, http: web.Request, now_s: int) -> tuple[_Request, str]:
        raw_path, _, raw_query = http.raw_path.partition("?")
        query = dict(parse_qsl(raw_query, keep_blank_values=True))
        account, _, rest = raw_path.removeprefix("/").partition("/")
        if account != self.settings.account:
            raise RefusedError(Refusal.NOT_FOUND)
        headers = {name.lower(): value for name, value in http.headers.items()}
        text = string_to_sign(http.method, raw_path, query.items(), headers, account)
        if not is_authorized(headers.get("authorization", ""), account, self.settings.key, text):
            raise RefusedError(Refusal.AUTHENTICATION_FAILED)
        container, _, blob = rest.partition("/")
        kind = "blob" if blob else "container" if container else "account"
        return _Request(http, unquote(container), unquote(blob), query, now_s), kind

    def _admit(self, http: web.Request) -> None:
        """Apply limits and faults."""
        now_ns, size = self._clock(), http.content_length or 0
        if self._requests.wait_ns(1, now_ns) or self._ingress.wait_ns(size, now_ns):
            raise RefusedError(Refusal.SERVER_BUSY)
        self._requests.take(1)
        self._ingress.take(size)
        if self._random.random() < self.settings.faults.busy_rate:
            raise RefusedError(Refusal.SERVER_BUSY)

    async def _work(self) -> None:
        low_ns, high_ns = self.settings.latency_ns
        if high_ns:
            await asyncio.sleep(self._random.randint(low_ns, high_ns) / NS_PER_S)

    @staticmethod
    def _refuse(refusal: Refusal, method: str, request_id: str, now_s: int) -> web.Response:
        status, code, _ = refusal.value
        now_text = formatdate(now_s, usegmt=True)
        body = "" if method == "HEAD" else documents.error_document(refusal, request_id, now_text)
        return web.Response(status=status, text=body, content_type="application/xml", headers={"x-ms-error-code": code})

    # --- the account and its containers ---

    async def _list_containers(self, request: _Request) -> web.StreamResponse:
        prefix = request.query.get("prefix", "")
        found = sorted(item for item in self.store.containers.items() if item[0].startswith(prefix))
        return _xml(documents.container_list_document(_endpoint(request), prefix, found))

    async def _account_information(self, request: _Request) -> web.StreamResponse:  # noqa: ARG002
        return web.Response(headers={"x-ms-sku-name": "Standard_LRS", "x-ms-account-kind": "StorageV2"})

    async def _create_container(self, request: _Request) -> web.StreamResponse:
        container = self.store.create_container(request.container, request.metadata, request.now_s)
        return web.Response(status=201, headers=_version(container.etag, container.modified_s))

    async def _delete_container(self, request: _Request) -> web.StreamResponse:
        self.store.delete_container(request.container)
        return web.Response(status=202)

    async def _container_properties(self, request: _Request) -> web.StreamResponse:
        container = self.store.container(request.container)
        metadata = {f"x-ms-meta-{name}": value for name, value in container.metadata.items()}
        return web.Response(headers={**_version(container.etag, container.modified_s), **metadata})

    async def _list_blobs(self, request: _Request) -> web.StreamResponse:
        container = self.store.container(request.container)
        asked = request.query
        prefix, delimiter, marker = (asked.get(name, "") for name in ("prefix", "delimiter", "marker"))
        try:
            most = min(int(asked.get("maxresults") or LIST_MAX), LIST_MAX)
        except ValueError:
            raise RefusedError(Refusal.INVALID_QUERY) from None
        if most < 1:
            raise RefusedError(Refusal.INVALID_QUERY)
        found: dict[str, Blob | None] = {}
        following = ""
        for name in sorted(container.blobs):
            if not name.startswith(prefix):
                continue
            end = name.find(delimiter, len(prefix)) if delimiter else -1
            entry = name if end < 0 else name[: end + len(delimiter)]
            if (marker and entry < marker) or entry in found:
                continue
            if len(found) == most:
                following = entry
                break
            found[entry] = container.blobs[name] if end < 0 else None
        page = list(found.items())
        return _xml(documents.blob_list_document(_endpoint(request), request.container, asked, page, following))

    # --- blobs ---

    async def _put_blob(self, request: _Request) -> web.StreamResponse:
        kind = request.header("x-ms-blob-type")
        if not kind:
            raise RefusedError(Refusal.MISSING_HEADER)
        if kind != "BlockBlob" or request.header("x-ms-copy-source"):
            raise RefusedError(Refusal.NOT_IMPLEMENTED)
        content = await _body(request)
        blob = self.store.put(
            request.container,
            request.blob,
            content,
            request.blob_headers(),
            request.metadata,
            request.now_s,
            request.condition,
        )
        return _written(blob)

    async def _put_block(self, request: _Request) -> web.StreamResponse:
        content = await _body(request)
        self.store.put_block(request.container, request.blob, request.query.get("blockid", ""), content)
        return web.Response(status=201, headers={"x-ms-request-server-encrypted": "true"})

    async def _put_block_list(self, request: _Request) -> web.StreamResponse:
        wanted = documents.read_block_list(await _body(request))
        headers = {name: value for name in _HTTP_HEADERS if (value := request.header(f"x-ms-blob-{name}"))}
        headers.setdefault("content-type", "application/octet-stream")
        blob = self.store.commit(
            request.container, request.blob, wanted, headers, request.metadata, request.now_s, request.condition
        )
        return _written(blob)

    async def _get_block_list(self, request: _Request) -> web.StreamResponse:
        container = self.store.container(request.container)
        blob, waiting = container.blobs.get(request.blob), container.waiting.get(request.blob, {})
        if blob is None and not waiting:
            raise RefusedError(Refusal.BLOB_NOT_FOUND)
        kind = request.query.get("blocklisttype", "committed")
        return _xml(documents.block_list_document(blob, waiting, kind))

    async def _get_blob(self, request: _Request) -> web.StreamResponse:
        blob = self.store.blob(request.container, request.blob)
        request.condition.check(blob, writing=False)
        headers = {**_version(blob.etag, blob.modified_s), **blob.headers, **_about(blob)}
        if request.http.method == "HEAD":
            return web.Response(headers={**headers, "Content-Length": str(len(blob.content))})
        content, status = blob.content, 200
        written = request.header("x-ms-range") or request.header("Range")
        if written:
            start, end = _range(written, len(content))
            headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
            content, status = content[start : end + 1], 206
        if content and self._random.random() < self.settings.faults.cut_rate:
            return await self._cut(request, content, status, headers)
        return web.Response(status=status, body=content, headers=headers)

    @staticmethod
    async def _cut(request: _Request, content: bytes, status: int, headers: dict[str, str]) -> web.StreamResponse:
        """Send half of it and lose the connection."""
        answer = web.StreamResponse(status=status, headers={**headers, "Content-Length": str(len(content))})
        await answer.prepare(request.http)
        await answer.write(content[: len(content) // 2])
        if request.http.transport is not None:
            request.http.transport.close()
        return answer

    async def _delete_blob(self, request: _Request) -> web.StreamResponse:
        self.store.delete(request.container, request.blob, request.condition)
        return web.Response(status=202)

    async def _set_metadata(self, request: _Request) -> web.StreamResponse:
        blob = self.store.blob(request.container, request.blob)
        request.condition.check(blob, writing=False)
        blob.metadata = request.metadata
        self.store.touch(blob, request.now_s)
        return web.Response(headers=_version(blob.etag, blob.modified_s))

    async def _get_metadata(self, request: _Request) -> web.StreamResponse:
        blob = self.store.blob(request.container, request.blob)
        return web.Response(headers={**_version(blob.etag, blob.modified_s), **_about(blob)})

    async def _set_properties(self, request: _Request) -> web.StreamResponse:
        blob = self.store.blob(request.container, request.blob)
        request.condition.check(blob, writing=False)
        blob.headers = request.blob_headers()
        self.store.touch(blob, request.now_s)
        return web.Response(headers=_version(blob.etag, blob.modified_s))


async def _body(request: _Request) -> bytes:
    content = await request.http.read()
    given = request.header("Content-MD5")
    if given and given != content_md5(content):
        raise RefusedError(Refusal.MD5_MISMATCH)
    return content


def _range(written: str, size: int) -> tuple[int, int]:
    match = _RANGE.fullmatch(written)
    if not match or int(match[1]) >= size or (match[2] and int(match[2]) < int(match[1])):
        raise RefusedError(Refusal.INVALID_RANGE)
    return int(match[1]), min(int(match[2]) if match[2] else size - 1, size - 1)


def _version(etag: str, modified_s: int) -> dict[str, str]:
    return {"ETag": etag, "Last-Modified": formatdate(modified_s, usegmt=True)}


def _about(blob: Blob) -> dict[str, str]:
    about = {
        "x-ms-blob-type": "BlockBlob",
        "x-ms-creation-time": formatdate(blob.modified_s, usegmt=True),
        "x-ms-lease-state": "available",
        "x-ms-lease-status": "unlocked",
        "x-ms-server-encrypted": "true",
        "x-ms-access-tier": "Hot",
        "Accept-Ranges": "bytes",
    }
    return {**about, **{f"x-ms-meta-{name}": value for name, value in blob.metadata.items()}}


def _written(blob: Blob) -> web.Response:
    headers = {**_version(blob.etag, blob.modified_s), "x-ms-request-server-encrypted": "true"}
    return web.Response(status=201, headers=headers)


def _xml(text: str) -> web.Response:
    return web.Response(text=text, content_type="application/xml")


def _endpoint(request: _Request) -> str:
    return f"{request.http.scheme}://{request.http.host}/{request.http.path.split('/')[1]}/"
