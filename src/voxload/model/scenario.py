"""The scenario: all that a user says of a run, as a strict model of the YAML file."""

from __future__ import annotations

import ipaddress
from typing import Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from voxload.model.base import Model
from voxload.model.cost import CostSettings
from voxload.model.gates import GateRules
from voxload.model.load import Load
from voxload.model.messages import MessageRule
from voxload.model.persona import PersonaMix
from voxload.model.probe import ProbeSettings
from voxload.model.recovery import RecoverySettings
from voxload.model.script import Step
from voxload.model.source import StandIns
from voxload.model.telemetry import TelemetrySettings
from voxload.model.twin import TwinSettings
from voxload.model.units import DurationNs, SpanNs
from voxload.model.usage import ResourceSource

TWIN_TARGET = "twin"
AUTO = "auto"
"""As source addresses: as many as are needed."""


class RandomPhone(Model):
    """A telephone number of its own for each call."""

    prefix: str = Field("+1555", pattern=r"^\+?\d+$")
    digits: int = Field(7, ge=1, le=14, description="Random digits after the prefix.")


class CsvFeeder(Model):
    """A column of a CSV file, a row for each call."""

    file: str = Field(description="Path, relative to the scenario file.")
    column: str
    pick: Literal["sequential", "random"] = "sequential"


class EnvironmentVariable(Model):
    """A value from the environment of the command; always treated as a secret."""

    name: str
    default: str | None = None


class VariableSource(Model):
    """Where the value of a variable comes from: exactly one of the forms."""

    random_phone: RandomPhone | None = None
    csv: CsvFeeder | None = None
    env: EnvironmentVariable | str | None = None
    choice: tuple[str, ...] | None = Field(None, min_length=1, description="Drawn evenly for each call.")

    @model_validator(mode="after")
    def _exactly_one(self) -> VariableSource:
        given = [form for form in (self.random_phone, self.csv, self.env, self.choice) if form is not None]
        if len(given) != 1:
            raise ValueError("a variable has exactly one of random_phone, csv, env, choice (or is a plain text)")
        return self


class DialectSettings(Model):
    """The wire protocol: its name and its own options, which the dialect itself checks."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str

    @property
    def options(self) -> dict[str, Any]:
        """The dialect's own options."""
        return dict(self.model_extra or {})


class CallType(Model):
    """A kind of call: its share of all calls, and what the caller does."""

    name: str = Field(pattern=r"^[A-Za-z_][\w.-]*$")
    weight: float = Field(1.0, gt=0, description="Share of the calls, relative to the other weights.")
    script: tuple[Step, ...] = Field(min_length=1)


class SideRequest(Model):
    """A plain HTTP request beside the call."""

    get: str = Field(description="Path on the target; `${session_id}` and the variables may stand in it.")
    name: str = Field("", description="Label in reports; the path as written by default.")
    weight: float = Field(1.0, gt=0)


class SideTraffic(Model):
    """HTTP requests that each caller makes while its call is up, as Locust's weighted tasks do."""

    interval_ns: SpanNs = Field((1_000_000_000, 3_000_000_000), alias="interval", description="Wait between tasks.")
    voice_weight: float = Field(3.0, ge=0, description="Weight of 'no request now, the call goes on'.")
    requests: tuple[SideRequest, ...] = Field(min_length=1)


class Timeouts(Model):
    """How long a caller waits; every wait in a run is bounded by one of these."""

    connect_ns: DurationNs = Field(5_000_000_000, alias="connect", gt=0, description="TCP, TLS and one HTTP answer.")
    setup_ns: DurationNs = Field(10_000_000_000, alias="setup", gt=0, description="Arrival to ready.")
    agent_reply_ns: DurationNs = Field(15_000_000_000, alias="agent_reply", gt=0, description="Until a reply is heard.")
    agent_turn_ns: DurationNs = Field(120_000_000_000, alias="agent_turn", gt=0, description="Longest agent turn.")
    hang_up_ns: DurationNs = Field(2_000_000_000, alias="hang_up", gt=0, description="For the closing handshake.")
    call_ns: DurationNs = Field(3_600_000_000_000, alias="call", gt=0, description="Longest call; then it is dropped.")


