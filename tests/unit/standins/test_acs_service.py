"""What the exchange guards and refuses: signatures, tokens, TLS, limits, calls not answered, failing callbacks."""

import base64
import json
import os
import ssl
import subprocess
import sys
import time
import uuid

import jwt
import pytest
import requests
from acs_world import Sdk, Trunk, backend, until
from azure.communication.callautomation import PhoneNumberIdentifier
from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceNotFoundError

from voxload.certificates import ensure_certificates
from voxload.dialects import acs_trunk as words
from voxload.dialects.acs_signing import sign
from voxload.errors import BadInputError
from voxload.model.exchange import DEVELOPMENT_KEY
from voxload.standins.acs.process import ExchangeProcess
from voxload.standins.acs.tokens import IDENTITY_PATH, ISSUER, KEYS_PATH, OPENID_PATH

BOB, US = PhoneNumberIdentifier("+15550100002"), PhoneNumberIdentifier("+18005550100")
QUICK = {"connect_delay": "1ms", "callback_delay": "1ms", "callee": {"answer_delay": "1ms"}}
RESOURCE = "11111111-2222-3333-4444-555555555555"
CREATE = {
    "targets": [{"kind": "phoneNumber", "phoneNumber": {"value": "+15550100002"}}],
    "sourceCallerIdNumber": {"value": "+18005550100"},
    "callbackUri": "http://127.0.0.1:9/",
}


@pytest.fixture(scope="module")
def exchange():
    with ExchangeProcess(QUICK | {"resource_id": RESOURCE, "callback_retries": 2}) as started:
        yield started


@pytest.fixture(scope="module")
def world():
    with backend() as started:
        yield started


def place(sdk, url, **options):
    return sdk.call("create_call", BOB, url + "/callbacks", source_caller_id_number=US, **options).call_connection_id


def post(exchange, path, body, key=DEVELOPMENT_KEY, headers=None, now_s=None):
    url = exchange.url + path
    sent = json.dumps(body).encode() if not isinstance(body, bytes) else body
    signed = sign("POST", url, sent, key, now_s or time.time())
    return requests.post(url, data=sent, headers={**signed, **(headers or {})}, timeout=5)


# --- who may come in ---


@pytest.mark.parametrize("aio", [False, True])
def test_another_key_is_denied_with_the_reason(exchange, aio):
    sdk = Sdk(exchange.url, aio, AzureKeyCredential(base64.b64encode(b"other").decode()), retry_total=0)
    with pytest.raises(ClientAuthenticationError, match="signature does not match"):
        place(sdk, "http://127.0.0.1:9")
    sdk.close()


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"Authorization": ""}, "no Authorization header"),
        ({"Authorization": "Bearer nonsense"}, "bearer token is not valid"),
        ({"Authorization": "HMAC-SHA256 SignedHeaders=host&Signature=x"}, "SignedHeaders must be"),
        ({"x-ms-content-sha256": "AAAA"}, "not the digest"),
        ({"x-ms-date": "yesterday"}, "is no date"),
        ({"Host": "example.com"}, "another host"),
    ],
)
def test_what_is_wrong_with_a_request_is_told(exchange, headers, words):
    answer = post(exchange, "/calling/callConnections?api-version=2024-09-15", CREATE, headers=headers)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "Denied"
    assert words in answer.json()["error"]["message"]


def test_an_old_request_is_denied(exchange):
    answer = post(exchange, "/calling/callConnections", CREATE, now_s=1_700_000_000)
    assert (answer.status_code, "minutes off" in answer.text) == (401, True)


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("callConnections", b"{", 400, "invalid"),
        ("callConnections", {"targets": []}, 400, "callbackUri"),
        ("callConnections", CREATE | {"targets": []}, 400, "targets names nobody"),
        ("callConnections", CREATE | {"sourceCallerIdNumber": None}, 400, "sourceCallerIdNumber is required"),
        ("callConnections", CREATE | {"callbackUri": "ftp://x"}, 400, "callbackUri is invalid"),
        (
            "callConnections",
            CREATE | {"mediaStreamingOptions": {"transportUrl": "http://x"}},
            400,
            "transportUrl is invalid",
        ),
        (
            "callConnections",
            CREATE | {"mediaStreamingOptions": {"transportUrl": "ws://x", "audioFormat": "mp3"}},
            400,
            "audioFormat is invalid",
        ),
        ("callConnections:answer", {"incomingCallContext": "x", "callbackUri": "http://x"}, 400, "incomingCallContext"),
        ("callConnections/none:play", {"playSources": [{}]}, 404, "Call not found"),
        ("callConnections/none:sing", {}, 404, "There is no POST"),
        ("recordings", {}, 400, "callLocator"),
        ("recordings/none:pause", {}, 404, "Recording not found"),
    ],
)
def test_requests_that_make_no_sense_are_told_why(exchange, path, body, status, words):
    answer = post(exchange, f"/calling/{path}?api-version=2024-09-15", body)
    assert answer.status_code == status, answer.text
    assert words in answer.json()["error"]["message"]


