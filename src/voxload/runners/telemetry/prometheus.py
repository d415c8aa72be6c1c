"""An endpoint at which Prometheus finds a run's figures while it goes on."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from itertools import accumulate
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from voxload.errors import BadInputError, Problem
from voxload.measure.summary import TelemetryFacts
from voxload.runners.telemetry.figures import Figure

SUFFIXES = {"ms": "_milliseconds", "s": "_seconds", "By": "_bytes", "%": "_percent"}
"""As OpenTelemetry's rules for Prometheus name units."""
TYPES = {"counter": "counter", "level": "gauge", "gauge": "gauge", "histogram": "histogram"}


def prometheus_name(prefix: str, figure: Figure) -> str:
    """Return a metric's name with its unit, without `_total` or `_bucket`: `voxload_turn_latency_milliseconds`."""
    return f"{prefix}.{figure.name}".replace(".", "_") + SUFFIXES.get(figure.unit, "")


class _Published(Collector):
    """Gives each scrape the figures that were published last."""

    def __init__(self, prefix: str, resource: Mapping[str, str]) -> None:
        self._prefix = prefix
        self._about = {name.replace(".", "_"): value for name, value in resource.items()}
        self.figures: list[Figure] = []
        self.scrapes = 0

    def collect(self) -> Iterable[Metric]:
        about = Metric("target", "which run this is", "info")
        about.add_sample("target_info", self._about, 1)
        yield about
        for figure in self.figures:
            if figure.points:
                yield _metric(prometheus_name(self._prefix, figure), figure)
        self.scrapes += 1

    def describe(self) -> Iterable[Metric]:
        return ()  # registering collects nothing


def _metric(name: str, figure: Figure) -> Metric:
    metric = Metric(name, figure.meaning, TYPES[figure.kind])
    for point in figure.points:
        labels = dict(point.labels)
        if figure.kind != "histogram":
            metric.add_sample(f"{name}_total" if figure.kind == "counter" else name, labels, point.value)
            continue
        ends = [*(repr(bound) for bound in figure.bounds), "+Inf"]
        for end, count in zip(ends, accumulate(point.counts), strict=True):
            metric.add_sample(f"{name}_bucket", {**labels, "le": end}, count)
        metric.add_sample(f"{name}_count", labels, point.size)
        metric.add_sample(f"{name}_sum", labels, point.value)
    return metric


class PrometheusEndpoint:
    """Serves the figures on a thread of its own until `close`.

    Raises:
        BadInputError: the address cannot be listened at.
    """

    def __init__(self, host: str, port: int, prefix: str, resource: Mapping[str, str]) -> None:
        self._published = _Published(prefix, resource)
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self._published)
        self._server: WSGIServer
        self._thread: threading.Thread
        try:
            self._server, self._thread = start_http_server(port, host, registry)
        except OSError as error:
            where = f"{host}:{port}"
            message = f"cannot be listened at: {error.strerror or error}"
            raise BadInputError([Problem(message, where, 0, "choose another --prometheus HOST:PORT")]) from None
        address = f"[{host}]" if ":" in host else host
        self.url = f"http://{address}:{self._server.server_port}/metrics"

    def publish(self, figures: list[Figure]) -> None:
        """Let scrapes find these figures from now on."""
        self._published.figures = figures

    def close(self) -> TelemetryFacts:
        """Serve no more, and say how often the figures were read."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(2)
        return TelemetryFacts("prometheus", self.url, self._published.scrapes, 0, 0, complete=True)
