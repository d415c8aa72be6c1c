"""Small receivers of telemetry on 127.0.0.1: OTLP over HTTP, decoded by OpenTelemetry's protobuf; Azure's ingestion."""

from __future__ import annotations

import gzip
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Receiver:
    """Keeps what was posted to it; `answer(path, body)` makes the status and the body of each answer."""

    def __init__(self, answer: Callable[[str, bytes], tuple[int, bytes]]) -> None:
        self.posted: list[tuple[str, bytes]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                receiver.posted.append((self.path, body))
                status, text = answer(self.path, body)
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    @property
    def paths(self) -> set[str]:
        return {path for path, _ in self.posted}

    def requests(self, run_id: str) -> list[ExportMetricsServiceRequest]:
        """The figures of a run that came by OTLP."""
        found = [ExportMetricsServiceRequest.FromString(body) for path, body in self.posted if path == "/v1/metrics"]
        return [each for each in found if _run_of(each.resource_metrics[0]) == run_id]

    def spans(self, run_id: str, *, children: bool = False) -> list[Span]:
        """The calls of a run that came by OTLP as spans, or their turns."""
        traces = [ExportTraceServiceRequest.FromString(body) for path, body in self.posted if path == "/v1/traces"]
        resources = [each.resource_spans[0] for each in traces]
        found = [
            span for resource in resources if _run_of(resource) == run_id for span in resource.scope_spans[0].spans
        ]
        return [span for span in found if bool(span.parent_span_id) == children]

    def envelopes(self, run_id: str) -> list[dict]:
        """What came of a run by Azure's protocol."""
        found = [envelope for _, body in self.posted for envelope in json.loads(body)]
        return [envelope for envelope in found if envelope["tags"]["ai.cloud.roleInstance"] == run_id]


@contextmanager
def receiving(answer: Callable[[str, bytes], tuple[int, bytes]] = lambda *_: (200, b"")) -> Iterator[Receiver]:
    receiver = Receiver(answer)
    thread = threading.Thread(target=receiver.server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.server.shutdown()
        receiver.server.server_close()


def azure_accepts(_path: str, body: bytes) -> tuple[int, bytes]:
    count = len(json.loads(body))
    return 200, json.dumps({"itemsReceived": count, "itemsAccepted": count, "errors": []}).encode()


def attributes(items) -> dict[str, object]:
    """Attributes as a dict."""
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in items}


def _run_of(resource) -> object:
    return attributes(resource.resource.attributes)["voxload.run.id"]


def points_of(request):
    """By name and attributes, the data point; and by name its metric."""
    found, metrics = {}, {}
    for scope in request.resource_metrics[0].scope_metrics:
        for metric in scope.metrics:
            metrics[metric.name] = metric
            for point in getattr(metric, metric.WhichOneof("data")).data_points:
                found[metric.name, key(attributes(point.attributes))] = point
    return found, metrics


def key(labels: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(labels.items()))


@contextmanager
def resetting() -> Iterator[str]:
    """The address of a server that resets every connection once it has read a little of it."""
    server = socket.create_server(("127.0.0.1", 0))

    def reset() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            connection.recv(10)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()

    threading.Thread(target=reset, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
    finally:
        server.close()
