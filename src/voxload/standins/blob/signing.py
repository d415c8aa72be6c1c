"""The Shared Key signature of Azure Storage, checked as the service checks it.

Source: Microsoft, "Authorize with Shared Key" (Blob, version 2009-09-19 and later; an empty length since 2015-02-21).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable, Mapping

DEVELOPMENT_ACCOUNT = "devstoreaccount1"
DEVELOPMENT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The account and key that every storage emulator has; published by Microsoft, no secret."""

_SIGNED_HEADERS = (
    "content-encoding",
    "content-language",
    "content-length",
    "content-md5",
    "content-type",
    "date",
    "if-modified-since",
    "if-match",
    "if-none-match",
    "if-unmodified-since",
    "range",
)


def string_to_sign(
    method: str, raw_path: str, query: Iterable[tuple[str, str]], headers: Mapping[str, str], account: str
) -> str:
    """Return the text that is signed; `query` holds decoded pairs, `headers` lower-case names."""
    signed = [headers.get(name, "") for name in _SIGNED_HEADERS]
    if signed[2] == "0":
        signed[2] = ""
    names = sorted((name for name in headers if name.startswith("x-ms-")), key=_collated)
    own = [(name, headers[name].strip()) for name in names]
    lines = [method, *signed, *(f"{name}:{value}" for name, value in own), f"/{account}{raw_path}"]
    values: dict[str, list[str]] = {}
    for name, value in query:
        values.setdefault(name.lower(), []).append(value)
    lines += [f"{name}:{','.join(sorted(values[name]))}" for name in sorted(values)]
    return "\n".join(lines)


def _collated(name: str) -> tuple[str, int]:
    """Order header names as the service does: hyphens count last, an underscore comes before digits and letters."""
    return name.replace("-", "").replace("_", "!"), name.count("-")


def signature(key: str, text: str) -> str:
    """Return the signature of a text under a base64 key."""
    return base64.b64encode(hmac.digest(base64.b64decode(key), text.encode(), hashlib.sha256)).decode()


def is_authorized(authorization: str, account: str, key: str, text: str) -> bool:
    """Return whether an Authorization header is `SharedKey ACCOUNT:SIGNATURE` of `text`."""
    scheme, _, rest = authorization.partition(" ")
    name, _, given = rest.partition(":")
    return scheme == "SharedKey" and name == account and hmac.compare_digest(given, signature(key, text))
