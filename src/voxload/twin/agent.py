"""The brain of one call at the agent: hears, thinks for as long as it was told to, speaks; without any I/O."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from voxload.dialects.base import (
    AgentSession,
    AudioIn,
    Ended,
    EndOfSpeech,
    Event,
    Interrupted,
    Malformed,
    Message,
    PeerError,
    ReplyWanted,
    Respond,
    Transcript,
    TurnTaking,
    Unknown,
)
from voxload.draws import chance
from voxload.twin.desk import Desk
from voxload.twin.envelopes import Envelopes
from voxload.twin.exchange import Exchange
from voxload.twin.faults import Faults
from voxload.twin.hearing import Hearing
from voxload.twin.record import CallRecord
from voxload.twin.speaking import Outlet, Send
from voxload.twin.turn import SttSlot, Turn
from voxload.twin.understanding import drawn_exchange, understand
from voxload.twin.voice import FLOOD_MESSAGES, Voice

__all__ = ["FLOOD_MESSAGES", "Agent", "Close"]

CLOSE_OK, CLOSE_PROTOCOL = 1000, 1002

Close = Callable[[int], None]
"""Closes the media socket with a WebSocket close code."""


class OwedTurn(Protocol):
    """A turn whose reply is being thought about."""

    def abandon(self) -> None:
        """Let the turn come to nothing."""


class Agent:
    """One call. The owner tells it what happens (`on_…`); it answers through `send`, `close` and the desk's wheel.

    A turn begins at the caller's end of speech. Its reply starts with an audible sample exactly the drawn latency
    after the caller's last active sample (to the wheel's slot of 1 ms), or at once where that instant has passed.
    """

    __slots__ = (
        "_always_watching", "_announced", "_check_armed", "_close", "_closed", "_ends_by_message", "_greeted",
        "_handled", "_hearing", "_interrupted_turn", "_outcome", "_send", "_session", "_stt_slot", "desk", "envelopes",
        "faults", "record", "turn", "voice",
    )  # fmt: skip

    def __init__(self, desk: Desk, record: CallRecord, session: AgentSession, send: Send, close: Close) -> None:
        self.desk = desk
        self.record = record
        self.faults = Faults(desk.settings, record, desk.meters)
        self._session = session
        self._send = send
        self._close = close
        self._hearing = Hearing(desk.dialect.caller_format)
        self._ends_by_message = desk.ends_by_message
        self._always_watching = desk.always_watching(self._ends_by_message)
        self._hearing.watch(self._always_watching)
        self._handled = 0  # segments of speech that the detector had opened when the last utterance ended
        outlet = Outlet(desk.dialect, record, session, send, desk.unix_offset_ns)
        self.voice = Voice(desk, outlet, self.faults, self.hang_up, self._watch)
        self._interrupted_turn = 0  # the turn for which it has been drawn whether the agent speaks into it
        self._check_armed = False
        self._announced = False  # the caller has been told that it is heard speaking
        self._greeted = False
        self._stt_slot = SttSlot(desk)
        self._closed = False
        self.envelopes = Envelopes(desk, record, send)
        self._outcome = ""
        self.turn: OwedTurn | None = None
        """The turn whose reply is owed."""

    # --- what happens ---

    def on_connected(self, now_ns: int) -> None:
        """The media socket is open."""
        self._tell(self._session.on_connected())
        self.envelopes.tell("connected", now_ns)
        if self._session.greets_unasked and self.desk.settings.greeting:
            self._plan_greeting(now_ns)

    def _plan_greeting(self, now_ns: int) -> None:
        settings = self.desk.settings
        self._greeted = True
        if self.faults.strikes("missing_greeting", settings.faults.missing_greeting_rate, 0):
            return
        due_ns = now_ns + settings.greeting_delay_ns
        late = settings.faults.late_greeting
        if late is not None and self.faults.strikes("late_greeting", late.rate, 0):
            due_ns += late.by_ns
        self.desk.wheel.at(due_ns, self._greet)

    def on_message(self, payload: bytes, text: bool, now_ns: int) -> None:
        """A message of the caller has arrived."""
        for event in self._session.decode(payload, text):
            if type(event) is AudioIn:
                self.record.frames_in += 1
                self._on_audio(event.audio, now_ns)
            else:
                self._on_event(event, now_ns)

    def on_closed(self, outcome: str) -> None:
        """The media socket is gone; `outcome` counts unless the agent itself had ended the call for another reason."""
        self._fall_silent()
        self._stt_slot.give_back()
        self.desk.leave(self.record, self._outcome or outcome)

    def hang_up(self, outcome: str, code: int) -> None:
        """End the call from this side."""
        if not self._closed:
            self._outcome = outcome
            self._fall_silent()
            self._close(code)

    # --- hearing ---

    def _on_audio(self, audio: bytes, now_ns: int) -> None:
        self._hearing.hear(audio, now_ns)
        if self._hearing.watching:
            self._notice_speech(now_ns)

    def _on_event(self, event: Event, now_ns: int) -> None:
        match event:
            case EndOfSpeech():
                self._on_end_of_speech(now_ns)
            case ReplyWanted():
                self._on_reply_wanted(now_ns)
            case TurnTaking(by_message=by_message):
                self._take_turns(by_message)
            case Interrupted():
                self._on_interrupted()
            case Malformed():
                self.hang_up("protocol_error", CLOSE_PROTOCOL)
            case Ended():
                self.hang_up("completed", CLOSE_OK)
            case Respond(messages=messages):
                self._tell(messages)
            case Unknown():
                self.record.unknown += 1
            case _:  # keys, transcripts and the like: heard, and of no consequence here
                pass

    def _on_end_of_speech(self, now_ns: int) -> None:
        """The caller says that it has finished."""
        if self._ends_by_message:
            self._end_utterance(now_ns)

    def _on_reply_wanted(self, now_ns: int) -> None:
        """The caller wants to hear something: the greeting, or an answer to what it has said so far."""
        if self.voice.speaking or self.turn is not None:
            self.say_error("conversation_already_has_active_response", "a response is under way")
        elif self._may_greet():
            self._plan_greeting(now_ns)
        else:
            self._end_utterance(now_ns)

    def _may_greet(self) -> bool:
        """Return whether the first words of the call are still to be said."""
        begun = self._greeted or self.record.turns or self._hearing.loud_ns
        return self.desk.settings.greeting and not begun

    def _on_interrupted(self) -> None:
        """The caller wants the agent to stop."""
        if self.turn is not None:
            self.turn.abandon()
            self.turn = None
        if self.voice.speaking:
            self.voice.interrupt()

    def _take_turns(self, by_message: bool) -> None:
        """The caller says how its utterances will end."""
        if by_message != self._ends_by_message:
            self._ends_by_message = by_message
            self._always_watching = self.desk.always_watching(by_message)
            self._hearing.watch(self._always_watching or self.voice.speaking)
            self._handled = 0

    def _watch(self, on: bool) -> None:
        """Listen closely while the agent speaks; some agents always do."""
        if not self._always_watching:
            self._hearing.watch(on)
            self._handled = 0

    def _notice_speech(self, now_ns: int) -> None:
        """Act on what the detector says: claim a recogniser, listen for the end, cut in, stop for an interruption."""
        detector = self._hearing.detector
        if detector.opened <= self._handled:
            return
        if self.desk.stt.limit:
            self._claim_stt()
        if not self._ends_by_message:
            self._await_silence()
        if self.voice.speaking:
            self.voice.hear_over(detector.opened, detector.onset_ns, detector.last_active_ns, now_ns)
            return
        self._announce_speech()
        if self._interrupted_turn != self.record.turns + 1:
            self._maybe_cut_in(detector.onset_ns)

    def _announce_speech(self) -> None:
        """Tell the caller once for each utterance that it is heard speaking."""
        if not self._announced:
            self._announced = True
            self._tell(self._session.speech_started())

    def _announce_end(self) -> None:
        """Tell the caller that its utterance is taken for finished."""
        self._announced = False
        self._tell(self._session.speech_ended())

    def _last_active_ns(self) -> int:
        """Return the end of what has been heard of the caller's speech."""
        return self._hearing.detector.last_active_ns

    def _await_silence(self) -> None:
        """End the utterance as soon as the caller has been silent for long enough."""
        if not self._check_armed:
            self._check_armed = True
            self.desk.wheel.at(self._last_active_ns() + self.desk.settings.endpoint_silence_ns, self._check_silence)

    def _check_silence(self, _due_ns: int) -> int:
        now_ns = self.desk.clock()
        due_ns = self._last_active_ns() + self.desk.settings.endpoint_silence_ns
        if self._closed:
            return 0
        if now_ns < due_ns:
            return due_ns
        self._check_armed = False
        self._end_utterance(now_ns)
        return 0

    def _claim_stt(self) -> None:
        """Take a recogniser for this utterance; tell the caller when there is none."""
        if not self._stt_slot.claim():
            self._refuse("stt", f"speech: all {self.desk.stt.limit} recognisers are in use")

    def _end_utterance(self, now_ns: int) -> None:
        """The caller has finished: a turn begins, unless it was a backchannel or a noise while the agent speaks."""
        hearing, detector = self._hearing, self._hearing.detector
        speech_end_ns, fingerprint = hearing.speech_end_ns(), hearing.fingerprint
        hearing.end_utterance()
        onset_ns, last_ns = (detector.onset_ns, detector.last_active_ns) if detector.opened > self._handled else (0, 0)
        self._handled = detector.opened
        self._announce_end()
        if self.voice.is_backchannel(onset_ns, last_ns):
            self._stt_slot.give_back()
            return
        if self.desk.stt.limit:
            self._claim_stt()
        slot, self._stt_slot = self._stt_slot, SttSlot(self.desk)
        if self.turn is not None:
            self.turn.abandon()
        self.record.turns += 1
        number = self.record.turns
        exchange = understand(self.desk, self.faults, number, fingerprint)
        self.turn = Turn(self, number, exchange, speech_end_ns or now_ns, slot)
        self.turn.begin(now_ns)

    # --- thinking: what the turn asks for ---

    def exchange(self, turn: int) -> Exchange:
        """Return what the agent says when it cuts in; the same for the same call."""
        return drawn_exchange(self.desk, self.record.call_id, turn)

    def say_transcript(self, exchange: Exchange) -> None:
        """Send what was understood."""
        self._tell(self._session.transcript(Transcript(exchange.heard, "caller", True, exchange.intent)))
        self.envelopes.tell("transcript", self.desk.clock(), exchange)

    def say_error(self, code: str, text: str) -> None:
        """Report an error; the call goes on."""
        self._tell(self._session.error(PeerError(code, text)))

    def refuse_tokens(self, retry_ns: int) -> None:
        """Report that the language model has refused a turn."""
        self._refuse("tokens", f"llm: rate limit, retry after {retry_ns / 1e9:.3f} s")

    # --- speaking ---

    def _greet(self, due_ns: int) -> int:
        if not self._closed and self.turn is None and not self.voice.speaking and not self.record.turns:
            self.voice.greet(due_ns)
        return 0

    def _maybe_cut_in(self, onset_ns: int) -> None:
        """See once for each utterance whether the agent will speak into it."""
        faults, turn = self.desk.settings.faults, self.record.turns + 1
        self._interrupted_turn = turn
        if not chance(faults.agent_interruption_rate, self.desk.settings.seed, self.record.call_id, turn, "cut_in"):
            return

        def cut_in(due_ns: int) -> int:
            idle = not self._closed and self.turn is None and not self.voice.speaking
            if idle and self.record.turns + 1 == turn and self._hearing.loud_ns:
                self.voice.cut_in(self.exchange(turn).reply, due_ns)
            return 0

        self.desk.wheel.at(onset_ns + faults.agent_interruption_after_ns, cut_in)

    def _refuse(self, quota: str, text: str) -> None:
        self.record.rate_limited += 1
        self.desk.meters.refused(quota)
        self.say_error("429", text)

    def _tell(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self._send(message.payload, message.text)

    def _fall_silent(self) -> None:
        self._closed = self.envelopes.over = True
        self.voice.fall_silent()
        if self.turn is not None:
            self.turn.abandon()
            self.turn = None
