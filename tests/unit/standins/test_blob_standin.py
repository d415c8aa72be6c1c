"""The stand-in for Blob Storage, used by Microsoft's own client."""

import aiohttp
import pytest
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
)
from azure.storage.blob import BlobBlock, ContentSettings
from azure.storage.blob.aio import BlobServiceClient

from voxload.standins.blob.server import BlobStandIn
from voxload.standins.blob.settings import BlobFaults, BlobServiceSettings
from voxload.standins.serving import Server


def endpoint(service, server):
    return f"{service.connection_string}BlobEndpoint={server.url}/{service.settings.account};"


@pytest.fixture
async def service():
    stand_in = BlobStandIn()
    async with Server(stand_in.application()) as server:
        stand_in.url = server.url
        async with BlobServiceClient.from_connection_string(endpoint(stand_in, server), retry_total=0) as client:
            stand_in.client = client
            yield stand_in


async def test_a_recording_goes_up_comes_down_is_listed_and_deleted(service):
    container = await service.client.create_container("recordings", metadata={"purpose": "test"})
    recording = bytes(range(256)) * 1000
    blob = await container.upload_blob(
        "2026/call 1+ü.wav",
        recording,
        metadata={"call_id": "c-1"},
        content_settings=ContentSettings(content_type="audio/wav"),
    )
    got = await (await container.download_blob("2026/call 1+ü.wav")).readall()
    assert got == recording
    properties = await blob.get_blob_properties()
    assert (properties.size, properties.content_settings.content_type) == (len(recording), "audio/wav")
    assert properties.metadata == {"call_id": "c-1"}
    listed = [item async for item in container.list_blobs(include=["metadata"])]
    assert [(item.name, item.size, item.metadata) for item in listed] == [
        ("2026/call 1+ü.wav", len(recording), {"call_id": "c-1"})
    ]
    await blob.delete_blob()
    assert [item async for item in container.list_blobs()] == []
    assert (await container.get_container_properties()).metadata == {"purpose": "test"}
    assert [item.name async for item in service.client.list_containers(name_starts_with="rec")] == ["recordings"]
    await container.delete_container()
    with pytest.raises(ResourceNotFoundError):
        await container.get_container_properties()
    assert service.store.bytes_held == 0


async def test_a_large_blob_goes_up_in_blocks_and_comes_down_in_ranges(service):
    text = endpoint(service, service)
    options = {"max_single_put_size": 10_000, "max_block_size": 7_000, "max_single_get_size": 9_000}
    async with BlobServiceClient.from_connection_string(text, max_chunk_get_size=5_000, **options) as client:
        container = await client.create_container("large")
        content = bytes(i * 7 % 251 for i in range(40_000))
        await container.upload_blob("big.wav", content, max_concurrency=3)
        assert await (await container.download_blob("big.wav", max_concurrency=3)).readall() == content
        assert service.counts["PUT blob block 201"] == 6
        assert service.counts["PUT blob blocklist 201"] == 1
        assert service.counts["GET blob 206"] > 3
        part = await container.download_blob("big.wav", offset=100, length=50)
        assert await part.readall() == content[100:150]


async def test_blocks_can_be_staged_and_committed_by_hand(service):
    blob = (await service.client.create_container("blocks")).get_blob_client("transcript.txt")
    for block_id, text in (("0001", b"hello "), ("0002", b"world"), ("0003", b"unused")):
        await blob.stage_block(block_id, text)
    committed, waiting = await blob.get_block_list("all")
    assert (committed, len(waiting)) == ([], 3)
    await blob.commit_block_list([BlobBlock("0001"), BlobBlock("0002")])
    assert await (await blob.download_blob()).readall() == b"hello world"
    committed, waiting = await blob.get_block_list("all")
    assert ([block.size for block in committed], waiting) == ([6, 5], [])
    await blob.stage_block("0004", b"again, ")
    await blob.commit_block_list([BlobBlock("0004"), BlobBlock("0002")])
    assert await (await blob.download_blob()).readall() == b"again, world"
    with pytest.raises(HttpResponseError, match="InvalidBlockList"):
        await blob.commit_block_list([BlobBlock("9999")])
    assert service.store.bytes_held == len(b"again, world")


