"""Messages around prepared audio: what differs from send to send, as a layout; in C where that was compiled.

A dialect encodes the audio of a run once and says here what every send adds. A layout is data: the caller's mouth in C
writes such a message straight into the frame that it sends, without the interpreter (`_splice.c` holds the same class).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol

from voxload.clock import utc_text

Kind = Literal["prepared", "sequence", "count", "unix_ms", "unix_s", "utc_ms"]


class Blank(NamedTuple):
    """What a send fills in, as ASCII.

    `prepared`: what was prepared, which every layout holds once; `sequence`: the frame's number in the call from 0,
    times `scale`, plus `add`; `count`: the layout's own number, which then grows by one; `unix_ms`, `unix_s`: the time
    of day in ms, and in s with three decimals; `utc_ms`: as `2026-11-30T12:00:00.123`, without a zone.
    """

    kind: Kind
    scale: int = 1
    add: int = 0


Part = bytes | Blank
PREPARED, COUNT = Blank("prepared"), Blank("count")
SEQUENCE, UNIX_MS, UNIX_S, UTC_MS = Blank("sequence"), Blank("unix_ms"), Blank("unix_s"), Blank("utc_ms")


class Splicer(Protocol):
    """Returns the message that carries a prepared frame: called with it, its number and the time of day in ns."""

    count: int
    """The number that the next `count` writes."""

    def __call__(self, prepared: bytes, sequence: int, unix_ns: int, /) -> bytes:
        """Return the message."""

    def lay_out(self, parts: tuple[Part, ...], /) -> None:
        """Be another layout from now on; the count goes on.

        Raises:
            ValueError: not exactly one part is what was prepared, or a blank is unknown.
            TypeError: a part is neither bytes nor a `Blank`.
        """


class Splice:
    """A layout in Python."""

    __slots__ = ("_after", "_at_ms", "_before", "_same", "_second", "_second_text", "_sides", "count")

    def __init__(self, parts: tuple[Part, ...], count: int = 0) -> None:
        self.count = count
        self._second, self._second_text = -1, b""
        self.lay_out(parts)

    def lay_out(self, parts: tuple[Part, ...], /) -> None:
        """Be another layout from now on; the count goes on."""
        for part in parts:
            if not isinstance(part, bytes | Blank):
                raise TypeError(f"a part is bytes or a Blank, not {type(part).__name__}")
            if isinstance(part, Blank) and part.kind not in Kind.__args__:  # type: ignore[attr-defined]
                raise ValueError(f"no blank {part.kind}")
        kinds = [part.kind for part in parts if isinstance(part, Blank)]
        if kinds.count("prepared") != 1:
            raise ValueError("one part is what was prepared")
        place = parts.index(PREPARED)
        self._sides = parts[:place], parts[place + 1 :]
        self._same = "sequence" not in kinds and "count" not in kinds  # all frames of a millisecond get the same
        self._at_ms, self._before, self._after = -1, b"", b""

    def __call__(self, prepared: bytes, sequence: int, unix_ns: int, /) -> bytes:
        """Return the message; what was prepared itself where nothing is added."""
        unix_ms = unix_ns // 1_000_000
        if unix_ms != self._at_ms:
            before, after = self._sides
            if not before and not after:
                return prepared
            self._before, self._after = self._side(before, sequence, unix_ms), self._side(after, sequence, unix_ms)
            if self._same:
                self._at_ms = unix_ms
        return self._before + prepared + self._after

    def _side(self, parts: tuple[Part, ...], sequence: int, unix_ms: int) -> bytes:
        return b"".join([part if isinstance(part, bytes) else self._write(part, sequence, unix_ms) for part in parts])

    def _write(self, blank: Blank, sequence: int, unix_ms: int) -> bytes:
        match blank.kind:
            case "sequence":
                return b"%d" % (sequence * blank.scale + blank.add)
            case "count":
                self.count += 1
                return b"%d" % (self.count - 1)
            case "unix_ms":
                return b"%d" % unix_ms
            case "unix_s":
                return b"%d.%03d" % divmod(unix_ms, 1000)
            case _:
                second, thousandths = divmod(unix_ms, 1000)
                if second != self._second:
                    self._second, self._second_text = second, utc_text(second).encode()
                return b"%b.%03d" % (self._second_text, thousandths)


def new_splice(*parts: Part, count: int = 0) -> Splicer:
    """Return a layout of these parts, in order; its `count` begins with `count`.

    Raises:
        ValueError: not exactly one part is what was prepared, or a blank is unknown.
        TypeError: a part is neither bytes nor a `Blank`.
    """
    return native_splice(parts, count)


native_splice: Callable[[tuple[Part, ...], int], Splicer] = Splice
if not os.environ.get("VOXLOAD_PURE_PYTHON"):
    try:
        from voxload.dialects._splice import Splice as NativeSplice

        native_splice = NativeSplice
    except ImportError:  # no compiler where this was installed
        pass
