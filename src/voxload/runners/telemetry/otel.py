"""Figures as OpenTelemetry's metrics data, and the exporters that send them and spans: OTLP over HTTP, Azure Monitor.

Instruments of the OpenTelemetry SDK take single values and would have to be told each again; our histograms are added
up already. So the data points are made here, of exact counts, and given to the SDK's own exporters.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from voxload.errors import BadInputError, Problem
from voxload.measure.extra import require
from voxload.runners.telemetry.figures import Figure, Point
from voxload.runners.telemetry.sink import Export, Words
from voxload.runners.telemetry.span_sink import ExportSpans
from voxload.runners.telemetry.spans import CallSpan

EXTRA = "telemetry"
TIMEOUT_S = 3.0
METRICS_PATH, TRACES_PATH = "/v1/metrics", "/v1/traces"
OTLP_LOGGERS = ("opentelemetry.exporter", "opentelemetry.sdk")
AZURE_LOGGERS = ("azure.monitor.opentelemetry", "azure.core")
CONNECTION_STRING = "APPLICATIONINSIGHTS_CONNECTION_STRING"
OTLP_SETTINGS = "variables OTEL_EXPORTER_OTLP_…"
NO_CALLS_HOME = (
    "APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL",
    "APPLICATIONINSIGHTS_SDKSTATS_DISABLED",
    "APPLICATIONINSIGHTS_CONTROLPLANE_DISABLED",
)
"""Azure's exporter would else report on itself to Microsoft."""


def otlp_exporter(endpoint: str, prefix: str, resource: Mapping[str, str]) -> Export:
    """Return what exports to an OTLP/HTTP receiver, cumulative.

    Headers and certificates come from the standard variables, `OTEL_EXPORTER_OTLP_HEADERS` and its like.

    Raises:
        BadInputError: OpenTelemetry's exporter is not installed, or a variable of its own is wrong.
    """
    module = require("opentelemetry.exporter.otlp.proto.http.metric_exporter", EXTRA)
    rejected = Rejected("metrics", "rejected_data_points")
    arguments = {"endpoint": f"{endpoint}{METRICS_PATH}", "timeout": TIMEOUT_S, "session": rejected.session}
    exporter = _made(module.OTLPMetricExporter, OTLP_SETTINGS, **arguments)
    return _exporting(exporter, prefix, resource, Words(*OTLP_LOGGERS), rejected, delta=False)


def azure_exporter(connection_string: str, prefix: str, resource: Mapping[str, str]) -> Export:
    """Return what exports to Application Insights, each time what is new (its own rule).

    Nothing is kept on disk for later, and the exporter's reports on itself are off.

    Raises:
        BadInputError: Azure's exporter is not installed, or the connection string is none.
    """
    exporter = _azure("AzureMonitorMetricExporter", connection_string)
    return _exporting(exporter, prefix, resource, Words(*AZURE_LOGGERS), None, delta=True)


def _azure(name: str, connection_string: str, **more: Any) -> Any:
    for variable in NO_CALLS_HOME:
        os.environ.setdefault(variable, "true")
    module = require("azure.monitor.opentelemetry.exporter", EXTRA)
    return _made(
        getattr(module, name),
        CONNECTION_STRING,
        connection_string=connection_string,
        disable_offline_storage=True,
        timeout=TIMEOUT_S,
        read_timeout=TIMEOUT_S,
        retry_total=0,
        **more,
    )


def _made(make: Any, settings: str, **arguments: Any) -> Any:
    """Return an exporter.

    Raises:
        BadInputError: what `settings` names is wrong.
    """
    try:
        return make(**arguments)
    except (ValueError, OSError) as error:
        raise BadInputError([Problem(f"{settings}: {error}")]) from None


def otlp_spans(endpoint: str, resource: Mapping[str, str]) -> ExportSpans:
    """Return what exports spans to an OTLP/HTTP receiver.

    Raises:
        BadInputError: OpenTelemetry's exporter is not installed, or a variable of its own is wrong.
    """
    module = require("opentelemetry.exporter.otlp.proto.http.trace_exporter", EXTRA)
    rejected = Rejected("trace", "rejected_spans")
    arguments = {"endpoint": f"{endpoint}{TRACES_PATH}", "timeout": TIMEOUT_S, "session": rejected.session}
    exporter = _made(module.OTLPSpanExporter, OTLP_SETTINGS, **arguments)
    return _exporting_spans(exporter, _resource(resource), Words(*OTLP_LOGGERS), rejected)


def azure_spans(connection_string: str, resource: Mapping[str, str]) -> ExportSpans:
    """Return what exports spans to Application Insights, as dependencies.

    Raises:
        BadInputError: Azure's exporter is not installed, or the connection string is none.
    """
    about = _resource(resource)
    exporter = _azure("AzureMonitorTraceExporter", connection_string, tracer_provider=SimpleNamespace(resource=about))
    return _exporting_spans(exporter, about, Words(*AZURE_LOGGERS), None)


