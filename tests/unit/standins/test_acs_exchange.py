"""The exchange, driven by the vendor's SDK, sync and aio: every operation of the REST API, and its callbacks."""

import threading
import uuid
import warnings

import pytest
import requests
from acs_world import Sdk, Trunk, backend, until
from azure.communication.callautomation import (
    AudioFormat,
    ChannelAffinity,
    CommunicationUserIdentifier,
    DtmfTone,
    FileSource,
    MediaStreamingAudioChannelType,
    MediaStreamingContentType,
    MediaStreamingOptions,
    PhoneNumberIdentifier,
    RecognitionChoice,
    RecognizeInputType,
    SsmlSource,
    StreamingTransportType,
    TextSource,
    TranscriptionOptions,
)
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

from voxload.dialects import acs_trunk as words
from voxload.standins.acs.process import ExchangeProcess

QUICK = {
    "play_duration": "30ms",
    "connect_delay": "5ms",
    "callback_delay": "1ms",
    "callee": {"answer_delay": "10ms", "reaction": "10ms", "digits": "1234#", "words": "Yes, please."},
}
BOB, EVE = PhoneNumberIdentifier("+15550100002"), PhoneNumberIdentifier("+15550100003")
US = PhoneNumberIdentifier("+18005550100")
PROMPT = TextSource(text="Press one.", voice_name="en-US-JennyNeural")


RAN: set[str] = set()
"""Tests of this file that this process has run."""
DRIVEN: set[str] = set()
"""Operations that exchanges of this file have answered: a test that is run again gets a new one."""


@pytest.fixture(scope="module")
def exchange():
    with ExchangeProcess(QUICK) as started:
        yield started
        DRIVEN.update(counters(started)["requests"])


@pytest.fixture(autouse=True)
def ran(request):
    RAN.add(request.node.originalname)


@pytest.fixture(scope="module")
def world():
    with backend() as started:
        yield started


@pytest.fixture(params=["sync", "aio"])
def sdk(request, exchange):
    made = Sdk(exchange.url, request.param == "aio")
    yield made
    made.close()


def counters(exchange):
    return requests.get(exchange.url + "/voxload/counters", timeout=5).json()


def media(url, start=True, rate=AudioFormat.PCM16_K_MONO):
    return MediaStreamingOptions(
        transport_url=url.replace("http", "ws", 1) + "/ws",
        transport_type=StreamingTransportType.WEBSOCKET,
        content_type=MediaStreamingContentType.AUDIO,
        audio_channel_type=MediaStreamingAudioChannelType.MIXED,
        start_media_streaming=start,
        enable_bidirectional=True,
        audio_format=rate,
        enable_dtmf_tones=True,
    )


def place(sdk, world, **options):
    """Place a call to Bob and wait until it is connected; returns its connection id."""
    url, noted = world
    created = sdk.call(
        "create_call", BOB, url + "/callbacks", source_caller_id_number=US, operation_context="placed", **options
    )
    assert created.call_connection_state == "connecting"
    data = noted.wait(created.call_connection_id, "CallConnected")
    assert data["operationContext"] == "placed"
    assert data["serverCallId"] == created.server_call_id
    assert data["correlationId"] == created.correlation_id
    return created.call_connection_id


def ring(exchange, world, trunk, **changes):
    """Ring the backend; returns the call's own id, and the event that came."""
    url, noted = world
    call_id, before = uuid.uuid4().hex, len(noted.incoming)
    trunk.say(words.Ring(call_id, url + "/incoming", "+15550100001", "+18005550100", **changes))
    return call_id, until(lambda: noted.incoming[before:], lambda: "the event")[0]


# --- calls that come in ---


