"""What a test of HTTP endpoints may be told: where they are, which requests a unit of work makes, how."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from voxload.clock import NS_PER_S
from voxload.model.base import Model
from voxload.model.json_path import compile_path
from voxload.model.template import template_names
from voxload.model.units import DurationNs
from voxload.services.settings import ComponentSettings, Secret, http_url

GIVEN = frozenset({"id", "index", "phone"})
"""Variables that every unit of work has: its name, its number, a telephone number of its own."""
Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]


class HttpRequest(Model):
    """One request; `${name}` in path, headers and body stands for a variable."""

    path: str = Field(pattern=r"^/", description="Below the base URL, with its query.")
    method: Method = "GET"
    name: str = Field("", max_length=80, description="Label in reports; method and path by default.")
    body_json: Any = Field(None, alias="json", description="Body, sent as JSON.")
    body: str | None = Field(None, description="Body as text, instead of json.")
    headers: dict[str, str] = Field({}, description="Of this request.")
    expect: tuple[int, ...] = Field((), description="Statuses that are right; by default all below 400.")
    capture: dict[str, str] = Field({}, description="Variables for the requests that follow: JSONPath in the answer.")
    weight: float = Field(1.0, gt=0, description="With order: random.")

    @property
    def label(self) -> str:
        """Its name in reports."""
        return self.name or f"{self.method} {self.path.partition('?')[0]}"

    @field_validator("capture")
    @classmethod
    def _are_paths(cls, value: dict[str, str]) -> dict[str, str]:
        for path in value.values():
            compile_path(path)
        return value

    @model_validator(mode="after")
    def _one_body(self) -> HttpRequest:
        if self.body is not None and self.body_json is not None:
            raise ValueError("give json or body, not both")
        return self

    def names(self) -> set[str]:
        """Return the variables that it uses."""
        return {name for text in texts(self) for name in template_names(text)}


def texts(request: HttpRequest) -> list[str]:
    """Return every text of a request in which variables may stand."""
    found = [request.path, *request.headers.values(), *([] if request.body is None else [request.body])]

    def walk(value: Any) -> None:
        if isinstance(value, str):
            found.append(value)
        elif isinstance(value, dict):
            for item in value.values():
                walk(item)
        elif isinstance(value, list):
            for item in value:
                walk(item)

    walk(request.body_json)
    return found


START = HttpRequest.model_validate(
    {
        "method": "POST",
        "path": "/api/v1/calls/start",
        "name": "start",
        "json": {"agent_type": "medical", "caller_number": "${phone}", "language": "en-US"},
        "capture": {"session_id": "$.session_id"},
    }
)
HEALTH = HttpRequest(path="/health", name="health")
METRICS = HttpRequest(path="/api/v1/calls/${session_id}/metrics", name="metrics")


class HttpOptions(Model):
    """The backend and the requests."""

    url: str = Field("", description="Base URL; without one the command starts a stand-in.")
    requests: tuple[HttpRequest, ...] = Field((START, HEALTH, METRICS), min_length=1)
    order: Literal["sequence", "random"] = Field(
        "sequence", description="sequence: all of them in turn. random: one of them, by weight."
    )
    http: Literal["1.1", "2"] = Field(
        "1.1",
        description="2 needs the extra http2; http:// then means prior knowledge.",
        json_schema_extra={"enum": ["1.1", "2", 1.1, 2], "type": ["string", "number"]},
    )
    keep_alive: bool = Field(True, description="false: a connection for each request.")
    headers: dict[str, str] = Field({}, description="Of every request.")
    bearer_token: Secret = Field(Secret(), description="Sent as Authorization: Bearer.")
    verify: bool = Field(True, description="false: take any certificate.")
    ca_file: str = Field("", description="Certificate authority, PEM; the system's by default.")
    connect_timeout_ns: DurationNs = Field(5 * NS_PER_S, alias="connect_timeout", gt=0)
    request_timeout_ns: DurationNs = Field(10 * NS_PER_S, alias="request_timeout", gt=0)
    service: dict[str, Any] = Field({}, description="Settings of the stand-in: latency, error_rate, limits.")

    @field_validator("url")
    @classmethod
    def _http(cls, value: str) -> str:
        return http_url(value)

    @field_validator("http", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        return {1.1: "1.1", 2: "2"}.get(value, value) if isinstance(value, int | float) else value

    @model_validator(mode="after")
    def _variables_have_values(self) -> HttpOptions:
        known = set(GIVEN)
        for request in self.requests:
            missing = sorted(request.names() - known)
            if missing:
                before = "captured by a request before it, " if self.order == "sequence" else ""
                raise ValueError(
                    f"{request.label}: ${{{missing[0]}}} has no value; there are {before}{', '.join(sorted(GIVEN))}"
                )
            known |= set(request.capture) if self.order == "sequence" else set()
        if self.http == "2" and not self.url:
            raise ValueError("http: 2 needs a url: the stand-in speaks HTTP/1.1")
        return self


class HttpSettings(ComponentSettings):
    """The file of `voxload component http`."""

    component: Literal["http"]
    options: HttpOptions = HttpOptions()
