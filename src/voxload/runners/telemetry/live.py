"""What a run tells others of itself while it goes on: the snapshots that it merges anyway, added up and sent out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from voxload.clock import NS_PER_S, monotonic_ns, unix_ns
from voxload.errors import BadInputError, Problem
from voxload.measure.collector import Collector
from voxload.measure.snapshot import Snapshot
from voxload.measure.summary import TelemetryFacts
from voxload.model.telemetry import TelemetrySettings, listen_address
from voxload.runners.telemetry.figures import Figures
from voxload.runners.telemetry.otel import azure_exporter, otlp_exporter
from voxload.runners.telemetry.sink import Sink

if TYPE_CHECKING:
    from voxload.runners.telemetry.prometheus import PrometheusEndpoint

CONNECTION_STRING = "APPLICATIONINSIGHTS_CONNECTION_STRING"
EARLY_NS = NS_PER_S // 4
"""The runner's ticks are half a second apart and never exact: so much before its time an export is due."""


@dataclass(frozen=True, slots=True)
class RunIdentity:
    """What all figures of a run carry, as attributes of their resource."""

    run_id: str
    scenario: str
    version: str
    region: str = ""
    environment: str = ""

    def attributes(self) -> dict[str, str]:
        """Return them by OpenTelemetry's names where it has one; what is not known is left out."""
        found = {
            "service.name": "voxload",
            "service.version": self.version,
            "service.instance.id": self.run_id,
            "voxload.run.id": self.run_id,
            "voxload.scenario": self.scenario,
            "cloud.region": self.region,
            "deployment.environment.name": self.environment,
        }
        return {name: value for name, value in found.items() if value}


class Telemetry:
    """Sends a run's figures where its settings say; does nothing where they name no place.

    `tell` is told once of each receiver that fails.

    Raises:
        BadInputError: an exporter is not installed, the connection string is missing or wrong, or the endpoint of
            Prometheus cannot be opened.
    """

    def __init__(
        self,
        settings: TelemetrySettings,
        identity: RunIdentity,
        environ: Mapping[str, str],
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._settings, self._tell = settings, tell
        self._collector = Collector()
        self._next_ns = 0
        self._sinks: list[Sink] = []
        self._endpoint: PrometheusEndpoint | None = None
        self._scraped = Figures()
        self._facts: list[TelemetryFacts] | None = None
        about, prefix = identity.attributes(), settings.prefix
        if settings.otlp:
            export = otlp_exporter(settings.otlp, prefix, about)
            self._sinks.append(Sink("otlp", settings.otlp, export, delta=False, start_unix_ns=unix_ns()))
        if settings.azure_monitor:
            export = azure_exporter(_connection_string(environ), prefix, about)
            self._sinks.append(Sink("azure_monitor", CONNECTION_STRING, export, delta=True, start_unix_ns=unix_ns()))
        if settings.prometheus:
            from voxload.runners.telemetry.prometheus import PrometheusEndpoint  # noqa: PLC0415  # a web server, for few runs

            self._endpoint = PrometheusEndpoint(*listen_address(settings.prometheus), prefix, about)

    @property
    def url(self) -> str:
        """Where Prometheus finds the figures; empty where it does not."""
        return self._endpoint.url if self._endpoint is not None else ""

    def watch(self, collector: Collector) -> None:
        """Say whose calls are up."""
        self._collector = collector

    def take(self, snapshot: Snapshot) -> None:
        """Add what one process has measured in one stretch."""
        for sink in self._sinks:
            sink.figures.take(snapshot)
        if self._endpoint is not None:
            self._scraped.take(snapshot)

    def on_tick(self) -> None:
        """Export if it is time to."""
        now_ns = monotonic_ns()
        if now_ns < self._next_ns:
            return
        self._next_ns = now_ns + self._settings.interval_ns - EARLY_NS
        active, cpu = self._state()
        for sink in self._sinks:
            sink.offer(active, cpu, unix_ns())
            trouble = sink.trouble()
            if trouble:
                self._tell(trouble)
        if self._endpoint is not None:
            self._endpoint.publish(self._scraped.all(active, cpu))

    def close(self) -> list[TelemetryFacts]:
        """Export the last figures and say how it all went; a second time nothing is exported."""
        if self._facts is None:
            active, cpu = self._state()
            self._facts = [sink.close(active, cpu, unix_ns()) for sink in self._sinks]
            if self._endpoint is not None:
                self._facts.append(self._endpoint.close())
        return self._facts

    def losses(self) -> list[str]:
        """Return what did not go out, in words, after the end."""
        return [f"telemetry: {words}" for words in map(failures_in_words, self.close()) if words]

    def _state(self) -> tuple[int, dict[int, float]]:
        shards = self._collector.shards
        over = bool(shards) and all(state.final for state in shards.values())
        active = 0 if over else self._collector.active()
        return active, {shard: state.cpu_last for shard, state in shards.items()}


def _connection_string(environ: Mapping[str, str]) -> str:
    value = environ.get(CONNECTION_STRING, "")
    parts = dict(part.split("=", 1) for part in value.split(";") if "=" in part)
    if not parts.get("InstrumentationKey"):
        state = "holds no InstrumentationKey" if value else "is not set"
        hint = f"export {CONNECTION_STRING}='InstrumentationKey=…;IngestionEndpoint=https://…'"
        raise BadInputError([Problem(f"the variable {CONNECTION_STRING} {state}", suggestion=hint)])
    return value


def failures_in_words(facts: TelemetryFacts) -> str:
    """Return what to say after the run of figures that did not go out; nothing where all did."""
    if facts.complete and not facts.failed:
        return ""
    words = f"{facts.kind}: {facts.failed} of {facts.exports} exports failed"
    if facts.error:
        words += f" ({facts.error})"
    return words if facts.complete else f"{words}; the receiver does not have the run's last figures"
