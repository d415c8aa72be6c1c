"""Targets over https:// and wss://, straight and through proxies."""

import asyncio
import ssl

import aiohttp
import in_process
import picows
import pytest
import tiny_proxies
from conftest import scenario_with

from voxload import certificates
from voxload.engine.reach import tls_context
from voxload.engine.transport import classify
from voxload.model.outcome import Outcome
from voxload.model.twin import TwinSettings
from voxload.twin.process import TwinProcess

SIDE = {"interval": "200ms", "voice_weight": 0, "requests": [{"get": "/health"}]}
RECOVERY = {"after": "5s", "probes": 1, "health": [{"get": "/health", "expect": ["$.active_calls == 0"]}]}


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    settings = TwinSettings.model_validate({"latency": {"turn": "300ms"}, "reply_seconds_max": 0.6})
    with TwinProcess(settings, certificates=str(folder), server_name="agent.test") as twin:
        yield twin.url, folder / "ca.pem"


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def calls_of(load=5):
    return {"load": {"shape": "constant", "arrival_rate": load, "duration": "1s"}, "side_traffic": SIDE}


def test_the_authority_of_the_scenario_is_trusted_everywhere(voxload, agent):
    """Set-up, media socket, side traffic, health looks and probes all go over TLS."""
    url, authority = agent
    (voxload.folder / "own-ca.pem").write_bytes(authority.read_bytes())
    scenario = scenario_with(target=url, tls={"ca": "own-ca.pem"}, recovery=RECOVERY, **calls_of())
    summary = voxload.run(scenario, judged=False).summary
    assert summary.totals.outcomes == {"completed": 5}
    assert summary.totals.http_requests["/health"].keys() == {"200"}
    assert [probe.outcome for probe in summary.recovery.probes] == ["completed"]
    assert all(not look.broken for look in (*summary.recovery.before, *summary.recovery.looks))
    assert not summary.run.insecure


def test_an_unknown_authority_is_no_connection_and_says_what_to_do(voxload, agent):
    done = voxload.run(scenario_with(target=agent[0], **calls_of()))
    assert done.code == 3
    assert "cannot be reached" in done.summary.run.cut_short
    assert done.summary.errors[0].text in done.summary.run.cut_short
    assert done.summary.totals.outcomes == {"connect_failed": 5}
    assert "not trusted" in done.summary.errors[0].text
    assert "--ca" in done.summary.errors[0].text


def test_insecure_is_shown_everywhere(voxload, agent):
    done = voxload.run(scenario_with(target=agent[0], **calls_of()), "--insecure", judged=False)
    assert done.summary.totals.outcomes == {"completed": 5}
    assert done.summary.run.insecure
    assert "INSECURE: certificates are not verified" in " ".join(done.out.split())
    for name in ("report.html", "summary.md", "junit.xml"):
        assert "certificates were not verified" in (done.folder / name).read_text(), name
    checked = voxload("check", str(voxload.write(scenario_with(target=agent[0]))), "--insecure")
    assert "INSECURE" in checked.err


def test_a_file_without_a_certificate_is_bad_input(voxload):
    path = voxload.write(scenario_with(tls={"ca": "scenario.yaml"}))
    done = voxload("check", str(path))
    assert done.code == 2
    assert "there is no certificate in it" in done.err
    (voxload.folder / "ca.der").write_bytes(bytes(range(256)))
    done = voxload("check", str(path), "--ca", str(voxload.folder / "ca.der"))
    assert done.code == 2
    assert "-inform der" in done.err
    assert voxload("check", str(voxload.write(scenario_with())), "--ca", "missing.pem").code == 2


