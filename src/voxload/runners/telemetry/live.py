"""What a run tells others of itself while it goes on: the snapshots that it merges anyway, added up and sent out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from voxload.clock import NS_PER_S, monotonic_ns, unix_ns
from voxload.errors import BadInputError, Problem
from voxload.measure.collector import Collector
from voxload.measure.snapshot import Snapshot
from voxload.measure.summary import TelemetryFacts
from voxload.model.telemetry import TelemetrySettings, listen_address
from voxload.runners.telemetry.figures import Figures
from voxload.runners.telemetry.origin import CALLS, Level, Origin, beside_calls
from voxload.runners.telemetry.otel import CONNECTION_STRING, azure_exporter, azure_spans, otlp_exporter, otlp_spans
from voxload.runners.telemetry.sink import CLOSE_S, Sink
from voxload.runners.telemetry.span_sink import Batch, SpanSink

if TYPE_CHECKING:
    from voxload.runners.probes import Probes
    from voxload.runners.runner import Runner
    from voxload.runners.telemetry.prometheus import PrometheusEndpoint

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
    """Sends a run's figures, and its calls as spans, where its settings say; does nothing where they name no place.

    `tell` is told once of each receiver that fails.

    Raises:
        BadInputError: an exporter is not installed, the connection string is missing or wrong, the endpoint of
            Prometheus cannot be opened, or there is no receiver of spans.
    """

    def __init__(
        self,
        settings: TelemetrySettings,
        identity: RunIdentity,
        environ: Mapping[str, str],
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._settings, self._tell, self._run_id = settings, tell, identity.run_id
        self._watched: dict[Origin, tuple[Collector, Callable[[], int]]] = {}
        self._unix_offset_ns = unix_ns() - monotonic_ns()
        self._next_ns = 0
        self._sinks: list[Sink] = []
        self._span_sinks: list[SpanSink] = []
        self._endpoint: PrometheusEndpoint | None = None
        self._scraped = Figures()
        self._facts: list[TelemetryFacts] | None = None
        about, prefix, share = identity.attributes(), settings.prefix, settings.spans
        if share is not None and not (settings.otlp or settings.azure_monitor):
            raise BadInputError([Problem("spans have no receiver", suggestion="--otlp URL, or --azure-monitor")])
        if settings.otlp:
            export = otlp_exporter(settings.otlp, prefix, about)
            self._sinks.append(Sink("otlp", settings.otlp, export, delta=False, start_unix_ns=unix_ns()))
            if share is not None:
                spans = otlp_spans(settings.otlp, about)
                self._span_sinks.append(SpanSink("otlp", settings.otlp, spans, share))
        if settings.azure_monitor:
            connection = _connection_string(environ)
            export = azure_exporter(connection, prefix, about)
            self._sinks.append(Sink("azure_monitor", CONNECTION_STRING, export, delta=True, start_unix_ns=unix_ns()))
            if share is not None:
                spans = azure_spans(connection, about)
                self._span_sinks.append(SpanSink("azure_monitor", CONNECTION_STRING, spans, share))
        if settings.prometheus:
            from voxload.runners.telemetry.prometheus import PrometheusEndpoint  # noqa: PLC0415  # a web server, for few runs

            self._endpoint = PrometheusEndpoint(*listen_address(settings.prometheus), prefix, about)

    @property
    def sends(self) -> bool:
        """Whether anything goes out, on threads of this process."""
        return bool(self._sinks or self._endpoint)

    @property
    def url(self) -> str:
        """Where Prometheus finds the figures; empty where it does not."""
        return self._endpoint.url if self._endpoint is not None else ""

    def watch(self, collector: Collector, start_ns: Callable[[], int], origin: Origin = CALLS) -> None:
        """Say which calls of an origin are up, and the first instant of its run (monotonic clock)."""
        self._watched[origin] = collector, start_ns

    def watch_run(self, runner: Runner, probes: Probes) -> None:
        """Let a run and its probes tell what they measure; the runner's hooks may be replaced afterwards."""

        def start_ns() -> int:
            return runner.start_ns

        origins = {name: beside_calls(name) for name in probes.collectors}
        for name, collector in probes.collectors.items():
            self.watch(collector, start_ns, origins[name])
        self.watch(runner.collector, start_ns)
        probes.on_snapshot = lambda name, snapshot: self.take(snapshot, origins[name])
        runner.on_snapshot, runner.on_tick = self.take, lambda _: self.on_tick()

    def take(self, snapshot: Snapshot, origin: Origin = CALLS) -> None:
        """Add what one process has measured in one stretch."""
        for sink in self._sinks:
            sink.figures.take(snapshot, origin)
        if self._endpoint is not None:
            self._scraped.take(snapshot, origin)
        if self._span_sinks:
            start_unix_ns = self._watched[origin][1]() + self._unix_offset_ns
            batch = Batch(snapshot.calls, origin, self._run_id, start_unix_ns)
            for span_sink in self._span_sinks:
                span_sink.offer(batch)

    def on_tick(self) -> None:
        """Export if it is time to."""
        now_ns = monotonic_ns()
        if now_ns < self._next_ns:
            return
        self._next_ns = now_ns + self._settings.interval_ns - EARLY_NS
        levels = self._levels()
        for sink in self._sinks:
            sink.offer(levels, unix_ns())
        for trouble in [sink.trouble() for sink in self._sinks] + [sink.trouble() for sink in self._span_sinks]:
            if trouble:
                self._tell(trouble)
        if self._endpoint is not None:
            self._endpoint.publish(self._scraped.all(levels))

    def close(self) -> list[TelemetryFacts]:
        """Export what is left, no longer than `CLOSE_S`, and say how it all went; a second time nothing is exported."""
        if self._facts is None:
            self._facts = []
            levels, deadline_ns = self._levels(), monotonic_ns() + round(CLOSE_S * NS_PER_S)
            for span_sink in self._span_sinks:
                span_sink.finish()
            for sink in self._sinks:
                sink.finish(levels, unix_ns())
            self._facts += closed([*self._sinks, *self._span_sinks], deadline_ns)
            if self._endpoint is not None:
                self._facts.append(self._endpoint.close())
        return self._facts

    def losses(self) -> list[str]:
        """Return what did not go out, in words, after the end."""
        return [f"telemetry: {words}" for words in map(failures_in_words, self.close()) if words]

    def _levels(self) -> list[Level]:
        return [_level(origin, collector) for origin, (collector, _) in self._watched.items()]


def closed(sinks: Sequence[Sink | SpanSink], deadline_ns: int) -> list[TelemetryFacts]:
    """Wait for what is still to go out, and say how it went; Ctrl-C ends the waiting, and nothing else."""
    facts: list[TelemetryFacts] = []
    while len(facts) < len(sinks):
        try:
            facts.append(sinks[len(facts)].close(deadline_ns))
        except KeyboardInterrupt:
            deadline_ns = 0
    return facts


def _level(origin: Origin, collector: Collector) -> Level:
    shards = collector.shards
    over = bool(shards) and all(state.final for state in shards.values())
    return Level(origin, 0 if over else collector.active(), {shard: state.cpu_last for shard, state in shards.items()})


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
    if facts.signal == "traces":
        return (
            f"{facts.kind}: {facts.spans_dropped} of {facts.spans + facts.spans_dropped} spans dropped ({facts.error})"
        )
    words = f"{facts.kind}: {facts.failed} of {facts.exports} exports failed"
    if facts.error:
        words += f" ({facts.error})"
    return words if facts.complete else f"{words}; the receiver does not have the run's last figures"