def test_a_call_is_rung_answered_and_ended_by_the_caller(exchange, world, sdk):
    url, noted = world
    with Trunk(exchange.url) as trunk:
        call_id, event = ring(exchange, world, trunk, headers={"traceparent": "00-abc-def-01"})
        assert event.event_type == "Microsoft.Communication.IncomingCall"
        assert event.data["from"]["rawId"] == "4:+15550100001"
        assert event.data["to"]["phoneNumber"]["value"] == "+18005550100"
        answered = sdk.call(
            "answer_call",
            event.data["incomingCallContext"],
            url + "/callbacks?tenant=7",
            operation_context="answered",
            media_streaming=media(url, rate=AudioFormat.PCM24_K_MONO),
        )
        assert answered.server_call_id == event.data["serverCallId"]
        assert answered.source.raw_id == "4:+15550100001"
        opening = trunk.hear(words.OpenMedia)
        assert (opening.call_id, opening.sample_rate_hz, opening.dtmf) == (call_id, 24000, True)
        assert opening.headers["x-ms-call-connection-id"] == answered.call_connection_id
        trunk.say(words.MediaOpened(call_id))
        streaming = noted.wait(answered.call_connection_id, "MediaStreamingStarted")
        assert streaming["mediaStreamingUpdate"]["mediaStreamingStatus"] == "mediaStreamingStarted"
        assert streaming["operationContext"] == "answered"
        trunk.say(words.HungUp(call_id))
        noted.wait(answered.call_connection_id, "CallDisconnected")
    assert noted.types(answered.call_connection_id) == [
        "CallConnected",
        "ParticipantsUpdated",
        "MediaStreamingStarted",
        "CallDisconnected",
    ]
    assert noted.callback_headers[-1]["traceparent"] == "00-abc-def-01"
    with pytest.raises(ResourceNotFoundError, match="Call not found"):
        sdk.on(answered.call_connection_id, "get_call_properties")


def test_reject_and_redirect(exchange, world, sdk):
    with Trunk(exchange.url) as trunk:
        call_id, event = ring(exchange, world, trunk)
        sdk.call("reject_call", event.data["incomingCallContext"], call_reject_reason="busy")
        refused = trunk.hear(words.Refused)
        assert (refused.call_id, refused.outcome) == (call_id, "rejected")
        assert "rejected the call (busy)" in refused.reason

        _, event = ring(exchange, world, trunk)
        sdk.call("redirect_call", event.data["incomingCallContext"], EVE)
        assert "redirected the call to +15550100003" in trunk.hear(words.Refused).reason
        with pytest.raises(ResourceNotFoundError):
            sdk.call("answer_call", event.data["incomingCallContext"], world[0] + "/callbacks")


def test_what_the_caller_presses_and_says_is_recognised(exchange, world, sdk):
    url, noted = world
    with Trunk(exchange.url) as trunk:
        call_id, event = ring(exchange, world, trunk)
        connection_id = sdk.call(
            "answer_call", event.data["incomingCallContext"], url + "/callbacks"
        ).call_connection_id
        noted.wait(connection_id, "CallConnected")
        caller = PhoneNumberIdentifier("+15550100001")
        sdk.on(connection_id, "start_continuous_dtmf_recognition", caller, operation_context="watch")
        sdk.on(
            connection_id,
            "start_recognizing_media",
            RecognizeInputType.DTMF,
            caller,
            dtmf_stop_tones=[DtmfTone.POUND],
            operation_context="pin",
        )
        for digit in "42#":
            trunk.say(words.Pressed(call_id, digit))
        pin = noted.wait(connection_id, "RecognizeCompleted")
        assert (pin["dtmfResult"]["tones"], pin["operationContext"]) == (["four", "two"], "pin")
        assert pin["resultInformation"]["subCode"] == 8514
        tone = noted.wait(connection_id, "ContinuousDtmfRecognitionToneReceived", 3)
        assert (tone["tone"], tone["sequenceId"], tone["operationContext"]) == ("pound", 3, "watch")

        sdk.on(connection_id, "start_recognizing_media", RecognizeInputType.SPEECH, caller, end_silence_timeout=1)
        trunk.say(words.Said(call_id, "I need an appointment"))
        assert noted.wait(connection_id, "RecognizeCompleted", 2)["speechResult"]["speech"] == "I need an appointment"

        choices = [RecognitionChoice(label="Book", phrases=["an appointment", "book"], tone=DtmfTone.ONE)]
        sdk.on(connection_id, "start_recognizing_media", RecognizeInputType.CHOICES, caller, choices=choices)
        trunk.say(words.Said(call_id, "Yes, BOOK it."))
        chosen = noted.wait(connection_id, "RecognizeCompleted", 3)["choiceResult"]
        assert (chosen["label"], chosen["recognizedPhrase"]) == ("Book", "book")
        sdk.on(connection_id, "start_recognizing_media", RecognizeInputType.CHOICES, caller, choices=choices)
        trunk.say(words.Said(call_id, "a bookshop"))
        assert noted.wait(connection_id, "RecognizeFailed")["resultInformation"]["subCode"] == 8547

        sdk.on(connection_id, "start_recognizing_media", RecognizeInputType.DTMF, caller, initial_silence_timeout=0)
        assert noted.wait(connection_id, "RecognizeFailed", 2)["resultInformation"]["subCode"] == 8510
        sdk.on(connection_id, "hang_up", False)
        assert "left the call" in trunk.hear(words.Finished).reason


