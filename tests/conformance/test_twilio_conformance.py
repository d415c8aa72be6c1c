"""The dialect `twilio` against the conformance suite, Twilio's own library, and the words of its documentation."""

import base64
import json

import pytest
from twilio.request_validator import RequestValidator
from twilio.twiml.voice_response import Connect, Start, Stream, VoiceResponse

from voxload.dialects.base import (
    AudioIn,
    CallIdentity,
    Dial,
    Ended,
    HttpRequest,
    HttpResponse,
    Interrupted,
    Malformed,
    Mark,
    PeerError,
    SetupFailed,
)
from voxload.dialects.registry import build_dialect
from voxload.model.outcome import Outcome
from voxload.testing.conformance import UNIX_NS, Desk, DialectConformance

TOKEN = "12345"


def twilio(**options):
    return build_dialect("twilio", "https://agent.example/base/", options)


class TestTwilio(DialectConformance):
    def make_dialect(self):
        return twilio()


class TestTwilioSigned(DialectConformance):
    def make_dialect(self):
        return twilio(auth_token=TOKEN, signed_url="https://public.example/voice")


class TestTwilioStreamAlone(DialectConformance):
    def make_dialect(self):
        return twilio(stream_url="/media", parameters={"number": "${caller_number}"})


def caller(dialect):
    return dialect.caller(CallIdentity(7, "c", {"caller_number": "+15551234567"}))


def answered(*verbs, **options):
    """What a call does when its webhook answers with these verbs."""
    response = VoiceResponse()
    for verb in verbs:
        response.append(verb)
    session = caller(twilio(**options))
    assert isinstance(session.open(), HttpRequest)
    return session.on_response(HttpResponse(200, {}, str(response).encode())), session


def connect(url="wss://media.example/stream", **parameters):
    stream = Stream(url=url)
    for name, value in parameters.items():
        stream.parameter(name=name, value=value)
    verb = Connect()
    verb.append(stream)
    return verb


def test_twilio_itself_finds_the_signatures_right():
    session = caller(twilio(auth_token=TOKEN, webhook="/in?tenant=7"))
    request = session.open()
    assert (request.method, request.url) == ("POST", "https://agent.example/base/in?tenant=7")
    form = dict(pair.split("=", 1) for pair in request.body.decode().split("&"))
    assert form["CallSid"].startswith("CA") and len(form["CallSid"]) == 34
    from urllib.parse import parse_qs

    details = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
    assert details["From"] == details["Caller"] == "+15551234567"
    assert RequestValidator(TOKEN).validate(request.url, details, request.headers["x-twilio-signature"])
    response = VoiceResponse()
    response.append(connect())
    dial = session.on_response(HttpResponse(200, {}, str(response).encode()))
    assert RequestValidator(TOKEN).validate(dial.url, {}, dial.headers["x-twilio-signature"])
    assert not RequestValidator("other").validate(dial.url, {}, dial.headers["x-twilio-signature"])


def test_a_wrong_signature_is_refused_by_the_agent_side():
    dialect = twilio(auth_token=TOKEN)
    request = caller(twilio(auth_token="other")).open()
    answer = dialect.answer(HttpRequest("POST", "/voice", request.headers, request.body), Desk())
    assert answer is not None and answer.status == 403


def test_twiml_of_twilios_own_builder_leads_to_the_stream():
    greeting = VoiceResponse()
    greeting.say("Please hold")
    greeting.pause(length=1)
    greeting.append(connect(account="42", who="Ärzte & Co"))
    session = caller(twilio())
    session.open()
    assert session.on_response(HttpResponse(200, {}, str(greeting).encode())) == Dial("wss://media.example/stream")
    connected, start = (json.loads(message.payload) for message in session.on_connected())
    assert connected == {"event": "connected", "protocol": "Call", "version": "1.0.0"}
    assert start["event"] == "start" and start["sequenceNumber"] == "1"
    assert start["start"]["customParameters"] == {"account": "42", "who": "Ärzte & Co"}
    assert start["start"]["mediaFormat"] == {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}
    assert start["start"]["tracks"] == ["inbound"]
    assert start["start"]["streamSid"] == start["streamSid"] == session.template_values()["stream_sid"]


def test_a_relative_stream_is_on_the_webhooks_host():
    step, _ = answered(connect("/media/7"))
    assert step == Dial("wss://agent.example/media/7")


def test_a_redirect_is_followed_but_not_for_ever():
    response = VoiceResponse()
    response.redirect("/again")
    session = caller(twilio())
    session.open()
    for _ in range(10):
        step = session.on_response(HttpResponse(200, {}, str(response).encode()))
        assert isinstance(step, HttpRequest) and step.url == "https://agent.example/again"
    step = session.on_response(HttpResponse(200, {}, str(response).encode()))
    assert isinstance(step, SetupFailed) and step.outcome is Outcome.PROTOCOL_ERROR and "redirects" in step.reason


