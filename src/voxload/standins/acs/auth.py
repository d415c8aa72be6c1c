"""Who may use the REST API: requests signed with the access key, or with a token of the managed identity."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from urllib.parse import unquote

from voxload.clock import NS_PER_S, unix_ns
from voxload.dialects.acs_signing import SIGNED_HEADERS, canonical_path, signature_of
from voxload.standins.acs.errors import ApiError
from voxload.standins.acs.tokens import TokenIssuer

CLOCK_SKEW_S = 15 * 60


class Guard:
    """Checks the `Authorization` of requests."""

    def __init__(self, access_key: str, tokens: TokenIssuer) -> None:
        self._access_key = access_key
        self._tokens = tokens

    def check(self, method: str, raw_path: str, headers: Mapping[str, str], body: bytes) -> None:
        """Let a request pass; `raw_path` is path and query as they were sent, header names are lower case.

        Raises:
            ApiError: 401, with the reason.
        """
        scheme, _, rest = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            reason = self._tokens.check_bearer(rest.strip())
        elif scheme.upper() == "HMAC-SHA256":
            reason = self._check_signature(method, raw_path, headers, body, rest)
        else:
            reason = "there is no Authorization header with HMAC-SHA256 or Bearer"
        if reason:
            raise ApiError(401, "Denied", f"Denied by the resource provider: {reason}.")

    def _check_signature(
        self, method: str, raw_path: str, headers: Mapping[str, str], body: bytes, credentials: str
    ) -> str:
        fields = dict(part.split("=", 1) for part in credentials.split("&") if "=" in part)
        if fields.get("SignedHeaders", "").lower() != SIGNED_HEADERS:
            return f"SignedHeaders must be {SIGNED_HEADERS}"
        date, host = headers.get("x-ms-date", ""), headers.get("host", "")
        digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
        if not hmac.compare_digest(digest.encode(), headers.get("x-ms-content-sha256", "").encode()):
            return "x-ms-content-sha256 is not the digest of the body"
        try:
            sent_s = parsedate_to_datetime(date).timestamp()
        except ValueError:
            return "x-ms-date is no date"
        if abs(unix_ns() / NS_PER_S - sent_s) > CLOCK_SKEW_S:
            return f"x-ms-date {date} is more than {CLOCK_SKEW_S // 60} minutes off"
        path, mark, query = raw_path.partition("?")
        signature = fields.get("Signature", "").encode()
        for spelling in dict.fromkeys((canonical_path(path), path, unquote(path))):  # the SDKs do not agree
            expected = signature_of(method, spelling + mark + query, date, host, digest, self._access_key)
            if hmac.compare_digest(expected.encode(), signature):
                return ""
        return "the signature does not match: another access key, or another host than the request was sent to"
