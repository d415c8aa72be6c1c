"""The conformance suite of dialects: subclass `DialectConformance`, give it a dialect, and pytest runs it.

class TestMine(DialectConformance):
    def make_dialect(self) -> Dialect:
        return MyDialect("http://agent.example", MyOptions())
"""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from voxload.dialects.base import (
    AgentSession,
    AudioIn,
    CallerSession,
    CallIdentity,
    Dial,
    Dialect,
    Dtmf,
    EndOfSpeech,
    Event,
    HttpRequest,
    HttpResponse,
    Interrupted,
    Malformed,
    Mark,
    Message,
    Outgoing,
    PeerError,
    Ready,
    ReplyEnded,
    Respond,
    SetupFailed,
    SetupStep,
    Transcript,
    Unknown,
)

UNIX_NS = 1_764_000_000_123_456_789
ROUNDS_MAX = 20
CALL_ID = "call-7 ä/%?"


class Desk:
    """A stand-in for the twin's desk: admits every call under `CALL_ID`, or refuses."""

    def __init__(self, refusal: HttpResponse | None = None) -> None:
        self.refusal = refusal
        self.details: Mapping[str, Any] = {}

    def admit(self, details: Mapping[str, Any]) -> str | HttpResponse:
        """Open the session, or refuse."""
        self.details = details
        return self.refusal or CALL_ID

    def call_metrics(self, call_id: str) -> Mapping[str, Any] | None:
        """Know one call."""
        return {"turns": 3} if call_id == CALL_ID else None

    def unix_s(self) -> float:
        """Return the time of day."""
        return UNIX_NS / 1e9


