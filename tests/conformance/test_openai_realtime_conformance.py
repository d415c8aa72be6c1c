"""The dialect `openai_realtime` against the conformance suite, and its events against the types of OpenAI's library."""

import base64
import json

import pytest
from openai.types.beta.realtime import RealtimeClientEvent as BetaClientEvent
from openai.types.beta.realtime import RealtimeServerEvent as BetaServerEvent
from openai.types.realtime import RealtimeClientEvent, RealtimeServerEvent
from pydantic import TypeAdapter

from voxload.dialects.base import (
    AudioIn,
    CallIdentity,
    Dial,
    Ended,
    EndOfSpeech,
    Interrupted,
    Malformed,
    Message,
    PeerError,
    Ready,
    ReplyEnded,
    ReplyWanted,
    Respond,
    SpeechStarted,
    Transcript,
    TurnTaking,
    Usage,
)
from voxload.dialects.registry import build_dialect
from voxload.errors import BadInputError
from voxload.testing.conformance import UNIX_NS, DialectConformance

OPTIONS = {
    "ga": {},
    "manual": {"turn_detection": "none"},
    "ulaw": {"format": "g711_ulaw", "frame_ms": 100, "transcription": "whisper-1"},
    "azure": {"api": "azure", "model": "my deployment", "transcription": "my-whisper"},
    "azure_v1": {"api": "azure_v1", "model": "my-deployment", "turn_detection": "semantic_vad"},
    "beta": {"names": "beta", "turn_detection": "none"},
}


def realtime(**options):
    return build_dialect("openai_realtime", "https://api.example", options)


def identity(**values):
    return CallIdentity(7, "call-7", values)


@pytest.fixture(params=OPTIONS.values(), ids=OPTIONS)
def options(request):
    return request.param


class TestOpenaiRealtime(DialectConformance):
    @pytest.fixture(autouse=True)
    def _options(self, options):
        self.options = options

    def make_dialect(self):
        return realtime(**self.options)

    def test_every_event_is_one_of_the_library(self):
        """All that both sides ever say, checked strictly against the types of the openai package."""
        dialect = self.make_dialect()
        beta = dialect.options.beta
        server = TypeAdapter(BetaServerEvent if beta else RealtimeServerEvent)
        client = TypeAdapter(BetaClientEvent if beta else RealtimeClientEvent)
        caller, agent = self.strangers(dialect)
        (up,) = dialect.prepare_caller([bytes(dialect.caller_format.frame_bytes)])
        (down,) = dialect.prepare_agent([bytes(dialect.agent_format.frame_bytes)])

        def to_agent(*messages):
            for message in messages:
                client.validate_json(message.payload)
            events = [event for message in messages for event in agent.decode(*message)]
            return [message for event in events if isinstance(event, Respond) for message in event.messages]

        def to_caller(*messages):
            for message in messages:
                server.validate_json(message.payload)
            events = [event for message in messages for event in caller.decode(*message)]
            assert not any(isinstance(event, Malformed) for event in events), events
            return [message for event in events if isinstance(event, Respond) for message in event.messages]

        to_caller(*agent.on_connected())
        to_agent(*to_caller(*to_agent(*caller.on_connected())))
        for _ in range(2):
            to_caller(*to_agent(*caller.start_of_speech()))
            to_agent(Message(caller.stamp(up, 0, UNIX_NS)))
            to_caller(*agent.speech_started(), *agent.speech_ended())
            to_caller(*to_agent(*caller.end_of_speech(UNIX_NS)))
            to_caller(*agent.transcript(Transcript("Good morning", "caller")), *agent.reply_started("Hello there"))
            to_caller(Message(agent.stamp(down, 0, UNIX_NS)))
            to_agent(*caller.dropped(5_000_000))
            to_caller(*agent.interrupted())
            to_caller(*agent.reply_started("As I said"), *agent.error(PeerError("429", "slow down")))
            to_caller(Message(agent.stamp(down, 1, UNIX_NS)))
            agent.note_usage(Usage(5, 7))
            to_caller(*agent.reply_ended())