def test_a_repeated_request_is_carried_out_once(exchange):
    repeat = {"Repeatability-Request-ID": str(uuid.uuid4())}
    first, second = [post(exchange, "/calling/callConnections", CREATE, headers=repeat) for _ in range(2)]
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["callConnectionId"] == second.json()["callConnectionId"]


# --- tokens ---


def test_callbacks_and_media_sockets_carry_a_token_that_the_published_keys_verify(exchange, world):
    url, noted = world
    found = requests.get(exchange.url + OPENID_PATH, timeout=5).json()
    assert found == {"issuer": ISSUER, "jwks_uri": exchange.url + KEYS_PATH}
    with Trunk(exchange.url) as trunk:
        trunk.say(words.Ring("call-1", url + "/incoming", "+1555", "+1800"))
        event = until(lambda: noted.incoming, lambda: "the event")[-1]
        body = {
            "incomingCallContext": event.data["incomingCallContext"],
            "callbackUri": url + "/callbacks",
            "mediaStreamingOptions": {"transportUrl": "ws://x/ws", "startMediaStreaming": True},
        }
        answered = post(exchange, "/calling/callConnections:answer", body).json()
        noted.wait(answered["callConnectionId"], "CallConnected")
        on_socket = trunk.hear(words.OpenMedia).headers["Authorization"]
    keys = jwt.PyJWKClient(found["jwks_uri"])
    for text in (on_socket, noted.callback_headers[-1]["Authorization"]):
        token = text.removeprefix("Bearer ")
        key = keys.get_signing_key_from_jwt(token).key
        claims = jwt.decode(token, key, ["RS256"], audience=RESOURCE, issuer=ISSUER)
        assert claims["exp"] > claims["iat"]
        with pytest.raises(jwt.InvalidAudienceError):
            jwt.decode(token, key, ["RS256"], audience="somebody else")


def test_the_identity_endpoint_wants_its_header(exchange):
    url = exchange.url + IDENTITY_PATH
    params = {"resource": "https://communication.azure.com/"}
    assert requests.get(url, params, timeout=5).status_code == 401
    header = {"X-IDENTITY-HEADER": exchange.identity_header}
    assert requests.get(url, params, headers=header, timeout=5).json()["token_type"] == "Bearer"
    assert requests.get(url, {"resource": "https://vault.azure.net"}, headers=header, timeout=5).status_code == 400


# --- TLS ---


@pytest.fixture
def secure(tmp_path):
    with ExchangeProcess(QUICK | {"tls": True, "certificates": str(tmp_path / "tls")}) as started:
        yield started


PLACE_CALLS = """
import asyncio, sys
from azure.communication.callautomation import CallAutomationClient, PhoneNumberIdentifier
from azure.communication.callautomation.aio import CallAutomationClient as AioClient
from azure.identity import DefaultAzureCredential
from azure.identity.aio import DefaultAzureCredential as AioCredential

form, endpoint, key, callback = sys.argv[1:]
kind, credential = (AioClient, AioCredential) if form == "aio" else (CallAutomationClient, DefaultAzureCredential)
connection_string = kind.from_connection_string(f"endpoint={endpoint}/;accesskey={key}")
numbers = {"source_caller_id_number": PhoneNumberIdentifier("+18005550100")}

def both():
    for client in (connection_string, kind(endpoint, credential())):
        yield client, client.create_call(PhoneNumberIdentifier("+15550100002"), callback, **numbers)

async def aio():
    for client, placed in both():
        print((await placed).call_connection_id)
        await client.close()

if form == "aio":
    asyncio.run(aio())
else:
    for client, placed in both():
        print(placed.call_connection_id)
"""


