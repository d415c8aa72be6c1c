"""The caller's mouth: frames on absolute deadlines, speech or silence, and what the line does to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from voxload.audio.line import LineImpairment
from voxload.dialects.base import CallerSession, Outgoing
from voxload.engine.context import CallContext, Line, tell
from voxload.engine.media import PreparedUtterance

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
        "_bed", "_bed_length", "_clock", "_context", "_finished", "_frame_ns", "_impairment", "_late", "_line",
        "_position", "_recorder", "_send", "_sequence", "_stamp", "_start_ns", "_stopped", "_text", "_unix_offset_ns",
        "_utterance_ns", "saying",
    )  # fmt: skip

    def __init__(
        self,
        session: CallerSession,
        line: Line,
        context: CallContext,
        bed: tuple[bytes, ...],
        impairment: LineImpairment | None,
    ) -> None:
        # what a frame needs, bound once: a lookup saved is saved fifty times a second in every call
        self._stamp = session.stamp
        self._send = line.send
        self._clock = context.clock
        self._unix_offset_ns = context.unix_offset_ns
        self._late = context.recorder.frame_lateness_ns.append
        self._line = line
        self._context = context
        self._recorder = context.recorder
        self._bed, self._bed_length = bed, len(bed)
        self._impairment = impairment
        self._frame_ns = context.dialect.caller_format.frame_ms * 1_000_000
        self._text = context.dialect.audio_is_text
        self._sequence = 0
        self._position = 0
        self._start_ns = 0
        self._utterance_ns = 0
        self._stopped = False
        self._finished: Finished | None = None
        self.saying: PreparedUtterance | None = None
        """The utterance that is being spoken."""

    def start(self, now_ns: int, phase: float) -> None:
        """Begin to send; `phase` (0 to 1) places t0 within the first frame."""
        self._start_ns = now_ns + int(phase * self._frame_ns)
        self._context.wheel.at(self._start_ns + self._frame_ns, self.on_frame)

    def stop(self) -> None:
        """Send nothing more."""
        self._stopped = True

    def say(self, utterance: PreparedUtterance, now_ns: int, finished: Finished) -> int:
        """Speak from the next frame boundary on; returns that instant. `finished` follows once it has been sent."""
        self.saying, self._position, self._finished = utterance, 0, finished
        frames = max(-(-(now_ns - self._start_ns) // self._frame_ns), 0)
        self._utterance_ns = self._start_ns + frames * self._frame_ns
        return self._utterance_ns

    def backstop_ns(self, now_ns: int) -> int:
        """Return an instant at which the utterance has surely been sent, or at which to look again."""
        frames = len(self.saying.payloads) if self.saying is not None else 0
        return max(self._utterance_ns + (frames + 50) * self._frame_ns, now_ns + self._frame_ns)

    def on_frame(self, due_ns: int) -> int:
        """Send the frame that is due now; the hot path of the whole program."""
        if self._stopped:
            return 0
        sequence = self._sequence
        self._sequence = sequence + 1
        saying = self.saying
        if saying is None or due_ns <= self._utterance_ns:  # its samples were spoken before the utterance
            if self._impairment is not None:
                self._send_impaired(self._impairment, self._bed[sequence % self._bed_length], sequence, due_ns, False)
            else:
                self._send_now(self._bed[sequence % self._bed_length], sequence, due_ns)
            return due_ns + self._frame_ns
        prepared = saying.payloads[self._position]
        self._position += 1
        ended = self._position == len(saying.payloads)
        if self._impairment is not None:
            self._send_impaired(self._impairment, prepared, sequence, due_ns, ended)
        else:
            now_ns = self._send_now(prepared, sequence, due_ns)
            if ended:
                self._end(now_ns - due_ns, now_ns)
        return due_ns + self._frame_ns

    def _send_now(self, prepared: bytes, sequence: int, due_ns: int) -> int:
        """Stamp a frame, hand it to the line, count it; returns the time."""
        now_ns = self._clock()
        payload = self._stamp(prepared, sequence, now_ns + self._unix_offset_ns)
        if self._send(payload, self._text):
            recorder = self._recorder
            recorder.frames_sent += 1
            recorder.bytes_sent += len(payload)
        else:
            self._recorder.frames_dropped += 1
        self._late(now_ns - due_ns)
        return now_ns

    def _send_impaired(
        self, impairment: LineImpairment, prepared: bytes, sequence: int, due_ns: int, ended: bool
    ) -> None:
        """Lose, mute or hold a frame back; its lateness counts from the instant at which the line lets it go."""
        action, delay_ns = impairment.plan(sequence, due_ns)
        if action == "mute":
            prepared = self._context.media.silence

        def leave(leave_ns: int) -> int:
            if self._stopped:
                return 0
            if action == "drop":
                self._recorder.frames_lost += 1
                now_ns = self._context.clock()
            else:
                now_ns = self._send_now(prepared, sequence, leave_ns)
            if ended:
                self._end(now_ns - due_ns, now_ns)
            return 0

        if delay_ns:
            self._context.wheel.at(due_ns + delay_ns, leave)
        else:
            leave(due_ns)

    def _end(self, late_ns: int, now_ns: int) -> None:
        self.saying = None
        if self._finished is not None:
            self._finished(late_ns, now_ns)

    def tell(self, messages: Sequence[Outgoing]) -> None:
        """Send what is not audio."""
        if not self._stopped:
            tell(messages, self._line, self._recorder)
