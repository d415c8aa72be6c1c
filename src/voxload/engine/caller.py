"""The person on the line: speaks frame by frame on absolute deadlines, listens, and follows the script."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

from voxload.audio.playout import Ear
from voxload.dialects.base import CallerSession
from voxload.engine.context import CallContext, Line
from voxload.engine.media import PreparedUtterance
from voxload.load.workload import CallSpec
from voxload.measure.recorder import Labels
from voxload.measure.summary import TurnRecord
from voxload.model.outcome import Outcome
from voxload.model.script import (
    BargeInStep,
    DtmfStep,
    ListenStep,
    Repeat,
    RepeatStep,
    SayStep,
    Step,
    ThinkStep,
    WaitForAgentStep,
)

Check = Callable[[int], int]
"""What a step waits for: called with the time in ns; returns 0 when it has come, else the instant to look again."""


class _HangUpError(Exception):
    """Leaves the script from any depth with the call's outcome."""

    def __init__(self, outcome: Outcome, reason: str = "") -> None:
        self.outcome, self.reason = outcome, reason


@dataclass(slots=True)
class _Turn:
    """A turn that the caller has given to the agent; instants on the monotonic clock, 0: not yet."""

    name: str
    speech_end_ns: int
    """The caller's last active sample, as scheduled."""
    sent_late_ns: int
    """How much later than due the frame with that sample was sent."""
    onset_ns: int = 0
    first_sound_ns: int = 0


