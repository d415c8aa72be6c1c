"""The signature that Azure Communication Services asks of REST requests: HMAC-SHA256 over method, path, date and body.

Source: learn.microsoft.com/azure/communication-services, "Sign an HTTP request"; checked with the service's SDK.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from email.utils import formatdate
from urllib.parse import quote, unquote, urlsplit

SIGNED_HEADERS = "x-ms-date;host;x-ms-content-sha256"


def sign(method: str, url: str, body: bytes, access_key: str, unix_s: float) -> dict[str, str]:
    """Return the headers that sign a request; `access_key` is base64.

    Raises:
        ValueError: the key is not base64.
    """
    parts = urlsplit(url)
    date = formatdate(unix_s, usegmt=True)
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    path = canonical_path(parts.path) + (f"?{parts.query}" if parts.query else "")
    signature = signature_of(method, path, date, parts.netloc, digest, access_key)
    return {
        "x-ms-date": date,
        "x-ms-content-sha256": digest,
        "Authorization": f"HMAC-SHA256 SignedHeaders={SIGNED_HEADERS}&Signature={signature}",
    }


def signature_of(method: str, path_and_query: str, date: str, host: str, digest: str, access_key: str) -> str:
    """Return the signature over the parts of a request, as base64.

    Raises:
        ValueError: the key is not base64.
    """
    text = f"{method}\n{path_and_query}\n{date};{host};{digest}"
    key = base64.b64decode(access_key, validate=True)
    return base64.b64encode(hmac.new(key, text.encode(), hashlib.sha256).digest()).decode()


def canonical_path(path: str) -> str:
    """Return a path as the SDKs sign it: each segment percent-encoded anew, `:` and `@` too."""
    return "/".join(quote(unquote(segment), safe="") for segment in path.split("/"))
