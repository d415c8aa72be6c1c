"""The dialects `json` and `browser` against the conformance suite, and the protocols that users describe with them."""

import base64
import json

import pytest

from voxload.dialects.base import (
    AudioIn,
    CallIdentity,
    Dial,
    Dtmf,
    Ended,
    EndOfSpeech,
    HttpRequest,
    HttpResponse,
    Interrupted,
    Malformed,
    Mark,
    Message,
    PeerError,
    Ready,
    ReplyEnded,
    Respond,
    SetupFailed,
    Transcript,
    Unknown,
)
from voxload.dialects.registry import build_dialect
from voxload.errors import BadInputError
from voxload.model.outcome import Outcome
from voxload.testing.conformance import UNIX_NS, Desk, DialectConformance

FULL = {
    "sample_rate": 8000,
    "encoding": "mulaw",
    "agent_sample_rate": 24000,
    "agent_encoding": "pcm16",
    "start": {
        "path": "/api/sessions?tenant=${caller_number}",
        "headers": {"x-caller": "${caller_number}"},
        "body": {"caller": "${caller_number}", "price": "5$$", "nested": [1, {"id": "${call_index}"}]},
        "take": {"session_id": "data.0.session.id", "token": "data.0.token"},
    },
    "socket": {"path": "/ws/${session_id}?t=${token}", "subprotocol": "voice", "headers": {"x-token": "${token}"}},
    "send": {
        "connect": [{"op": "hello", "token": "${token}", "rate": 8000}, {"op": "join"}],
        "audio": {
            "op": "media",
            "session": "${session_id}",
            "seq": "${sequence}",
            "payload": {"b64": "${audio}"},
            "at_ms": "${media_ms}",
            "sent_ms": "${timestamp_ms}",
            "sent_s": "${timestamp_s}",
            "label": "frame ${sequence} of ${caller_number}, 100%",
        },
        "end_of_speech": {"op": "eos"},
        "dtmf": {"op": "key", "digit": "${digit}"},
        "mark": {"op": "mark", "name": "${mark}"},
        "dropped": {"op": "dropped", "ms": "${unplayed_ms}"},
        "hang_up": {"op": "bye"},
    },
    "receive": {
        "by": "event.kind",
        "messages": {
            "welcome": {"means": "ready", "expect": {"audio.rate": 24000}, "take": {"stream": "stream"}},
            "voice": {"audio": "audio.data", "expect": {"audio.rate": 24000}},
            "heard": {"transcript": "words.text", "final": "words.final"},
            "agent": [
                {"reply_text": "words.text"},
                {"when": {"state": "finished"}, "means": "reply_ended"},
            ],
            "mark": {"mark": "name"},
            "flush": "interrupted",
            "fault": {"means": "error", "code": "error.code", "message": "error.text"},
            "ping": {"take": {"ping_id": "id"}, "answer": {"op": "pong", "id": "${ping_id}"}},
            "bye": {"means": "ended", "message": "why"},
            "stats": "ignored",
        },
    },
}
SMALL = {"send": {"audio": {"data": "${audio}"}}, "receive": {"messages": {"audio": {"audio": "audio"}}}}
BINARY = {"send": {"audio": "binary", "interrupt": {"type": "stop"}}, "receive": {"binary": "audio"}}


def described(**options):
    return build_dialect("json", "https://agent.example/base", options)


def browser(**options):
    return build_dialect("browser", "https://agent.example", options)


class TestJson(DialectConformance):
    @pytest.fixture(autouse=True, params=[FULL, SMALL, BINARY], ids=["full", "small", "binary"])
    def _options(self, request):
        self.options = request.param

    def make_dialect(self):
        return described(**self.options)


BROWSERS = {
    "plain": {},
    "named": {
        "path": "/voice/${call_id}",
        "connect": {"kind": "start", "rate": 24000},
        "sample_rate": 24000,
        "type_field": "event.kind",
        "audio_field": "event.audio.b64",
        "rate_field": "event.audio.rate",
        "ready_type": "ready",
        "end_of_speech_type": "user_done",
        "interrupt_type": "barge_in",
        "stop_types": ["stop_audio", "clear"],
    },
    "binary": {"agent_audio": "binary", "agent_sample_rate": 24000},
}


class TestBrowser(DialectConformance):
    @pytest.fixture(autouse=True, params=BROWSERS.values(), ids=BROWSERS)
    def _options(self, request):
        self.options = request.param

    def make_dialect(self):
        return browser(**self.options)


def identity():
    return CallIdentity(7, "call-7", {"caller_number": "+15550000007", "call_index": "7"})


