"""Who may publish: the access key of a topic, or a token signed with it."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import unquote, unquote_plus

from voxload.clock import parse_utc_s

TOPIC_PATH = "/api/events"


def sign(key: str, text: str) -> str:
    """Return the signature of a token's text under a base64 key."""
    return base64.b64encode(hmac.digest(base64.b64decode(key), text.encode(), hashlib.sha256)).decode()


def why_refused(headers: Mapping[str, str], keys: tuple[str, ...], now_s: float) -> str:
    """Return why a request may not publish, in the service's words; empty when it may."""
    given = headers.get("aeg-sas-key")
    if given is not None:
        known = any(hmac.compare_digest(given, key) for key in keys)
        return "" if known else "The request authorization key is not authorized for the topic."
    token = headers.get("aeg-sas-token") or headers.get("Authorization", "").removeprefix("SharedAccessSignature ")
    if not token:
        return (
            "Request must contain one of the following authorization signature: aeg-sas-token, aeg-sas-key. "
            "Report the request id if it does."
        )
    return _token_fault(token, keys, now_s)


def _token_fault(token: str, keys: tuple[str, ...], now_s: float) -> str:
    """Check `r=RESOURCE&e=EXPIRY&s=SIGNATURE`, each value quoted."""
    unsigned, _, signature = token.partition("&s=")
    values = dict(part.partition("=")[::2] for part in unsigned.split("&"))
    if not signature or values.keys() != {"r", "e"}:
        return "The aeg-sas-token is not r=RESOURCE&e=EXPIRY&s=SIGNATURE."
    if not any(hmac.compare_digest(unquote(signature), sign(key, unsigned)) for key in keys):
        return "The aeg-sas-token's signature does not match."
    if TOPIC_PATH not in unquote(values["r"]):
        return "The aeg-sas-token is for another resource."
    try:
        expires_s = parse_utc_s(unquote_plus(values["e"]))
    except ValueError:
        return "The aeg-sas-token's expiry is no date."
    return "" if now_s < expires_s else "The aeg-sas-token has expired."