class DialectConformance:
    """What every dialect must do; both of its sides are set against each other."""

    @abstractmethod
    def make_dialect(self) -> Dialect:
        """Return the dialect under test, for any target."""

    def identity(self) -> CallIdentity:
        """Return the call under test."""
        return CallIdentity(7, "call-7", {"caller_number": "+15550000007"})

    def set_up(self, dialect: Dialect, desk: Desk) -> SetupStep:
        """Lead a call's set-up to its end with the dialect's own agent side as the server."""
        return self.lead(dialect, dialect.caller(self.identity()), desk)

    def lead(self, dialect: Dialect, caller: CallerSession, desk: Desk) -> SetupStep:
        """Take the caller's HTTP steps; returns the one that is none."""
        step = caller.open()
        for _ in range(5):
            if not isinstance(step, HttpRequest):
                break
            path = self.path(dialect, step.url)
            answer = dialect.answer(HttpRequest(step.method, path, step.headers, step.body), desk)
            assert answer is not None, f"the agent side does not serve {step.method} {path}"
            step = caller.on_response(answer)
        return step

    @staticmethod
    def path(dialect: Dialect, url: str) -> str:
        """Return the path of a URL as the agent side sees it: without the target's own base path."""
        parts = urlsplit(url)
        path = parts.path.removeprefix(urlsplit(dialect.target).path)
        return path + (f"?{parts.query}" if parts.query else "")

    def pair(self, dialect: Dialect) -> tuple[CallerSession, AgentSession]:
        """Return both sides of a call, once each has heard the other's first messages."""
        caller, agent = self.strangers(dialect)
        self.introduce(caller, agent)
        return caller, agent

    def strangers(self, dialect: Dialect) -> tuple[CallerSession, AgentSession]:
        """Return both sides of a call whose media socket is about to open."""
        caller = dialect.caller(self.identity())
        step = self.lead(dialect, caller, Desk())
        assert isinstance(step, Dial), step
        call_id = dialect.socket_call_id(self.path(dialect, step.url), dict(step.headers))
        assert call_id, f"the agent side does not know {step.url}"
        return caller, dialect.agent(call_id)

    @staticmethod
    def introduce(caller: CallerSession, agent: AgentSession) -> list[Event]:
        """Exchange the first messages of both sides and the answers to them; returns what the caller makes of it."""
        heard: list[Event] = []
        to_agent = [message for message in caller.on_connected() if isinstance(message, Message)]
        to_caller = list(agent.on_connected())
        for _ in range(ROUNDS_MAX):
            if not to_agent and not to_caller:
                return heard
            at_agent = [event for message in to_agent for event in agent.decode(*message)]
            at_caller = [event for message in to_caller for event in caller.decode(*message)]
            heard += at_caller
            to_caller, to_agent = _answers(at_agent), _answers(at_caller)
        raise AssertionError("the two sides never stop to answer each other")

    # --- set-up ---

    def test_the_set_up_ends_in_a_dial_that_the_agent_side_knows(self) -> None:
        """HTTP steps, if any, then a WebSocket path from which the agent side reads the same call."""
        dialect = self.make_dialect()
        step = self.set_up(dialect, Desk())
        assert isinstance(step, Dial)
        assert step.url.startswith(("ws://", "wss://"))
        assert dialect.socket_call_id(self.path(dialect, step.url), dict(step.headers))
        if dialect.subprotocol() is not None:
            assert dialect.subprotocol() in step.subprotocols

    def test_a_call_that_waits_to_be_ready_becomes_ready(self) -> None:
        """Where the open socket is not the sign, the first messages of both sides bring it."""
        dialect = self.make_dialect()
        step = self.set_up(dialect, Desk())
        assert isinstance(step, Dial)
        heard = self.introduce(*self.strangers(dialect))
        assert any(isinstance(event, Ready) for event in heard) or not step.await_ready
        assert not any(isinstance(event, Malformed | PeerError | Unknown) for event in heard), heard

    def test_a_refusal_ends_the_set_up_with_an_outcome(self) -> None:
        """A 503 to the first request is no exception."""
        dialect = self.make_dialect()
        caller = dialect.caller(self.identity())
        if isinstance(caller.open(), HttpRequest):
            for status in (400, 404, 429, 503):
                assert isinstance(caller.on_response(HttpResponse(status, {}, b"no")), SetupFailed)

    def test_a_nonsense_answer_ends_the_set_up_with_an_outcome(self) -> None:
        """Garbage where a session should be is no exception."""
        dialect = self.make_dialect()
        caller = dialect.caller(self.identity())
        if isinstance(caller.open(), HttpRequest):
            for body in (b"", b"{", b"[]", b"null", b'{"session_id": 7}', b"\xff\xfe"):
                assert isinstance(caller.on_response(HttpResponse(200, {}, body)), SetupFailed)

    def test_other_paths_are_not_ours(self) -> None:
        """Neither for sockets nor for HTTP."""
        dialect = self.make_dialect()
        assert dialect.socket_call_id("/no/such/path", {}) is None
        assert dialect.answer(HttpRequest("GET", "/no/such/path"), Desk()) is None

    # --- audio ---

    def test_caller_audio_arrives_as_it_was(self) -> None:
        """prepare, stamp, decode: the same samples on the other side."""
        dialect = self.make_dialect()
        frames = _noise(dialect.caller_format.frame_bytes, 5)
        caller, agent = self.pair(dialect)
        prepared = dialect.prepare_caller(frames)
        for number, (frame, ready) in enumerate(zip(frames, prepared, strict=True)):
            message = caller.stamp(ready, number, UNIX_NS + number)
            assert _audio(agent.decode(message, dialect.audio_is_text)) == frame

    def test_agent_audio_arrives_as_it_was(self) -> None:
        """The same in the other direction."""
        dialect = self.make_dialect()
        frames = _noise(dialect.agent_format.frame_bytes, 5)
        caller, agent = self.pair(dialect)
        for opening in agent.reply_started("Good morning."):
            caller.decode(*opening)
        for number, ready in enumerate(dialect.prepare_agent(frames)):
            message = agent.stamp(ready, number, UNIX_NS + number)
            assert _audio(caller.decode(message, dialect.agent_audio_is_text)) == frames[number]

    def test_a_prepared_frame_can_be_stamped_many_times(self) -> None:
        """Frames are shared by all calls: stamping leaves them as they are."""
        dialect = self.make_dialect()
        caller, _ = self.pair(dialect)
        (ready,) = dialect.prepare_caller(_noise(dialect.caller_format.frame_bytes, 1))
        before = bytes(ready)
        first = caller.stamp(ready, 0, UNIX_NS)
        caller.stamp(ready, 1, UNIX_NS + 20_000_000)
        another, _ = self.pair(dialect)
        assert (bytes(ready), another.stamp(ready, 0, UNIX_NS)) == (before, first)

    # --- signals ---

    def test_the_callers_signals_are_understood(self) -> None:
        """End of speech and key presses, where the protocol has them."""
        dialect = self.make_dialect()
        caller, agent = self.pair(dialect)
        told = [event for message in caller.end_of_speech(UNIX_NS) for event in agent.decode(*message)]
        assert EndOfSpeech() in told or not told
        assert all(isinstance(event, tuple) for message in caller.start_of_speech() for event in agent.decode(*message))
        for digit in "0123456789*#":
            for message in caller.dtmf(digit):
                if isinstance(message, Message):
                    assert Dtmf(digit) in agent.decode(*message)

    def test_the_agents_signals_are_understood(self) -> None:
        """Transcripts, replies, interruptions and errors, where the protocol has them."""
        dialect = self.make_dialect()
        caller, agent = self.pair(dialect)
        heard = Transcript('I said "hello", caf\u00e9', "caller", True)
        self._understood(
            caller.decode, agent.transcript(heard), lambda e: isinstance(e, Transcript) and e.text == heard.text
        )
        self._understood(caller.decode, agent.reply_started("Hi."), lambda e: not isinstance(e, Malformed | Unknown))
        self._understood(caller.decode, agent.reply_ended(), lambda e: isinstance(e, ReplyEnded | Mark))
        self._understood(caller.decode, agent.interrupted(), lambda e: isinstance(e, Interrupted))
        error = PeerError("429", "slow down")
        self._understood(caller.decode, agent.error(error), lambda e: isinstance(e, PeerError) and e.code == "429")

    @staticmethod
    def _understood(decode: Any, messages: Sequence[Message], expected: Any) -> None:
        events = [event for message in messages for event in decode(*message)]
        assert not messages or any(expected(event) for event in events), messages

    # --- strangers ---

    def test_marks_come_back(self) -> None:
        """A mark of the agent's is answered once its audio has been played, and the agent takes the answer."""
        dialect = self.make_dialect()
        caller, agent = self.pair(dialect)
        agent.reply_started("Good morning.")
        asked = [event for message in agent.reply_ended() for event in caller.decode(*message)]
        for event in asked:
            if isinstance(event, Mark):
                answer = caller.played(event.name)
                assert answer
                for message in answer:
                    assert not any(isinstance(item, Malformed | Unknown) for item in agent.decode(*message))

    def test_the_end_is_understood(self) -> None:
        """What the caller says when it hangs up, and what it says of audio that it dropped."""
        dialect = self.make_dialect()
        caller, agent = self.pair(dialect)
        (down,) = dialect.prepare_agent(_noise(dialect.agent_format.frame_bytes, 1))
        for message in agent.reply_started("Good morning."):
            caller.decode(*message)
        caller.decode(agent.stamp(down, 0, UNIX_NS), dialect.agent_audio_is_text)
        messages: list[Outgoing] = [*caller.dropped(5_000_000), *caller.hang_up()]
        for said in messages:
            if isinstance(said, Message):
                assert not any(isinstance(event, Malformed | Unknown) for event in agent.decode(*said)), said

    def test_unknown_messages_are_events(self) -> None:
        """A kind that nobody knows is counted, never fatal, whatever its fields are: rules may be made for it."""
        dialect = self.make_dialect()
        for side in self.pair(dialect):
            for payload in (b'{"type":"surprise","kind":"surprise","event":"surprise"}', b"{}", _STRANGER):
                events = side.decode(payload, True)
                assert not any(isinstance(event, Malformed | AudioIn) for event in events)

    def test_broken_messages_never_raise(self) -> None:
        """Bytes of any sort give events, not exceptions."""
        dialect = self.make_dialect()
        chance = random.Random(7)
        good = self._good_messages(dialect)
        for side in (dialect.caller(self.identity()), dialect.agent(CALL_ID)):
            for text in (True, False):
                for payload in (b"", b"null", b"[]", b"7", b'"x"', b"{", b"\xff\xfe\x00", b'{"type":7}', b"[" * 10_000):
                    _check_events(side.decode(payload, text))
                for _ in range(300):
                    broken = bytearray(chance.choice(good))
                    for _ in range(chance.randint(1, 4)):
                        broken[chance.randrange(len(broken))] = chance.randrange(256)
                    _check_events(side.decode(bytes(broken[: chance.randint(1, len(broken))]), text))

    def _good_messages(self, dialect: Dialect) -> list[bytes]:
        caller, agent = self.pair(dialect)
        (up,) = dialect.prepare_caller(_noise(dialect.caller_format.frame_bytes, 1))
        (down,) = dialect.prepare_agent(_noise(dialect.agent_format.frame_bytes, 1))
        messages = [
            *caller.end_of_speech(UNIX_NS),
            *caller.dtmf("5"),
            *agent.transcript(Transcript("hello", "caller")),
            *agent.reply_started("hello"),
            *agent.reply_ended(),
            *agent.interrupted(),
            *agent.error(PeerError("429", "slow down")),
        ]
        stamped = [caller.stamp(up, 0, UNIX_NS), agent.stamp(down, 0, UNIX_NS)]
        return stamped + [message.payload for message in messages]


_STRANGER = (
    b'{"type":"surprise","kind":"surprise","event":"surprise","text":{"a":1},"data":[1],"audio":{},"media":7,"mark":[2],'
    b'"code":{},"message":{"role":"x"},"final":"no","usage":5,"start":"now","digit":4,"delta":[]}'
)


def _answers(events: Sequence[Event]) -> list[Message]:
    return [message for event in events if isinstance(event, Respond) for message in event.messages]


def _noise(size: int, count: int) -> list[bytes]:
    chance = random.Random(size)
    return [chance.randbytes(size) for _ in range(count)]


def _audio(events: Sequence[Event]) -> bytes:
    return b"".join(event.audio for event in events if isinstance(event, AudioIn))


def _check_events(events: Sequence[Event]) -> None:
    assert all(isinstance(event, tuple) for event in events)
    assert all(isinstance(event.kind, str) for event in events if isinstance(event, Unknown))
