"""What a test of Blob Storage may be told: the account, what each call stores, which steps are taken."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from voxload.clock import NS_PER_S
from voxload.model.base import Model
from voxload.model.units import DurationNs
from voxload.services.settings import ComponentSettings, Secret

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KB|MB|GB|KiB|MiB|GiB)?")
_BYTES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
SIZE_MAX = 2**30


def parse_size(value: object) -> int:
    """Return a number of bytes from `960KB`, `4MiB` or a plain number.

    Raises:
        ValueError: the text is no size, or it is over 1 GiB.
    """
    match = None if isinstance(value, bool) else _SIZE.fullmatch(str(value).strip())
    if not match:
        raise ValueError(f"{value!r} is not a size; write for example 960KB, 4MiB or 2000")
    found = round(float(match[1]) * _BYTES[match[2] or ""])
    if found > SIZE_MAX:
        raise ValueError(f"{value!r} is over 1 GiB")
    return found


def _parse_span(value: object) -> tuple[int, int]:
    if isinstance(value, list | tuple) and len(value) == 2:
        low, high = value
    else:
        low, separator, high = str(value).partition("..")
        high = high if separator else low
    found = parse_size(low), parse_size(high)
    if found[0] > found[1]:
        raise ValueError(f"{value!r}: the first size must not be larger than the second")
    return found


Size = Annotated[int, BeforeValidator(parse_size), WithJsonSchema({"type": ["string", "integer"]})]
"""A size as people write it; bytes in Python."""
SizeSpan = Annotated[tuple[int, int], BeforeValidator(_parse_span), WithJsonSchema({"type": ["string", "integer"]})]
"""One size, or two as in 200KB..2MB between which each call draws evenly; (low, high) in bytes in Python."""

Step = Literal["upload", "download", "list", "delete"]


class BlobOptions(Model):
    """The account, the objects, the steps."""

    account_url: str = Field("", description="https://NAME.blob.core.windows.net; without one a stand-in is started.")
    connection_string: Secret = Secret()
    access_key: Secret = Field(Secret(), description="The account's key, beside account_url.")
    sas_token: Secret = Field(Secret(), description="Shared access signature, beside account_url.")
    entra: bool = Field(False, description="Use Entra ID (DefaultAzureCredential), beside account_url.")
    container: str = Field("", description="One that exists; by default the run makes its own and deletes it.")
    recording: SizeSpan | None = Field((960_000, 960_000), description="Size; 960KB is 30 s of 16 kHz. null: none.")
    transcript: SizeSpan | None = Field((2_000, 8_000), description="Size of the transcript. null: none.")
    steps: tuple[Step, ...] = Field(("upload", "download", "list", "delete"), min_length=1)
    block: Size = Field(4 * 2**20, ge=1, description="Larger objects go up in blocks of this size.")
    parallel: int = Field(1, ge=1, le=64, description="Blocks of one object that are under way at once.")
    verify: bool = Field(True, description="Compare what comes down with what went up.")
    retries: int = Field(0, ge=0, le=10, description="Of a request that is answered 429 or 5xx.")
    request_timeout_ns: DurationNs = Field(20 * NS_PER_S, alias="request_timeout", gt=0)
    service: dict[str, Any] = Field({}, description="Settings of the stand-in: limits, latencies, faults.")

    @field_validator("account_url")
    @classmethod
    def _http(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError(f"{value!r} does not start with http:// or https://")
        return value.rstrip("/")

    @property
    def own_service(self) -> bool:
        """Whether the command is to start a stand-in."""
        return not self.account_url and not self.connection_string.given

    @model_validator(mode="after")
    def _makes_sense(self) -> BlobOptions:
        ways = [self.access_key.given, self.sas_token.given, self.entra]
        if self.account_url and (sum(ways) != 1 or self.connection_string.given):
            raise ValueError("account_url needs exactly one of access_key, sas_token, entra: true")
        if not self.account_url and any(ways):
            raise ValueError("access_key, sas_token and entra belong to an account_url")
        if self.recording is None and self.transcript is None:
            raise ValueError("nothing is stored: recording and transcript are both null")
        if "upload" not in self.steps:
            raise ValueError("steps must hold upload: the other steps work on what was uploaded")
        return self


class BlobTestSettings(ComponentSettings):
    """The file of `voxload component blob`."""

    component: Literal["blob"]
    options: BlobOptions = BlobOptions()
