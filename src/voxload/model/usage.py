"""Where the resource use of the target is measured: processes of this machine, Prometheus, Azure Monitor."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from voxload.clock import NS_PER_S
from voxload.model.base import Model
from voxload.model.units import DurationNs, Size

_RESOURCE_ID = re.compile(r"/subscriptions/[^/]+/resourceGroups/[^/]+/providers/([^/]+/[^/]+)/.+", re.IGNORECASE)


class PrometheusUsage(Model):
    """Queries to the HTTP API of Prometheus; each must return percent, one number or one for each part."""

    url: str = Field(pattern=r"^https?://", description="Base address, such as http://prometheus:9090.")
    cpu: str = Field("", description="PromQL; percent of what is there.")
    memory: str = Field("", description="PromQL, likewise.")
    interval_ns: DurationNs = Field(5 * NS_PER_S, alias="interval", gt=0, description="Between two queries.")
    token_env: str = Field("", description="Environment variable that holds a bearer token.")

    @model_validator(mode="after")
    def _asks_something(self) -> PrometheusUsage:
        if not self.cpu and not self.memory:
            raise ValueError("nothing is asked: give a query as cpu or memory")
        return self


class AzureMonitorUsage(Model):
    """Platform metrics of an Azure resource, in percent, one value a minute (extra: azure-monitor)."""

    resource: str = Field(description="Its id, /subscriptions/…/providers/…; its region must be that of `endpoint`.")
    endpoint: str = Field(pattern=r"^https?://", description="https://REGION.metrics.monitor.azure.com")
    cpu: str = Field("", description="Name of the metric, such as CpuPercentage or UsageCPUPercent.")
    memory: str = Field("", description="Likewise: MemoryPercentage.")
    aggregation: Literal["Average", "Maximum"] = "Average"
    namespace: str = Field("", description="Of the metrics; the resource's type by default.")
    wait_ns: DurationNs = Field(120 * NS_PER_S, alias="wait", description="After the run, for values that come late.")

    @field_validator("resource")
    @classmethod
    def _is_an_id(cls, value: str) -> str:
        if not _RESOURCE_ID.fullmatch(value):
            raise ValueError("resource is /subscriptions/…/resourceGroups/…/providers/TYPE/NAME")
        return value

    @model_validator(mode="after")
    def _asks_something(self) -> AzureMonitorUsage:
        if not self.cpu and not self.memory:
            raise ValueError("nothing is asked: give a metric as cpu or memory")
        return self

    @property
    def metric_namespace(self) -> str:
        """The namespace to ask in."""
        match = _RESOURCE_ID.fullmatch(self.resource)
        assert match is not None
        return self.namespace or match[1]


class ResourceSource(Model):
    """One part of the target: exactly one of pid, port, process, prometheus, azure_monitor."""

    name: str = Field("", max_length=60, description="Label `resource` of its values.")
    pid: int | None = Field(None, gt=0, description="A process of this machine, with its children.")
    port: Literal["target"] | int | None = Field(
        None, description="The processes that listen on a TCP port of this machine, with their children; or target."
    )
    process: str | None = Field(None, min_length=1, description="Regular expression: name or command line.")
    cores: float | None = Field(None, gt=0, description="What 100 % CPU is (a limit); all cores by default.")
    memory: Size | None = Field(None, gt=0, description="What 100 % memory is (a limit); all there is by default.")
    prometheus: PrometheusUsage | None = None
    azure_monitor: AzureMonitorUsage | None = None

    @field_validator("port")
    @classmethod
    def _is_a_port(cls, value: str | int | None) -> str | int | None:
        if isinstance(value, int) and not 0 < value < 65536:
            raise ValueError("a port is between 1 and 65535")
        return value

    @field_validator("process")
    @classmethod
    def _is_an_expression(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"process is no regular expression: {error}") from None
        return value

    @model_validator(mode="after")
    def _exactly_one(self) -> ResourceSource:
        local = [self.pid, self.port, self.process]
        if sum(item is not None for item in (*local, self.prometheus, self.azure_monitor)) != 1:
            raise ValueError("give exactly one of pid, port, process, prometheus, azure_monitor")
        if not any(item is not None for item in local) and (self.cores or self.memory):
            raise ValueError("cores and memory are for processes of this machine")
        return self

    @property
    def label(self) -> str:
        """Its name, or what it is."""
        if self.name:
            return self.name
        if self.pid is not None:
            return f"pid {self.pid}"
        if self.port is not None:
            return "target" if self.port == "target" else f"port {self.port}"
        if self.process is not None:
            return self.process
        return "prometheus" if self.prometheus is not None else "azure"
