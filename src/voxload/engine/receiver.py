"""Reads the sockets of a process's calls in C where that was compiled (`_receiver.c`); else the event loop reads them.

A socket has one reader at a time. The event loop opens it and reads the handshake; from there on a `Receiver` reads,
and has the inlets take plain audio without Python. Other frames it gives to picows, as the event loop would. At the end
of the stream, on an error, before a frame of over 64 KiB, or when the call is over, the event loop goes on where the
receiver stopped. Encrypted sockets stay with the event loop. `VOXLOAD_PURE_PYTHON=1` turns the C part off.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Protocol, cast

import picows

from voxload.inlet import Inlet

READ_BUFFER_BYTES = 4096
"""What picows shall read into. It makes more room when nine tenths of it are full."""
_READ_ROOM_BYTES = READ_BUFFER_BYTES - 256
"""The room that is left of it while nothing waits there: the rest it keeps for itself."""
_RECEIVED = struct.Struct("@Q")
_RECEIVED_OFFSET = 128
"""Of `tcpi_bytes_received` in `struct tcp_info` (linux/tcp.h)."""


class Reader(Protocol):
    """What gets the frames that an inlet does not take."""

    def received(self, data: bytes, over: bool, /) -> None:
        """Take the next bytes of the socket; `over`: the receiver reads no more of it. Raises nothing."""


class Receiver(Protocol):
    """Reads sockets; see `_receiver.c`."""

    def attach(self, fd: int, inlet: Inlet, reader: Reader, /) -> None:
        """Read the socket `fd`, whose next byte begins a frame."""

    def detach(self, fd: int, reader: Reader, /) -> bytes:
        """Read it no more; returns the beginning of a frame that was read, for the one who reads the rest."""


class OwnReceiver(Receiver, Protocol):
    """A receiver, for who opened it."""

    def fileno(self) -> int:
        """Return a descriptor that can be read when one of the sockets can."""

    def __call__(self) -> None:
        """Read what has come."""

    def close(self) -> None:
        """Leave all sockets."""


native_receiver: Callable[[], OwnReceiver] | None = None
if not os.environ.get("VOXLOAD_PURE_PYTHON"):
    try:
        from voxload.engine import _receiver

        native_receiver = _receiver.Receiver
    except ImportError:  # no compiler where this was installed, or no epoll
        pass


@contextlib.contextmanager
def open_receiver() -> Iterator[Receiver | None]:
    """Give a receiver on the running event loop; None where it was not compiled."""
    if native_receiver is None:
        yield None
        return
    receiver = native_receiver()
    loop = asyncio.get_running_loop()
    loop.add_reader(receiver.fileno(), receiver)
    try:
        yield receiver
    finally:
        loop.remove_reader(receiver.fileno())
        receiver.close()


class Reading:
    """Who reads the socket of one connection of picows: the receiver, or the event loop."""

    __slots__ = ("_below", "_fd", "_inlet", "_protocol", "_receiver")

    def __init__(self, receiver: Receiver, inlet: Inlet, transport: picows.WSTransport) -> None:
        self._receiver: Receiver | None = receiver
        self._inlet = inlet
        self._below = transport.underlying_transport
        self._protocol = cast("asyncio.BufferedProtocol", self._below.get_protocol())
        self._fd = -1

    def begin(self) -> None:
        """Let the receiver read from here on, where picows surely has no half of a frame."""
        if self._receiver is None or self._below.is_closing():
            return
        below = self._below.get_extra_info("socket")
        self._below.pause_reading()
        if self._nothing_waits(below):
            self._receiver.attach(below.fileno(), self._inlet, self)
            self._fd = below.fileno()
        else:
            self._below.resume_reading()

    def _nothing_waits(self, below: socket.socket) -> bool:
        """Whether picows' buffer is empty: it has all its room, and cannot have made more of it for so little."""
        told = below.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RECEIVED_OFFSET + _RECEIVED.size)
        if len(told) < _RECEIVED_OFFSET + _RECEIVED.size:  # an old kernel
            return False
        (received,) = _RECEIVED.unpack_from(told, _RECEIVED_OFFSET)
        return received < _READ_ROOM_BYTES // 2 and len(memoryview(self._protocol.get_buffer(-1))) == _READ_ROOM_BYTES

    def received(self, data: bytes, over: bool, /) -> None:
        """Hand bytes to picows, as the event loop does."""
        self._hand_on(data)
        if over:
            self._fd = -1
            self._below.resume_reading()

    def end(self) -> None:
        """Let the event loop read from here on."""
        receiver, self._receiver = self._receiver, None
        if receiver is not None and self._fd >= 0:
            self._hand_on(receiver.detach(self._fd, self))
            self._below.resume_reading()

    def _hand_on(self, data: bytes) -> None:
        while data:
            with memoryview(self._protocol.get_buffer(-1)) as room:
                part = min(len(room), len(data))
                room[:part] = data[:part]
            self._protocol.buffer_updated(part)
            data = data[part:]
