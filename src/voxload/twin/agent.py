"""The brain of one call at the agent: hears, thinks for as long as it was told to, speaks; without any I/O."""

from __future__ import annotations

from collections.abc import Callable

from voxload.clock import NS_PER_MS
from voxload.dialects.base import (
    AgentSession,
    AudioIn,
    Ended,
    EndOfSpeech,
    Event,
    Malformed,
    Message,
    PeerError,
    Transcript,
    Unknown,
)
from voxload.twin.desk import Desk, Exchange
from voxload.twin.hearing import Hearing
from voxload.twin.latency import chance, uniform
from voxload.twin.record import CallRecord
from voxload.twin.speaking import PreparedReply, Send, Speaking
from voxload.twin.turn import SttSlot, Turn

ENDPOINT_SILENCE_NS = 500 * NS_PER_MS
"""Silence that ends an utterance where the protocol has no message for it."""
BARGE_IN_SPEECH_NS = 100 * NS_PER_MS
"""So much speech over the agent's is an interruption; less is a noise."""
FLOOD_MESSAGES = 20_000
FLOOD_BATCH = 200

CLOSE_OK, CLOSE_PROTOCOL, CLOSE_INTERNAL = 1000, 1002, 1011

Close = Callable[[int], None]
"""Closes the media socket with a WebSocket close code."""

_FLOOD = b'{"type":"twin_flood","kind":"TwinFlood"}'
_GARBAGE = b"<<< this is not the protocol"


