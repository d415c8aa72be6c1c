"""What a storage account holds: containers, blobs, and blocks that are not yet committed. No I/O, no clock."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass, field
from enum import Enum

_CONTAINER = re.compile(r"(?!.*--)[a-z0-9](?:[a-z0-9-]{1,61}[a-z0-9])|\$root|\$logs")
BLOB_NAME_LENGTH_MAX = 1024
BLOCKS_MAX = 50_000


class Refusal(Enum):
    """What the service answers when it does not do as told: (status, code, message)."""

    CONTAINER_EXISTS = (409, "ContainerAlreadyExists", "The specified container already exists.")
    CONTAINER_NOT_FOUND = (404, "ContainerNotFound", "The specified container does not exist.")
    BLOB_EXISTS = (409, "BlobAlreadyExists", "The specified blob already exists.")
    BLOB_NOT_FOUND = (404, "BlobNotFound", "The specified blob does not exist.")
    CONDITION_NOT_MET = (
        412,
        "ConditionNotMet",
        "The condition specified using HTTP conditional header(s) is not met.",
    )
    INVALID_BLOCK_ID = (400, "InvalidBlobOrBlock", "The specified blob or block content is invalid.")
    INVALID_BLOCK_LIST = (400, "InvalidBlockList", "The specified block list is invalid.")
    INVALID_NAME = (400, "InvalidResourceName", "The specified resource name contains invalid characters.")
    INVALID_RANGE = (416, "InvalidRange", "The range specified is invalid for the current size of the resource.")
    MD5_MISMATCH = (
        400,
        "Md5Mismatch",
        "The MD5 value specified in the request did not match with the MD5 value calculated by the server.",
    )
    FULL = (507, "InsufficientAccountCapacity", "The stand-in holds as many bytes as it was told to.")
    AUTHENTICATION_FAILED = (
        403,
        "AuthenticationFailed",
        "Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly.",
    )
    SERVER_BUSY = (503, "ServerBusy", "The server is currently unable to receive requests. Please retry your request.")
    MISSING_HEADER = (400, "MissingRequiredHeader", "A required HTTP header was not specified.")
    INVALID_XML = (400, "InvalidXmlDocument", "XML specified is not syntactically valid.")
    INVALID_QUERY = (400, "InvalidQueryParameterValue", "Value for one of the query parameters is invalid.")
    NOT_IMPLEMENTED = (501, "NotImplemented", "The stand-in does not offer this operation.")
    NOT_FOUND = (404, "ResourceNotFound", "The specified resource does not exist.")


class RefusedError(Exception):
    """The service does not do as told."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.value[1])
        self.refusal = refusal


@dataclass(slots=True)
class Blob:
    """A committed block blob."""

    content: bytes
    etag: str
    modified_s: int
    headers: dict[str, str]
    """Content-Type and its like, under their own names in lower case."""
    metadata: dict[str, str]
    blocks: list[tuple[str, int]] = field(default_factory=list)
    """(id, bytes) of the committed blocks."""