def opened(**changes):
    """A caller of the full protocol whose session is open."""
    dialect = described(**{**FULL, **changes})
    caller = dialect.caller(identity())
    caller.open()
    answer = {"data": [{"session": {"id": "s 1"}, "token": 'a"b'}]}
    dial = caller.on_response(HttpResponse(201, {}, json.dumps(answer).encode()))
    return dialect, caller, dial


def say(caller, **fields):
    return list(caller.decode(json.dumps(fields).encode(), True))


def test_the_start_request_and_the_handshake_are_as_written():
    request = described(**FULL).caller(identity()).open()
    assert isinstance(request, HttpRequest)
    assert request.url == "https://agent.example/base/api/sessions?tenant=%2B15550000007"
    assert request.headers == {"content-type": "application/json", "x-caller": "+15550000007"}
    assert json.loads(request.body) == {"caller": "+15550000007", "price": "5$", "nested": [1, {"id": "7"}]}
    _, caller, dial = opened()
    url = "wss://agent.example/base/ws/s%201?t=a%22b"
    assert dial == Dial(url, ("voice",), {"x-token": 'a"b'}, await_ready=True)
    assert caller.template_values() == {"session_id": "s 1", "token": 'a"b'}
    hello, join = (json.loads(message.payload) for message in caller.on_connected())
    assert (hello, join) == ({"op": "hello", "token": 'a"b', "rate": 8000}, {"op": "join"})


@pytest.mark.parametrize(
    ("answer", "outcome", "words"),
    [
        (HttpResponse(503), Outcome.REJECTED, "POST /api/sessions?tenant=${caller_number} answered 503"),
        (HttpResponse(200, {}, b"<html>"), Outcome.PROTOCOL_ERROR, "without data.0.session.id"),
        (HttpResponse(200, {}, b'{"data":[{"session":{"id":"1"}}]}'), Outcome.PROTOCOL_ERROR, "without data.0.token"),
    ],
)
def test_a_start_that_fails_names_the_step(answer, outcome, words):
    caller = described(**FULL).caller(identity())
    caller.open()
    step = caller.on_response(answer)
    assert isinstance(step, SetupFailed) and step.outcome is outcome and words in step.reason


def test_audio_is_stamped_as_written():
    dialect, caller, _ = opened()
    (ready,) = dialect.prepare_caller([b"\xff" * 160])
    message = json.loads(caller.stamp(ready, 3, UNIX_NS))
    assert message == {
        "op": "media",
        "session": "s 1",
        "seq": 3,
        "payload": {"b64": base64.b64encode(b"\xff" * 160).decode()},
        "at_ms": 60,
        "sent_ms": UNIX_NS // 1_000_000,
        "sent_s": pytest.approx(UNIX_NS / 1e9, abs=0.001),
        "label": "frame 3 of +15550000007, 100%",
    }


def test_the_agents_messages_mean_what_the_rules_say():
    _, caller, _ = opened()
    audio = base64.b64encode(bytes(960)).decode()
    assert say(caller, event={"kind": "welcome"}, stream=5) == [Ready()]
    assert say(caller, event={"kind": "voice"}, audio={"data": audio, "rate": 24000}) == [AudioIn(bytes(960))]
    assert say(caller, event={"kind": "voice"}, audio={"data": ""}) == []
    heard = say(caller, event={"kind": "heard"}, words={"text": "hi", "final": False})
    assert heard == [Transcript("hi", "caller", final=False)]
    finished = say(caller, event={"kind": "agent"}, words={"text": "bye"}, state="finished")
    assert finished == [Transcript("bye", "agent"), ReplyEnded()]
    assert say(caller, event={"kind": "agent"}, state="going on") == []
    assert say(caller, event={"kind": "flush"}) == [Interrupted()]
    assert say(caller, event={"kind": "mark"}, name="m1") == [Mark("m1")]
    assert say(caller, event={"kind": "fault"}, error={"code": 42, "text": "no"}) == [PeerError("42", "no")]
    (pong,) = say(caller, event={"kind": "ping"}, id=99)
    assert pong == Respond((Message(b'{"op":"pong","id":99}'),))
    assert say(caller, event={"kind": "bye"}, why="done") == [Ended("done")]
    assert say(caller, event={"kind": "stats"}) == []
    assert say(caller, event={"kind": "other"}) == [Unknown("other")]
    assert say(caller, event=7) == [Unknown("")]


def test_another_format_than_expected_ends_the_call():
    _, caller, _ = opened()
    (event,) = say(caller, event={"kind": "welcome"}, audio={"rate": 16000})
    assert event == Malformed("audio.rate is 16000, and the scenario expects 24000")
    rated = browser(rate_field="rate", agent_sample_rate=24000).caller(identity())
    (event,) = say(rated, type="audio", data="AAAA", rate=22050)
    assert isinstance(event, Malformed) and "22050" in event.detail
    assert say(rated, type="audio", data="AAAA", rate=24000) == [AudioIn(bytes(3))]


