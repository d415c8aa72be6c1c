"""CPU and memory of the target, against processes that use a known amount and services that say a known amount."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime

import psutil
import pytest
from aiohttp import web
from pydantic import ValidationError

from voxload.clock import monotonic_ns
from voxload.errors import BadInputError, RunAbortedError
from voxload.measure.collector import Collector
from voxload.model.usage import ResourceSource
from voxload.runners.usage.processes import ProcessUsage, by_name, by_pid, by_port
from voxload.runners.usage.sampler import UsageSampler, build_sources
from voxload.runners.usage.source import Reading, UnreadableError, UsageSource
from voxload.standins.serving import Server

# works for 0.3 s of CPU in a child that ends, then for 0.3 s itself; tells what it used, and waits
BUSY = """
import os, resource, subprocess, sys, time
def work(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end: pass
print("ready", flush=True); sys.stdin.readline()
subprocess.run([sys.executable, "-c", "import time\\nwhile time.process_time() < 0.3: pass"])
work(0.3)
own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
print(sum((own.ru_utime, own.ru_stime, children.ru_utime, children.ru_stime)), flush=True); sys.stdin.readline()
"""


@pytest.fixture
def busy():
    child = subprocess.Popen([sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "ready\n"
    yield child
    child.kill()
    child.wait()


async def test_cpu_is_what_the_processes_say_they_used(busy):
    source = ProcessUsage("busy", by_pid(busy.pid), 2.0, 100 * 2**20, monotonic_ns)
    await source.open()
    began = psutil.Process(busy.pid).cpu_times()
    began_s, began_ns = began.user + began.system, monotonic_ns()
    busy.stdin.write("go\n")
    busy.stdin.flush()
    percents = []
    line = asyncio.ensure_future(asyncio.to_thread(busy.stdout.readline))
    while not line.done():
        await asyncio.sleep(0.1)
        percents.append(await source.read())
    percents.append(await source.read())
    used_s = float(line.result()) - began_s
    assert used_s > 0.55
    assert source.cpu_s == pytest.approx(used_s, abs=0.08)
    cpu = [reading.percent for readings in percents for reading in readings if reading.metric == "target_cpu"]
    assert max(cpu) <= 110  # two processes at most of two cores; the kernel's clock ticks in 10 ms
    elapsed_s = (monotonic_ns() - began_ns) / 1e9
    assert sum(cpu) / len(cpu) == pytest.approx(100 * used_s / elapsed_s / 2, rel=0.4)
    memory = percents[-1][1]
    assert memory.metric == "target_memory"
    resident = psutil.Process(busy.pid).memory_info().rss
    assert memory.percent == pytest.approx(100 * resident / (100 * 2**20), rel=0.3)


async def test_processes_are_found_by_port_and_name(busy):
    async with Server(web.Application()) as server:
        port = int(server.url.rpartition(":")[2])
        assert [process.pid for process in by_port(port)()] == [psutil.Process().pid]
    with pytest.raises(UnreadableError, match="no process of this machine listens"):
        by_port(port)()
    with pytest.raises(UnreadableError, match="matches"):
        by_name("time.process_time")()  # our own child is no target
    with pytest.raises(UnreadableError, match="there is no process"):
        by_pid(2**22 + 1)()


async def test_a_process_that_is_gone_cannot_be_read(busy):
    source = ProcessUsage("busy", by_pid(busy.pid), 1.0, 2**30, monotonic_ns)
    await source.open()
    busy.kill()
    busy.wait()
    with pytest.raises(UnreadableError):
        await source.read()


class Fake(UsageSource):
    """Reads a list of answers, one each time."""

    def __init__(self, *answers, name="fake", fails_to_open=False):
        super().__init__(name, 50_000_000)
        self.answers, self.fails_to_open, self.closed = list(answers), fails_to_open, False

    async def open(self):
        if self.fails_to_open:
            raise UnreadableError("not there")

    async def read(self):
        answer = self.answers.pop(0) if self.answers else None
        if answer is None:
            raise UnreadableError("went away")
        return [Reading("target_cpu", answer)]

    async def close(self):
        self.closed = True


async def sample(*sources, seconds):
    collector, start_ns = Collector(), monotonic_ns()
    sampler = UsageSampler(sources, collector, lambda: start_ns)
    async with sampler.sampling():
        await asyncio.sleep(seconds)
    assert all(source.closed for source in sources)
    return collector, sampler


async def test_values_stand_on_the_time_axis_under_their_resource():
    collector, sampler = await sample(Fake(*[50.0] * 20), Fake(*[10.0] * 20, name="other"), seconds=0.42)
    assert sampler.doubts == []
    histogram = collector.histogram("target_cpu")
    assert 8 <= histogram.count <= 16
    assert (histogram.minimum, histogram.maximum) == (10 * 10**9, 50 * 10**9)
    labels = Counter(series.labels["resource"] for series in collector.series())
    assert set(labels) == {"fake", "other"}
    point = next(collector.timeline({}))
    assert 10 < point.means["target_cpu"] < 50


async def test_a_source_that_goes_away_makes_the_run_doubtful():
    _, sampler = await sample(Fake(50.0, 50.0), seconds=0.42)
    assert len(sampler.doubts) == 1
    assert "fake was read 2 of" in sampler.doubts[0]
    assert "went away" in sampler.doubts[0]


async def test_sources_that_are_not_there_are_all_named():
    with pytest.raises(RunAbortedError, match=r"a: not there\nresources: b: not there"):
        await sample(Fake(name="a", fails_to_open=True), Fake(name="b", fails_to_open=True), seconds=0)


async def test_values_that_come_late_keep_their_place():
    collector = Collector()
    for second in range(200):
        collector.observe_at("target_cpu", (), float(second), second * 10**9)
        collector._freeze_old()
    collector.observe_at("target_memory", (), 33.0, 5 * 10**9)
    timeline = list(collector.timeline({}))
    assert timeline[5].means == {"target_cpu": 5.0, "target_memory": 33.0}
    assert collector.histogram("target_memory").count == 1


def prometheus(answers):
    async def query(request):
        assert request.headers["Authorization"] == "Bearer t0ken"
        status, body = answers[request.query["query"]]
        return web.json_response(body, status=status)

    application = web.Application()
    application.router.add_get("/api/v1/query", query)
    return application


def vector(*pairs):
    result = [{"metric": {"pod": pod}, "value": [1.0, value]} for pod, value in pairs]
    return 200, {"status": "success", "data": {"resultType": "vector", "result": result}}


async def test_prometheus():
    answers = {
        "cpu": vector(("a", "12.5"), ("b", "50")),
        "memory": (200, {"status": "success", "data": {"resultType": "scalar", "result": [1.0, "40.25"]}}),
        "nothing": vector(),
        "nan": vector(("a", "NaN")),
        "bad(": (400, {"status": "error", "errorType": "bad_data", "error": "parse error"}),
    }
    async with Server(prometheus(answers)) as server:

        def source(**queries):
            item = {"name": "pods", "prometheus": {"url": server.url, "token_env": "TOKEN", **queries}}
            return build_sources([ResourceSource.model_validate(item)], "", {"TOKEN": "t0ken"})[0]

        good = source(cpu="cpu", memory="memory")
        await good.open()
        assert [(item.metric, item.percent, item.part) for item in await good.read()] == [
            ("target_cpu", 12.5, "a"),
            ("target_cpu", 50.0, "b"),
            ("target_memory", 40.25, ""),
        ]
        await good.close()
        for query, words in (("nothing", "no values"), ("nan", "no values"), ("bad(", "400")):
            bad = source(cpu=query)
            with pytest.raises(UnreadableError, match=words):
                await bad.open()
            await bad.close()
    with pytest.raises(UnreadableError):
        await good.open()
    await good.close()


RESOURCE = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Web/serverFarms/plan"


def azure(asked, values):
    """The data plane of Azure Monitor's metrics, and the endpoint that hands out tokens."""

    async def batch(request):
        asked.append((dict(request.query), await request.json(), request.headers["Authorization"]))
        data = [{"timeStamp": stamp, "average": value} for stamp, value in values]
        metric = {
            "id": "m",
            "type": "t",
            "name": {"value": "CpuPercentage"},
            "unit": "Percent",
            "timeseries": [{"metadatavalues": [], "data": data}],
            "errorCode": "Success",
        }
        result = {
            "starttime": "x",
            "endtime": "y",
            "interval": "PT1M",
            "namespace": "n",
            "resourceregion": "r",
            "resourceid": RESOURCE,
            "value": [metric],
        }
        return web.json_response({"values": [result]})

    async def token(_):
        return web.json_response(
            {"access_token": "tok", "expires_on": "4102444800", "resource": "r", "token_type": "Bearer"}
        )

    application = web.Application()
    application.router.add_post("/subscriptions/s/metrics:getBatch", batch)
    application.router.add_get("/token", token)
    return application


async def test_azure_monitor(monkeypatch):
    now = datetime.now(UTC)
    this_minute = now.replace(second=0, microsecond=0).isoformat().replace("+00:00", "Z")
    asked = []
    async with Server(azure(asked, [(this_minute, 61.5), ("2020-01-01T00:00:00Z", None)])) as server:
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{server.url}/token")
        monkeypatch.setenv("IDENTITY_HEADER", "h")
        settings = {"resource": RESOURCE, "endpoint": server.url, "cpu": "CpuPercentage", "wait": "0s"}
        item = ResourceSource.model_validate({"name": "plan", "azure_monitor": settings})
        (source,) = build_sources([item], "", {})
        collector, start_ns = Collector(), monotonic_ns()
        sampler = UsageSampler([source], collector, lambda: start_ns)
        async with sampler.sampling():
            await asyncio.sleep(0.05)
    assert sampler.doubts == []
    histogram = collector.histogram("target_cpu")
    assert (histogram.count, histogram.maximum) == (1, 61_500_000_000)
    query, body, authorization = asked[0]
    assert (query["metricnamespace"], query["interval"]) == ("Microsoft.Web/serverFarms", "PT1M")
    assert authorization == "Bearer tok"
    assert RESOURCE in json.dumps(body)


@pytest.mark.parametrize(
    ("resource", "words"),
    [
        ({}, "exactly one"),
        ({"pid": 1, "port": 80}, "exactly one"),
        ({"port": 70000}, "between 1 and 65535"),
        ({"process": "("}, "no regular expression"),
        ({"prometheus": {"url": "http://p"}}, "nothing is asked"),
        ({"prometheus": {"url": "http://p", "cpu": "x"}, "cores": 2}, "processes of this machine"),
        ({"azure_monitor": {"resource": "plan", "endpoint": "https://x", "cpu": "c"}}, "/subscriptions/"),
        ({"pid": 1, "memory": "much"}, "not a size"),
    ],
)
def test_settings_that_cannot_work(resource, words):
    with pytest.raises(ValidationError, match=words):
        ResourceSource.model_validate(resource)


def test_what_only_the_run_can_tell_is_told_at_once():
    items = [
        {"port": "target"},
        {"prometheus": {"url": "http://p", "cpu": "x", "token_env": "NOT_SET"}},
        {"prometheus": {"url": "http://q", "cpu": "x"}},
    ]
    with pytest.raises(BadInputError) as caught:
        build_sources([ResourceSource.model_validate(item) for item in items], "https://agent.example", {})
    text = str(caught.value)
    for words in ("not agent.example", "NOT_SET is not set", "two are named 'prometheus'"):
        assert words in text