@dataclass(slots=True)
class Container:
    """A container and the blocks that wait to be committed, by blob name and block id."""

    etag: str
    modified_s: int
    metadata: dict[str, str]
    blobs: dict[str, Blob] = field(default_factory=dict)
    waiting: dict[str, dict[str, bytes]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Condition:
    """`If-Match` and `If-None-Match`; empty for none."""

    match: str = ""
    none_match: str = ""

    def check(self, blob: Blob | None, *, writing: bool) -> None:
        """See whether the condition holds.

        Raises:
            RefusedError: it does not.
        """
        if self.match and (blob is None or self.match not in ("*", blob.etag)):
            raise RefusedError(Refusal.CONDITION_NOT_MET)
        if self.none_match and blob is not None and self.none_match in ("*", blob.etag):
            raise RefusedError(Refusal.BLOB_EXISTS if writing else Refusal.CONDITION_NOT_MET)


class Store:
    """One account. Times are seconds since 1970, given by the caller; every refusal is a `RefusedError`."""

    def __init__(self, capacity_bytes: int = 0) -> None:
        self.containers: dict[str, Container] = {}
        self.bytes_held = 0
        self._capacity_bytes = capacity_bytes
        self._changes = 0

    def _etag(self) -> str:
        self._changes += 1
        return f'"0x8D{self._changes:013X}"'

    # --- containers ---

    def create_container(self, name: str, metadata: dict[str, str], now_s: int) -> Container:
        """Make a container."""
        if not _CONTAINER.fullmatch(name):
            raise RefusedError(Refusal.INVALID_NAME)
        if name in self.containers:
            raise RefusedError(Refusal.CONTAINER_EXISTS)
        container = self.containers[name] = Container(self._etag(), now_s, metadata)
        return container

    def container(self, name: str) -> Container:
        """Return a container."""
        found = self.containers.get(name)
        if found is None:
            raise RefusedError(Refusal.CONTAINER_NOT_FOUND)
        return found

    def delete_container(self, name: str) -> None:
        """Remove a container with all that is in it."""
        container = self.container(name)
        self.bytes_held -= sum(len(blob.content) for blob in container.blobs.values())
        self.bytes_held -= sum(len(block) for blocks in container.waiting.values() for block in blocks.values())
        del self.containers[name]

    # --- blobs ---

    def blob(self, container: str, name: str) -> Blob:
        """Return a blob."""
        found = self.container(container).blobs.get(name)
        if found is None:
            raise RefusedError(Refusal.BLOB_NOT_FOUND)
        return found

    def put(
        self,
        container: str,
        name: str,
        content: bytes,
        headers: dict[str, str],
        metadata: dict[str, str],
        now_s: int,
        condition: Condition,
        blocks: list[tuple[str, int]] | None = None,
    ) -> Blob:
        """Write a whole blob; blocks that waited for it are dropped."""
        place = self.container(container)
        if not name or len(name) > BLOB_NAME_LENGTH_MAX:
            raise RefusedError(Refusal.INVALID_NAME)
        before = place.blobs.get(name)
        condition.check(before, writing=True)
        waiting = sum(len(block) for block in place.waiting.get(name, {}).values())
        self._hold(len(content) - (len(before.content) if before else 0) - waiting)
        place.waiting.pop(name, None)
        blob = place.blobs[name] = Blob(content, self._etag(), now_s, headers, metadata, blocks or [])
        return blob

    def put_block(self, container: str, name: str, block_id: str, content: bytes) -> None:
        """Keep a block until it is committed."""
        place = self.container(container)
        try:
            base64.b64decode(block_id, validate=True)
        except (binascii.Error, ValueError):
            raise RefusedError(Refusal.INVALID_BLOCK_ID) from None
        blocks = place.waiting.get(name, {})
        if not block_id or any(len(other) != len(block_id) for other in blocks):
            raise RefusedError(Refusal.INVALID_BLOCK_ID)
        self._hold(len(content) - len(blocks.get(block_id, b"")))
        place.waiting.setdefault(name, {})[block_id] = content

    def commit(
        self,
        container: str,
        name: str,
        wanted: list[tuple[str, str]],
        headers: dict[str, str],
        metadata: dict[str, str],
        now_s: int,
        condition: Condition,
    ) -> Blob:
        """Make a blob of blocks; `wanted` holds (Latest, Uncommitted or Committed; block id) in order."""
        place = self.container(container)
        if len(wanted) > BLOCKS_MAX:
            raise RefusedError(Refusal.INVALID_BLOCK_LIST)
        waiting, committed = place.waiting.get(name, {}), self._committed(place.blobs.get(name))
        parts: list[tuple[str, bytes]] = []
        for kind, block_id in wanted:
            found = waiting.get(block_id) if kind in {"Latest", "Uncommitted"} else None
            if found is None and kind in {"Latest", "Committed"}:
                found = committed.get(block_id)
            if found is None:
                raise RefusedError(Refusal.INVALID_BLOCK_LIST)
            parts.append((block_id, found))
        content = b"".join(part for _, part in parts)
        sizes = [(block_id, len(part)) for block_id, part in parts]
        return self.put(container, name, content, headers, metadata, now_s, condition, sizes)

    @staticmethod
    def _committed(blob: Blob | None) -> dict[str, bytes]:
        blocks: dict[str, bytes] = {}
        start = 0
        for block_id, size in blob.blocks if blob else ():
            assert blob is not None
            blocks[block_id] = blob.content[start : start + size]
            start += size
        return blocks

    def delete(self, container: str, name: str, condition: Condition) -> None:
        """Remove a blob."""
        blob = self.blob(container, name)
        condition.check(blob, writing=False)
        self.bytes_held -= len(blob.content)
        del self.container(container).blobs[name]

    def touch(self, blob: Blob, now_s: int) -> None:
        """Give a blob a new version, for a change of its metadata or headers."""
        blob.etag, blob.modified_s = self._etag(), now_s

    def _hold(self, more: int) -> None:
        if self._capacity_bytes and more > 0 and self.bytes_held + more > self._capacity_bytes:
            raise RefusedError(Refusal.FULL)
        self.bytes_held += more


def content_md5(content: bytes) -> str:
    """Return the MD5 of a content as the service writes it."""
    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