@pytest.mark.parametrize(
    ("options", "url", "headers"),
    [
        ({"api_key": "k"}, "wss://api.example/v1/realtime?model=gpt-realtime", {"authorization": "Bearer k"}),
        (
            {"names": "beta", "model": "gpt-4o-realtime-preview"},
            "wss://api.example/v1/realtime?model=gpt-4o-realtime-preview",
            {"openai-beta": "realtime=v1"},
        ),
        (
            {"api": "azure", "api_key": "k", "model": "my dep"},
            "wss://api.example/openai/realtime?api-version=2025-04-01-preview&deployment=my%20dep",
            {"api-key": "k"},
        ),
        (
            {"api": "azure_v1", "api_key": "token", "authentication": "bearer"},
            "wss://api.example/openai/v1/realtime?model=gpt-realtime",
            {"authorization": "Bearer token"},
        ),
    ],
)
def test_the_handshake_is_the_apis(options, url, headers):
    dial = realtime(**options).caller(identity()).open()
    assert dial == Dial(url, (), headers, await_ready=True)


def test_the_key_may_come_from_a_variable():
    dial = realtime(api_key="${key}").caller(identity(api_key="secret")).open()
    assert dial.headers == {"authorization": "Bearer secret"}


def connected(**options):
    dialect = realtime(**options)
    return dialect.caller(identity())


def say(side, **event):
    return list(side.decode(json.dumps(event).encode(), True))


PCM = {"type": "audio/pcm", "rate": 24000}


def ready(**options):
    session = connected(**options)
    events = say(session, type="session.updated", session={"audio": {"input": {"format": PCM}}})
    assert events[0] == Ready()
    return session


def test_the_greeting_is_asked_for_once():
    session = connected()
    update = {"type": "session.updated", "session": {}}
    (_, respond) = say(session, **update)
    assert [json.loads(message.payload) for message in respond.messages] == [{"type": "response.create"}]
    assert say(session, **update) == []
    assert say(connected(greeting=False), **update) == [Ready()]


def test_another_audio_format_is_a_clear_error():
    ulaw = {"audio": {"input": {"format": PCM}, "output": {"format": {"type": "audio/pcmu"}}}}
    (event,) = say(connected(), type="session.updated", session=ulaw)
    assert isinstance(event, Malformed) and "audio/pcmu, not audio/pcm" in event.detail
    (event,) = say(connected(names="beta"), type="session.updated", session={"output_audio_format": "g711_ulaw"})
    assert isinstance(event, Malformed)
    rate = {"audio": {"output": {"format": {"type": "audio/pcm", "rate": 16000}}}}
    (event,) = say(connected(), type="session.updated", session=rate)
    assert isinstance(event, Malformed) and "16000 Hz" in event.detail


def test_a_refused_session_ends_the_call_with_its_reason():
    error = {"type": "invalid_request_error", "code": "invalid_value", "message": "no such voice"}
    events = say(connected(), type="error", error=error)
    assert events[0] == PeerError("invalid_value", "no such voice")
    assert isinstance(events[1], Ended) and "no such voice" in events[1].reason
    assert say(ready(), type="error", error=error) == [PeerError("invalid_value", "no such voice")]


def delta(session, size, item="item_1", response="resp_1"):
    audio = base64.b64encode(bytes(size)).decode()
    return say(session, type="response.output_audio.delta", response_id=response, item_id=item, delta=audio)


def test_an_interruption_says_how_much_was_heard_and_drops_what_still_comes():
    session = ready()
    say(session, type="response.created", response={"id": "resp_1"})
    assert delta(session, 48_000) == [AudioIn(bytes(48_000))]  # one second
    events = say(session, type="input_audio_buffer.speech_started", audio_start_ms=1, item_id="item_2")
    assert events == [SpeechStarted(), Interrupted(if_heard=True)]
    (truncate,) = session.dropped(400_000_000)
    assert json.loads(truncate.payload) == {
        "type": "conversation.item.truncate",
        "item_id": "item_1",
        "content_index": 0,
        "audio_end_ms": 600,
    }
    assert delta(session, 960) == []
    assert delta(session, 960, "item_3", "resp_2") == [AudioIn(bytes(960))]


def test_what_was_played_to_its_end_is_not_truncated():
    session = ready()
    delta(session, 960)
    assert session.dropped(0) == ()


def test_a_server_that_does_not_interrupt_leaves_the_agent_talking():
    told = {"audio": {"input": {"turn_detection": {"interrupt_response": False}}}}
    session = connected(session=told)
    assert say(session, type="input_audio_buffer.speech_started") == [SpeechStarted()]


def done(**response):
    return say(ready(), type="response.done", response=response)


