"""The person on the line: follows the script, with the manners of its persona."""

from __future__ import annotations

from collections.abc import Callable, Generator
from itertools import zip_longest
from typing import NamedTuple

from voxload.audio.corpus import BACKCHANNEL
from voxload.clock import NS_PER_MS
from voxload.dialects.base import CallerSession
from voxload.engine.context import CallContext
from voxload.engine.listener import Listener
from voxload.engine.media import PreparedUtterance
from voxload.engine.speaker import Speaker
from voxload.engine.turn import Turn
from voxload.load.workload import CallSpec
from voxload.model.outcome import Outcome
from voxload.model.script import (
    BackchannelStep,
    BargeIn,
    BargeInStep,
    DtmfStep,
    ListenStep,
    Repeat,
    RepeatStep,
    Say,
    SayStep,
    Step,
    ThinkStep,
    WaitForAgentStep,
    WaitForHangUpStep,
    waiting_time_ns,
)

Check = Callable[[int], int]
"""What a step waits for: called with the time in ns; returns 0 when it has come, else the instant to look again."""

BACKCHANNEL_AFTER_NS = (600_000_000, 1_800_000_000)
"""When a persona murmurs into the agent's turn."""


class _HangUpError(Exception):
    """Leaves the script from any depth with the call's outcome."""

    def __init__(self, outcome: Outcome, reason: str = "") -> None:
        self.outcome, self.reason = outcome, reason


class _Words(NamedTuple):
    """What is said, with the text and intent that the script states for it (empty: the utterance's own)."""

    utterance: str
    text: str = ""
    intent: str = ""

    @classmethod
    def of(cls, step: Say | BargeIn) -> _Words:
        return cls(step.utterance, step.text, step.intent)


