"""The caller's mouth: stamps each frame, hands it to the connection and counts it; in C where that was compiled.

`_mouth.c` holds the same two classes. It spares a frame the interpreter and writes to the socket itself (see
`docs/hot-path.md`). `VOXLOAD_PURE_PYTHON=1` turns it off.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol

from voxload.clock import Clock, monotonic_ns
from voxload.measure.ledger import FrameLedger, Ledger

Stamp = Callable[[bytes, int, int], bytes]
"""As `CallerSession.stamp(prepared, sequence, unix_ns)`."""
Send = Callable[[bytes, bool], bool]
"""As `Line.send(payload, text)`."""
Ended = Callable[[int, int], None]
"""Called with (how late the last frame of an utterance was sent, the time), both in ns."""


class FrameMouth(Protocol):
    """Sends the frames of one call: a callback of the wheel, due when a frame is complete."""

    def __call__(self, due_ns: int, /) -> int:
        """Send the frame that is due; returns when the next one is, 0 when there is none."""

    def say(self, payloads: tuple[bytes, ...], from_ns: int, /) -> None:
        """Speak the frames that are due after `from_ns` instead of the bed."""

    def stop(self) -> None:
        """Send nothing more."""


class SocketMouth(FrameMouth, Protocol):
    """A mouth that can write to a socket itself."""

    @property
    def attached(self) -> bool:
        """Whether frames go straight to a socket."""

    def attach(self, fd: int, unsent: Callable[[bytes], None], /) -> None:
        """Write to the socket `fd`; `unsent(rest)` gets the rest of a frame of which the kernel took a part.

        After that call, and after `detach`, frames go through the line until the mouth is attached again.
        """

    def detach(self) -> None:
        """Leave the socket alone."""

    def ping(self, payload: bytes, /) -> bool:
        """Send a ping; returns whether the socket took it, else the line must send it."""


class Mouth:
    """The mouth in Python."""

    __slots__ = (
        "_bed", "_clock", "_ended", "_frame_ns", "_ledger", "_payloads", "_position", "_send", "_sequence", "_stamp",
        "_stopped", "_text", "_unix_offset_ns", "_utterance_ns",
    )  # fmt: skip

    def __init__(
        self,
        ledger: FrameLedger,
        stamp: Stamp,
        send: Send,
        ended: Ended,
        bed: tuple[bytes, ...],
        frame_ns: int,
        unix_offset_ns: int,
        text: bool,
        clock: Clock = monotonic_ns,
    ) -> None:
        self._ledger = ledger.add
        self._stamp = stamp
        self._send = send
        self._ended = ended
        self._bed = bed
        self._frame_ns = frame_ns
        self._unix_offset_ns = unix_offset_ns
        self._text = text
        self._clock = clock
        self._payloads: tuple[bytes, ...] | None = None
        self._position = self._sequence = self._utterance_ns = 0
        self._stopped = False

    def say(self, payloads: tuple[bytes, ...], from_ns: int, /) -> None:
        """Speak the frames that are due after `from_ns` instead of the bed."""
        self._payloads, self._position, self._utterance_ns = payloads, 0, from_ns

    def stop(self) -> None:
        """Send nothing more."""
        self._stopped = True

    def __call__(self, due_ns: int, /) -> int:
        """Send the frame that is due; returns when the next one is, 0 when there is none."""
        if self._stopped:
            return 0
        payloads = self._payloads
        if payloads is None or due_ns <= self._utterance_ns:  # its samples were spoken before the utterance
            self._speak(self._bed[self._sequence % len(self._bed)], due_ns, False)
            return due_ns + self._frame_ns
        position = self._position
        self._position = position + 1
        last = position + 1 == len(payloads)
        if last:
            self._payloads = None
        self._speak(payloads[position], due_ns, last)
        return due_ns + self._frame_ns

    def _speak(self, prepared: bytes, due_ns: int, last: bool) -> None:
        """Take the next number and send; `last`: the utterance ends with this frame."""
        sequence = self._sequence
        self._sequence = sequence + 1
        now_ns = self._send_now(prepared, sequence, due_ns)
        if last:
            self._ended(now_ns - due_ns, now_ns)

    def _send_now(self, prepared: bytes, sequence: int, due_ns: int) -> int:
        """Stamp a frame, hand it to the line, count it; returns the time."""
        now_ns = self._clock()
        payload = self._stamp(prepared, sequence, now_ns + self._unix_offset_ns)
        self._ledger(now_ns - due_ns, len(payload) if self._send(payload, self._text) else -1)
        return now_ns


def new_ledger(clock: Clock) -> FrameLedger:
    """Return the ledger of a process that lives by `clock`."""
    return native_ledger() if clock is monotonic_ns else Ledger()


def new_mouth(
    ledger: FrameLedger,
    stamp: Stamp,
    send: Send,
    ended: Ended,
    bed: tuple[bytes, ...],
    frame_ns: int,
    unix_offset_ns: int,
    text: bool,
    clock: Clock,
) -> FrameMouth:
    """Return a mouth: in C for a ledger in C, else in Python."""
    if isinstance(ledger, Ledger):
        return Mouth(ledger, stamp, send, ended, bed, frame_ns, unix_offset_ns, text, clock)
    return native_mouth(ledger, stamp, send, ended, bed, frame_ns, unix_offset_ns, text)


native_ledger: Callable[[], FrameLedger] = Ledger
native_mouth: Callable[..., FrameMouth] = Mouth
if not os.environ.get("VOXLOAD_PURE_PYTHON"):
    try:
        from voxload.engine import _mouth

        native_ledger, native_mouth = _mouth.Ledger, _mouth.Mouth
    except ImportError:  # no compiler where this was installed
        pass
