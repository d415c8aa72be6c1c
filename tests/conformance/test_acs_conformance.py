"""The dialect `acs` against the conformance suite; the exchange's words are spoken by the test."""

import json

import pytest

from voxload.dialects import acs_trunk as words
from voxload.dialects.acs_signing import sign
from voxload.dialects.base import (
    CallerSession,
    CallIdentity,
    Dialect,
    Ended,
    HttpRequest,
    Interrupted,
    PeerError,
    SetupFailed,
    SetupStep,
    Signal,
)
from voxload.dialects.registry import build_dialect
from voxload.errors import BadInputError
from voxload.model.exchange import DEVELOPMENT_KEY
from voxload.model.outcome import Outcome
from voxload.testing.conformance import UNIX_NS, Desk, DialectConformance

EXCHANGE = "http://exchange.example:8181"


def acs(**options: object) -> Dialect:
    return build_dialect("acs", "https://agent.example/base", {"exchange": EXCHANGE, **options})


def event(kind: str, data: dict[str, object]) -> bytes:
    return json.dumps([{"eventType": kind, "data": data}]).encode()


def incoming(dialect: Dialect, desk: Desk) -> HttpRequest:
    """Tell the agent of a call; returns the request with which it answers."""
    data = {"incomingCallContext": "ctx", "from": {"rawId": "4:+1555"}, "to": {"rawId": "4:+1800"}}
    body = event("Microsoft.Communication.IncomingCall", data)
    answer = dialect.answer(HttpRequest("POST", "/api/incomingCall", {}, body), desk)
    assert answer is not None
    assert answer.status == 200
    (request,) = answer.follow_ups
    return request


class TestAcs(DialectConformance):
    def make_dialect(self) -> Dialect:
        return acs()

    def lead(self, dialect: Dialect, caller: CallerSession, desk: Desk) -> SetupStep:
        ringing = caller.open()
        assert isinstance(ringing, Signal)
        ring = words.decode_to_exchange(ringing.payload)
        assert isinstance(ring, words.Ring)
        assert ring.webhook == "https://agent.example/base/api/incomingCall"
        asked = json.loads(incoming(dialect, desk).body)["mediaStreamingOptions"]
        rate_hz = {"pcm16KMono": 16000, "pcm24KMono": 24000}[asked["audioFormat"]]
        opening = words.OpenMedia(ring.call_id, "connection", asked["transportUrl"], {}, rate_hz, "subscription")
        (step,) = caller.on_signal(words.encode(opening))
        assert isinstance(step, SetupStep)
        return step


class TestAcsAt24Kilohertz(TestAcs):
    def make_dialect(self) -> Dialect:
        return acs(sample_rate=24000, casing="camel")


def caller(**options: object):
    return acs(**options).caller(CallIdentity(7, "call-7", {"caller_number": "+15551234567"}))


def test_the_ring_says_who_calls_whom_and_carries_the_calls_headers():
    session = acs(webhook="https://hooks.example/acs", callee_number="+1888").caller(
        CallIdentity(7, "call-7", {"caller_number": "+1555"}, {"traceparent": "00-1"})
    )
    step = session.open()
    assert isinstance(step, Signal)
    assert words.decode_to_exchange(step.payload) == words.Ring(
        "call-7", "https://hooks.example/acs", "+1555", "+1888", {"traceparent": "00-1"}
    )


def test_the_agent_answers_with_a_signed_request():
    request = incoming(acs(), Desk())
    assert request.url.startswith(f"{EXCHANGE}/calling/callConnections:answer?api-version=")
    signed = sign("POST", request.url, request.body, DEVELOPMENT_KEY, UNIX_NS / 1e9)
    assert {name: request.headers[name] for name in signed} == signed


def test_the_agent_validates_its_subscription():
    body = event("Microsoft.EventGrid.SubscriptionValidationEvent", {"validationCode": "42"})
    answer = acs().answer(HttpRequest("POST", "/api/incomingCall", {}, body), Desk())
    assert answer is not None
    assert json.loads(answer.body) == {"validationResponse": "42"}


