"""Small receivers of telemetry on 127.0.0.1: OTLP over HTTP, decoded by OpenTelemetry's protobuf; Azure's ingestion."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest


class Receiver:
    """Keeps what was posted to it; `answer(path, body)` makes the status and the body of each answer."""

    def __init__(self, answer: Callable[[str, bytes], tuple[int, bytes]]) -> None:
        self.bodies: list[bytes] = []
        self.paths: set[str] = set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                receiver.paths.add(self.path)
                receiver.bodies.append(body)
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
    def requests(self) -> list[ExportMetricsServiceRequest]:
        """What came by OTLP."""
        return [ExportMetricsServiceRequest.FromString(body) for body in self.bodies]

    @property
    def envelopes(self) -> list[dict]:
        """What came by Azure's protocol."""
        return [envelope for body in self.bodies for envelope in json.loads(body)]


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
