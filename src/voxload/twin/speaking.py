"""One spoken reply on its way out: a frame at each absolute deadline, or all at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from voxload.dialects.base import AgentSession
from voxload.twin.record import CallRecord

Send = Callable[[bytes, bool], None]
"""Sends one WebSocket message: the payload, and whether it is text."""


@dataclass(frozen=True, slots=True)
class PreparedReply:
    """A reply that all calls share: messages that lack only their stamp; the first begins with an audible sample."""

    text: str
    payloads: tuple[bytes, ...]
    frame_ns: int

    @property
    def length_ns(self) -> int:
        """How long the reply plays."""
        return len(self.payloads) * self.frame_ns


class Speaking:
    """Sends a reply. `on_due` is a wheel callback that ends by itself, also after `stop`.

    Frame n is due at start + n * frame_ns; `on_due` runs once more when the last frame has played, and then calls
    `finished`. With `cut_after` frames the call is cut instead: `cut` is called and nothing more is sent.
    """

    __slots__ = (
        "_cut", "_cut_after", "_finished", "_next", "_record", "_reply", "_send", "_session", "_text",
        "_unix_offset_ns", "stopped",
    )  # fmt: skip

    def __init__(
        self,
        reply: PreparedReply,
        record: CallRecord,
        session: AgentSession,
        send: Send,
        audio_is_text: bool,
        unix_offset_ns: int,
        finished: Callable[[], None],
    ) -> None:
        self._reply = reply
        self._record = record
        self._session = session
        self._send = send
        self._text = audio_is_text
        self._unix_offset_ns = unix_offset_ns
        self._finished = finished
        self._next = 0
        self._cut_after = -1
        self._cut: Callable[[], None] = finished
        self.stopped = False

    def cut_in_the_middle(self, cut: Callable[[], None]) -> None:
        """Call `cut` when half of the frames have been sent, and send no more."""
        self._cut_after, self._cut = (len(self._reply.payloads) + 1) // 2, cut

    def begin(self, due_ns: int, burst: bool) -> int:
        """Send the opening and the first frame (`burst`: all frames); return when `on_due` is due, 0 when never."""
        opening = self._session.reply_started(self._reply.text)
        if opening is not None:
            self._send(opening.payload, opening.text)
        if not burst:
            return self.on_due(due_ns)
        while not self.stopped and self._next < len(self._reply.payloads):
            self._send_next(due_ns)
        return 0 if self.stopped else due_ns + self._reply.length_ns

    def on_due(self, due_ns: int) -> int:
        """Send the next frame, or see that the last one has played."""
        if self.stopped:
            return 0
        if self._next == len(self._reply.payloads):
            self.stopped = True
            self._finished()
            return 0
        self._send_next(due_ns)
        return 0 if self.stopped else due_ns + self._reply.frame_ns

    def stop(self) -> None:
        """Send nothing more."""
        self.stopped = True

    def _send_next(self, due_ns: int) -> None:
        payloads, number = self._reply.payloads, self._next
        self._send(self._session.stamp(payloads[number], number, due_ns + self._unix_offset_ns), self._text)
        self._next = number + 1
        self._record.frames_out += 1
        if self._next == self._cut_after:
            self.stopped = True
            self._cut()
        elif self._next == len(payloads):
            closing = self._session.reply_ended()
            if closing is not None:
                self._send(closing.payload, closing.text)
