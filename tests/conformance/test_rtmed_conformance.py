"""The dialect `rtmed` against the conformance suite, and its own wire format."""

import base64
import json

import pytest

from voxload.dialects.base import (
    AudioIn,
    CallIdentity,
    Dial,
    Dialect,
    HttpRequest,
    HttpResponse,
    Malformed,
    ReplyEnded,
    SetupFailed,
    Transcript,
    Unknown,
)
from voxload.dialects.registry import build_dialect
from voxload.errors import BadInputError
from voxload.model.outcome import Outcome
from voxload.testing.conformance import UNIX_NS, Desk, DialectConformance


def rtmed(**options: object) -> Dialect:
    return build_dialect("rtmed", "https://agent.example/base/", dict(options))


class TestRtmed(DialectConformance):
    def make_dialect(self) -> Dialect:
        return rtmed()


class TestRtmedTelephonyRate(DialectConformance):
    def make_dialect(self) -> Dialect:
        return rtmed(message_rate=50)


def caller(dialect: Dialect):
    return dialect.caller(CallIdentity(7, "c", {"caller_number": "+15551234567"}))


def test_start_request_is_the_specifications():
    step = caller(rtmed()).open()
    assert isinstance(step, HttpRequest)
    assert (step.method, step.url) == ("POST", "https://agent.example/base/api/v1/calls/start")
    assert json.loads(step.body) == {"agent_type": "medical", "caller_number": "+15551234567", "language": "en-US"}


def test_dial_quotes_the_session_and_follows_the_scheme():
    session = caller(rtmed())
    session.open()
    step = session.on_response(HttpResponse(200, {}, b'{"session_id":"a b/c"}'))
    assert step == Dial("wss://agent.example/base/ws/call/a%20b%2Fc", ("call-protocol",))
    assert session.template_values() == {"session_id": "a b/c"}


def test_audio_chunk_is_the_specifications():
    dialect = rtmed(message_rate=10)
    assert dialect.caller_format.frame_ms == 100
    frame = bytes(range(256)) * 12 + bytes(128)
    (ready,) = dialect.prepare_caller([frame])
    message = json.loads(caller(dialect).stamp(ready, 0, UNIX_NS))
    assert message.keys() == {"type", "data", "timestamp"}
    assert message["type"] == "audio_chunk"
    assert base64.b64decode(message["data"]) == frame
    assert message["timestamp"] == pytest.approx(UNIX_NS / 1e9, abs=0.001)


def test_reply_in_one_message_gives_text_audio_and_end():
    audio = base64.b64encode(b"\1\2" * 50).decode()
    payload = json.dumps({"type": "agent_response", "text": "hi", "audio": audio, "final": True}).encode()
    events = caller(rtmed()).decode(payload, True)
    assert events == [Transcript("hi", "agent"), AudioIn(b"\1\2" * 50), ReplyEnded()]


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b'{"type":"agent_response","audio":"@@@@","sequence":1}', Malformed),
        (b'{"type":"agent_response","audio":"AAA","sequence":1}', Malformed),
        (b"hello", Malformed),
        (b'{"type":"weather"}', Unknown),
    ],
)
def test_bad_messages_are_told_apart(payload, expected):
    events = caller(rtmed()).decode(payload, True)
    assert [type(event) for event in events] == [expected]


def test_server_routes():
    dialect, desk = rtmed(), Desk()
    bad = dialect.answer(HttpRequest("POST", "/api/v1/calls/start", {}, b"{"), desk)
    assert bad is not None and bad.status == 400
    wrong = dialect.answer(HttpRequest("GET", "/api/v1/calls/start"), desk)
    assert wrong is not None and wrong.status == 405
    refused = dialect.answer(
        HttpRequest("POST", "/api/v1/calls/start", {}, b"{}"), Desk(HttpResponse(503, {}, b"full"))
    )
    assert refused is not None and refused.status == 503
    missing = dialect.answer(HttpRequest("GET", "/api/v1/calls/none/metrics"), desk)
    assert missing is not None and missing.status == 404


def test_an_answer_without_session_is_a_protocol_error():
    session = caller(rtmed())
    step = session.on_response(HttpResponse(200, {}, b"{}"))
    assert isinstance(step, SetupFailed) and step.outcome is Outcome.PROTOCOL_ERROR


@pytest.mark.parametrize("rate", [0, 3, 51, "fast"])
def test_message_rate_is_checked(rate):
    with pytest.raises(BadInputError, match="message_rate"):
        rtmed(message_rate=rate)


def test_unknown_option_gets_a_suggestion():
    with pytest.raises(BadInputError, match="did you mean message_rate"):
        rtmed(mesage_rate=10)


def test_unknown_dialect_gets_a_suggestion():
    with pytest.raises(BadInputError, match="did you mean rtmed"):
        build_dialect("rtmedd", "http://x", {})