def test_the_agent_side_knows_the_callers_messages():
    dialect, caller, _ = opened()
    agent = dialect.agent("x")

    def understood(messages):
        return [event for message in messages for event in agent.decode(*message)]

    assert understood(caller.end_of_speech(UNIX_NS)) == [EndOfSpeech()]
    assert understood(caller.dtmf("#")) == [Dtmf("#")]
    assert understood(caller.hang_up()) == [Ended("hang_up")]
    assert understood([*caller.on_connected(), *caller.dropped(5_000_000), *caller.played("m")]) == []
    (dropped,) = caller.dropped(5_000_000)
    assert json.loads(dropped.payload) == {"op": "dropped", "ms": 5}


def test_the_callers_own_interruption_is_told_and_the_agents_is_not_answered_with_it():
    caller = browser(interrupt_type="barge_in").caller(identity())
    assert caller.stops_agent
    assert [json.loads(message.payload) for message in caller.dropped(1)] == [{"type": "barge_in"}]
    assert say(caller, type="interrupt") == [Interrupted(if_heard=True)]
    assert caller.dropped(1) == ()
    assert browser().agent("x").decode(b'{"type":"barge_in"}', True) == (Unknown("barge_in"),)
    assert browser(interrupt_type="barge_in").agent("x").decode(b'{"type":"barge_in"}', True) == (Interrupted(),)


def test_a_session_that_is_not_in_the_path_is_found_by_its_order():
    options = {**SMALL, "start": {"path": "/start", "take": {"token": "token"}}, "socket": {"path": "/ws"}}
    dialect = described(**options)
    answer = dialect.answer(HttpRequest("POST", "/start"), Desk())
    assert answer is not None
    assert dialect.socket_call_id("/ws", {}) == json.loads(answer.body)["token"]
    assert dialect.socket_call_id("/other", {}) is None


def test_frames_are_encoded_once_and_stamped_fast():
    """A plain message needs nothing but what was prepared: the very same bytes are sent."""
    dialect = described(**SMALL)
    (ready,) = dialect.prepare_caller([bytes(640)])
    assert dialect.caller(identity()).stamp(ready, 1, UNIX_NS) is ready


def mistakes(name="json", **options):
    with pytest.raises(BadInputError) as caught:
        build_dialect(name, "http://x", options)
    return [f"{problem.message} | {problem.suggestion}" for problem in caught.value.problems]


def test_every_mistake_of_form_is_told_at_once():
    found = mistakes(
        sampel_rate=8000,
        frame_ms="long",
        send={"audio": 7, "dtfm": {}, "connect": [{"a": "$ 5"}]},
        receive={"by": "a..b", "messages": {"x": {"audoi": "data"}, "y": {}, "z": "silence"}},
    )
    expected = [
        ("no option 'sampel_rate'", "did you mean sample_rate?"),
        ("option frame_ms", ""),
        ("option send.audio: write a message", ""),
        ("no option 'send.dtfm'", "did you mean dtmf?"),
        ("option send.connect.0: ", ""),
        ("option receive.by: ", ""),
        ("no option 'receive.messages.x.0.audoi'", "did you mean audio?"),
        ("option receive.messages.y.0: a rule needs one of", ""),
        ("option receive.messages.z.0.means", ""),
    ]
    for words, hint in expected:
        assert any(words in problem and hint in problem for problem in found), (words, found)
    assert len(found) == len(expected)


def test_every_mistake_of_sense_is_told_at_once():
    found = mistakes(
        sample_rate=11025,
        send={
            "audio": {"type": "audio", "data": "x${audio}"},
            "dtmf": {"type": "key"},
            "hang_up": {"type": "bye"},
            "end_of_speech": {"type": "bye"},
        },
        receive={"messages": {"text": {"reply_text": "text"}}},
    )
    for words in (
        "option sample_rate: 11025 Hz",
        'option send.audio: the message must have one field that is "${audio}"',
        'option send.dtmf: the message must have one field that is "${digit}"',
        "option send.hang_up: cannot be told from send.end_of_speech",
        "option receive: no message carries the agent's audio",
    ):
        assert any(words in problem for problem in found), (words, found)
    assert len(found) == 5


def test_options_of_the_browser_are_checked():
    found = mistakes("browser", audio_field="a..b", agent_audio="wav", frame_ms=5, stop_type="x")
    assert any("no option 'stop_type' | did you mean stop_types?" in problem for problem in found)
    assert any("audio_field" in problem for problem in found) and any("agent_audio" in problem for problem in found)
