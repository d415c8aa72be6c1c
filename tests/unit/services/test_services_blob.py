"""Recordings and transcripts stored by Microsoft's client."""

from __future__ import annotations

import asyncio

import pytest
from azure.storage.blob.aio import BlobServiceClient
from component_runs import Ran, closed, constant
from pydantic import ValidationError

from voxload.errors import BadInputError, RunAbortedError
from voxload.model.quantities import parse_size
from voxload.services.blob.options import BlobOptions
from voxload.standins.blob.server import BlobStandIn
from voxload.standins.blob.settings import BlobServiceSettings
from voxload.standins.blob.signing import DEVELOPMENT_KEY
from voxload.standins.serving import Server


class Account:
    """A stand-in in this process, and how it is named to the component."""

    def __init__(self, **settings):
        self.service = BlobStandIn(BlobServiceSettings.model_validate(settings))
        self.server = Server(self.service.application())

    async def __aenter__(self):
        url = await self.server.start()
        self.options = {"connection_string": f"{self.service.connection_string}BlobEndpoint={url}/devstoreaccount1;"}
        self.by_url = {"account_url": f"{url}/devstoreaccount1", "access_key": DEVELOPMENT_KEY}
        return self

    async def __aexit__(self, *_):
        await self.server.stop()


async def test_what_a_call_stores_goes_up_comes_down_and_is_removed():
    async with Account(latency="30ms") as account:
        sizes = {"recording": "100KB", "transcript": "1KB..2KB", "block": "30KB", "parallel": 2}
        ran = await Ran("blob", constant(10), **account.options, **sizes)()
        assert ran.ended == {"completed": 10}, ran.errors()
        counts = account.service.counts
        assert counts["PUT blob block 201"] == 10 * 4
        assert counts["PUT blob blocklist 201"] == 10
        assert counts["PUT blob 201"] == 10
        assert counts["DELETE blob 202"] == 20
        assert (counts["PUT container 201"], counts["DELETE container 202"]) == (1, 1)
        assert account.service.store.containers == {}
        for step, count, least_ms in (("upload", 20, 30), ("download", 20, 30), ("list", 10, 30), ("delete", 20, 30)):
            assert ran.count(f"blob_{step}") == count
            assert ran.ms(f"blob_{step}", 0.01) >= least_ms * 0.99
        assert ran.collector.totals().bytes_sent > 10 * 101_000
        throughput = ran.collector.histogram("blob_throughput")
        assert throughput.count == 40
        # 100 KB in blocks: at least three times the latency, so at most 1.1 MB/s
        assert throughput.maximum / 1e9 < 100_000 / 1e6 / 0.060


async def test_an_existing_container_is_left_with_what_was_in_it():
    async with Account() as account:
        async with BlobServiceClient.from_connection_string(account.options["connection_string"]) as client:
            container = await client.create_container("calls")
            await container.upload_blob("somebody-else", b"1")
        options = {"container": "calls", "recording": None, "steps": ["upload"]}
        ran = await Ran("blob", constant(5), **account.by_url, **options)()
        assert ran.ended == {"completed": 5}, ran.errors()
        assert list(account.service.store.containers["calls"].blobs) == ["somebody-else"]
        assert ran.facts["blobs left over and removed"] == "5"


async def test_an_interrupt_leaves_nothing_behind():
    async with Account(latency="50ms") as account:
        account.service.store.create_container("calls", {}, 0)
        ran = Ran("blob", closed(8, "20s"), container="calls", recording="10KB", **account.options)
        asyncio.get_running_loop().call_later(0.7, ran.runner.stop, "interrupted")
        await ran()
        assert ran.ended["cancelled"] == 8
        assert account.service.store.containers["calls"].blobs == {}


async def test_throttling_is_counted_and_told():
    async with Account(requests_per_s=40) as account:
        ran = await Ran("blob", constant(30), recording=None, **account.options)()
        assert ran.ended["rejected"] > 0
        assert "503 ServerBusy" in ran.errors()
        throttled = ran.collector.histogram("throttled")
        assert throttled.mean > 0
        # with retries the calls come through, late
        ran = await Ran("blob", constant(10, "500ms"), "run-2", recording=None, retries=5, **account.options)()
        assert set(ran.ended) <= {"completed", "rejected"}


async def test_downloads_that_break_off():
    async with Account(faults={"cut_rate": 1.0}) as account:
        ran = await Ran("blob", constant(3), transcript=None, recording="50KB", **account.options)()
        assert set(ran.ended) <= {"dropped_by_target", "rejected", "step_failed"}, ran.errors()
        assert "download" in ran.errors()


async def test_accounts_that_cannot_be_used():
    async with Account() as account:
        wrong = {**account.by_url, "access_key": "AAAA"}
        with pytest.raises(RunAbortedError, match="AuthenticationFailed"):
            await Ran("blob", constant(5), **wrong)()
        with pytest.raises(RunAbortedError, match="ContainerNotFound"):
            await Ran("blob", constant(5), container="nowhere", **account.options)()
    with pytest.raises(RunAbortedError, match="cannot be used"):
        await Ran("blob", constant(5), account_url="http://127.0.0.1:1/a", access_key="AAAA")()
    with pytest.raises(BadInputError, match="DefaultEndpointsProtocol"):
        await Ran("blob", constant(5), connection_string="nonsense")()
    with pytest.raises(BadInputError, match="requests_per_s"):
        await Ran("blob", constant(5), service={"requests_per_s": -1})()


async def test_a_service_that_vanishes_ends_the_run():
    async with Account() as account:
        ran = Ran("blob", constant(30, "20s"), recording="1KB", **account.options)
        running = asyncio.ensure_future(ran())
        await asyncio.sleep(0.8)
        await account.server.stop()
        await running
        assert "is gone since" in ran.result.cut_short


@pytest.mark.parametrize(("text", "size"), [("960KB", 960_000), ("4MiB", 4 * 2**20), (12, 12), ("1.5 MB", 1_500_000)])
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "options",
    [
        {"recording": "lots"},
        {"recording": "2MB..1MB"},
        {"recording": "2GiB"},
        {"recording": None, "transcript": None},
        {"steps": ["download"]},
        {"account_url": "https://x"},
        {"account_url": "x", "access_key": "a"},
        {"access_key": "a"},
        {"account_url": "https://x", "access_key": "a", "sas_token": "b"},
    ],
)
def test_settings_that_cannot_work(options):
    with pytest.raises(ValidationError):
        BlobOptions.model_validate(options)
