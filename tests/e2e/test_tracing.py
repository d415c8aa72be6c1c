"""The target finds each call's trace and id in every request, read by OpenTelemetry's own propagators."""

import asyncio
import contextlib
import threading
from collections import defaultdict

from aiohttp import web
from conftest import scenario_with
from opentelemetry import baggage, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from receivers import receiving

from voxload.clock import NS_PER_S, monotonic_ns
from voxload.measure.summary import CallRecord
from voxload.runners.results import read_calls
from voxload.runners.telemetry.figures import Figure, Point
from voxload.runners.telemetry.origin import CALLS
from voxload.runners.telemetry.otel import otlp_exporter, otlp_spans
from voxload.runners.telemetry.span_sink import Batch, SpanSink

PROPAGATOR = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])


@contextlib.contextmanager
def backend():
    """A small backend of the dialect rtmed; yields its URL and the headers that it was sent, by route."""
    seen = defaultdict(list)
    loop = asyncio.new_event_loop()

    async def start(request):
        seen["start"].append({name.lower(): value for name, value in request.headers.items()})
        return web.json_response({"session_id": f"s{len(seen['start'])}"})

    async def media(request):
        seen["socket"].append({name.lower(): value for name, value in request.headers.items()})
        socket = web.WebSocketResponse(protocols=("call-protocol",))
        await socket.prepare(request)
        async for _ in socket:
            pass
        return socket

    async def health(request):
        seen["side"].append({name.lower(): value for name, value in request.headers.items()})
        return web.json_response({})

    async def main():
        app = web.Application()
        app.router.add_post("/api/v1/calls/start", start)
        app.router.add_get("/ws/call/{id}", media)
        app.router.add_get("/health", health)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner

    runner = loop.run_until_complete(main())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", seen
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)


def scenario(url, **changes):
    return scenario_with(
        target=url,
        load={"shape": "constant", "arrival_rate": 6, "duration": "1s"},
        calls=[{"name": "short", "script": [{"listen": "400ms"}]}],
        side_traffic={"interval": "100ms", "voice_weight": 0, "requests": [{"get": "/health"}]},
        headers={"Baggage": "tenant=blue", "X-Tenant": "blue"},
        **changes,
    )


def contexts(headers):
    return [PROPAGATOR.extract(item) for item in headers]


def test_a_propagator_extracts_the_context_of_every_request(voxload):
    with backend() as (url, seen), receiving() as receiver:
        done = voxload.run(scenario(url), "--otlp", receiver.url, "--spans", "100%", judged=False)
    calls = {call.call_id: call.trace_id for call in read_calls(done.folder)}
    assert len(set(calls.values())) == len(calls) == 6
    parents = {}
    for route in ("start", "socket", "side"):
        found = contexts(seen[route])
        assert len(found) >= 6
        told = {}
        for context in found:
            span = trace.get_current_span(context).get_span_context()
            assert span.is_valid and span.is_remote and span.trace_flags.sampled
            parents.setdefault(span.trace_id, set()).add(span.span_id)
            told[str(baggage.get_baggage("voxload.call_id", context))] = trace.format_trace_id(span.trace_id)
            assert baggage.get_baggage("tenant", context) == "blue"
        assert told == calls, route
    assert all(len(spans) == 1 for spans in parents.values()), "the call is the parent of all its requests"
    sent = {int(span.trace_id.hex(), 16): {int(span.span_id.hex(), 16)} for span in receiver.spans(done.folder.name)}
    assert parents == sent, "the target's spans are children of those that we send"
    assert all(item["x-tenant"] == "blue" for item in seen["socket"])
    worst = done.summary.worst_calls[0]
    assert worst.trace_id == calls[worst.call_id]
    assert worst.trace_id in (done.folder / "report.html").read_text()


def test_tracing_can_be_turned_off(voxload):
    with backend() as (url, seen):
        path = voxload.write(scenario(url, tracing="off"))
        path.write_text(path.read_text().replace('"off"', "off"))  # as people write it in YAML
        done = voxload("run", str(path), "--quiet", "--processes", "1", judged=False)
    assert seen["socket"]
    for found in seen.values():
        assert not any("traceparent" in headers for headers in found)
        assert all(headers["baggage"] == "tenant=blue" for headers in found)
    assert {call.trace_id for call in read_calls(done.folder)} == {""}


def test_a_traceparent_of_ones_own_is_refused_beside_ours(voxload):
    own = {"Traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    path = voxload.write(scenario_with(headers=own))
    done = voxload("check", str(path))
    assert done.code == 2
    assert "headers.Traceparent" in done.err and "tracing: off" in done.err
    assert voxload("check", str(voxload.write(scenario_with(headers=own, tracing="off")))).code == 0


def test_what_a_receiver_refuses_inside_a_good_answer_is_not_counted_as_taken():
    refused = {"partial_success": {"rejected_spans": 2, "error_message": "too many attributes"}}
    answers = [ExportTraceServiceResponse(**refused).SerializeToString(), b""]
    figures = {"partial_success": {"rejected_data_points": 1, "error_message": "an odd unit"}}

    def answer(path, _):
        if path == "/v1/metrics":
            return 200, ExportMetricsServiceResponse(**figures).SerializeToString()
        return 200, answers.pop(0)

    with receiving(answer) as receiver:
        sink = SpanSink("otlp", receiver.url, otlp_spans(receiver.url, {}), 1.0)
        records = [CallRecord(n, f"c{n}", "a", "hold", 5.0, "completed", 2.0, 100.0) for n in range(3)]
        for _ in range(2):
            sink.offer(Batch(records, CALLS, "run-1", 0))
        told = sink.close(monotonic_ns() + 5 * NS_PER_S)
        assert (told.spans, told.spans_dropped, told.exports, told.failed) == (4, 2, 2, 1)
        assert told.error == "2 refused: too many attributes"
        figure = Figure("calls", "{call}", "calls", "gauge", [Point((), 1.0)])
        export = otlp_exporter(receiver.url, "voxload", {})
        assert export([figure], 0, 1) == "1 refused: an odd unit"
        assert receiver.paths == {"/v1/metrics", "/v1/traces"}
