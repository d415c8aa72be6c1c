"""Plain endpoints over HTTP/1.1 and HTTP/2, against servers that are not ours too."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager

import hypercorn.asyncio
import pytest
from component_runs import Ran, closed, constant
from hypercorn.config import Config
from pydantic import ValidationError

from voxload.errors import RunAbortedError
from voxload.services.http.options import HttpOptions
from voxload.services.redis.server import _free_port
from voxload.standins.plain import PlainSettings, PlainStandIn
from voxload.standins.serving import Server


@asynccontextmanager
async def backend(**settings):
    stand_in = PlainStandIn(PlainSettings.model_validate(settings))
    async with Server(stand_in.application()) as server:
        stand_in.url = server.url
        yield stand_in


async def test_a_sequence_with_captured_values():
    end = {"method": "DELETE", "path": "/api/v1/calls/${session_id}", "name": "end", "expect": [204]}
    requests = [*HttpOptions().model_dump(by_alias=True)["requests"], end]
    async with backend(latency="20ms") as service:
        ran = await Ran("http", constant(20), url=service.url, requests=requests)()
        assert ran.ended == {"completed": 20}, ran.errors()
        assert service.calls == set()
        assert service.counts["POST /api/v1/calls/start 201"] == 20
        assert service.counts["DELETE /api/v1/calls/{id} 204"] == 20
        names = {
            series.labels["name"]: series.histogram.count
            for series in ran.collector.series()
            if series.metric == "http_latency"
        }
        assert names == {"start": 20, "health": 20, "metrics": 20, "end": 20}
        assert 20 <= ran.ms("http_latency", 0.05) < 80
        assert ran.ms("operation_latency", 0.05) >= 80
        assert ran.collector.totals().http_requests["start"] == {"201": 20}


async def test_one_request_by_weight():
    requests = [{"path": "/health", "weight": 9}, {"path": "/api/v1/calls/${id}/metrics", "expect": [404], "name": "m"}]
    async with backend() as service:
        ran = await Ran("http", constant(100), url=service.url, requests=requests, order="random")()
        assert ran.ended == {"completed": 100}, ran.errors()
        made = {name: sum(statuses.values()) for name, statuses in ran.collector.totals().http_requests.items()}
        assert 80 <= made["GET /health"] <= 98
        assert made["m"] == 100 - made["GET /health"]


async def test_the_wait_for_a_slow_backend_counts_from_the_intended_instant():
    async with backend(latency="300ms", requests_at_once=3) as service:
        requests = [{"path": "/health"}]
        ran = await Ran("http", constant(40, "500ms"), url=service.url, requests=requests)()
        assert ran.ended["completed"] + ran.ended["rejected"] == 20
        assert ran.ended["rejected"] >= 10
        assert "GET /health: 429" in ran.errors()
        assert ran.collector.histogram("throttled").total == ran.ended["rejected"] * 10**9
        assert ran.collector.histogram("http_success").total == ran.ended["completed"] * 10**9


async def test_answers_that_lack_what_is_to_be_captured():
    async with backend() as service:
        requests = [{"path": "/health", "capture": {"x": "$.nowhere"}}, {"path": "/${x}"}]
        ran = await Ran("http", constant(5), url=service.url, requests=requests)()
        assert ran.ended == {"step_failed": 5}
        assert "the answer has no $.nowhere (x)" in ran.errors()


@pytest.mark.parametrize("keep_alive", [True, False])
async def test_connections_are_kept_or_not(keep_alive):
    connections = 0

    async def serve(reader, writer):
        nonlocal connections
        connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    requests = [{"path": "/a"}, {"path": "/b"}]
    ran = Ran("http", closed(1, "300ms", "10ms"), url=url, requests=requests, keep_alive=keep_alive)
    await ran()
    server.close()
    made = 2 * ran.ended["completed"]
    assert made >= 10
    if keep_alive:
        assert connections <= 3
    else:
        assert connections >= made


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body = f"HTTP/{scope['http_version']}".encode()
    await asyncio.sleep(0.02)
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(body)).encode())]}
    )
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def hypercorn_server(**settings):
    config, port, over = Config(), _free_port(), asyncio.Event()
    config.bind = [f"127.0.0.1:{port}"]
    config.graceful_timeout = 0.2
    config.loglevel = "CRITICAL"
    for name, value in settings.items():
        setattr(config, name, value)
    serving = asyncio.ensure_future(hypercorn.asyncio.serve(app, config, shutdown_trigger=over.wait))
    for _ in range(200):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            break
        except OSError:
            await asyncio.sleep(0.02)
    yield port
    over.set()
    await asyncio.wait_for(serving, 10)


async def test_http_2_in_the_clear_and_over_tls(certificates):
    requests = [{"path": "/x"}]
    async with hypercorn_server() as port:
        ran = await Ran("http", constant(30), url=f"http://127.0.0.1:{port}", http=2, requests=requests)()
        assert ran.ended == {"completed": 30}, ran.errors()
        assert ran.facts == {"answers over HTTP/2": "30"}
        assert 20 <= ran.ms("http_latency", 0.05) < 100
    async with hypercorn_server(certfile=certificates.cert, keyfile=certificates.key) as port:
        url = f"https://127.0.0.1:{port}"
        for version in ("1.1", "2"):
            options = {"url": url, "http": version, "requests": requests, "ca_file": certificates.ca}
            ran = await Ran("http", constant(20), **options)()
            assert ran.ended == {"completed": 20}, ran.errors()
            assert ran.facts == {f"answers over HTTP/{version}": "20"}
        with pytest.raises(RunAbortedError, match="cannot be used"):
            await Ran("http", constant(5), url=url, requests=requests)()


async def test_backends_that_cannot_be_used():
    for version in ("1.1", "2"):
        with pytest.raises(RunAbortedError, match=r"http://127.0.0.1:1 cannot be used"):
            await Ran("http", constant(5), url="http://127.0.0.1:1", http=version)()
    async with backend() as service:
        with pytest.raises(RunAbortedError, match=r"HTTP/2|cannot be used"):
            await Ran("http", constant(5), url=service.url, http="2")()


async def test_a_backend_that_vanishes_ends_the_run():
    stand_in = PlainStandIn()
    server = Server(stand_in.application())
    url = await server.start()
    ran = Ran("http", constant(30, "20s"), url=url)
    running = asyncio.ensure_future(ran())
    await asyncio.sleep(0.7)
    await server.stop()
    await running
    assert "is gone since" in ran.result.cut_short


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"requests": [{"path": "/${x}"}]}, "has no value"),
        ({"requests": [{"path": "/$"}]}, "dollar"),
        ({"requests": [{"path": "x"}]}, "pattern"),
        ({"requests": [{"path": "/", "json": {}, "body": "x"}]}, "not both"),
        ({"requests": [{"path": "/", "capture": {"a": "$["}}]}, "JSONPath"),
        ({"requests": []}, "at least 1"),
        ({"url": "agent"}, "http://"),
        ({"http": "2"}, "needs a url"),
        ({"http": "3"}, "1.1"),
    ],
)
def test_settings_that_cannot_work(options, words):
    with pytest.raises(ValidationError, match=words):
        HttpOptions.model_validate(options)