def test_usage_and_outcomes_of_responses():
    usage = {
        "input_token_details": {
            "text_tokens": 119,
            "audio_tokens": 13,
            "cached_tokens_details": {"text_tokens": 64, "audio_tokens": 3},
        },
        "output_token_details": {"text_tokens": 30, "audio_tokens": 91},
    }
    assert done(status="completed", usage=usage) == [Usage(119, 30, 13, 91, 64, 3), ReplyEnded()]
    assert done(status="cancelled") == [Interrupted(if_heard=True)]
    failed = {"type": "failed", "error": {"type": "tokens", "code": "rate_limit_exceeded", "message": "slow"}}
    assert done(status="failed", status_details=failed) == [PeerError("rate_limit_exceeded", "slow"), ReplyEnded()]
    cut = done(status="incomplete", status_details={"reason": "max_output_tokens"})
    assert cut == [PeerError("incomplete_max_output_tokens"), ReplyEnded()]


def test_manual_turns_are_committed_and_stop_the_agent():
    session = ready(turn_detection="none")

    def kinds(messages):
        return [json.loads(message.payload)["type"] for message in messages]

    assert kinds(session.start_of_speech()) == ["input_audio_buffer.clear"]
    assert kinds(session.end_of_speech(UNIX_NS)) == ["input_audio_buffer.commit", "response.create"]
    say(session, type="response.created", response={"id": "resp_1"})
    assert kinds(session.start_of_speech()) == ["input_audio_buffer.clear", "response.cancel"]
    assert not ready().start_of_speech() and not ready().end_of_speech(UNIX_NS)


def test_the_agent_follows_the_clients_turn_detection():
    agent = realtime().agent("ga-1")
    none = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}
    answer, taking = say(agent, type="session.update", session=none)
    assert isinstance(answer, Respond) and taking == TurnTaking(by_message=True)
    assert agent.speech_started() == ()
    say(agent, type="input_audio_buffer.append", audio="AAAA")
    say(agent, type="input_audio_buffer.commit")
    assert say(agent, type="response.create") == [EndOfSpeech()]
    assert say(agent, type="response.create") == [ReplyWanted()]
    (answer,) = say(agent, type="session.update", session={"type": "realtime", "instructions": "be brief"})
    assert json.loads(answer.messages[0].payload)["session"]["instructions"] == "be brief"


@pytest.mark.parametrize(
    ("event", "code"),
    [
        ({"type": "input_audio_buffer.commit"}, "input_audio_buffer_commit_empty"),
        ({"type": "response.cancel"}, "response_cancel_not_active"),
        ({"type": "input_audio_buffer.append", "audio": "@"}, "invalid_value"),
        ({"type": "input_audio_buffer.append", "audio": 7}, "invalid_value"),
        ({"type": "session.update", "session": {"input_audio_format": "g711_ulaw"}}, "invalid_value"),
        ({"type": "conversation.item.create", "item": {"type": "message", "role": "boss"}}, "invalid_value"),
    ],
)
def test_the_agent_answers_mistakes_as_the_api_does(event, code):
    events = say(realtime().agent("ga-1"), **event)
    (answer,) = [event for event in events if isinstance(event, Respond)]
    error = json.loads(answer.messages[0].payload)
    assert error["type"] == "error" and error["error"]["code"] == code


def test_usage_of_the_agent_counts_audio_by_its_length():
    dialect = realtime()
    agent = dialect.agent("ga-1")
    (down,) = dialect.prepare_agent([bytes(960)])
    silence, second = (base64.b64encode(bytes(48 * length_ms)).decode() for length_ms in (5000, 1000))
    say(agent, type="input_audio_buffer.append", audio=silence)  # of which 0.3 s belong to the utterance
    agent.speech_started()
    say(agent, type="input_audio_buffer.append", audio=second)
    agent.speech_ended()
    agent.reply_started("hello")
    for number in range(100):  # 2 s
        agent.stamp(down, number, UNIX_NS)
    agent.note_usage(Usage(595, 5))
    caller = ready()
    events = [event for message in agent.reply_ended() for event in caller.decode(*message)]
    assert Usage(595, 5, 13, 40, 0, 0) in events


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": ""}, "model must not be empty"),
        ({"turn_detection": "vad"}, "turn_detection"),
        ({"session": {"audio": {"output": {"format": {"type": "audio/pcmu"}}}}}, "option format"),
        ({"session": {"audio": {"input": {"turn_detection": None}}}}, "option turn_detection"),
        ({"frame_ms": 30}, "frame_ms"),
    ],
)
def test_options_are_checked(options, words):
    with pytest.raises(BadInputError, match=words):
        realtime(**options)