async def test_metadata_properties_and_conditions(service):
    container = await service.client.create_container("meta")
    blob = await container.upload_blob("a.json", b"{}")
    await blob.set_blob_metadata({"a_b": "1", "ab": "2", "a1": "3", "AB2": "4"})
    assert (await blob.get_blob_properties()).metadata == {"a_b": "1", "ab": "2", "a1": "3", "AB2": "4"}
    await blob.set_http_headers(ContentSettings(content_type="application/json", cache_control="no-store"))
    before = await blob.get_blob_properties()
    assert before.content_settings.content_type == "application/json"
    with pytest.raises(ResourceExistsError):
        await container.upload_blob("a.json", b"[]")
    await container.upload_blob("a.json", b"[]", overwrite=True)
    with pytest.raises(ResourceModifiedError):
        await blob.delete_blob(etag=before.etag, match_condition=_if_not_modified())


def _if_not_modified():
    from azure.core import MatchConditions

    return MatchConditions.IfNotModified


async def test_lists_come_in_pages_and_by_folders(service):
    container = await service.client.create_container("list")
    for name in ("a/1", "a/2", "b/1", "c", "d"):
        await container.upload_blob(name, name.encode())
    pages = [[item.name async for item in page] async for page in container.list_blobs(results_per_page=2).by_page()]
    assert pages == [["a/1", "a/2"], ["b/1", "c"], ["d"]]
    assert [item.name async for item in container.walk_blobs()] == ["a/", "b/", "c", "d"]
    assert [item.name async for item in container.list_blobs(name_starts_with="a/")] == ["a/1", "a/2"]


async def test_errors_are_those_of_the_service(service):
    container = service.client.get_container_client("nowhere")
    with pytest.raises(ResourceNotFoundError) as caught:
        await container.upload_blob("a", b"")
    assert caught.value.error_code == "ContainerNotFound"
    assert "RequestId:" in caught.value.message
    await container.create_container()
    with pytest.raises(ResourceExistsError):
        await container.create_container()
    with pytest.raises(ResourceNotFoundError) as caught:
        await (await container.download_blob("a")).readall()
    assert caught.value.error_code == "BlobNotFound"
    with pytest.raises(HttpResponseError, match="InvalidResourceName"):
        await service.client.create_container("Bad--Name")


async def test_only_the_right_key_opens_the_account(service):
    wrong = f"{service.connection_string}BlobEndpoint={service.url}/{service.settings.account};".replace("Eby8", "AAAA")
    async with BlobServiceClient.from_connection_string(wrong, retry_total=0) as client:
        with pytest.raises(ClientAuthenticationError) as caught:
            await client.create_container("c")
    assert caught.value.error_code == "AuthenticationFailed"
    async with aiohttp.ClientSession() as session, session.get(f"{service.url}/devstoreaccount1?comp=list") as answer:
        assert answer.status == 403


async def test_limits_faults_and_latency():
    settings = BlobServiceSettings(requests_per_s=3, capacity_bytes=1000, latency="0ms..1ms")
    stand_in = BlobStandIn(settings, clock=lambda: 0)  # time stands still: no tokens flow in
    async with Server(stand_in.application()) as server:
        text = endpoint(stand_in, server)
        async with BlobServiceClient.from_connection_string(text, retry_total=0) as client:
            container = await client.create_container("few")
            await container.upload_blob("a", bytes(900))
            with pytest.raises(HttpResponseError, match="InsufficientAccountCapacity"):
                await container.upload_blob("b", bytes(101))
            with pytest.raises(HttpResponseError, match="ServerBusy"):
                await container.upload_blob("c", b"")


async def test_a_download_can_break_off():
    stand_in = BlobStandIn(BlobServiceSettings(faults=BlobFaults(cut_rate=1.0)))
    async with Server(stand_in.application()) as server:
        text = endpoint(stand_in, server)
        async with BlobServiceClient.from_connection_string(text, retry_total=0) as client:
            container = await client.create_container("cut")
            await container.upload_blob("a", bytes(100_000))
            with pytest.raises((HttpResponseError, aiohttp.ClientError)):
                await (await container.download_blob("a")).readall()
