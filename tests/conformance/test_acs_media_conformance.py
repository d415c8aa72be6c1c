"""The dialect `acs_media` against the conformance suite, and the wire format of media streaming."""

import base64
import json
import uuid

import pytest

from voxload.dialects.base import (
    AudioIn,
    CallIdentity,
    Dial,
    Dialect,
    Interrupted,
    Malformed,
    Message,
    Unknown,
)
from voxload.dialects.registry import build_dialect
from voxload.errors import BadInputError
from voxload.testing.conformance import UNIX_NS, DialectConformance

FRAME = bytes(range(256)) * 2 + bytes(128)
ENCODED = base64.b64encode(FRAME).decode()


def acs_media(**options: object) -> Dialect:
    return build_dialect("acs_media", "https://agent.example/base/", dict(options))


class TestPascal(DialectConformance):
    def make_dialect(self) -> Dialect:
        return acs_media()


class TestCamelAt24Kilohertz(DialectConformance):
    def make_dialect(self) -> Dialect:
        return acs_media(casing="camel", sample_rate=24000, path="/media/${call_id}/stream")


class TestMixed(DialectConformance):
    def make_dialect(self) -> Dialect:
        return acs_media(casing="mixed")


def caller(dialect: Dialect | None = None, **values: str):
    return (dialect or acs_media()).caller(CallIdentity(7, "c", {"caller_number": "+15551234567", **values}))


def test_the_dial_carries_the_services_headers():
    step = caller().open()
    assert isinstance(step, Dial)
    assert step.url == "wss://agent.example/base/ws"
    uuid.UUID(step.headers["x-ms-call-connection-id"])
    assert step.headers["x-ms-call-correlation-id"]
    assert caller().template_values() == {"call_connection_id": step.headers["x-ms-call-connection-id"]}


def test_a_path_may_be_a_whole_url_and_hold_variables():
    assert caller(path="ws://media.example/a").open().url == "ws://media.example/a"
    served = acs_media(path="/media/${call_id}?token=x")
    assert served.socket_call_id("/media/run-7?token=x", {"x-ms-call-connection-id": "abc"}) == "abc"
    assert served.socket_call_id("/media/run-7", {}) != served.socket_call_id("/media/run-8", {})
    assert served.socket_call_id("/media/", {}) is None


@pytest.mark.parametrize(("rate", "length"), [(16000, 640), (24000, 960)])
def test_metadata_comes_first(rate, length):
    (message,) = caller(acs_media(sample_rate=rate)).on_connected()
    metadata = json.loads(message.payload)
    assert metadata["kind"] == "AudioMetadata"
    assert {**metadata["audioMetadata"], "subscriptionId": ""} == {
        "subscriptionId": "",
        "encoding": "PCM",
        "sampleRate": rate,
        "channels": 1,
        "length": length,
    }


def test_audio_data_is_the_services():
    dialect = acs_media()
    speech, silence = dialect.prepare_caller([FRAME, bytes(640)])
    session = caller(dialect)
    assert json.loads(session.stamp(speech, 0, UNIX_NS)) == {
        "kind": "AudioData",
        "audioData": {
            "timestamp": "2025-11-24T16:00:00.123Z",
            "participantRawID": "4:+15551234567",
            "data": ENCODED,
            "silent": False,
        },
    }
    later = json.loads(session.stamp(silence, 1, UNIX_NS + 61_000_000_000))
    assert later["audioData"]["timestamp"] == "2025-11-24T16:01:01.123Z"
    assert later["audioData"]["silent"] is True
    quoted = json.loads(caller(dialect, caller_number='8:acs:"x"').stamp(speech, 0, UNIX_NS))
    assert quoted["audioData"]["participantRawID"] == '8:acs:"x"'


def test_keys_are_the_services():
    assert [json.loads(message.payload) for message in caller().dtmf("3")] == [
        {"kind": "DtmfData", "dtmfData": {"data": "3"}}
    ]


