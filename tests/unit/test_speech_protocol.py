"""The Speech service's messages: byte for byte as its SDK sends them, and what is none is refused."""

import struct

import msgspec
import pytest

from voxload import speech_protocol as protocol

# what azure-cognitiveservices-speech 1.53 sent
SDK_TEXT = (
    b"X-Timestamp:2026-11-24T11:38:26.322Z\r\nPath:speech.context\r\nX-RequestId:6d13475f26d948e6afbd0a6fb3fed1b1\r\n\r\n"
    b'{"phraseDetection":{"mode":"INTERACTIVE"}}'
)
SDK_HEAD = (
    b"X-Timestamp:2026-11-24T11:38:13.802Z\r\nPath:audio\r\nContent-Type:audio/x-wav\r\n"
    b"X-RequestId:1f6f8f9e206c4e04997e57531ba5b93d\r\nX-StreamId:1\r\n"
)
SDK_WAV = bytes.fromhex("524946460000000057415645666d74201000000001000100803e0000007d0000020010006461746100000000")
STAMP_NS = 1_795_520_293_802_000_000  # 2026-11-24T11:38:13.802Z


def test_a_text_message_of_the_sdk_is_read():
    message = protocol.read_text(SDK_TEXT)
    assert message.path == protocol.SPEECH_CONTEXT
    assert message.request_id == "6d13475f26d948e6afbd0a6fb3fed1b1"
    assert msgspec.json.decode(message.body) == {"phraseDetection": {"mode": "INTERACTIVE"}}


def test_our_messages_are_those_of_the_sdk_to_the_byte():
    context = protocol.text_message(
        "speech.context",
        "6d13475f26d948e6afbd0a6fb3fed1b1",
        b'{"phraseDetection":{"mode":"INTERACTIVE"}}',
        content_type="",
        stamp="2026-11-24T11:38:26.322Z",
    )
    assert context == SDK_TEXT
    stamp = protocol.timestamp(STAMP_NS)
    head = protocol.binary_head("audio", "1f6f8f9e206c4e04997e57531ba5b93d", "audio/x-wav", stamp, "1")
    assert head == len(SDK_HEAD).to_bytes(2, "big") + SDK_HEAD
    assert protocol.wav_header(16_000) == SDK_WAV


def test_a_binary_message_is_read_with_its_payload():
    payload = bytes(range(256))
    message = protocol.read_binary(protocol.binary_head("audio", "abc", stream_id="1") + payload)
    assert (message.path, message.request_id, message.body) == ("audio", "abc", payload)
    assert message.headers["x-streamid"] == "1"


@pytest.mark.parametrize("payload", [b"", b"\x00", b"\xff\xffPath:audio\r\n", b"\x00\x00", b"\x00\x05X:1\r\n"])
def test_a_binary_message_that_is_none_is_refused(payload):
    with pytest.raises(protocol.SpeechProtocolError):
        protocol.read_binary(payload)


@pytest.mark.parametrize("payload", [b"", b"hello", b"Path:audio\r\n", b"X-RequestId:1\r\n\r\n{}", b"\xff\xfe\r\n\r\n"])
def test_a_text_message_that_is_none_is_refused(payload):
    with pytest.raises(protocol.SpeechProtocolError):
        protocol.read_text(payload)


def test_a_wav_header_says_the_rate():
    rate_hz, bytes_per_s = struct.unpack_from("<II", protocol.wav_header(8_000), 24)
    assert (rate_hz, bytes_per_s) == (8_000, 16_000)


def test_phrases_have_the_names_of_the_service():
    alternative = protocol.Alternative(0.9, "hello", "hello", "hello", "Hello.", [protocol.Word("hello", 5, 7)])
    phrase = protocol.Phrase("Success", "Hello.", 5, 7, [alternative])
    found = msgspec.json.decode(msgspec.json.encode(phrase))
    assert found == {
        "RecognitionStatus": "Success",
        "DisplayText": "Hello.",
        "Offset": 5,
        "Duration": 7,
        "NBest": [
            {
                "Confidence": 0.9,
                "Lexical": "hello",
                "ITN": "hello",
                "MaskedITN": "hello",
                "Display": "Hello.",
                "Words": [{"Word": "hello", "Offset": 5, "Duration": 7}],
            }
        ],
    }
    assert msgspec.json.decode(msgspec.json.encode(phrase), type=protocol.Phrase) == phrase