# --- calls that the backend places ---


def test_a_placed_call_with_media_and_a_recognition(exchange, world, sdk):
    url, noted = world
    sockets, messages = len(noted.sockets), len(noted.socket_messages)
    connection_id = place(sdk, world, media_streaming=media(url))
    noted.wait(connection_id, "MediaStreamingStarted")
    assert noted.sockets[sockets]["x-ms-call-connection-id"] == connection_id
    assert sdk.on(connection_id, "get_call_properties").call_connection_state == "connected"
    sdk.on(
        connection_id,
        "start_recognizing_media",
        RecognizeInputType.DTMF,
        BOB,
        dtmf_max_tones_to_collect=3,
        play_prompt=PROMPT,
        operation_context="pin",
    )
    pin = noted.wait(connection_id, "RecognizeCompleted")
    assert (pin["recognitionType"], pin["dtmfResult"]["tones"]) == ("dtmf", ["one", "two", "three"])
    assert pin["operationContext"] == "pin"
    until(lambda: len(noted.socket_messages) - messages > 10, lambda: "frames")
    heard = noted.socket_messages[messages:]
    assert '"AudioMetadata"' in heard[0]
    assert sum('"AudioData"' in text for text in heard) > 3
    assert [text for text in heard if "DtmfData" in text] == [
        f'{{"kind":"DtmfData","dtmfData":{{"data":"{digit}"}}}}' for digit in "123"
    ]
    sdk.on(connection_id, "stop_media_streaming", operation_context="enough")
    assert noted.wait(connection_id, "MediaStreamingStopped")["operationContext"] == "enough"
    sdk.on(connection_id, "start_media_streaming", operation_context="again")
    assert noted.wait(connection_id, "MediaStreamingStarted", 2)["operationContext"] == "again"
    sdk.on(connection_id, "hang_up", True)
    noted.wait(connection_id, "CallDisconnected")


def test_prompts_are_played_one_after_the_other(world, sdk):
    _, noted = world
    connection_id = place(sdk, world)
    sdk.on(connection_id, "play_media", FileSource(url="https://agent.example/hello.wav"), operation_context="first")
    sdk.on(connection_id, "play_media", [SsmlSource(ssml_text="<speak/>")], [BOB], operation_context="second")
    noted.wait(connection_id, "PlayCompleted", 2)
    assert noted.types(connection_id)[-4:] == ["PlayStarted", "PlayCompleted"] * 2
    sdk.on(connection_id, "play_media", PROMPT, loop=True, operation_context="music")
    noted.wait(connection_id, "PlayStarted", 3)
    sdk.on(connection_id, "cancel_all_media_operations")
    assert noted.wait(connection_id, "PlayCanceled")["operationContext"] == "music"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        sdk.on(connection_id, "play_media_to_all", PROMPT, loop=True)
        sdk.on(connection_id, "play_media_to_all", PROMPT, interrupt_call_media_operation=True)
    noted.wait(connection_id, "PlayCanceled", 2)
    noted.wait(connection_id, "PlayCompleted", 3)
    sdk.on(connection_id, "send_dtmf_tones", [DtmfTone.ONE, DtmfTone.ASTERISK], BOB, operation_context="tones")
    assert noted.wait(connection_id, "SendDtmfTonesCompleted")["operationContext"] == "tones"
    sdk.on(connection_id, "start_continuous_dtmf_recognition", BOB)
    sdk.on(connection_id, "stop_continuous_dtmf_recognition", BOB)
    noted.wait(connection_id, "ContinuousDtmfRecognitionStopped")
    sdk.on(connection_id, "hang_up", True)


