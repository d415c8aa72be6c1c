"""How a shard reaches its target: what verifies it is made before the calls, where it may be needed at all."""

import ssl

import pytest
from aiohttp import web

from voxload.certificates import ensure_certificates, server_tls
from voxload.engine import reach
from voxload.engine.proxies import is_plain
from voxload.engine.reach import open_web
from voxload.load.workload import Workload
from voxload.model.plan import Plan, PlannedTarget

SCENARIO = {
    "version": 1,
    "name": "reached",
    "target": "http://agent.example",
    "load": {"shape": "constant", "arrival_rate": 1, "duration": "1s"},
    "calls": [{"name": "one", "script": ["wait_for_agent", "hang_up"]}],
}


def workload_of(*urls, authorities=""):
    targets = tuple(PlannedTarget(url, url, 1 / len(urls)) for url in urls) if len(urls) > 1 else ()
    return Workload(Plan("reached", SCENARIO, urls[0], targets=targets, authorities=authorities))


@pytest.mark.parametrize(
    ("url", "plain"),
    [
        ("http://127.0.0.1:8080", True),
        ("ws://localhost:8080/media", True),
        ("http://[::1]:8080", True),
        ("https://127.0.0.1:8080", False),
        ("wss://localhost/media", False),
        ("http://agent.example", False),  # a proxy of https:// may stand before it, and what it answers lead to wss://
    ],
)
def test_what_is_plain(url, plain):
    assert is_plain(url) is plain


@pytest.mark.parametrize(
    ("urls", "made"),
    [
        (("http://127.0.0.1:1",), 0),
        (("https://127.0.0.1:1",), 1),
        (("http://agent.example",), 1),
        (("http://127.0.0.1:1", "https://agent.example", "https://other.example"), 1),
    ],
)
async def test_authorities_are_read_before_the_calls_and_only_where_they_may_be_needed(monkeypatch, urls, made):
    found = []
    monkeypatch.setattr(
        reach, "tls_context", lambda *_: found.append(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)) or found[-1]
    )
    async with open_web(workload_of(*urls)):
        assert len(found) == made


async def test_a_plain_target_may_lead_to_one_that_is_verified(tmp_path):
    """The authorities of the scenario are asked there too."""
    made = ensure_certificates(tmp_path, "127.0.0.1")

    async def answer(_):
        return web.Response(text="here")

    application = web.Application()
    application.router.add_get("/", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_tls(made))
    await site.start()
    url = f"https://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"
    try:
        workload = workload_of("http://127.0.0.1:1", authorities=made.authority.read_text())
        async with open_web(workload) as reached, reached.request("GET", url) as found:
            assert await found.text() == "here"
    finally:
        await runner.cleanup()
