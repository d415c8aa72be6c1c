"""Where chat completions are asked for and by whom: keys, Entra ID, base URLs, deployments, wrong ones too."""

from __future__ import annotations

import pytest
from aiohttp import web
from chat_services import (
    ASKED,
    CLIENTS,
    QUICK,
    chat_server,
    options_for,
    piece,
    requests,
    service,
    streamed,
    total,
)
from component_runs import Ran, constant

from voxload.errors import RunAbortedError
from voxload.standins.serving import Server


def jwt_server():
    application = web.Application()
    application[ASKED] = []

    async def token(request):
        application[ASKED].append(request.query)
        answer = {"access_token": "aaaa.bbbb.cccc", "expires_on": "4102444800", "resource": "r", "token_type": "Bearer"}
        return web.json_response(answer)

    application.router.add_get("/token", token)
    return application


@CLIENTS
@pytest.mark.parametrize("path", ["", "/openai/v1"])
async def test_entra_id(client, path, monkeypatch):
    identity = jwt_server()
    async with Server(identity) as tokens, service(deployments={"gpt-4o": QUICK}) as stand_in:
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{tokens.url}/token")
        monkeypatch.setenv("IDENTITY_HEADER", "h")
        options = {"endpoint": stand_in.url + path, "entra": True, "client": client}
        ran = await Ran("openai", constant(40, "250ms"), **options)()
        assert ran.ended == {"completed": 10}, ran.errors()
        assert [query["resource"] for query in identity[ASKED]] == ["https://cognitiveservices.azure.com"]


async def test_a_token_that_cannot_be_had(monkeypatch):
    async def refuse(_):
        return web.json_response({"message": "no identity here"}, status=400)

    identity = web.Application()
    identity.router.add_get("/token", refuse)
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "ManagedIdentityCredential")
    monkeypatch.setenv("IDENTITY_HEADER", "h")
    async with Server(identity) as tokens, service() as stand_in:
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{tokens.url}/token")
        with pytest.raises(RunAbortedError, match=r"cannot be used: gpt-4o: .*ManagedIdentityCredential"):
            await Ran("openai", constant(20, "250ms"), endpoint=stand_in.url, entra=True, client="fast")()


@CLIENTS
@pytest.mark.parametrize("path", ["/v1", "/openai/v1"])
async def test_base_urls_with_and_without_a_key(client, path):
    async with service(deployments={"gpt-4o": QUICK}) as stand_in:
        options = options_for(stand_in, client=client) | {"endpoint": stand_in.url + path}
        ran = await Ran("openai", constant(40, "250ms"), **options)()
        assert ran.ended == {"completed": 10}, ran.errors()
    application = chat_server(lambda request, number: streamed(request, piece("Hi"), piece("", "stop"), "[DONE]"))
    async with Server(application) as server:
        ran = await Ran("openai", constant(20, "250ms"), endpoint=f"{server.url}/v1", client=client)()
        assert ran.ended == {"completed": 5}, ran.errors()
        assert not any("Authorization" in headers or "api-key" in headers for _, _, headers in application[ASKED])


@CLIENTS
async def test_services_that_cannot_be_used(client):
    async with service(deployments={"other": QUICK}) as stand_in:
        with pytest.raises(RunAbortedError, match=r"cannot be used: gpt-4o: 404 DeploymentNotFound"):
            await Ran("openai", constant(20, "250ms"), **options_for(stand_in, client=client))()
        options = options_for(stand_in, client=client) | {"api_key": "wrong"}
        with pytest.raises(RunAbortedError, match="401 401 Access denied"):
            await Ran("openai", constant(20, "250ms"), **options)()
    with pytest.raises(RunAbortedError, match=r"http://127.0.0.1:1 cannot be used"):
        await Ran("openai", constant(20, "250ms"), endpoint="http://127.0.0.1:1", api_key="k", client=client)()


@CLIENTS
async def test_deployments_share_the_load_by_weight(client):
    deployments = [{"name": "large", "weight": 3}, "small"]
    async with service(deployments={"large": QUICK, "small": QUICK}) as stand_in:
        more = {"deployments": deployments, "max_tokens": None, "client": client}
        ran = await Ran("openai", constant(80, "1s"), **options_for(stand_in, **more))()
        assert ran.ended == {"completed": 80}, ran.errors()
        large, small = (requests(ran, name)["200"] for name in ("large", "small"))
        assert (large + small, 45 <= large <= 75) == (80, True)
        for name, asked in (("large", large), ("small", small)):
            assert total(ran, "completion_tokens", deployment=name) == 10 * asked
            assert stand_in.deployments[name].quota.counts()["requests_admitted"] == asked + 1
