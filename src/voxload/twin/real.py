"""An agent that really listens: ends utterances by voice activity, recognises words, finds the intent, and answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from voxload.clock import NS_PER_MS
from voxload.twin.agent import Agent, Close
from voxload.twin.desk import Desk, Repertoire
from voxload.twin.exchange import Exchange
from voxload.twin.extras import require
from voxload.twin.recogniser import spoken_words
from voxload.twin.vad import VoiceDetector

if TYPE_CHECKING:
    from voxload.dialects.base import AgentSession
    from voxload.twin.record import CallRecord
    from voxload.twin.speaking import PreparedReply, Send

APOLOGY = "I am sorry, I did not understand that. Could you say it again, please?"
MATCH_MIN = 70.0
"""Similarity, 0 to 100, from which a text is taken for one that the agent knows."""
_TRUST_NS = 250 * NS_PER_MS

Recognise = Callable[[bytes, Callable[[str | None], None]], None]
"""Has an utterance (16-bit PCM at 16 kHz) recognised and calls back with its words; None: it cannot."""


class Interpreter:
    """Words to meaning: finds the known caller's sentence that is most like what was heard.

    Raises:
        BadInputError: the extra `real` is not installed.
    """

    def __init__(self, repertoire: Repertoire, recognise: Recognise, apology: PreparedReply | None) -> None:
        self.recognise = recognise
        self._fuzz = require("rapidfuzz.fuzz")
        self._apology = apology or repertoire.generic
        self._known = {spoken_words(exchange.heard): exchange for exchange in repertoire.exchanges}

    def interpret(self, words: str) -> Exchange:
        """Return what was meant; with no intent, and an apology for a reply, when it is like nothing known."""
        ratio = self._fuzz.token_sort_ratio
        score, best = max((ratio(words, text), text) for text in self._known)
        if not words or score < MATCH_MIN:
            return Exchange(words, "", self._apology)
        return Exchange(words, self._known[best].intent, self._known[best].reply)


class RealAgent(Agent):
    """One call of an agent with real endpointing and recognition; it ignores the caller's end-of-speech message.

    Its latencies are what they are. Of each turn the call's metrics tell `endpoint`, from the caller's last active
    sample to the decision that the utterance is over, `stt`, how long the recogniser took, and `reply`, from the last
    active sample to the reply.
    """

    __slots__ = ("_interpreter", "_utterance_opened", "_vad")

    def __init__(
        self,
        interpreter: Interpreter,
        desk: Desk,
        record: CallRecord,
        session: AgentSession,
        send: Send,
        close: Close,
    ) -> None:
        super().__init__(desk, record, session, send, close)
        self._interpreter = interpreter
        self._vad = VoiceDetector(desk.dialect.caller_format)
        self._utterance_opened = 0  # stretches of speech when the last utterance ended
        self._hearing.watch(False)

    def _watch(self, on: bool) -> None:
        """Nothing to do: it always listens."""

    def _on_end_of_speech(self, now_ns: int) -> None:
        """It hears for itself when the caller has finished."""

    def _on_reply_wanted(self, now_ns: int) -> None:
        """It answers what it has heard, or greets."""
        if self._may_greet() or self._vad.opened > self._utterance_opened:
            super()._on_reply_wanted(now_ns)

    def _take_turns(self, by_message: bool) -> None:
        """It always hears for itself."""

    def _on_audio(self, audio: bytes, now_ns: int) -> None:
        self._hearing.hear(audio, now_ns)
        vad = self._vad
        vad.hear(audio, now_ns)
        if vad.opened > self._utterance_opened:
            self._await_silence()
            if self.voice.speaking:
                self.voice.hear_over(vad.opened, vad.onset_ns, vad.last_active_ns, now_ns)
            else:
                self._announce_speech()

    def _last_active_ns(self) -> int:
        return self._vad.last_active_ns

    def _end_utterance(self, now_ns: int) -> None:
        vad = self._vad
        measured_ns = self._hearing.speech_end_ns() or vad.last_active_ns
        # In noise the level says nothing about the end of the speech.
        speech_end_ns = measured_ns if abs(measured_ns - vad.last_active_ns) < _TRUST_NS else vad.last_active_ns
        self._hearing.end_utterance()
        self._utterance_opened = vad.opened
        pcm = vad.take_utterance()
        self._announce_end()
        if self.voice.is_backchannel(vad.onset_ns, vad.last_active_ns):
            return
        if self.turn is not None:
            self.turn.abandon()
        self.record.turns += 1
        turn = RealTurn(self, self._interpreter, self.record.turns, speech_end_ns, now_ns)
        self.turn = turn
        self._interpreter.recognise(pcm, turn.on_words)


class RealTurn:
    """One turn of a real agent: its words come when the recogniser has them."""

    __slots__ = ("_abandoned", "_agent", "_asked_ns", "_interpreter", "_latencies_ns", "_number", "_speech_end_ns")

    def __init__(
        self, agent: RealAgent, interpreter: Interpreter, number: int, speech_end_ns: int, now_ns: int
    ) -> None:
        self._agent = agent
        self._interpreter = interpreter
        self._number = number
        self._speech_end_ns = speech_end_ns
        self._asked_ns = now_ns
        self._abandoned = False
        self._latencies_ns = {"endpoint": now_ns - speech_end_ns}
        agent.record.keep(self._latencies_ns)
        agent.envelopes.tell("speech_end", speech_end_ns)

    def abandon(self) -> None:
        """Let the turn come to nothing."""
        self._abandoned = True

    def on_words(self, words: str | None) -> None:
        """The recogniser has finished: tell the transcript and answer."""
        agent = self._agent
        if self._abandoned:
            return
        agent.turn = None
        if words is None:
            agent.say_error("500", "speech: the recogniser is gone")
            return
        now_ns = agent.desk.clock()
        self._latencies_ns["stt"] = now_ns - self._asked_ns
        agent.desk.meters.turn(self._latencies_ns)
        self._latencies_ns["reply"] = now_ns - self._speech_end_ns
        agent.desk.meters.replied(now_ns - self._speech_end_ns)
        exchange = self._interpreter.interpret(words)
        agent.say_transcript(exchange)
        agent.envelopes.tell("reply", now_ns, exchange)
        agent.voice.reply(exchange, self._number, now_ns)
