"""One spoken reply on its way out: a frame at each absolute deadline, or all at once, with the breaks it was told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from voxload.audio.codec import Encoding
from voxload.audio.frames import silence_frame
from voxload.clock import NS_PER_S
from voxload.dialects.base import AgentSession, Dialect, Message, Usage
from voxload.twin.record import CallRecord

Send = Callable[[bytes, bool], None]
"""Sends one WebSocket message: the payload, and whether it is text."""

_NEVER_NS = 1 << 62


@dataclass(frozen=True, slots=True)
class PreparedReply:
    """A reply that all calls share: messages that lack only their stamp; the first begins with an audible sample."""

    text: str
    payloads: tuple[bytes, ...]
    frame_ns: int
    frames: tuple[bytes, ...] = ()
    """The raw audio of the payloads, so that a frame can be cut; without it an agent stops between two frames."""
    break_at: int = -1
    """The frame before which a hole is heard as one: there is speech on both sides. -1: the middle."""

    @property
    def length_ns(self) -> int:
        """How long the reply plays."""
        return len(self.payloads) * self.frame_ns

    @property
    def middle(self) -> int:
        """How many frames make the first half, rounded up."""
        return (len(self.payloads) + 1) // 2


@dataclass(frozen=True, slots=True)
class Delivery:
    """How a reply is sent: in real time or in a burst, and what goes wrong on the way."""

    burst: bool = False
    truncated: bool = False
    """Only the first half is sent, and closed as if it were all."""
    gap_at: int = -1
    gap_ns: int = 0
    """Before frame `gap_at` comes a hole of `gap_ns`; -1: none."""
    late_ns: Mapping[int, int] = field(default_factory=dict)
    """By which single frames are late, by their number (paced delivery only)."""


class Outlet:
    """What all replies of one call are sent through."""

    __slots__ = ("audio_is_text", "dialect", "record", "send", "session", "unix_offset_ns")

    def __init__(
        self, dialect: Dialect, record: CallRecord, session: AgentSession, send: Send, unix_offset_ns: int
    ) -> None:
        self.audio_is_text = dialect.agent_audio_is_text
        self.dialect = dialect
        self.record = record
        self.session = session
        self.send = send
        self.unix_offset_ns = unix_offset_ns


class Speaking:
    """Sends a reply. `on_due` is a wheel callback that ends by itself, also after `stop`.

    Frame n plays from start + n · frame_ns, plus the hole where it comes after one, and is sent then (`burst`: what
    nothing holds back is sent at once); a frame never overtakes the one before it. `on_due` runs once more when the
    last frame has played, and then calls `finished`.
    """

    __slots__ = (
        "_cut", "_cut_after", "_delivery", "_end", "_finished", "_next", "_outlet", "_plain", "_reply", "_stop_ns",
        "_usage", "start_ns", "stopped",
    )  # fmt: skip

    def __init__(
        self,
        reply: PreparedReply,
        outlet: Outlet,
        delivery: Delivery,
        finished: Callable[[], None],
        usage: Usage | None = None,
    ) -> None:
        self._reply = reply
        self._outlet = outlet
        self._delivery = delivery
        self._finished = finished
        self._usage = usage
        self._next = 0
        self._end = reply.middle if delivery.truncated else len(reply.payloads)
        self._cut_after = -1
        self._cut: Callable[[], None] = finished
        self._stop_ns = _NEVER_NS
        # In nearly all replies a frame is due one frame after the other, and that is all.
        self._plain = not delivery.burst and delivery.gap_at < 0 and not delivery.late_ns
        self.start_ns = 0
        """When the first frame was due."""
        self.stopped = False

    @property
    def end_ns(self) -> int:
        """When the last frame will have played."""
        return self._plays_ns(self._end)

    def cut_in_the_middle(self, cut: Callable[[], None]) -> None:
        """Call `cut` when half of the frames have been sent, and send no more."""
        self._cut_after, self._cut = self._reply.middle, cut

    def begin(self, due_ns: int) -> int:
        """Send the opening and what is due at `due_ns`; return when `on_due` is due, 0 when never."""
        self.start_ns = due_ns
        self._tell(self._outlet.session.reply_started(self._reply.text))
        if not self._end:
            self._close()
        return self.on_due(due_ns)

    def on_due(self, due_ns: int) -> int:
        """Send the frames that are due, or see that the last one has played."""
        if self._plain and self._next < self._end and not self.stopped:
            self._send_frame(self._reply.payloads[self._next], due_ns)
            return 0 if self.stopped else due_ns + self._reply.frame_ns
        while not self.stopped and self._next < self._end:
            send_ns = self._sends_ns(self._next)
            if send_ns > due_ns:
                return send_ns
            if self._plays_ns(self._next) >= self._stop_ns:
                return 0  # whoever set the stop will call it
            self._send_next(due_ns)
        if self.stopped:
            return 0
        if due_ns < self.end_ns:
            return self.end_ns
        self.stopped = True
        self._finished()
        return 0

    def stop_at(self, stop_ns: int) -> None:
        """Send nothing that would play at or after `stop_ns`; the frame in which it falls is silent from there on."""
        self._stop_ns = stop_ns
        self._plain = False

    def stop(self) -> None:
        """Send nothing more."""
        self.stopped = True

    def _plays_ns(self, number: int) -> int:
        delivery = self._delivery
        hole_ns = delivery.gap_ns if 0 <= delivery.gap_at <= number else 0
        return self.start_ns + number * self._reply.frame_ns + hole_ns

    def _sends_ns(self, number: int) -> int:
        delivery = self._delivery
        if delivery.burst:
            return self._plays_ns(delivery.gap_at) if 0 <= delivery.gap_at <= number else self.start_ns
        return self._plays_ns(number) + delivery.late_ns.get(number, 0)

    def _send_next(self, due_ns: int) -> None:
        number = self._next
        cut = self._plays_ns(number + 1) > self._stop_ns and self._reply.frames
        self._send_frame(self._cut_frame(number) if cut else self._reply.payloads[number], due_ns)

    def _send_frame(self, payload: bytes, due_ns: int) -> None:
        outlet, number = self._outlet, self._next
        stamped = outlet.session.stamp(payload, number, due_ns + outlet.unix_offset_ns)
        outlet.send(stamped, outlet.audio_is_text)
        self._next = number + 1
        outlet.record.frames_out += 1
        if self._next == self._cut_after:
            self.stopped = True
            self._cut()
        elif self._next == self._end:
            self._close()

    def _cut_frame(self, number: int) -> bytes:
        """Return a frame that falls silent where the agent stops."""
        form = self._outlet.dialect.agent_format
        width = 2 if form.encoding == "pcm16" else 1
        kept = width * ((self._stop_ns - self._plays_ns(number)) * form.sample_rate_hz // NS_PER_S)
        encoding: Encoding = form.encoding
        silence = silence_frame(form.sample_rate_hz, encoding, form.frame_ms)
        return self._outlet.dialect.prepare_agent([self._reply.frames[number][:kept] + silence[kept:]])[0]

    def _close(self) -> None:
        session = self._outlet.session
        if self._usage is not None:
            session.note_usage(self._usage)
        self._tell(session.reply_ended())

    def _tell(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self._outlet.send(message.payload, message.text)