@pytest.mark.parametrize("form", ["sync", "aio"])
def test_tls_with_a_connection_string_and_with_managed_identity(secure, world, form):
    """In a process of its own: the libraries read the variables when they are imported."""
    url, noted = world
    assert secure.endpoint.startswith("https://127.0.0.1:")
    variables = {
        "REQUESTS_CA_BUNDLE": secure.authority,
        "SSL_CERT_FILE": secure.authority,
        "IDENTITY_ENDPOINT": secure.endpoint + IDENTITY_PATH,
        "IDENTITY_HEADER": secure.identity_header,
    }
    done = subprocess.run(
        [sys.executable, "-c", PLACE_CALLS, form, secure.endpoint, DEVELOPMENT_KEY, url + "/callbacks"],
        env=os.environ | variables,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    placed = done.stdout.split()
    assert len(placed) == 2, done.stderr
    for connection_id in placed:
        noted.wait(connection_id, "CallConnected")


def test_the_authority_stays_and_signs_every_server(tmp_path):
    first = ensure_certificates(tmp_path, "exchange.example")
    authority = first.authority.read_bytes()
    again = ensure_certificates(tmp_path, "10.1.2.3")
    assert again.authority.read_bytes() == authority
    assert again.server_key.stat().st_mode & 0o077 == 0
    ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(again.server, again.server_key)


# --- limits and outcomes ---


def test_limits_are_kept_and_the_sdk_backs_off(world):
    url, noted = world
    limits = {"requests_per_s": 2, "concurrent_calls": 3}
    with ExchangeProcess(QUICK | {"limits": limits, "callee": {"answer_delay": "10s"}}) as exchange:
        sdk = Sdk(exchange.url, False)
        for _ in range(3):  # the third is refused once and tried again after Retry-After
            place(sdk, url)
        eager = Sdk(exchange.url, False, retry_total=0)
        with pytest.raises(HttpResponseError) as caught:
            place(eager, url)
        assert caught.value.status_code == 429
        assert int(caught.value.response.headers["Retry-After"]) >= 1
        counters = requests.get(exchange.url + "/voxload/counters", timeout=5).json()
        assert counters["active_calls"] == 3
        assert counters["limited"]["requests_per_s"] >= 1
        with Trunk(exchange.url) as trunk:
            trunk.say(words.Ring("call-1", url + "/incoming", "+1555", "+1800"))
            assert "all 3 concurrent calls" in trunk.hear(words.Refused).reason


@pytest.mark.parametrize(("outcome", "code"), [("busy", 486), ("declined", 603), ("no_answer", 480)])
def test_a_placed_call_that_is_not_answered(world, outcome, code):
    url, noted = world
    settings = QUICK | {"ring_timeout": "50ms", "callee": {"answer_delay": "1ms", "outcomes": {outcome: 1}}}
    with ExchangeProcess(settings) as exchange:
        sdk = Sdk(exchange.url, False)
        connection_id = place(sdk, url, operation_context="mine")
        failed = noted.wait(connection_id, "CreateCallFailed")
        assert failed["operationContext"] == "mine"
        assert failed["resultInformation"]["code"] == code
        assert failed["resultInformation"]["subCode"] == 560000 + code
        with pytest.raises(ResourceNotFoundError):
            sdk.on(connection_id, "get_call_properties")
        assert "CallConnected" not in noted.types(connection_id)


def test_a_callee_hangs_up_by_itself(world):
    url, noted = world
    with ExchangeProcess(QUICK | {"callee": {"answer_delay": "1ms", "hang_up_after": "20ms"}}) as exchange:
        connection_id = place(Sdk(exchange.url, False), url)
        noted.wait(connection_id, "CallDisconnected")


def test_callbacks_are_tried_again_in_order(exchange):
    with backend() as (url, noted):
        noted.callback_statuses[:] = [503, 429]
        connection_id = place(Sdk(exchange.url, False), url)
        noted.wait(connection_id, "ParticipantsUpdated")
        assert noted.types(connection_id) == ["CallConnected", "ParticipantsUpdated"]
        assert len(noted.callback_headers) == 4


def test_a_callback_that_is_refused_for_good_is_lost(exchange):
    with backend() as (url, noted):
        noted.callback_statuses[:] = [404]
        connection_id = place(Sdk(exchange.url, False), url)
        noted.wait(connection_id, "ParticipantsUpdated")
        assert "CallConnected" not in noted.types(connection_id)


def test_a_lost_trunk_hangs_up_for_its_callers(exchange, world):
    url, noted = world
    with Trunk(exchange.url) as trunk:
        before = len(noted.incoming)
        trunk.say(words.Ring("call-9", url + "/incoming", "+1555", "+1800"))
        event = until(lambda: noted.incoming[before:], lambda: "the event")[0]
        context = event.data["incomingCallContext"]
        answer = {"incomingCallContext": context, "callbackUri": url + "/callbacks"}
        connection_id = post(exchange, "/calling/callConnections:answer", answer).json()["callConnectionId"]
        noted.wait(connection_id, "CallConnected")
    noted.wait(connection_id, "CallDisconnected")


def test_a_stopped_exchange_hangs_up_first(world):
    url, noted = world
    with ExchangeProcess(QUICK) as exchange:
        connection_id = place(Sdk(exchange.url, False), url)
        noted.wait(connection_id, "ParticipantsUpdated")
    assert noted.types(connection_id)[-1] == "CallDisconnected"


def test_a_media_socket_that_does_not_open(exchange):
    with backend() as (url, noted):
        media = {"transportUrl": "ws://127.0.0.1:9/ws", "startMediaStreaming": True}
        body = CREATE | {"callbackUri": url + "/callbacks", "mediaStreamingOptions": media}
        connection_id = post(exchange, "/calling/callConnections", body).json()["callConnectionId"]
        failed = noted.wait(connection_id, "MediaStreamingFailed")
        details = failed["mediaStreamingUpdate"]["mediaStreamingStatusDetails"]
        assert details == "initialWebSocketConnectionFailed"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"access_key": "no base64!"}, "access_key"),
        ({"callee": {"outcomes": {"busy": 0}}}, "outcomes"),
        ({"webhook_timout": "1s"}, "webhook_timout"),
    ],
)
def test_wrong_settings_are_told(settings, words):
    with pytest.raises(BadInputError, match=words):
        ExchangeProcess(settings)
