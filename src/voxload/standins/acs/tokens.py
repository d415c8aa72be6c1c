"""Signed tokens: the service's own on callbacks and media sockets, and those of its managed identity."""

from __future__ import annotations

import base64
import json
import secrets
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from voxload.clock import NS_PER_S, unix_ns

ISSUER = "https://acscallautomation.communication.azure.com"
"""Issuer of the tokens on callbacks and media sockets, as the service writes it."""
KEYS_PATH = "/calling/keys"
OPENID_PATH = "/calling/.well-known/acsopenidconfiguration"
IDENTITY_PATH = "/msi/token"
IDENTITY_AUDIENCES = {"https://communication.azure.com", "https://communication.azure.com/"}
LIFETIME_S = 3600
RENEW_S = 300
_KEY_BITS = 2048


class TokenIssuer:
    """Signs with a key of its own (RS256), made new with every exchange."""

    def __init__(self, resource_id: str, identity_header: str = "") -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)
        self._key_id = secrets.token_hex(8)
        self._resource_id = resource_id
        self._service_token, self._renew_at_s = "", 0
        self.identity_header = identity_header or secrets.token_hex(16)
        """The secret that a process must show to get a token of the managed identity."""

    def service_token(self) -> str:
        """Return the token of callbacks and media sockets; the same for some minutes, since signing is slow."""
        now_s = unix_ns() // NS_PER_S
        if now_s >= self._renew_at_s:
            self._renew_at_s = now_s + RENEW_S
            self._service_token = self._sign({"iss": ISSUER, "aud": self._resource_id, "sub": "callautomation"}, now_s)
        return self._service_token

    def identity_token(self, resource: str) -> dict[str, Any]:
        """Return the answer of the managed identity's endpoint (App Service form)."""
        now_s = unix_ns() // NS_PER_S
        token = self._sign(
            {"iss": "https://sts.windows.net/voxload/", "aud": resource, "sub": "managed-identity"}, now_s
        )
        return {
            "access_token": token,
            "expires_on": str(now_s + LIFETIME_S),
            "resource": resource,
            "token_type": "Bearer",
            "client_id": "00000000-0000-0000-0000-000000000000",
        }

    def check_bearer(self, token: str) -> str:
        """Return why a token does not open the API; empty when it does."""
        try:
            jwt.decode(token, self._key.public_key(), ["RS256"], audience=sorted(IDENTITY_AUDIENCES))
        except jwt.PyJWTError as error:
            return f"the bearer token is not valid: {error}"
        return ""

    def key_set(self) -> dict[str, Any]:
        """Return the public key as a JSON Web Key Set."""
        public = json.loads(RSAAlgorithm.to_jwk(self._key.public_key()))
        return {"keys": [{**public, "kid": self._key_id, "use": "sig", "alg": "RS256"}]}

    def _sign(self, claims: dict[str, Any], now_s: int) -> str:
        full = {**claims, "iat": now_s, "nbf": now_s - 60, "exp": now_s + LIFETIME_S, "jti": secrets.token_hex(8)}
        return jwt.encode(full, self._key, algorithm="RS256", headers={"kid": self._key_id})


def opaque(*parts: str) -> str:
    """Return an id that looks like those of the service: nobody can read anything out of it."""
    return base64.urlsafe_b64encode("|".join((*parts, secrets.token_hex(8))).encode()).decode().rstrip("=")