class Rejected:
    """What a receiver has refused of an export inside a good answer, which the exporters do not tell of.

    OTLP calls that a partial success: https://opentelemetry.io/docs/specs/otlp/#partial-success-1.
    """

    def __init__(self, signal: str, field: str) -> None:
        module = require(f"opentelemetry.proto.collector.{signal}.v1.{signal}_service_pb2", EXTRA)
        self._answer = getattr(module, f"Export{signal.capitalize()}ServiceResponse")
        self._field = field
        self._count, self._message = 0, ""
        self.session = require("requests", EXTRA).Session()
        """For the exporter."""
        self.session.hooks["response"].append(self._hear)

    def _hear(self, answer: Any, **_: Any) -> None:
        if answer.ok:
            with contextlib.suppress(require("google.protobuf.message", EXTRA).DecodeError):
                told = self._answer.FromString(answer.content).partial_success
                self._count, self._message = getattr(told, self._field), told.error_message

    def take(self) -> tuple[int, str]:
        """Return how many were refused by the last export, and why."""
        count, self._count = self._count, 0
        return count, f"{count:,} refused: {self._message or 'it does not say why'}" if count else ""


def _resource(resource: Mapping[str, str]) -> Any:
    return require("opentelemetry.sdk.resources", EXTRA).Resource(dict(resource))


def _exporting_spans(exporter: Any, resource: Any, words: Words, rejected: Rejected | None) -> ExportSpans:
    success = require("opentelemetry.sdk.trace.export", EXTRA).SpanExportResult.SUCCESS

    def export(spans: Sequence[CallSpan]) -> tuple[int, str]:
        result = exporter.export([readable_span(span, resource) for span in spans])
        said = words.take()
        if result != success:
            return len(spans), said or "the exporter does not say why"
        return rejected.take() if rejected is not None else (0, "")

    return export


def readable_span(span: CallSpan, resource: Any) -> Any:
    """Return a span as `opentelemetry.sdk.trace.ReadableSpan`, which exporters take."""
    sdk, api = require("opentelemetry.sdk.trace", EXTRA), require("opentelemetry.trace", EXTRA)
    scope = require("opentelemetry.sdk.util.instrumentation", EXTRA).InstrumentationScope("voxload")
    sampled = api.TraceFlags(api.TraceFlags.SAMPLED)

    def context(span_id: str) -> Any:
        return api.SpanContext(int(span.trace_id, 16), int(span_id, 16), is_remote=False, trace_flags=sampled)

    status = api.Status(api.StatusCode.ERROR, span.error) if span.error else api.Status(api.StatusCode.UNSET)
    return sdk.ReadableSpan(
        name=span.name,
        context=context(span.span_id),
        parent=context(span.parent_id) if span.parent_id else None,
        resource=resource,
        attributes=span.attributes,
        events=[sdk.Event(event.name, event.attributes, event.at_unix_ns) for event in span.events],
        kind=api.SpanKind.INTERNAL if span.parent_id else api.SpanKind.CLIENT,
        status=status,
        start_time=span.start_unix_ns,
        end_time=span.end_unix_ns,
        instrumentation_scope=scope,
    )


def _exporting(
    exporter: Any,
    prefix: str,
    resource: Mapping[str, str],
    words: Words,
    rejected: Rejected | None,
    *,
    delta: bool,
) -> Export:
    export_module = require("opentelemetry.sdk.metrics.export", EXTRA)
    success = export_module.MetricExportResult.SUCCESS
    about = _resource(resource)

    def export(figures: Sequence[Figure], from_ns: int, to_ns: int) -> str:
        data = metrics_data(figures, prefix, about, from_ns, to_ns, delta=delta)
        result = exporter.export(data)
        said = words.take()
        if result != success:
            return said or "the exporter does not say why"
        return "" if rejected is None else rejected.take()[1]

    return export


def metrics_data(
    figures: Sequence[Figure], prefix: str, resource: Any, from_ns: int, to_ns: int, *, delta: bool
) -> Any:
    """Return figures as `opentelemetry.sdk.metrics.export.MetricsData`; times are Unix times in ns."""
    sdk = require("opentelemetry.sdk.metrics.export", EXTRA)
    scope = require("opentelemetry.sdk.util.instrumentation", EXTRA).InstrumentationScope("voxload")
    kinds = sdk.AggregationTemporality
    grown = kinds.DELTA if delta else kinds.CUMULATIVE

    def number(point: Point) -> Any:
        return sdk.NumberDataPoint(dict(point.labels), from_ns, to_ns, point.value)

    def distribution(point: Point, bounds: tuple[float, ...]) -> Any:
        return sdk.HistogramDataPoint(
            attributes=dict(point.labels),
            start_time_unix_nano=from_ns,
            time_unix_nano=to_ns,
            count=point.size,
            sum=point.value,
            bucket_counts=point.counts,
            explicit_bounds=bounds,
            min=point.minimum,
            max=point.maximum,
        )

    def data(figure: Figure) -> Any:
        match figure.kind:
            case "counter":
                return sdk.Sum([number(point) for point in figure.points], grown, is_monotonic=True)
            case "level":
                return sdk.Sum([number(point) for point in figure.points], kinds.CUMULATIVE, is_monotonic=False)
            case "gauge":
                return sdk.Gauge([number(point) for point in figure.points])
            case "histogram":
                return sdk.Histogram([distribution(point, figure.bounds) for point in figure.points], grown)

    metrics = [
        sdk.Metric(f"{prefix}.{figure.name}", figure.meaning, figure.unit, data(figure))
        for figure in figures
        if figure.points
    ]
    return sdk.MetricsData([sdk.ResourceMetrics(resource, [sdk.ScopeMetrics(scope, metrics, "")], "")])