class TlsSettings(Model):
    """How targets at https:// and wss:// are verified."""

    ca: str = Field("", description="File of certificate authorities (PEM), trusted besides the system's.")
    insecure: bool = Field(False, description="Do not verify certificates at all; every report says so.")


class Measurement(Model):
    """How the caller listens and what the generator may use."""

    playout_buffer_ns: DurationNs = Field(60_000_000, alias="playout_buffer", description="Caller's jitter buffer.")
    agent_turn_end_ns: DurationNs = Field(
        350_000_000, alias="agent_turn_end", description="Silence after which the agent's turn is over."
    )
    ping_interval_ns: DurationNs = Field(5_000_000_000, alias="ping_interval", gt=0)
    setup_concurrency: int = Field(
        256, gt=0, description="Call set-ups in flight at once in a process; the wait counts as latency."
    )
    calls_max: int = Field(0, ge=0, description="Calls at once over all processes; more are shed. 0: no limit.")


class QualitySettings(Model):
    """Signal scores (DNSMOS, PLCMOS) of recorded calls, after the run, in a process of their own."""

    share: float = Field(1.0, ge=0, le=1, description="Share of the recorded calls that is scored.")
    worst: int = Field(5, ge=0, description="How many of the worst recorded calls are scored besides.")
    reference: str = Field("", description="WAV file of the clean agent; made by itself for the embedded agent.")
    timeout_ns: DurationNs = Field(600_000_000_000, alias="timeout", gt=0)


class TargetSettings(Model):
    """One of several targets of a run."""

    name: str = Field(pattern=r"^[A-Za-z_][\w.-]*$", description="The label `target` of its calls.")
    url: str = Field(description="Base URL, or twin for an embedded agent of its own.")
    weight: float = Field(1.0, gt=0, description="Share of the calls, relative to the other weights.")
    region: str = Field("", description="Where it is: the label `region` of its calls, instead of the scenario's.")
    twin: TwinSettings | None = Field(None, description="The embedded agent, where url is twin; else the scenario's.")

    @field_validator("url")
    @classmethod
    def _known_scheme(cls, value: str) -> str:
        return _checked_url(value)


def _checked_url(value: str) -> str:
    if value and value != TWIN_TARGET and not value.startswith(("http://", "https://")):
        raise ValueError(f"{value!r} does not start with http:// or https://, and is not twin")
    return value.rstrip("/")


def checked_address(text: object) -> str:
    """Return an IP address, or `auto`, as written.

    Raises:
        ValueError: it is neither.
    """
    try:
        return AUTO if text == AUTO else str(ipaddress.ip_address(str(text)))
    except ValueError:
        raise ValueError(f"{text!r} is no IP address, and not auto") from None


STAND_INS: StandIns = (
    (("name",), "unnamed"),
    (("target",), "http://127.0.0.1:1"),
    (("load",), {"shape": "constant", "arrival_rate": 1, "duration": "1s"}),
    (("calls",), [{"name": "none", "script": ["wait_for_agent"]}]),
    (("calls", int, "script", int), "wait_for_agent"),
)
"""What stands for wrong parts of a scenario, so that the others are checked meanwhile."""


