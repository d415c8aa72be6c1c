"""One turn of the agent: from the caller's end of speech through recogniser, language model and voice to the reply."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voxload.twin.desk import Desk

if TYPE_CHECKING:
    from collections.abc import Callable

    from voxload.twin.agent import Agent
    from voxload.twin.exchange import Exchange

TRANSCRIPT_SHARE = 0.3
"""Where only the whole turn is told: the share of it after which the transcript is sent."""


class SttSlot:
    """A recogniser for one utterance: claimed at the caller's first speech, given back at the final transcript.

    When all are in use, `when_exceeded` decides: `wait` queues the claim (the audio is kept meanwhile, so a recogniser
    that comes free before the caller has finished costs no time), `fail` gives it up.
    """

    __slots__ = ("_desk", "_on_granted", "_state")

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._state = "none"
        self._on_granted: Callable[[], None] | None = None

    @property
    def held(self) -> bool:
        """A recogniser is at work on the utterance (always, where there is no limit)."""
        return self._state == "held" or not self._desk.stt.limit

    @property
    def refused(self) -> bool:
        """The utterance will not be recognised."""
        return self._state == "refused"

    def claim(self) -> bool:
        """Take a recogniser; False when this very claim was refused (it may be waiting then)."""
        if self._state != "none":
            return True
        if self._desk.stt.acquire():
            self._state = "held"
            return True
        if self._desk.settings.quotas.when_exceeded == "wait":
            self._state = "waiting"
            self._desk.stt.wait(self._granted)
        else:
            self._state = "refused"
        return False

    def when_granted(self, callback: Callable[[], None]) -> None:
        """Call `callback` when a waiting claim gets its recogniser."""
        self._on_granted = callback

    def give_back(self) -> None:
        """Be done with it, whether held or waiting."""
        held, self._state = self._state == "held", "none"
        self._on_granted = None
        if held:
            self._desk.stt.release()

    def _granted(self) -> bool:
        if self._state != "waiting":
            return False
        self._state = "held"
        if self._on_granted is not None:
            self._on_granted()
        return True


class Turn:
    """The stages of one turn, as callbacks on the wheel; each does nothing once the turn was abandoned.

    With stages told: transcript at `speech_end + stt`, then tokens are taken, reply at `speech_end + stt + llm + tts`.
    With the whole turn told: the transcript after 30 % of it. Waiting for a quota moves all that follows.
    """

    __slots__ = ("_abandoned", "_agent", "_base_ns", "_drawn_ns", "_exchange", "_number", "_slot", "_speech_end_ns")

    def __init__(self, agent: Agent, number: int, exchange: Exchange, speech_end_ns: int, slot: SttSlot) -> None:
        self._agent = agent
        self._number = number
        self._exchange = exchange
        self._speech_end_ns = self._base_ns = speech_end_ns
        self._slot = slot
        self._abandoned = False
        call_id = agent.record.call_id
        self._drawn_ns = {name: sample(call_id, number) for name, sample in agent.desk.samplers.items()}

    @property
    def transcript_ns(self) -> int:
        """From the start of recognition to the final transcript."""
        drawn = self._drawn_ns
        return drawn["stt"] if "stt" in drawn else round(drawn["turn"] * TRANSCRIPT_SHARE)

    def begin(self, now_ns: int) -> None:
        """Start to recognise, or wait for a recogniser."""
        self._agent.desk.meters.turn(self._drawn_ns)
        self._agent.record.keep(self._drawn_ns)
        self._agent.envelopes.tell("speech_end", self._speech_end_ns, self._exchange)
        if self._slot.refused:
            return
        if self._slot.held:
            self._recognise(now_ns)
        else:
            self._slot.when_granted(self._on_recogniser)

    def abandon(self) -> None:
        """Let the turn come to nothing."""
        self._abandoned = True
        self._slot.give_back()

    def _on_recogniser(self) -> None:
        now_ns = self._base_ns = self._agent.desk.clock()
        self._recognise(now_ns)

    def _recognise(self, now_ns: int) -> None:
        self._agent.desk.wheel.at(max(self._base_ns + self.transcript_ns, now_ns), self._on_transcript)

    def _on_transcript(self, due_ns: int) -> int:
        if self._abandoned:
            return 0
        self._slot.give_back()
        self._agent.say_transcript(self._exchange)
        return self._ask_model(due_ns)

    def _ask_model(self, due_ns: int) -> int:
        """Take the tokens of the turn at `due_ns`; when they are refused, wait and ask again, or give up."""
        desk = self._agent.desk
        retry_ns = desk.tokens.take(desk.settings.quotas.tokens_per_turn, due_ns)
        if not retry_ns:
            due_ns = max(self._base_ns + sum(self._drawn_ns.values()), due_ns)
            desk.wheel.at(due_ns, self._on_reply)
            return 0
        self._agent.refuse_tokens(retry_ns)
        if desk.settings.quotas.when_exceeded == "fail":
            return 0
        self._base_ns += retry_ns
        desk.wheel.at(due_ns + retry_ns, self._on_retry)
        return 0

    def _on_retry(self, due_ns: int) -> int:
        return 0 if self._abandoned else self._ask_model(due_ns)

    def _on_reply(self, due_ns: int) -> int:
        if self._abandoned:
            return 0
        agent, settings = self._agent, self._agent.desk.settings
        self._abandoned = True
        agent.turn = None
        if agent.faults.strikes("silent", settings.faults.silent_rate, self._number):
            return 0
        latency_ns = agent.desk.clock() - self._speech_end_ns
        self._drawn_ns["reply"] = latency_ns  # the call's record holds this very dictionary
        agent.desk.meters.replied(latency_ns)
        agent.envelopes.tell("reply", due_ns, self._exchange)
        agent.voice.reply(self._exchange, self._number, due_ns)
        return 0