def started():
    verb = Start()
    verb.stream(url="wss://media.example/stream")
    return verb


@pytest.mark.parametrize(
    ("verb", "outcome", "words"),
    [
        (started(), Outcome.PROTOCOL_ERROR, "one-way"),
        (connect("wss://media.example/stream?key=1"), Outcome.PROTOCOL_ERROR, "query string"),
        (connect(""), Outcome.PROTOCOL_ERROR, "no usable url"),
        (connect("ftp://media.example/stream"), Outcome.PROTOCOL_ERROR, "no WebSocket"),
        (Connect(), Outcome.PROTOCOL_ERROR, "<Connect> holds nothing"),
    ],
    ids=["start", "query", "no url", "scheme", "empty connect"],
)
def test_streams_that_cannot_be_are_named(verb, outcome, words):
    step, _ = answered(verb)
    assert isinstance(step, SetupFailed) and step.outcome is outcome and words in step.reason


@pytest.mark.parametrize(
    ("body", "outcome", "words"),
    [
        ('<Response><Reject reason="busy"/></Response>', Outcome.REJECTED, "busy"),
        ("<Response><Hangup/></Response>", Outcome.REJECTED, "hangs up"),
        ("<Response><Say>no</Say></Response>", Outcome.REJECTED, "without <Connect><Stream>"),
        ("<Response><Gather/></Response>", Outcome.PROTOCOL_ERROR, "<Gather>"),
        ("<html/>", Outcome.PROTOCOL_ERROR, "<html>"),
        (
            '<!DOCTYPE r [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><Response><Say>&b;</Say></Response>',
            Outcome.PROTOCOL_ERROR,
            "no TwiML",
        ),
        ('<?xml version="1.0" encoding="nonsense"?><Response/>', Outcome.PROTOCOL_ERROR, "no TwiML"),
    ],
)
def test_other_answers_have_their_outcome(body, outcome, words):
    session = caller(twilio())
    session.open()
    step = session.on_response(HttpResponse(200, {}, body.encode()))
    assert isinstance(step, SetupFailed) and step.outcome is outcome and words in step.reason


def on_stream():
    step, session = answered(connect())
    assert isinstance(step, Dial)
    list(session.on_connected())
    return session


def test_media_is_numbered_as_twilio_does():
    dialect, session = twilio(), on_stream()
    (ready,) = dialect.prepare_caller([bytes(range(160))])
    first, second = (json.loads(session.stamp(ready, number, UNIX_NS)) for number in (0, 1))
    assert first["media"] | {"payload": ""} == {"track": "inbound", "chunk": "1", "timestamp": "0", "payload": ""}
    assert base64.b64decode(first["media"]["payload"]) == bytes(range(160))
    assert (second["media"]["chunk"], second["media"]["timestamp"]) == ("2", "20")
    assert [first["sequenceNumber"], second["sequenceNumber"]] == ["2", "3"]
    (digit,) = session.dtmf("#")
    assert json.loads(digit.payload)["sequenceNumber"] == "4"
    (stop,) = session.hang_up()
    assert json.loads(stop.payload)["event"] == "stop"
    assert twilio().agent("x").decode(*stop) == (Ended("stop"),)


def test_what_the_backend_says():
    session = on_stream()
    sid = session.template_values()["stream_sid"]

    def say(**fields):
        return list(session.decode(json.dumps({"streamSid": sid, **fields}).encode(), True))

    payload = base64.b64encode(b"\xff" * 160).decode()
    assert say(event="media", media={"payload": payload}) == [AudioIn(b"\xff" * 160)]
    assert say(event="mark", mark={"name": "one"}) == [Mark("one")]
    assert say(event="clear") == [Interrupted()]
    (echo,) = session.played("one")
    assert json.loads(echo.payload)["mark"] == {"name": "one"}


def test_audio_for_another_stream_is_not_heard_and_counted():
    (event,) = on_stream().decode(b'{"event":"media","streamSid":"MZother","media":{"payload":"/////w=="}}', True)
    assert isinstance(event, PeerError) and event.code == "streamSid"


def test_a_wav_file_is_a_clear_error():
    session = on_stream()
    sid = session.template_values()["stream_sid"]
    payload = base64.b64encode(b"RIFF\x24\x00\x00\x00WAVEfmt ").decode()
    message = json.dumps({"event": "media", "streamSid": sid, "media": {"payload": payload}}).encode()
    (event,) = session.decode(message, True)
    assert isinstance(event, Malformed) and "WAV" in event.detail


def test_another_media_format_is_a_clear_error():
    start = {"event": "start", "streamSid": "MZ1", "start": {"mediaFormat": {"encoding": "audio/l16"}}}
    (event,) = twilio().agent("x").decode(json.dumps(start).encode(), True)
    assert isinstance(event, Malformed) and "audio/l16" in event.detail