@pytest.mark.parametrize("kind", ["http", "socks5"])
def test_proxies_of_the_environment(voxload, agent, monkeypatch, kind):
    """Only the proxy knows where agent.test is: what arrives went through it, and TLS to the agent's own name."""
    url, authority = agent
    port = url.rpartition(":")[2]
    serve = {"http": tiny_proxies.connect_proxy, "socks5": tiny_proxies.socks5_proxy}[kind]
    with tiny_proxies.running(serve) as proxy:
        monkeypatch.setenv("HTTPS_PROXY" if kind == "http" else "ALL_PROXY", f"{kind}://127.0.0.1:{proxy.port}")
        scenario = scenario_with(target=f"https://agent.test:{port}", **calls_of())
        summary = voxload.run(scenario, "--ca", str(authority), judged=False).summary
        assert summary.totals.outcomes == {"completed": 5}, summary.errors
        assert len(proxy.tunnels) >= 6  # five media sockets, and HTTP
        assert set(proxy.tunnels) == {f"agent.test:{port}"}


def test_a_proxy_that_refuses_is_named(tmp_path, agent, monkeypatch):
    url, authority = agent
    with tiny_proxies.running(tiny_proxies.connect_proxy) as proxy:
        proxy.refuse = True
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        target = f"https://agent.test:{url.rpartition(':')[2]}"
        scenario = scenario_with(target=target, tls={"ca": str(authority)}, **calls_of())
        summary = in_process.place(tmp_path, {"": scenario})[""]
    assert summary.totals.outcomes == {"connect_failed": 5}
    assert "proxy" in summary.errors[0].text
    assert "407" in summary.errors[0].text


def test_a_proxy_that_wants_another_password_is_not_taken_for_the_agent(voxload, monkeypatch):
    """Over http:// its answer comes in the agent's place."""
    with tiny_proxies.running(tiny_proxies.connect_proxy) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://user:wrong-secret@127.0.0.1:{proxy.port}")
        load = {"shape": "constant", "arrival_rate": 5, "duration": "1s"}
        done = voxload.run(scenario_with(target="http://agent.test:8080", load=load))
    assert done.code == 3
    assert f"Calls go through the proxy http://127.0.0.1:{proxy.port}" in " ".join(done.out.split())
    assert done.summary.totals.outcomes == {"connect_failed": 5}
    assert "proxy" in done.summary.errors[0].text
    assert "wrong-secret" not in done.out + (done.folder / "summary.json").read_text()


@pytest.mark.parametrize("proxy", ["gopher://proxy.test", "http://proxy.test:port", "http://:3128"])
def test_a_proxy_that_is_none_is_bad_input(voxload, monkeypatch, proxy):
    monkeypatch.setenv("HTTP_PROXY", proxy)
    path = str(voxload.write(scenario_with(target="http://agent.test:8080")))
    for command in (["check", path], ["run", path]):
        done = voxload(*command)
        assert done.code == 2, done.err
        assert "the environment's proxy for http://agent.test:8080" in done.err
        assert "HTTPS_PROXY" in done.err
    assert not (voxload.folder / "results").exists()


@pytest.mark.parametrize(
    ("address", "days", "said"),
    [("127.0.0.2", 365, "mismatch"), ("127.0.0.1", -1 / 48, "expired")],
    ids=["another name", "expired"],
)
async def test_what_is_wrong_with_a_certificate(tmp_path, monkeypatch, address, days, said):
    """Both HTTP and the media socket say it, without a hint at --ca, which would not help."""
    monkeypatch.setattr(certificates, "SERVER_DAYS", days)
    made = certificates.ensure_certificates(tmp_path, "agent.test")

    async def close(_, writer):
        writer.close()

    server = await asyncio.start_server(close, address, 0, ssl=certificates.server_tls(made))
    place = f"{address}:{server.sockets[0].getsockname()[1]}"
    context = tls_context(made.authority.read_text(), insecure=False)

    async def get():
        async with aiohttp.ClientSession() as http, http.get(f"https://{place}/", ssl=context):
            pass

    async def dial():
        await picows.ws_connect(picows.WSListener, f"wss://{place}/", ssl_context=context)

    async with server:
        for work in (get, dial):
            with pytest.raises((ssl.SSLError, aiohttp.ClientError)) as caught:
                await work()
            outcome, reason = classify(caught.value)
            assert outcome == Outcome.CONNECT_FAILED
            assert said in reason
            assert "--ca" not in reason