AUDIO = {
    "sdk of C#": {"Kind": "AudioData", "AudioData": {"Data": ENCODED}, "StopAudio": None},
    "camel with an empty stopAudio": {
        "kind": "audioData",
        "audioData": {"data": ENCODED, "isSilent": False},
        "stopAudio": {},
    },
    "mixed": {"kind": "AudioData", "audioData": {"data": ENCODED}},
    "time first": {"Kind": "AudioData", "AudioData": {"Timestamp": "2026", "Silent": False, "Data": ENCODED}},
    "kind last": {"audioData": {"data": ENCODED}, "kind": "AudioData"},
    "stop first": {"kind": "AudioData", "stopAudio": {}, "audioData": {"participant": None, "data": ENCODED}},
    "all upper": {"KIND": "AUDIODATA", "AUDIODATA": {"DATA": ENCODED}},
}
WRITERS = {
    "compact": lambda message: json.dumps(message, separators=(",", ":")),
    "spaced": json.dumps,
    "indented": lambda message: json.dumps(message, indent=2),
    # System.Text.Json escapes the plus sign, PHP the slash
    "escaped": lambda message: json.dumps(message).replace("+", "\\u002B").replace("/", "\\/"),
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("form", AUDIO)
def test_audio_in_all_casings_and_orders(form, writer):
    assert caller().decode(WRITERS[writer](AUDIO[form]).encode(), True) == (AudioIn(FRAME),)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"Kind": "StopAudio", "AudioData": None, "StopAudio": {}}, [Interrupted()]),
        ({"kind": "stopAudio", "stopAudio": {}}, [Interrupted()]),
        ({"kind": "StopAudio", "audioData": {"data": ENCODED}}, [Interrupted()]),
        ({"kind": "AudioData", "audioData": {"data": ""}}, []),
        ({"type": "assistant", "payload": {"text": "hello"}}, [Unknown("assistant")]),
        ({"type": "event", "audioData": {"data": ENCODED}}, [Unknown("event")]),
        ({"stopAudio": {}}, [Unknown("")]),
        ({"kind": "MarkAudio"}, [Unknown("markaudio")]),
    ],
)
def test_the_kind_alone_decides(message, expected):
    assert list(caller().decode(json.dumps(message).encode(), True)) == expected


@pytest.mark.parametrize(
    "payload",
    [
        b"hello",
        b"[1]",
        b'{"kind":"AudioData"}',
        b'{"kind":"AudioData","audioData":{}}',
        b'{"kind":"AudioData","audioData":{"data":7}}',
        b'{"kind":"AudioData","audioData":{"data":"@@@"}}',
    ],
)
def test_what_is_no_media_streaming_is_malformed(payload):
    (event,) = caller().decode(payload, True)
    assert isinstance(event, Malformed)


def test_binary_messages_are_unknown():
    assert caller().decode(FRAME, False) == (Unknown("binary"),)


@pytest.mark.parametrize("casing", ["pascal", "camel", "mixed"])
def test_the_agent_writes_in_its_casing(casing):
    dialect = acs_media(casing=casing)
    agent = dialect.agent("c")
    (audio,) = dialect.prepare_agent([FRAME])
    (stop,) = agent.interrupted()
    names = [list(json.loads(text))[:2] for text in (agent.stamp(audio, 0, UNIX_NS), stop.payload)]
    kinds = [next(iter(json.loads(text).values())) for text in (audio, stop.payload)]
    capital = casing == "pascal"
    assert names[0] == (["Kind", "AudioData"] if capital else ["kind", "audioData"])
    assert kinds == (["audioData", "stopAudio"] if casing == "camel" else ["AudioData", "StopAudio"])
    assert isinstance(stop, Message)


def test_wrong_options_are_all_told():
    with pytest.raises(BadInputError) as caught:
        acs_media(sample_rate=8000, path="ws", casing="upper", pth="/x")
    text = str(caught.value)
    for words in ("16000 or 24000", "begin with /", "casing", "did you mean path?"):
        assert words in text
