"""Reads the sockets of a process's calls in C where that was compiled (`_receiver.c`); else the event loop reads them.

A socket has one reader at a time. The event loop opens it and reads the handshake; from there on a `Receiver` reads,
and has the inlets take plain audio without Python. Other frames it gives to picows, as the event loop would. At the end
of the stream, on an error, before a frame of over 64 KiB, or when the call is over, the event loop goes on where the
receiver stopped. Sockets over TLS or a proxy stay with the event loop. `VOXLOAD_PURE_PYTHON=1` turns the C part off.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
import struct
import sys
import termios
from collections.abc import Callable, Iterator
from typing import Protocol, cast

import picows

from voxload.inlet import Inlet

READ_BUFFER_BYTES = 4096
"""What picows shall read into. It keeps 256 of them for itself."""
AGAIN_S, AGAIN_S_MAX = 0.005, 0.5
"""When a receiver tries again to take over a socket: the first time, and then after twice as long each time."""
_KEPT_BYTES, _FULL_PERCENT = 256, 90
_RECEIVED = struct.Struct("@Q")
_RECEIVED_OFFSET = 128
"""Of `tcpi_bytes_received` in `struct tcp_info` (linux/tcp.h)."""


class Reader(Protocol):
    """What gets the frames that an inlet does not take."""

    def received(self, data: bytes, over: bool, /) -> None:
        """Take the next bytes of the socket; `over`: the receiver reads no more of it. Raises nothing."""

    def ponged(self, payload: bytes, now_ns: int, /) -> None:
        """Take what a pong carries, which came at `now_ns`. Raises nothing."""


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
    """Who reads the socket of one connection of picows: the receiver, or the event loop.

    Made when the connection is up, which must not be through a proxy; `begin` follows when picows has seen what came
    with the answer. The receiver can only take over between two frames, and picows does not say whether it has the
    beginning of one in its buffer; but the room that it offers tells, as long as it is known how large the buffer is.
    """

    __slots__ = ("_begun", "_below", "_fd", "_inlet", "_protocol", "_read", "_receiver", "_size", "_socket", "ponged")

    def __init__(
        self,
        receiver: Receiver,
        inlet: Inlet,
        transport: picows.WSTransport,
        ponged: Callable[[bytes, int], None],
    ) -> None:
        self._receiver: Receiver | None = receiver
        self.ponged = ponged
        self._inlet = inlet
        self._fd = -1
        self._below = transport.underlying_transport
        self._protocol = cast("asyncio.BufferedProtocol", self._below.get_protocol())
        self._socket = cast("socket.socket", self._below.get_extra_info("socket"))
        self._below.pause_reading()
        self._read = bytes_read(self._socket)
        self._size = buffer_size(self._read)
        self._begun = self._size - self._room()

    def begin(self, again_s: float = AGAIN_S) -> None:
        """Let the receiver read from here on, if picows has no beginning of a frame; else try again."""
        if self._receiver is None or self._below.is_closing():
            return
        self._below.pause_reading()
        read = bytes_read(self._socket)
        # less than nothing, or more than all that came: the kernel does not tell, or this picows is another one
        if 0 <= self._begun <= self._read and buffer_size(self._begun + read - self._read) <= self._size:
            self._read, self._begun = read, self._size - self._room()
            if self._begun == 0:
                with contextlib.suppress(OSError):  # the kernel watches no more descriptors: the event loop does
                    self._receiver.attach(self._socket.fileno(), self._inlet, self)
                    self._fd = self._socket.fileno()
                    return
            if again_s < AGAIN_S_MAX:
                asyncio.get_running_loop().call_later(again_s, self.begin, 2 * again_s)
        self._below.resume_reading()

    def _room(self) -> int:
        return len(memoryview(self._protocol.get_buffer(-1)))

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


def buffer_size(filled: int) -> int:
    """Return the size of picows' buffer in which so many bytes have gathered: it doubles when nine tenths are full."""
    size = READ_BUFFER_BYTES - _KEPT_BYTES
    while 100 * filled // size > _FULL_PERCENT or size - filled <= _KEPT_BYTES:
        size *= 2
    return size


def bytes_read(connection: socket.socket) -> int:
    """Return how many bytes of a TCP connection this process has read; -1 where the kernel does not tell."""
    while True:
        unread = fcntl.ioctl(connection, termios.FIONREAD, bytes(4))
        told = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RECEIVED_OFFSET + _RECEIVED.size)
        if len(told) < _RECEIVED_OFFSET + _RECEIVED.size:
            return -1
        if unread == fcntl.ioctl(connection, termios.FIONREAD, bytes(4)):  # nothing came in between
            return int(_RECEIVED.unpack_from(told, _RECEIVED_OFFSET)[0]) - int.from_bytes(unread, sys.byteorder)