class Caller:
    """Runs one call's script against the agent."""

    __slots__ = (
        "_check", "_check_due_ns", "_context", "_drop", "_ended", "_last_said", "_listener", "_over_next", "_ready_ns",
        "_script", "_session", "_speaker", "_spec", "_stopped", "expects_hang_up",
    )  # fmt: skip

    def __init__(
        self,
        spec: CallSpec,
        session: CallerSession,
        speaker: Speaker,
        listener: Listener,
        context: CallContext,
        ended: Callable[[Outcome, str, int], None],
        drop: Callable[[int], None],
    ) -> None:
        self._spec = spec
        self._session = session
        self._speaker = speaker
        self._listener = listener
        self._context = context
        self._ended = ended
        self._drop = drop
        self._script = self._run(spec.call_type.script)
        self._check: Check | None = None
        self._check_due_ns = 0
        self._last_said: _Words | None = None
        self._stopped = False
        self._ready_ns = 0
        self._over_next = False  # the step that runs is followed by wait_for_hang_up
        self.expects_hang_up = False
        """The agent may end the call: the script waits for that, or is about to and the agent has had its cue."""

    def start(self, now_ns: int) -> None:
        """The media channel is open: begin to send and to follow the script."""
        self._ready_ns = now_ns
        self._speaker.start(now_ns, self._spec.rng.random())
        self._advance(now_ns)

    def stop(self) -> None:
        """Do nothing more."""
        self._stopped = True
        self._speaker.stop()
        self._script.close()
        self._check = None

    def fail(self, reason: str, now_ns: int) -> None:
        """End the call because our own code failed."""
        self._ended(Outcome.INTERNAL_ERROR, reason, now_ns)

    # --- the script's engine ---

    def _advance(self, now_ns: int) -> None:
        """Run the script up to the next thing that it has to wait for."""
        try:
            while True:
                check = next(self._script)
                again_ns = check(now_ns)
                if again_ns:
                    self._check = check
                    self._look_at(again_ns)
                    return
        except StopIteration:
            self._ended(Outcome.COMPLETED, "", now_ns)
        except _HangUpError as end:
            self._ended(end.outcome, end.reason, now_ns)

    def _look_at(self, due_ns: int) -> None:
        self._check_due_ns = due_ns
        self._context.wheel.at(due_ns, self.on_check)

    def on_check(self, due_ns: int) -> int:
        """Look whether what the script waits for has come, at an instant that was set for it."""
        if due_ns == self._check_due_ns and not self._stopped:
            self.look(max(due_ns, self._context.clock()))
        return 0

    def look(self, now_ns: int) -> None:
        """See whether what the script waits for has come."""
        check = self._check
        if check is None or self._stopped:
            return
        try:
            again_ns = check(now_ns)
        except _HangUpError as end:
            self._check = None
            self._ended(end.outcome, end.reason, now_ns)
            return
        if not again_ns:
            self._check, self._check_due_ns = None, 0
            self._advance(now_ns)
        elif again_ns != self._check_due_ns:
            self._look_at(again_ns)

    # --- the steps ---

    def _run(self, steps: tuple[Step, ...]) -> Generator[Check, None, None]:
        """Follow the steps; yields what to wait for."""
        for step, following in zip_longest(steps, steps[1:]):
            self._over_next = following == "wait_for_hang_up" or isinstance(following, WaitForHangUpStep)
            match step:
                case "hang_up":
                    raise _HangUpError(Outcome.COMPLETED)
                case "wait_for_agent" | WaitForAgentStep():
                    yield from self._wait(waiting_time_ns(step))
                case "wait_for_hang_up" | WaitForHangUpStep():
                    yield self._agent_hangs_up(waiting_time_ns(step))
                case SayStep(say=say):
                    yield self._spoken(_Words.of(say), say.turn)
                case ThinkStep(think=pause):
                    yield self._passed(pause.duration_ns, self._spec.persona.think_factor)
                case ListenStep(listen=pause):
                    yield self._passed(pause.duration_ns)
                case BargeInStep(barge_in=barge_in):
                    yield self._agent_heard_for(self._draw(barge_in.after_ns), barge_in.timeout_ns)
                    yield self._spoken(_Words.of(barge_in), barge_in.turn, barge_in=True)
                case BackchannelStep(backchannel=murmur):
                    yield self._agent_heard_for(self._draw(murmur.after_ns), murmur.timeout_ns)
                    yield self._spoken(_Words(murmur.utterance), murmur.utterance, listening_only=True)
                case DtmfStep(dtmf=dtmf):
                    yield from (self._pressed(digit, dtmf.gap_ns) for digit in dtmf.digits[:-1])
                    yield self._pressed(dtmf.digits[-1], dtmf.gap_ns, last=True)
                case RepeatStep(repeat=repeat):
                    yield from self._repeat(repeat)

    def _repeat(self, repeat: Repeat) -> Generator[Check, None, None]:
        rounds = 0
        while rounds != repeat.times and not self._older_than(repeat.until_ns):
            rounds += 1
            yield from self._run(repeat.steps)

    def _wait(self, timeout_ns: int | None) -> Generator[Check, None, None]:
        """Wait for the agent, as this person does: murmuring, or breaking in."""
        persona, rng = self._spec.persona, self._spec.rng
        if persona.backchannel and rng.random() < persona.backchannel:
            yield self._agent_heard_for(self._draw(BACKCHANNEL_AFTER_NS), timeout_ns)
            if self._listener.ear.speaks_at(self._context.clock()):
                yield self._spoken(_Words(BACKCHANNEL), BACKCHANNEL, listening_only=True)
        if persona.interrupts and self._last_said is not None and rng.random() < persona.interrupts:
            yield self._agent_heard_for(self._draw(persona.interrupt_after_ns), timeout_ns)
            if self._listener.ear.speaks_at(self._context.clock()):
                yield self._spoken(self._last_said, "", barge_in=True)
        yield self._agent_done(timeout_ns)

    def _older_than(self, age_ns: int | None) -> bool:
        return age_ns is not None and self._context.clock() - self._ready_ns >= age_ns

    def _draw(self, span_ns: tuple[int, int]) -> int:
        low_ns, high_ns = span_ns
        return low_ns if low_ns == high_ns else self._spec.rng.randint(low_ns, high_ns)

    def _passed(self, span_ns: tuple[int, int], factor: float = 1.0) -> Check:
        """Wait until a drawn time has passed."""
        until_ns = 0

        def check(now_ns: int) -> int:
            nonlocal until_ns
            until_ns = until_ns or now_ns + int(self._draw(span_ns) * factor)
            return 0 if now_ns >= until_ns else until_ns

        return check

    def _spoken(self, words: _Words, turn: str, *, barge_in: bool = False, listening_only: bool = False) -> Check:
        """Say something; wait until its last active sample has been sent."""
        begun = False

        def check(now_ns: int) -> int:
            nonlocal begun
            if not begun:
                begun = True
                self._say(words, turn, now_ns, barge_in, listening_only)
            # the frame that ends the utterance wakes the script itself; this instant is only a backstop
            return 0 if self._speaker.saying is None else self._speaker.backstop_ns(now_ns)

        return check

    def _say(self, words: _Words, turn_name: str, now_ns: int, barge_in: bool, listening_only: bool) -> None:
        choices = self._context.media.spoken(words.utterance, self._spec.persona)
        said: PreparedUtterance = choices[0] if len(choices) == 1 else self._spec.rng.choice(choices)
        start_ns = self._speaker.say(said, now_ns, lambda late_ns, at_ns: self._said(turn, late_ns, at_ns))
        utterance = said.utterance
        intent = words.intent or utterance.intent
        turn = Turn(
            name=turn_name or intent or words.utterance,
            speech_start_ns=start_ns + said.active_start_ns,
            speech_end_ns=start_ns + said.active_end_ns,
            said=words.text or utterance.text,
            intent="" if listening_only else intent,
            barge_in=barge_in,
            listening_only=listening_only,
        )
        self._listener.caller_begins(turn, start_ns, utterance)
        if not listening_only:
            if self._session.stops_agent:
                self._drop(now_ns)
            self._speaker.tell(self._session.start_of_speech())
            self._last_said = words

    def _said(self, turn: Turn, late_ns: int, now_ns: int) -> None:
        turn.sent_late_ns = late_ns
        self._listener.caller_ends(turn)
        if not turn.listening_only:
            self._speaker.tell(self._session.end_of_speech(now_ns + self._context.unix_offset_ns))
            self._speaker.tell(self._session.said(turn.said))
        self.look(now_ns)

    def _pressed(self, digit: str, gap_ns: int, last: bool = False) -> Check:
        """Press a key and wait for the gap."""
        until_ns = 0

        def check(now_ns: int) -> int:
            nonlocal until_ns
            if not until_ns:
                until_ns = now_ns + gap_ns
                self.expects_hang_up = last and self._over_next
                self._listener.moment(now_ns, "dtmf", digit)
                self._speaker.tell(self._session.dtmf(digit))
            return 0 if now_ns >= until_ns else until_ns

        return check

    def _reply_deadline_ns(self, timeout_ns: int | None) -> int:
        """Return when this caller gives up waiting for a reply: its patience may be shorter than the time-out."""
        wait_ns = self._context.workload.scenario.timeouts.agent_reply_ns if timeout_ns is None else timeout_ns
        patience_ns = self._spec.persona.patience_ns
        return self._listener.owed_since_ns + (wait_ns if patience_ns is None else min(wait_ns, patience_ns))

    def _await_onset(self, now_ns: int, deadline_ns: int) -> int:
        """Return 0 when the agent has begun its reply, else when to look again.

        Raises:
            _HangUpError: it has not come in time.
        """
        if self._listener.ear.reply_onset_ns:
            return 0
        if now_ns >= deadline_ns:
            self._listener.gave_up(now_ns)
            waited_s = (deadline_ns - self._listener.owed_since_ns) / 1e9
            raise _HangUpError(Outcome.AGENT_SILENT, f"no reply to {self._listener.owed} within {waited_s:g} s")
        undecided_ns = self._listener.undecided_until_ns + NS_PER_MS
        return min(undecided_ns, deadline_ns) if now_ns < undecided_ns else deadline_ns

    def _agent_done(self, timeout_ns: int | None) -> Check:
        """Wait until the agent has replied and its turn is over; the call ends when it never speaks or never stops."""
        silence_ns = self._context.workload.scenario.measurement.agent_turn_end_ns
        longest_ns = self._context.workload.scenario.timeouts.agent_turn_ns

        def check(now_ns: int) -> int:
            again_ns = self._await_onset(now_ns, self._reply_deadline_ns(timeout_ns))
            if again_ns:
                return again_ns
            self.expects_hang_up = self._over_next
            ear = self._listener.ear
            if now_ns >= ear.reply_onset_ns + longest_ns:
                raise _HangUpError(Outcome.PROTOCOL_ERROR, "the agent spoke for longer than timeouts.agent_turn")
            over_ns = ear.last_active_ns + silence_ns
            return 0 if now_ns >= over_ns else over_ns

        return check

    def _agent_hangs_up(self, timeout_ns: int | None) -> Check:
        """Wait for the end of the call, which the call itself notices; it ends badly when the agent stays."""
        wait_ns = self._context.workload.scenario.timeouts.agent_reply_ns if timeout_ns is None else timeout_ns
        until_ns = 0

        def check(now_ns: int) -> int:
            nonlocal until_ns
            until_ns = until_ns or now_ns + wait_ns
            self.expects_hang_up = True
            if now_ns >= until_ns:
                raise _HangUpError(Outcome.AGENT_SILENT, f"the agent did not hang up within {wait_ns / 1e9:g} s")
            return until_ns

        return check

    def _agent_heard_for(self, after_ns: int, timeout_ns: int | None) -> Check:
        """Wait until the agent has been speaking for a while, or has stopped before."""

        def check(now_ns: int) -> int:
            again_ns = self._await_onset(now_ns, self._reply_deadline_ns(timeout_ns))
            if again_ns:
                return again_ns
            moment_ns = self._listener.ear.reply_onset_ns + after_ns
            return 0 if now_ns >= moment_ns else moment_ns

        return check