@pytest.mark.parametrize("body", [b"", b"{", b"[]x", b'[{"eventType":"x"}]', b"[7]", b'{"data":null}'])
def test_the_agent_refuses_what_is_no_event(body):
    answer = acs().answer(HttpRequest("POST", "/api/incomingCall", {}, body), Desk())
    assert answer is not None
    assert answer.status == 400


def test_what_the_exchange_says():
    session = caller()
    session.open()

    def hear(word: words.FromExchange):
        return list(session.on_signal(words.encode(word)))

    assert hear(words.Waiting("call-7", "the backend")) == []
    assert session.waiting_for() == "the backend"
    assert hear(words.Refused("call-7", "rejected", "no")) == [SetupFailed(Outcome.REJECTED, "no")]
    assert hear(words.Complaint("call-7", "callback 500", "x")) == [PeerError("callback 500", "x")]
    assert hear(words.Finished("call-7", "over")) == [Ended("over")]
    (failed,) = hear(words.OpenMedia("call-7", "c", "ws://x", {}, 24000, "s"))
    assert isinstance(failed, SetupFailed)
    assert "sample_rate: 24000" in failed.reason


def test_what_the_caller_tells_the_exchange():
    session = caller()
    session.open()
    session.on_signal(words.encode(words.OpenMedia("call-7", "c-1", "ws://x", {}, 16000, "s-1", True, True)))
    assert session.template_values() == {"call_connection_id": "c-1"}
    messages = [*session.on_connected(), *session.dtmf("5"), *session.said("hello"), *session.released()]
    told = [words.decode_to_exchange(message.payload) for message in messages if isinstance(message, Signal)]
    assert told == [
        words.MediaOpened("call-7"),
        words.Pressed("call-7", "5"),
        words.Said("call-7", "hello"),
        words.HungUp("call-7"),
    ]
    on_socket = [json.loads(message.payload) for message in messages if not isinstance(message, Signal)]
    assert [message["kind"] for message in on_socket] == ["AudioMetadata", "DtmfData"]
    assert on_socket[0]["audioMetadata"]["subscriptionId"] == "s-1"


def test_audio_on_a_one_way_stream_is_dropped_as_the_service_does():
    session, dialect = caller(), acs()
    (audio,) = dialect.prepare_agent([bytes(640)])
    session.on_signal(words.encode(words.OpenMedia("call-7", "c", "ws://x", {}, 16000, "s", bidirectional=False)))
    (event,) = session.decode(audio, True)
    assert isinstance(event, PeerError)
    assert "enable_bidirectional" in event.message
    assert session.decode(audio, True) == ()
    (stop,) = dialect.agent("c").interrupted()
    assert session.decode(*stop) == (Interrupted(),)


def test_words_of_other_calls_and_nonsense_are_nobodys():
    dialect = acs()
    assert dialect.signal_call_id(words.encode(words.Finished("call-9", ""))) == "call-9"
    assert dialect.signal_call_id(b"\xff") == ""
    assert dialect.trunk().url == "ws://exchange.example:8181/voxload/trunk"
    assert dialect.exchange_job() is None


def test_the_runs_own_exchange_gets_its_settings():
    dialect = build_dialect("acs", "http://x", {"listen": "0.0.0.0:9000", "service": {"ring_timeout": "5s"}})
    job = dialect.exchange_job()
    assert job is not None
    assert (job.host, job.port, job.settings["ring_timeout"]) == ("0.0.0.0", 9000, "5s")


def test_wrong_options_are_all_told():
    wrong = {"sample_rate": 8000, "listen": "here", "access_key": "?", "exchange": "here:1", "service": {"tsl": True}}
    with pytest.raises(BadInputError) as caught:
        acs(**wrong)
    assert {problem.message.split()[3].rstrip(":") for problem in caught.value.problems} == set(wrong)
    assert "tsl" in str(caught.value)