def test_participants(world, sdk):
    _, noted = world
    connection_id = place(sdk, world)
    noted.wait(connection_id, "ParticipantsUpdated")
    invited = sdk.on(connection_id, "add_participant", EVE, source_caller_id_number=US, operation_context="add")
    assert invited.participant.identifier.raw_id == "4:+15550100003"
    added = noted.wait(connection_id, "AddParticipantSucceeded")
    assert (added["operationContext"], added["participant"]["rawId"]) == ("add", "4:+15550100003")
    listed = {who.identifier.raw_id: who for who in sdk.on(connection_id, "list_participants")}
    assert {"4:+15550100002", "4:+15550100003"} < set(listed)
    sdk.on(connection_id, "mute_participant", EVE, operation_context="hush")
    sdk.on(connection_id, "hold", EVE, play_source=PROMPT)
    eve = sdk.on(connection_id, "get_participant", EVE)
    assert (eve.is_muted, eve.is_on_hold) == (True, True)
    sdk.on(connection_id, "unhold", EVE)
    assert not sdk.on(connection_id, "get_participant", EVE).is_on_hold
    sdk.on(connection_id, "remove_participant", EVE, operation_context="out")
    assert noted.wait(connection_id, "RemoveParticipantSucceeded")["operationContext"] == "out"
    with pytest.raises(ResourceNotFoundError):
        sdk.on(connection_id, "get_participant", EVE)

    third = CommunicationUserIdentifier("8:acs:someone")
    invitation = sdk.on(connection_id, "add_participant", third).invitation_id
    noted.wait(connection_id, "AddParticipantSucceeded", 2)
    sdk.on(connection_id, "cancel_add_participant_operation", invitation)  # too late
    assert noted.wait(connection_id, "CancelAddParticipantFailed")["invitationId"] == invitation

    other_id = place(sdk, world)
    moved = sdk.on(other_id, "move_participants", [third], connection_id, operation_context="move")
    assert moved.operation_context == "move"
    assert noted.wait(other_id, "MoveParticipantSucceeded")["fromCall"] == connection_id
    assert sdk.on(other_id, "get_participant", third).identifier.raw_id == "8:acs:someone"
    for each in (connection_id, other_id):
        sdk.on(each, "hang_up", True)


def test_a_transfer_ends_the_backends_part(world, sdk):
    _, noted = world
    connection_id = place(sdk, world)
    accepted = sdk.on(connection_id, "transfer_call_to_participant", EVE, operation_context="over to you")
    assert accepted.operation_context == "over to you"
    data = noted.wait(connection_id, "CallTransferAccepted")
    assert (data["transferTarget"]["rawId"], data["transferee"]["rawId"]) == ("4:+15550100003", "4:+15550100002")
    noted.wait(connection_id, "CallDisconnected")