class Scenario(GateRules):
    """All that a user says of a run."""

    version: Literal[1] = 1
    name: str = Field(min_length=1, max_length=120)
    description: str = ""
    target: str = Field(description="Base URL of the agent (http:// or https://), or twin for the embedded agent.")
    targets: tuple[TargetSettings, ...] = Field(
        (), description="Instead of target: several at once, the calls shared out by weight (canary, A/B, regions)."
    )
    source_addresses: Literal["auto"] | tuple[str, ...] = Field(
        (),
        description="Addresses of this machine that calls come from, in turn, each with local ports of its own; "
        "auto: as many of 127.0.0.0/8 as a target on this machine needs.",
    )
    dialect: DialectSettings = DialectSettings(name="rtmed")
    load: Load
    calls: tuple[CallType, ...] = Field(min_length=1)
    personas: PersonaMix = Field((), description="Who calls, spread over the calls by weight; calm callers by default.")
    variables: dict[str, str | int | float | VariableSource] = {}
    headers: dict[str, str] = Field({}, description="Sent with every HTTP request and WebSocket handshake.")
    tracing: Literal["on", "off"] = Field(
        "on", description="Send W3C traceparent and baggage with every request and handshake."
    )
    messages: tuple[MessageRule, ...] = Field(
        (), description="What the agent's messages mean that are no audio and that the dialect does not know."
    )
    tls: TlsSettings = Field(TlsSettings(), description="Certificates of https:// and wss:// targets.")
    side_traffic: SideTraffic | None = None
    resources: tuple[ResourceSource, ...] = Field((), description="Where the target's CPU and memory are measured.")
    probes: tuple[ProbeSettings, ...] = Field(
        (), description="Services that are probed in the background while the calls are up."
    )
    telemetry: TelemetrySettings = Field(
        TelemetrySettings(), description="Where live figures go: OpenTelemetry, Prometheus, Azure Monitor."
    )
    recovery: RecoverySettings | None = Field(None, description="Look after the load whether the target recovers.")
    timeouts: Timeouts = Timeouts()
    measurement: Measurement = Measurement()
    twin: TwinSettings = Field(TwinSettings(), description="The embedded agent, where target is twin.")
    cost: CostSettings | None = Field(None, description="Price the calls: which services they use, at which prices.")
    quality: QualitySettings | None = Field(None, description="Score recorded calls by signal (extra: quality).")
    record: str = Field("", description="Record calls: a share (1%), a number (10), or worst:20 of each process.")
    region: str = Field("", description="Where the callers are: a label of every metric, usable in gates.")
    seed: int = Field(1, ge=0, description="Same seed, same calls at the same instants.")

    @field_validator("dialect", mode="before")
    @classmethod
    def _dialect_by_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("tracing", mode="before")
    @classmethod
    def _switch(cls, value: Any) -> Any:
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else value

    @field_validator("target")
    @classmethod
    def _known_scheme(cls, value: str) -> str:
        return _checked_url(value)

    @field_validator("source_addresses", mode="before")
    @classmethod
    def _addresses(cls, value: Any) -> Any:
        if value == AUTO or not isinstance(value, str | list | tuple):
            return value
        addresses = [value] if isinstance(value, str) else value
        for address in addresses:
            if isinstance(address, str):
                checked_address(address)
        return addresses

    @model_validator(mode="before")
    @classmethod
    def _targets_for_target(cls, value: Any) -> Any:
        """A file with several targets needs no other one."""
        return {"target": "", **value} if isinstance(value, dict) and value.get("targets") else value

    @model_validator(mode="after")
    def _one_way_to_name_targets(self) -> Scenario:
        if bool(self.target) == bool(self.targets):
            raise ValueError("give target: (a base URL, or twin), or targets: with several of them")
        names = [target.name for target in self.targets]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two targets are named {name!r}; names must differ")
        if self.targets and self.recovery is not None:
            raise ValueError("recovery: looks at one target; give each of the targets a run of its own for that")
        return self

    @model_validator(mode="after")
    def _names_of_probes_differ(self) -> Scenario:
        names = [probe.label for probe in self.probes]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two probes are named {name!r}; give them different names")
        return self

    @model_validator(mode="after")
    def _names_differ(self) -> Scenario:
        names = [call.name for call in self.calls]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two calls are named {name!r}; names must differ")
        return self
