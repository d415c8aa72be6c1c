"""The agent's voice in one call: what it says, how that goes wrong, and when it stops for the caller."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from voxload.clock import NS_PER_MS
from voxload.dialects.base import Usage
from voxload.draws import chance
from voxload.twin.speaking import Delivery, Outlet, PreparedReply, Speaking

if TYPE_CHECKING:
    from voxload.twin.desk import Desk
    from voxload.twin.exchange import Exchange
    from voxload.twin.faults import Faults

FLOOD_MESSAGES = 20_000
FLOOD_BATCH = 200
CHARACTERS_PER_TOKEN = 4
"""What a token of English text is commonly taken for."""

CLOSE_INTERNAL = 1011

_FLOOD = b'{"type":"twin_flood","kind":"TwinFlood"}'
_GARBAGE = b"<<< this is not the protocol"


def _ignore(*_: object) -> None:
    pass


class Voice:
    """Speaks, one reply at a time, and yields to the caller.

    The agent stops at (the onset of the caller's speech over its own) + `barge_in_delay`, to the sample where it can
    still cut the frame; but not before it knows that it hears more than a backchannel. `hang_up(outcome, code)` ends
    the call; `watch(on)` is told when the caller must be listened to, for a reply has begun or is over.
    """

    __slots__ = (
        "_deaf", "_desk", "_faults", "_flooded", "_hang_up", "_kept_on", "_midway", "_number", "_outlet", "_over_ns",
        "_queued", "_replied", "_silent", "_speaking", "_stop_ns", "_watch",
    )  # fmt: skip

    def __init__(
        self,
        desk: Desk,
        outlet: Outlet,
        faults: Faults,
        hang_up: Callable[[str, int], None],
        watch: Callable[[bool], None],
    ) -> None:
        self._desk = desk
        self._outlet = outlet
        self._faults = faults
        self._hang_up = hang_up
        self._watch = watch
        self._speaking: Speaking | None = None
        self._stop_ns = 0  # when the agent will stop for the caller; 0: it was not interrupted
        self._over_ns = 0  # how long the caller's last stretch of speech over this reply has been
        self._number = 0  # of what the agent says in this call, from 1
        self._deaf: bool | None = None  # does not stop during this reply; None: it has not come to that
        self._kept_on = False  # the caller spoke over this reply for long enough, and in vain
        self._midway = False  # the caller was speaking already when the agent began
        self._queued: tuple[Exchange, int] | None = None
        self._replied = False
        self._flooded = 0
        self._silent = False

    @property
    def speaking(self) -> bool:
        """A reply is being spoken, and will be unless it is stopped."""
        return self._speaking is not None

    @property
    def yields(self) -> bool:
        """The reply that is being spoken will be stopped for the caller."""
        return self._speaking is not None and self._stop_ns != 0

    # --- what it says ---

    def greet(self, due_ns: int) -> None:
        """Say the first words."""
        self._speak(self._desk.repertoire.greeting, due_ns, Delivery(self._faults.settings.delivery == "burst"))

    def cut_in(self, reply: PreparedReply, due_ns: int) -> None:
        """Speak into what the caller is saying."""
        self._faults.note("agent_interruption")
        self._speak(reply, due_ns, Delivery(self._faults.settings.delivery == "burst"), midway=True)

    def reply(self, exchange: Exchange, turn: int, due_ns: int) -> None:
        """Speak, or do instead what the faults of this call say."""
        if self._speaking is not None and self._kept_on:
            self._queued = (exchange, turn)  # an agent that does not yield answers when it has finished
            return
        if self._speaking is not None:
            self.interrupt()
        faults, rates = self._faults, self._faults.settings.faults
        first, self._replied = not self._replied, True
        if first and faults.strikes("garbage", rates.garbage_rate, 0):
            self._outlet.send(_GARBAGE, True)
        elif first and faults.strikes("flood", rates.flood_rate, 0):
            self._desk.wheel.at(due_ns, self._flood)
        elif first and faults.strikes("drop", rates.drop_rate, 0):
            self._speak(exchange.reply, due_ns, Delivery(faults.settings.delivery == "burst"), drop=True)
        else:
            spoken = exchange.reply
            wrong = faults.sound(turn)
            if wrong is not None:
                spoken = self._desk.sound_faults.apply(wrong, spoken)
            delivery = faults.delivery(spoken, turn)
            self._speak(spoken, due_ns, delivery, self._usage(exchange.reply.text))

    def _usage(self, text: str) -> Usage:
        """Return what a reply cost: `tokens_per_turn`, of which the reply's own text is the output."""
        total = self._faults.settings.quotas.tokens_per_turn
        output = min(-(-len(text) // CHARACTERS_PER_TOKEN), total)
        return Usage(total - output, output)

    def _speak(
        self,
        reply: PreparedReply,
        due_ns: int,
        delivery: Delivery,
        usage: Usage | None = None,
        drop: bool = False,
        midway: bool = False,
    ) -> None:
        speaking = Speaking(reply, self._outlet, delivery, self._finished, usage)
        if drop:
            speaking.cut_in_the_middle(lambda: self._hang_up("dropped", CLOSE_INTERNAL))
        self._speaking, self._stop_ns = speaking, 0
        self._number += 1
        self._deaf, self._kept_on, self._midway = None, False, midway
        self._watch(True)
        next_ns = speaking.begin(due_ns)
        if next_ns:
            self._desk.wheel.at(next_ns, speaking.on_due)

    def _finished(self) -> None:
        """The reply is over."""
        speaking, self._speaking = self._speaking, None
        self._watch(False)
        if self._queued is not None and speaking is not None and not self._silent:
            (exchange, turn), self._queued = self._queued, None
            self.reply(exchange, turn, speaking.end_ns)

    def _flood(self, due_ns: int) -> int:
        """Send a batch of messages that nobody knows each ms; after the last one end the call."""
        if self._silent:
            return 0
        for _ in range(FLOOD_BATCH):
            self._outlet.send(_FLOOD, True)
        self._flooded += FLOOD_BATCH
        if self._flooded < FLOOD_MESSAGES:
            return due_ns + NS_PER_MS
        self._hang_up("flooded", CLOSE_INTERNAL)
        return 0

    # --- when it stops ---

    def hear_over(self, segment: int, onset_ns: int, last_active_ns: int, now_ns: int) -> None:
        """Decide whether and when to stop for the caller, who speaks while the agent does.

        `segment` is the number of that stretch of speech; `onset_ns` and `last_active_ns` bound what was heard of it.
        """
        speaking = self._speaking
        if speaking is None:
            return
        settings = self._faults.settings
        onset_ns = max(onset_ns, speaking.start_ns)
        over_ns = self._over_ns = last_active_ns - onset_ns
        if over_ns <= 0 or self._stop_ns or self._deaf:
            return
        if over_ns < settings.backchannel_tolerance_ns:
            if not self._falls_for(segment):
                return
        elif self._deaf is None:
            self._deaf = self._faults.strikes("ignore_barge_in", settings.faults.ignore_barge_in_rate, self._number)
            if self._deaf:
                self._kept_on = True
                return
        stop_ns = self._stop_ns = max(onset_ns + settings.barge_in_delay_ns, now_ns)
        speaking.stop_at(stop_ns)

        def stop(_due_ns: int) -> int:
            """Stop, unless the interrupted reply is over or another one has begun."""
            if self._speaking is speaking:
                if self._over_ns < settings.backchannel_tolerance_ns:
                    self._faults.note("false_barge_in")
                self.interrupt()
            return 0

        self._desk.wheel.at(stop_ns, stop)

    def is_backchannel(self, onset_ns: int, last_active_ns: int) -> bool:
        """Return whether an utterance that has just ended was no turn: too short a word, said over the agent's.

        The bounds are those of its last stretch of speech; equal ones stand for a mere noise.
        """
        midway, self._midway = self._midway, False
        if self._speaking is None or self._stop_ns or self._kept_on or midway:
            return False
        return last_active_ns - max(onset_ns, self._speaking.start_ns) < self._faults.settings.backchannel_tolerance_ns

    def _falls_for(self, segment: int) -> bool:
        """Return whether the agent stops for this stretch of speech even if it is a backchannel."""
        settings, record = self._faults.settings, self._outlet.record
        rate = settings.faults.false_barge_in_rate
        return chance(rate, settings.seed, record.call_id, self._number * 1000 + segment, "false_barge_in")

    def interrupt(self) -> None:
        """Stop at once and tell the caller's side to drop what it has not played."""
        if self._speaking is not None:
            self._speaking.stop()
            self._speaking = None
        self._watch(False)
        self._outlet.record.interruptions += 1
        self._desk.meters.interrupted()
        for message in self._outlet.session.interrupted():
            self._outlet.send(message.payload, message.text)

    def fall_silent(self) -> None:
        """Never say anything again."""
        self._silent = True
        self._queued = None
        self._hang_up = self._watch = _ignore  # no cycles: a call's end sets it free
        if self._speaking is not None:
            self._speaking.stop()
            self._speaking = None
