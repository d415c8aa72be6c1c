"""What a test of Blob Storage may be told: the account, what each call stores, which steps are taken."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from voxload.clock import NS_PER_S
from voxload.model.base import Model
from voxload.model.units import DurationNs, Size, SizeSpan
from voxload.services.settings import ComponentSettings, Secret, http_url

Step = Literal["upload", "download", "list", "delete"]


SIZE_BYTES_MAX = 2**30


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
        return http_url(value)

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
        if any(span and span[1] > SIZE_BYTES_MAX for span in (self.recording, self.transcript)):
            raise ValueError("recording and transcript may be at most 1 GiB")
        if self.recording is None and self.transcript is None:
            raise ValueError("nothing is stored: recording and transcript are both null")
        if "upload" not in self.steps:
            raise ValueError("steps must hold upload: the other steps work on what was uploaded")
        return self


class BlobTestSettings(ComponentSettings):
    """The file of `voxload component blob`."""

    component: Literal["blob"]
    options: BlobOptions = BlobOptions()
