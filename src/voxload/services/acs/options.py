"""What a test of outbound calls may be told: where the service is, whom to call, what to do in a call."""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from voxload.clock import NS_PER_S
from voxload.model.base import Model, or_one
from voxload.model.exchange import check_exchange_settings
from voxload.model.units import DurationNs
from voxload.services.settings import ComponentSettings, Secret, host_and_port, http_url

_RANGE = re.compile(r"(\+\d{3,15})(?:\s*\.\.\s*(\+\d{3,15}))?")
_RAW_ID = re.compile(r"4:\+\d{3,15}|8:\S+")


class Callees:
    """Whom to call: numbers, ranges of numbers and raw ids, taken in turn."""

    def __init__(self, written: tuple[str, ...]) -> None:
        self._parts = [_parse_callees(text) for text in written]
        self._count = sum(count for _, count in self._parts)

    def raw_id(self, index: int) -> str:
        """Return the raw id (`4:+15550100007`) that call `index` goes to."""
        index %= self._count
        for first, count in self._parts:
            if index < count:
                return first if count == 1 else f"4:+{int(first[3:]) + index:0{len(first) - 3}d}"
            index -= count
        raise AssertionError("index is within the count")


def _parse_callees(text: str) -> tuple[str, int]:
    """Return (raw id of the first, how many).

    Raises:
        ValueError: the text is no number, range or raw id.
    """
    if _RAW_ID.fullmatch(text):
        return text, 1
    match = _RANGE.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is not +15550100000, +15550100000..+15550199999, or a raw id such as 8:acs:…")
    first, last = match[1], match[2] or match[1]
    if len(first) != len(last) or int(last) < int(first):
        raise ValueError(f"{text!r}: the second number must be as long as the first and not lower")
    return f"4:{first}", int(last) - int(first) + 1


class RecognizeSettings(Model):
    """A recognition of key presses in every call."""

    tones_max: int = Field(1, ge=1, le=50, description="It is over after this many.")
    silence_ns: DurationNs = Field(10 * NS_PER_S, alias="silence", gt=0, description="Wait for the first key press.")


class AcsTimeouts(Model):
    """How long each step may take."""

    request_ns: DurationNs = Field(10 * NS_PER_S, alias="request", gt=0, description="One request to the API.")
    connected_ns: DurationNs = Field(30 * NS_PER_S, alias="connected", gt=0, description="Created to CallConnected.")
    recognized_ns: DurationNs = Field(30 * NS_PER_S, alias="recognized", gt=0, description="To RecognizeCompleted.")
    media_ns: DurationNs = Field(5 * NS_PER_S, alias="media", gt=0, description="Connected to the first audio.")
    disconnected_ns: DurationNs = Field(10 * NS_PER_S, alias="disconnected", gt=0, description="To CallDisconnected.")


class AcsOptions(Model):
    """Where the service is, whom to call, and what to do in a call."""

    endpoint: str = Field("", description="URL of the service; without one the command starts a stand-in.")
    connection_string: Secret = Field(Secret(), description="Endpoint and access key in one.")
    access_key: Secret = Secret()
    entra: bool = Field(False, description="Use Entra ID (DefaultAzureCredential) instead of a key.")
    listen: str = Field("127.0.0.1:0", description="Where we take callbacks and media; port 0: a free one.")
    callback_url: str = Field("", description="Public URL that leads to `listen`; http://LISTEN by default.")
    source: str = Field("+18005550100", alias="from", pattern=r"^\+\d{3,15}$", description="The number that calls.")
    to: tuple[str, ...] = Field(
        ("+15550100000..+15550199999",),
        min_length=1,
        description="Numbers, ranges, raw ids; taken in turn.",
        json_schema_extra=or_one,
    )
    recognize: RecognizeSettings | None = Field(RecognizeSettings(), description="null: recognise nothing.")
    media: Literal[False, 16000, 24000] = Field(16000, description="Stream audio to us at this rate; false: do not.")
    hold_ns: DurationNs = Field(2 * NS_PER_S, alias="hold", description="How long a call stays up before we hang up.")
    retries: int = Field(3, ge=0, le=20, description="Of a request that is answered 429 or 503.")
    timeouts: AcsTimeouts = AcsTimeouts()
    service: dict[str, Any] = Field({}, description="Settings of the stand-in: limits, delays, how it answers.")

    @field_validator("endpoint", "callback_url")
    @classmethod
    def _http(cls, value: str) -> str:
        return http_url(value)

    @field_validator("listen")
    @classmethod
    def _host_and_port(cls, value: str) -> str:
        return host_and_port(value)

    @field_validator("to", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("to")
    @classmethod
    def _callees(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        Callees(value)
        return value

    @field_validator("service")
    @classmethod
    def _stand_in(cls, value: dict[str, Any]) -> dict[str, Any]:
        return check_exchange_settings(value)

    @property
    def own_service(self) -> bool:
        """Whether the command is to start a stand-in."""
        return not self.endpoint and not self.connection_string.given

    @model_validator(mode="after")
    def _one_credential(self) -> AcsOptions:
        if self.own_service:
            return self
        ways = [self.connection_string.given, self.access_key.given, self.entra]
        if sum(ways) != 1:
            raise ValueError("a service needs exactly one of connection_string, access_key, entra: true")
        if self.endpoint and not self.callback_url and not is_local(self.endpoint):
            raise ValueError("callback_url is missing: the public URL at which the service reaches `listen`")
        if self.connection_string.given and not self.endpoint and not self.callback_url:
            raise ValueError("callback_url is missing: the public URL at which the service reaches `listen`")
        return self


def is_local(url: str) -> bool:
    """Return whether a URL names this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class AcsSettings(ComponentSettings):
    """The file of `voxload component acs`."""

    component: Literal["acs"]
    options: AcsOptions = AcsOptions()