def test_recordings(world, sdk):
    url, noted = world
    connection_id = place(sdk, world)
    server_call_id = sdk.on(connection_id, "get_call_properties").server_call_id
    recording = sdk.call(
        "start_recording",
        server_call_id=server_call_id,
        recording_state_callback_url=url + "/callbacks",
        channel_affinity=[ChannelAffinity(target_participant=BOB, channel=0)],
    )
    assert recording.recording_state == "active"
    assert noted.wait(connection_id, "RecordingStateChanged")["recordingId"] == recording.recording_id
    with pytest.raises(HttpResponseError, match="in progress"):
        sdk.call("start_recording", call_connection_id=connection_id)
    sdk.call("pause_recording", recording.recording_id)
    assert sdk.call("get_recording_properties", recording.recording_id).recording_state == "inactive"
    sdk.call("resume_recording", recording.recording_id)
    assert sdk.call("get_recording_properties", recording.recording_id).recording_state == "active"
    sdk.call("stop_recording", recording.recording_id)
    states = [noted.wait(connection_id, "RecordingStateChanged", count)["state"] for count in (1, 2, 3, 4)]
    assert states == ["active", "inactive", "active", "inactive"]
    with pytest.raises(ResourceNotFoundError):
        sdk.call("get_recording_properties", recording.recording_id)
    sdk.on(connection_id, "hang_up", True)


def test_joining_calls_and_rooms(world, sdk):
    url, noted = world
    first_id = place(sdk, world)
    server_call_id = sdk.on(first_id, "get_call_properties").server_call_id
    joined = sdk.call("connect_call", url + "/callbacks", server_call_id=server_call_id, operation_context="join")
    assert joined.server_call_id == server_call_id
    assert noted.wait(joined.call_connection_id, "CallConnected")["operationContext"] == "join"
    room = sdk.call("connect_call", url + "/callbacks", room_id="room-7")
    noted.wait(room.call_connection_id, "CallConnected")
    with pytest.raises(ResourceNotFoundError):
        sdk.call("connect_call", url + "/callbacks", server_call_id="nonsense")
    with pytest.warns(DeprecationWarning, match="create_group_call"):
        group = sdk.call("create_group_call", [BOB, EVE], url + "/callbacks", source_caller_id_number=US)
    noted.wait(group.call_connection_id, "CallConnected")
    for each in (first_id, joined.call_connection_id, room.call_connection_id, group.call_connection_id):
        sdk.on(each, "hang_up", True)


def test_transcription_is_refused_in_so_many_words(world, sdk):
    url, noted = world
    options = TranscriptionOptions(
        transport_url="wss://agent.example/t",
        transport_type=StreamingTransportType.WEBSOCKET,
        locale="en-US",
        start_transcription=True,
    )
    connection_id = place(sdk, world, transcription=options)
    sdk.on(connection_id, "start_transcription", locale="en-US", operation_context="t")
    sdk.on(connection_id, "update_transcription", locale="de-DE")
    sdk.on(connection_id, "stop_transcription")
    failed = noted.wait(connection_id, "TranscriptionFailed", 4)
    assert "no transcription" in failed["resultInformation"]["message"]
    sdk.on(connection_id, "hang_up", True)


def test_operations_callbacks_may_go_elsewhere(world, sdk):
    _, noted = world
    connection_id = place(sdk, world)
    with backend() as (other_url, other):
        sdk.on(connection_id, "play_media", PROMPT, operation_callback_url=other_url + "/callbacks")
        other.wait(connection_id, "PlayCompleted")
    assert "PlayStarted" not in noted.types(connection_id)
    sdk.on(connection_id, "hang_up", True)


def test_every_operation_of_the_api_has_been_driven_by_the_sdk(request, exchange, whole_in_one_process):
    """Runs last in this file; fails when an operation is added to the API without a test, or was never reached."""
    from voxload.standins.acs.rest import OPERATIONS

    before = {name for name in globals() if name.startswith("test_")} - {"test_calls_leave_nothing_behind"}
    chosen = {item.originalname for item in request.session.items if item.path == request.path}
    if not (whole_in_one_process and before <= chosen):
        pytest.skip("looks back on all tests of this file, in one process")
    assert before <= RAN
    assert DRIVEN | set(counters(exchange)["requests"]) == set(OPERATIONS)


def test_calls_leave_nothing_behind(exchange):
    until(lambda: counters(exchange)["active_calls"] == 0, lambda: counters(exchange))
    assert threading.active_count() < 20