class Agent:
    """One call. The owner tells it what happens (`on_…`); it answers through `send`, `close` and the desk's wheel.

    A turn begins at the caller's end of speech. Its reply starts with an audible sample exactly the drawn latency
    after the caller's last active sample (to the wheel's slot of 1 ms), or at once where that instant has passed.
    """

    __slots__ = (
        "_barge_due_ns", "_check_armed", "_close", "_closed", "_flooded", "_handled", "_hearing", "_outcome",
        "_replied", "_send", "_session", "_speaking", "_stt_slot", "desk", "record", "turn",
    )  # fmt: skip

    def __init__(self, desk: Desk, record: CallRecord, session: AgentSession, send: Send, close: Close) -> None:
        self.desk = desk
        self.record = record
        self._session = session
        self._send = send
        self._close = close
        self._hearing = Hearing(desk.dialect.caller_format)
        self._hearing.watch(self._always_watching)
        self._handled = 0  # segments of speech that the detector had opened when the last utterance ended
        self._speaking: Speaking | None = None
        self._barge_due_ns = 0  # when the agent will stop for the caller; 0: it was not interrupted
        self._check_armed = False
        self._stt_slot = SttSlot(desk)
        self._replied = False
        self._flooded = 0
        self._closed = False
        self._outcome = ""
        self.turn: Turn | None = None
        """The turn whose reply is owed."""

    @property
    def _always_watching(self) -> bool:
        return not self.desk.ends_by_message or self.desk.stt.limit > 0

    # --- what happens ---

    def on_connected(self, now_ns: int) -> None:
        """The media socket is open."""
        for message in self._session.on_connected():
            self._send(message.payload, message.text)
        if self.desk.settings.greeting:
            self.desk.wheel.at(now_ns + self.desk.settings.greeting_delay_ns, self._greet)

    def on_message(self, payload: bytes, text: bool, now_ns: int) -> None:
        """A message of the caller has arrived."""
        for event in self._session.decode(payload, text):
            if type(event) is AudioIn:
                self.record.frames_in += 1
                self._hearing.hear(event.audio, now_ns)
                if self._hearing.watching:
                    self._notice_speech(now_ns)
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

    def _on_event(self, event: Event, now_ns: int) -> None:
        match event:
            case EndOfSpeech():
                if self.desk.ends_by_message:
                    self._end_utterance(now_ns)
            case Malformed():
                self.hang_up("protocol_error", CLOSE_PROTOCOL)
            case Ended():
                self.hang_up("completed", CLOSE_OK)
            case Unknown():
                self.record.unknown += 1
            case _:  # keys, transcripts and the like: heard, and of no consequence here
                pass

    def _notice_speech(self, now_ns: int) -> None:
        """Act on what the detector says: claim a recogniser, listen for the end, stop for an interruption."""
        detector = self._hearing.detector
        if detector.opened <= self._handled:
            return
        if self.desk.stt.limit:
            self._claim_stt()
        if not self.desk.ends_by_message and not self._check_armed:
            self._check_armed = True
            self.desk.wheel.at(detector.last_active_ns + ENDPOINT_SILENCE_NS, self._check_silence)
        if (
            self._speaking is not None
            and not self._barge_due_ns
            and detector.last_active_ns - detector.onset_ns >= BARGE_IN_SPEECH_NS
        ):
            self._barge_due_ns = max(detector.onset_ns + self.desk.settings.barge_in_delay_ns, now_ns)
            self.desk.wheel.at(self._barge_due_ns, self._yield)

    def _check_silence(self, _due_ns: int) -> int:
        """End the utterance when the caller has been silent for long enough; else look again at the next chance."""
        now_ns = self.desk.clock()
        due_ns = self._hearing.detector.last_active_ns + ENDPOINT_SILENCE_NS
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
        """The caller has finished: a turn begins, unless it was a mere noise while the agent speaks."""
        hearing = self._hearing
        spoken_ns, speech_end_ns = hearing.loud_ns, hearing.speech_end_ns()
        hearing.end_utterance()
        self._handled = hearing.detector.opened
        if self._speaking is not None and not self._barge_due_ns and spoken_ns < BARGE_IN_SPEECH_NS:
            self._stt_slot.give_back()
            return
        if self.desk.stt.limit:
            self._claim_stt()
        slot, self._stt_slot = self._stt_slot, SttSlot(self.desk)
        if self.turn is not None:
            self.turn.abandon()
        self.record.turns += 1
        self.turn = Turn(self, self.record.turns, speech_end_ns or now_ns, slot)
        self.turn.begin(now_ns)

    # --- thinking: what the turn asks for ---

    def exchange(self, turn: int) -> Exchange:
        """Return what is said in a turn; the same for the same call, whatever else happens."""
        exchanges = self.desk.repertoire.exchanges
        draw = uniform(self.desk.settings.seed, self.record.call_id, turn, "exchange")
        return exchanges[int(draw * len(exchanges))]

    def say_transcript(self, exchange: Exchange) -> None:
        """Send what was understood."""
        self._tell(self._session.transcript(Transcript(exchange.heard, "caller", True, exchange.intent)))

    def refuse_tokens(self, retry_ns: int) -> None:
        """Report that the language model has refused a turn."""
        self._refuse("tokens", f"llm: rate limit, retry after {retry_ns / 1e9:.3f} s")

    def reply(self, exchange: Exchange, due_ns: int) -> None:
        """Speak, or do instead what the faults of this call say."""
        if self._speaking is not None:
            self._interrupt()
        settings, call_id = self.desk.settings, self.record.call_id
        faults, first = settings.faults, not self._replied
        self._replied = True
        if first and chance(faults.garbage_rate, settings.seed, call_id, 0, "garbage"):
            self._send(_GARBAGE, True)
        elif first and chance(faults.flood_rate, settings.seed, call_id, 0, "flood"):
            self.desk.wheel.at(due_ns, self._flood)
        else:
            drop = first and chance(faults.drop_rate, settings.seed, call_id, 0, "drop")
            self._speak(exchange.reply, due_ns, drop)

    # --- speaking ---

    def _greet(self, due_ns: int) -> int:
        if not self._closed and self.turn is None and self._speaking is None and not self.record.turns:
            self._speak(self.desk.repertoire.greeting, due_ns, drop=False)
        return 0

    def _speak(self, reply: PreparedReply, due_ns: int, drop: bool) -> None:
        desk = self.desk
        speaking = Speaking(
            reply,
            self.record,
            self._session,
            self._send,
            desk.dialect.audio_is_text,
            desk.unix_offset_ns,
            self._stop_listening_for_barge_in,
        )
        if drop:
            speaking.cut_in_the_middle(lambda: self.hang_up("dropped", CLOSE_INTERNAL))
        self._speaking, self._barge_due_ns = speaking, 0
        if not self._always_watching:
            self._hearing.watch(True)
            self._handled = 0
        next_ns = speaking.begin(due_ns, desk.settings.delivery == "burst")
        if next_ns:
            desk.wheel.at(next_ns, speaking.on_due)

    def _stop_listening_for_barge_in(self) -> None:
        """The reply is over."""
        self._speaking = None
        if not self._always_watching:
            self._hearing.watch(False)

    def _yield(self, due_ns: int) -> int:
        """Stop for the caller, unless the interrupted reply is over or another one has begun."""
        if self._speaking is not None and self._barge_due_ns == due_ns:
            self._interrupt()
        return 0

    def _interrupt(self) -> None:
        if self._speaking is not None:
            self._speaking.stop()
        self._stop_listening_for_barge_in()
        self.record.interruptions += 1
        self.desk.meters.interrupted()
        self._tell(self._session.interrupted())

    def _flood(self, due_ns: int) -> int:
        """Send a batch of messages that nobody knows each ms; after the last one end the call."""
        if self._closed:
            return 0
        for _ in range(FLOOD_BATCH):
            self._send(_FLOOD, True)
        self._flooded += FLOOD_BATCH
        if self._flooded < FLOOD_MESSAGES:
            return due_ns + NS_PER_MS
        self.hang_up("flooded", CLOSE_INTERNAL)
        return 0

    def _refuse(self, quota: str, text: str) -> None:
        self.record.rate_limited += 1
        self.desk.meters.refused(quota)
        self._tell(self._session.error(PeerError("429", text)))

    def _tell(self, message: Message | None) -> None:
        if message is not None:
            self._send(message.payload, message.text)

    def _fall_silent(self) -> None:
        self._closed = True
        if self._speaking is not None:
            self._speaking.stop()
            self._speaking = None
        if self.turn is not None:
            self.turn.abandon()
            self.turn = None
