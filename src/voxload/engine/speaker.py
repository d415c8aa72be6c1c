"""The caller's speech: frames on absolute deadlines, utterance or silence, and what a bad line does to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from voxload.audio.line import LineImpairment
from voxload.dialects.base import CallerSession, Outgoing
from voxload.engine.context import CallContext, Line, tell
from voxload.engine.media import PreparedUtterance
from voxload.engine.mouth import FrameMouth, Mouth, new_mouth

Finished = Callable[[int, int], None]
"""Called with (how late the frame with the last active sample was sent, the time), both in ns."""


class Speaker:
    """Sends one call's audio.

    Frame n holds the samples spoken from t0 + n·P to t0 + (n+1)·P and is due when it is complete, at t0 + (n+1)·P, P
    being the frame's length. Silence (or the persona's background noise) is sent as frames too. An utterance starts at
    a frame's boundary. t0 lies at a phase of its own within the first frame, so that calls that start together do not
    send together.
    """

    __slots__ = (
        "_context", "_finished", "_frame_ns", "_line", "_mouth", "_start_ns", "_stopped", "_utterance_ns", "saying",
    )  # fmt: skip

    def __init__(
        self,
        session: CallerSession,
        line: Line,
        context: CallContext,
        bed: tuple[bytes, ...],
        impairment: LineImpairment | None,
    ) -> None:
        self._line = line
        self._context = context
        self._frame_ns = context.dialect.caller_format.frame_ms * 1_000_000
        self._start_ns = 0
        self._utterance_ns = 0
        self._stopped = False
        self._finished: Finished | None = None
        self.saying: PreparedUtterance | None = None
        """The utterance that is being spoken."""
        stamp = session.splice or session.stamp
        words = (
            context.recorder.ledger, stamp, line.send, self._end, bed, self._frame_ns, context.unix_offset_ns,
            context.dialect.audio_is_text, context.clock,
        )  # fmt: skip
        self._mouth: FrameMouth | None
        if impairment is None:
            self._mouth = new_mouth(*words)
            line.lend(self._mouth)
        else:
            self._mouth = bad = BadLineMouth(*words)
            bad.suffer(impairment, context)

    def start(self, now_ns: int, phase: float) -> None:
        """Begin to send; `phase` (0 to 1) places t0 within the first frame."""
        self._start_ns = now_ns + int(phase * self._frame_ns)
        if self._mouth is not None:
            self._context.wheel.at(self._start_ns + self._frame_ns, self._mouth)

    def stop(self) -> None:
        """Send nothing more."""
        self._stopped = True
        self._finished = None
        if self._mouth is not None:
            self._mouth.stop()
            self._mouth = None  # it knows the speaker: no cycle may be left

    def say(self, utterance: PreparedUtterance, now_ns: int, finished: Finished) -> int:
        """Speak from the next frame boundary on; returns that instant. `finished` follows once it has been sent."""
        self.saying, self._finished = utterance, finished
        frames = max(-(-(now_ns - self._start_ns) // self._frame_ns), 0)
        self._utterance_ns = self._start_ns + frames * self._frame_ns
        if self._mouth is not None:
            self._mouth.say(utterance.payloads, self._utterance_ns)
        return self._utterance_ns

    def backstop_ns(self, now_ns: int) -> int:
        """Return an instant at which the utterance has surely been sent, or at which to look again."""
        frames = len(self.saying.payloads) if self.saying is not None else 0
        return max(self._utterance_ns + (frames + 50) * self._frame_ns, now_ns + self._frame_ns)

    def _end(self, late_ns: int, now_ns: int) -> None:
        self.saying = None
        if self._finished is not None:
            self._finished(late_ns, now_ns)

    def tell(self, messages: Sequence[Outgoing]) -> None:
        """Send what is not audio."""
        if not self._stopped:
            tell(messages, self._line, self._context.recorder)


class BadLineMouth(Mouth):
    """Loses frames, mutes them or holds them back; lateness counts from the instant at which the line lets one go."""

    __slots__ = ("_context", "_impairment")

    def suffer(self, impairment: LineImpairment, context: CallContext) -> None:
        """Say what the line does, before the first frame."""
        self._impairment, self._context = impairment, context

    def _speak(self, prepared: bytes, due_ns: int, last: bool) -> None:
        """Take the next number; send when the line lets the frame go, if it does."""
        sequence = self._sequence
        self._sequence = sequence + 1
        action, delay_ns = self._impairment.plan(sequence, due_ns)
        if action == "mute":
            prepared = self._context.media.silence

        def leave(leave_ns: int) -> int:
            if self._stopped:
                return 0
            if action == "drop":
                self._context.recorder.frames_lost += 1
                now_ns = self._clock()
            else:
                now_ns = self._send_now(prepared, sequence, leave_ns)
            if last:
                self._ended(now_ns - due_ns, now_ns)
            return 0

        if delay_ns:
            self._context.wheel.at(due_ns + delay_ns, leave)
        else:
            leave(due_ns)