class Caller:
    """Runs one call's script against the agent.

    Speech goes out on the caller's own time line: frame n holds the samples spoken from t0 + n·P to t0 + (n+1)·P and is
    due when it is complete, at t0 + (n+1)·P, P being the frame's length. Silence is sent as frames too. An utterance
    starts at a frame's boundary; its end `u_off` is an instant of this time line, not of the sending.
    """

    __slots__ = (
        "_answered",
        "_check",
        "_check_due_ns",
        "_context",
        "_ear",
        "_ended",
        "_frame_ns",
        "_labels",
        "_line",
        "_position",
        "_ready_ns",
        "_script",
        "_sequence",
        "_session",
        "_speaking",
        "_spec",
        "_stopped",
        "_text",
        "_turn_name",
        "_turns",
        "_utterance_start_ns",
    )

    def __init__(
        self,
        spec: CallSpec,
        session: CallerSession,
        ear: Ear,
        line: Line,
        context: CallContext,
        labels: Labels,
        ended: Callable[[Outcome, str, int], None],
    ) -> None:
        self._spec = spec
        self._session = session
        self._ear = ear
        self._line = line
        self._context = context
        self._labels = labels
        self._ended = ended
        self._frame_ns = context.dialect.caller_format.frame_ms * 1_000_000
        self._text = context.dialect.audio_is_text
        self._script = self._run(spec.call_type.script)
        self._check: Check | None = None
        self._check_due_ns = 0
        self._sequence = 0
        self._speaking: PreparedUtterance | None = None
        self._position = 0
        self._utterance_start_ns = 0
        self._turn_name = ""
        self._turns: list[_Turn] = []
        self._answered = True  # no reply is owed yet
        self._stopped = False
        self._ready_ns = 0

    def start(self, now_ns: int) -> None:
        """The media channel is open: begin to send and to follow the script."""
        self._ready_ns = now_ns
        self._ear.await_reply(now_ns)
        self._answered = False  # the greeting
        self._context.wheel.at(now_ns + self._frame_ns, self._on_frame)
        self._advance(now_ns)

    def stop(self) -> None:
        """Send nothing more."""
        self._stopped = True
        self._script.close()

    def fail(self, reason: str, now_ns: int) -> None:
        """End the call because our own code failed."""
        self._ended(Outcome.INTERNAL_ERROR, reason, now_ns)

    # --- speaking ---

    def _on_frame(self, due_ns: int) -> int:
        """Send the frame that is due now; the hot path of the whole program."""
        if self._stopped:
            return 0
        context = self._context
        now_ns = context.clock()
        speaking = self._speaking
        if speaking is not None and due_ns <= self._utterance_start_ns:
            speaking = None  # this frame's samples were spoken before the utterance began
        prepared = context.media.silence if speaking is None else speaking.payloads[self._position]
        payload = self._session.stamp(prepared, self._sequence, now_ns + context.unix_offset_ns)
        self._sequence += 1
        recorder = context.recorder
        if self._line.send(payload, self._text):
            recorder.frames_sent += 1
            recorder.bytes_sent += len(payload)
        else:
            recorder.frames_dropped += 1
        recorder.lateness.record(now_ns - due_ns)
        if speaking is not None:
            self._position += 1
            if self._position == len(speaking.payloads):
                self._finish_utterance(speaking, now_ns - due_ns, now_ns)
        return due_ns + self._frame_ns

    def _begin_utterance(self, name: str, turn: str, now_ns: int) -> None:
        """Speak from the next frame boundary on."""
        choices = self._context.media.spoken(name)
        self._speaking = choices[0] if len(choices) == 1 else self._spec.rng.choice(choices)
        self._position = 0
        frames = -(-(now_ns - self._ready_ns) // self._frame_ns)
        self._utterance_start_ns = self._ready_ns + frames * self._frame_ns
        self._turn_name = turn or self._speaking.utterance.intent or name

    def _finish_utterance(self, said: PreparedUtterance, late_ns: int, now_ns: int) -> None:
        speech_end_ns = self._utterance_start_ns + said.active_end_ns
        self._speaking = None
        self._turns.append(_Turn(self._turn_name, speech_end_ns, late_ns))
        self._answered = False
        self._ear.await_reply(speech_end_ns)
        message = self._session.end_of_speech(now_ns + self._context.unix_offset_ns)
        if message is not None:
            self._line.send(message.payload, message.text)
            self._context.recorder.bytes_sent += len(message.payload)
        self._look(now_ns)

    # --- listening ---

    def on_audio(self, audio: bytes, now_ns: int) -> None:
        """Hear a piece of agent audio; the other hot path."""
        ear = self._ear
        segments = ear.segments
        ear.hear(audio, now_ns)
        if ear.segments != segments:
            self._on_onset(now_ns)

    def _on_onset(self, now_ns: int) -> None:
        """The agent has begun to speak: if it owed a reply, that is the reply."""
        onset_ns = self._ear.reply_onset_ns
        if onset_ns and not self._answered:
            self._answered = True
            recorder = self._context.recorder
            if not self._turns:
                recorder.latency("greeting", self._labels, onset_ns - self._ready_ns)
            else:
                turn = self._turns[-1]
                turn.onset_ns, turn.first_sound_ns = onset_ns, self._ear.first_sound_ns
                labels = (*self._labels, ("turn", turn.name))
                latency_ns = onset_ns - turn.speech_end_ns
                recorder.latency("turn_latency", labels, latency_ns)
                recorder.latency("turn_latency_uncorrected", labels, latency_ns - turn.sent_late_ns)
                recorder.latency("first_packet", labels, turn.first_sound_ns - turn.speech_end_ns)
        self._look(now_ns)

    def turn_records(self, call_due_ns: int) -> list[TurnRecord]:
        """Return the turns so far, in s since the call's intended start."""
        return [
            TurnRecord(
                turn.name,
                (turn.speech_end_ns - call_due_ns) / 1e9,
                (turn.onset_ns - turn.speech_end_ns) / 1e6 if turn.onset_ns else None,
                (turn.first_sound_ns - turn.speech_end_ns) / 1e6 if turn.first_sound_ns else None,
            )
            for turn in self._turns
        ]

    # --- the script ---

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
        self._context.wheel.at(due_ns, self._on_check)

    def _on_check(self, due_ns: int) -> int:
        if due_ns == self._check_due_ns and not self._stopped:
            self._look(max(due_ns, self._context.clock()))
        return 0

    def _look(self, now_ns: int) -> None:
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

    def _run(self, steps: tuple[Step, ...]) -> Generator[Check, None, None]:
        """Follow the steps; yields what to wait for."""
        for step in steps:
            match step:
                case "hang_up":
                    raise _HangUpError(Outcome.COMPLETED)
                case "wait_for_agent":
                    yield self._agent_done(None)
                case WaitForAgentStep(wait_for_agent=wait):
                    yield self._agent_done(wait.timeout_ns)
                case SayStep(say=say):
                    yield self._spoken(say.utterance, say.turn)
                case ThinkStep(think=pause) | ListenStep(listen=pause):
                    yield self._passed(pause.duration_ns)
                case BargeInStep(barge_in=barge_in):
                    yield self._agent_heard_for(self._draw(barge_in.after_ns), barge_in.timeout_ns)
                    yield self._spoken(barge_in.utterance, barge_in.turn)
                case DtmfStep(dtmf=dtmf):
                    yield from (self._pressed(digit, dtmf.gap_ns) for digit in dtmf.digits)
                case RepeatStep(repeat=repeat):
                    yield from self._repeat(repeat)

    def _repeat(self, repeat: Repeat) -> Generator[Check, None, None]:
        rounds = 0
        while rounds != repeat.times and not self._older_than(repeat.until_ns):
            rounds += 1
            yield from self._run(repeat.steps)

    def _older_than(self, age_ns: int | None) -> bool:
        return age_ns is not None and self._context.clock() - self._ready_ns >= age_ns

    def _draw(self, span_ns: tuple[int, int]) -> int:
        low_ns, high_ns = span_ns
        return low_ns if low_ns == high_ns else self._spec.rng.randint(low_ns, high_ns)

    def _passed(self, span_ns: tuple[int, int]) -> Check:
        """Wait until a drawn time has passed."""
        until_ns = 0

        def check(now_ns: int) -> int:
            nonlocal until_ns
            until_ns = until_ns or now_ns + self._draw(span_ns)
            return 0 if now_ns >= until_ns else until_ns

        return check

    def _spoken(self, utterance: str, turn: str) -> Check:
        """Say something; wait until its last active sample has been sent."""
        begun = False

        def check(now_ns: int) -> int:
            nonlocal begun
            if not begun:
                begun = True
                self._begin_utterance(utterance, turn, now_ns)
            said = self._speaking
            if said is None:
                return 0
            # the frame that ends the utterance wakes the script itself; this instant is only a backstop
            return max(self._utterance_start_ns + (len(said.payloads) + 50) * self._frame_ns, now_ns + self._frame_ns)

        return check

    def _pressed(self, digit: str, gap_ns: int) -> Check:
        """Press a key and wait for the gap."""
        until_ns = 0

        def check(now_ns: int) -> int:
            nonlocal until_ns
            if not until_ns:
                until_ns = now_ns + gap_ns
                message = self._session.dtmf(digit)
                if message is not None:
                    self._line.send(message.payload, message.text)
                    self._context.recorder.bytes_sent += len(message.payload)
            return 0 if now_ns >= until_ns else until_ns

        return check

    def _agent_done(self, timeout_ns: int | None) -> Check:
        """Wait until the agent has replied and its turn is over; the call ends when it never speaks or never stops."""
        timeouts = self._context.workload.scenario.timeouts
        silence_ns = self._context.workload.scenario.measurement.agent_turn_end_ns
        reply_ns = timeouts.agent_reply_ns if timeout_ns is None else timeout_ns
        since_ns = 0

        def check(now_ns: int) -> int:
            nonlocal since_ns
            since_ns = since_ns or (self._turns[-1].speech_end_ns if self._turns else self._ready_ns)
            ear = self._ear
            if not ear.reply_onset_ns:
                if now_ns >= since_ns + reply_ns:
                    raise _HangUpError(Outcome.AGENT_SILENT, f"no reply to {self._owed()} within {reply_ns / 1e9:g} s")
                return since_ns + reply_ns
            if now_ns >= ear.reply_onset_ns + timeouts.agent_turn_ns:
                raise _HangUpError(Outcome.PROTOCOL_ERROR, "the agent spoke for longer than timeouts.agent_turn")
            over_ns = ear.last_active_ns + silence_ns
            return 0 if now_ns >= over_ns else over_ns

        return check

    def _agent_heard_for(self, after_ns: int, timeout_ns: int | None) -> Check:
        """Wait until the agent has been speaking for a while, or has stopped before."""
        timeouts = self._context.workload.scenario.timeouts
        reply_ns = timeouts.agent_reply_ns if timeout_ns is None else timeout_ns
        since_ns = 0

        def check(now_ns: int) -> int:
            nonlocal since_ns
            since_ns = since_ns or (self._turns[-1].speech_end_ns if self._turns else self._ready_ns)
            ear = self._ear
            if not ear.reply_onset_ns:
                if now_ns >= since_ns + reply_ns:
                    raise _HangUpError(Outcome.AGENT_SILENT, f"no reply to {self._owed()} within {reply_ns / 1e9:g} s")
                return since_ns + reply_ns
            moment_ns = ear.reply_onset_ns + after_ns
            return 0 if now_ns >= moment_ns else moment_ns

        return check

    def _owed(self) -> str:
        return f"the turn {self._turns[-1].name!r}" if self._turns else "the start of the call (greeting)"
