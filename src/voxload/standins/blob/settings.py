"""What the stand-in for Blob Storage may be told: its account, latency, limits and faults."""

from __future__ import annotations

from pydantic import Field, field_validator

from voxload.model.base import Model
from voxload.model.units import SpanNs
from voxload.standins.blob.signing import DEVELOPMENT_ACCOUNT, DEVELOPMENT_KEY
from voxload.standins.keys import check_base64


class BlobFaults(Model):
    """Faults of the stand-in; shares of all requests, 0 to 1."""

    busy_rate: float = Field(0.0, ge=0, le=1, description="Answered 503 ServerBusy.")
    cut_rate: float = Field(0.0, ge=0, le=1, description="Downloads that break off in the middle.")


class BlobServiceSettings(Model):
    """A storage account."""

    account: str = Field(DEVELOPMENT_ACCOUNT, pattern=r"^[a-z0-9]{3,24}$")
    key: str = Field(DEVELOPMENT_KEY, description="Base64; requests must be signed with it.")
    latency_ns: SpanNs = Field((0, 0), alias="latency", description="Time to work on a request: 5ms or 2ms..20ms.")
    requests_per_s: int = Field(20_000, ge=0, description="More are answered 503 ServerBusy. 0: no limit.")
    ingress_bytes_per_s: int = Field(0, ge=0, description="Likewise for bytes taken in. 0: no limit.")
    capacity_bytes: int = Field(4 * 1024**3, ge=0, description="What it holds in memory at most. 0: no limit.")
    faults: BlobFaults = BlobFaults()
    seed: int = Field(1, ge=0)

    @field_validator("key")
    @classmethod
    def _key_is_base64(cls, value: str) -> str:
        return check_base64(value)
