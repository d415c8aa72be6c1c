"""Who may use the stand-in for the Speech service, and how it refuses the others."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping

from voxload.speech_protocol import KEY_HEADER
from voxload.standins.speech.settings import SpeechSettings

BAD_MESSAGE_CODE, TOO_BIG_CODE = 1007, 1009
THROTTLED_CODE = 4429
"""The code with which the service closes a WebSocket that is over its quota."""
THROTTLED = (
    "The request is throttled because you have exceeded the concurrent request limit allowed for your subscription"
)
MESSAGES = {
    401: "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for an "
    "active subscription and use a correct regional API endpoint for your resource.",
    404: "Resource not found",
    429: THROTTLED,
    503: "The service is temporarily unavailable.",
}
_TOKEN_FORM = re.compile(r"(?:aad#[^#]+#)?[\w-]+\.[\w-]+\.[\w-]*")


def refusal_body(status: int) -> dict[str, object]:
    """Return the body of an answer that refuses."""
    return {"error": {"code": str(status), "message": MESSAGES[status]}}


def is_allowed(settings: SpeechSettings, headers: Mapping[str, str], query: Mapping[str, str]) -> bool:
    """Return whether a request has a key or a token; names in `headers` are in lower case, browsers use the query."""
    if not settings.keys:
        return True
    key = headers.get(KEY_HEADER.lower()) or query.get(KEY_HEADER, "")
    if any(hmac.compare_digest(key.encode(), own.encode()) for own in settings.keys):
        return True
    scheme, _, token = (headers.get("authorization") or query.get("Authorization", "")).partition(" ")
    return settings.entra_tokens and scheme.lower() == "bearer" and bool(_TOKEN_FORM.fullmatch(token.strip()))
