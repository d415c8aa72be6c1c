"""The XML that the Blob service reads and writes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from email.utils import formatdate
from xml.sax.saxutils import escape, quoteattr

from voxload.standins.blob.store import Blob, Container, Refusal, RefusedError

_DECLARATION = '<?xml version="1.0" encoding="utf-8"?>'
_LISTED = re.compile(r"<(Latest|Uncommitted|Committed)>([^<]*)</\1>")
_BLOCK_LIST = re.compile(r"\s*(?:<\?xml[^>]*\?>)?\s*<BlockList\s*/>|.*<BlockList>.*</BlockList>\s*", re.DOTALL)


def read_block_list(body: bytes) -> list[tuple[str, str]]:
    """Return (Latest, Uncommitted or Committed; block id) pairs in order.

    Raises:
        RefusedError: the body is no block list.
    """
    text = body.decode(errors="replace")
    if not _BLOCK_LIST.fullmatch(text):
        raise RefusedError(Refusal.INVALID_XML)
    return _LISTED.findall(text)


def error_document(refusal: Refusal, request_id: str, now_text: str) -> str:
    """Return the body of a refusal."""
    _, code, message = refusal.value
    words = f"{message}\nRequestId:{request_id}\nTime:{now_text}"
    return f"{_DECLARATION}<Error><Code>{code}</Code><Message>{escape(words)}</Message></Error>"


def block_list_document(blob: Blob | None, waiting: dict[str, bytes], kind: str) -> str:
    """Return the blocks of a blob; `kind` is committed, uncommitted or all."""
    parts = [_DECLARATION, "<BlockList>"]
    if kind in {"committed", "all"}:
        blocks = blob.blocks if blob else []
        parts.append(f"<CommittedBlocks>{_blocks(blocks)}</CommittedBlocks>")
    if kind in {"uncommitted", "all"}:
        blocks = [(block_id, len(block)) for block_id, block in waiting.items()]
        parts.append(f"<UncommittedBlocks>{_blocks(blocks)}</UncommittedBlocks>")
    return "".join([*parts, "</BlockList>"])


def _blocks(blocks: Iterable[tuple[str, int]]) -> str:
    return "".join(f"<Block><Name>{escape(name)}</Name><Size>{size}</Size></Block>" for name, size in blocks)


def container_list_document(endpoint: str, prefix: str, containers: Iterable[tuple[str, Container]]) -> str:
    """Return the containers of the account."""
    items = "".join(
        f"<Container><Name>{escape(name)}</Name><Properties>{_dates(container)}<LeaseStatus>unlocked</LeaseStatus>"
        "<LeaseState>available</LeaseState></Properties></Container>"
        for name, container in containers
    )
    return (
        f"{_DECLARATION}<EnumerationResults ServiceEndpoint={quoteattr(endpoint)}><Prefix>{escape(prefix)}</Prefix>"
        f"<Containers>{items}</Containers><NextMarker/></EnumerationResults>"
    )


def blob_list_document(
    endpoint: str,
    container: str,
    asked: dict[str, str],
    found: list[tuple[str, Blob | None]],
    next_marker: str,
) -> str:
    """Return one page of a list; an entry without a blob is a prefix. `asked` holds prefix, marker and so on."""
    items = "".join(
        f"<BlobPrefix><Name>{escape(name)}</Name></BlobPrefix>" if blob is None else _blob(name, blob, asked)
        for name, blob in found
    )
    echoed = "".join(
        f"<{tag}>{escape(asked[name])}</{tag}>"
        for name, tag in (
            ("prefix", "Prefix"),
            ("marker", "Marker"),
            ("maxresults", "MaxResults"),
            ("delimiter", "Delimiter"),
        )
        if asked.get(name)
    )
    following = f"<NextMarker>{escape(next_marker)}</NextMarker>" if next_marker else "<NextMarker/>"
    return (
        f"{_DECLARATION}<EnumerationResults ServiceEndpoint={quoteattr(endpoint)} ContainerName={quoteattr(container)}>"
        f"{echoed}<Blobs>{items}</Blobs>{following}</EnumerationResults>"
    )


def _blob(name: str, blob: Blob, asked: dict[str, str]) -> str:
    headers = "".join(
        f"<{tag}>{escape(blob.headers[key])}</{tag}>"
        for key, tag in (
            ("content-type", "Content-Type"),
            ("content-encoding", "Content-Encoding"),
            ("content-language", "Content-Language"),
            ("content-md5", "Content-MD5"),
            ("cache-control", "Cache-Control"),
            ("content-disposition", "Content-Disposition"),
        )
        if blob.headers.get(key)
    )
    metadata = ""
    if "metadata" in asked.get("include", ""):
        inner = "".join(f"<{key}>{escape(value)}</{key}>" for key, value in blob.metadata.items())
        metadata = f"<Metadata>{inner}</Metadata>"
    return (
        f"<Blob><Name>{escape(name)}</Name><Properties>{_dates(blob)}"
        f"<Content-Length>{len(blob.content)}</Content-Length>{headers}<BlobType>BlockBlob</BlobType>"
        "<AccessTier>Hot</AccessTier><LeaseStatus>unlocked</LeaseStatus><LeaseState>available</LeaseState>"
        f"<ServerEncrypted>true</ServerEncrypted></Properties>{metadata}</Blob>"
    )


def _dates(item: Blob | Container) -> str:
    modified = formatdate(item.modified_s, usegmt=True)
    return f"<Last-Modified>{modified}</Last-Modified><Etag>{escape(item.etag)}</Etag>"
