"""The shards of one worker: child processes spoken to over pipes, read by greenlets."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import gevent
from gevent import subprocess

from voxload.engine import wire
from voxload.start import start_command

STOP_TIMEOUT_S = 10.0


class ShardPool:
    """Starts shards and hands on what they say.

    `said(shard, body)` gets each message's bytes, `gone(shard, code)` an end that nobody asked for.
    """

    def __init__(self, said: Callable[[int, bytes], None], gone: Callable[[int, int], None]) -> None:
        self._said = said
        self._gone = gone
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._readers: list[gevent.Greenlet[..., None]] = []
        self._ending = False

    def prepare(self, plan: bytes, first: int, count: int, shards: int) -> None:
        """Start the shards `first` to `first + count - 1`."""
        for shard in range(first, first + count):
            child = subprocess.Popen(
                start_command("voxload.engine.shard"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
            self._children[shard] = child
            self._write(child, wire.Prepare(plan, shard, shards))
            self._readers.append(gevent.spawn(self._read, shard, child))

    def go(self, start_ns: int) -> None:
        """Start the run at an instant of this machine's monotonic clock."""
        self.tell(wire.Go(start_ns))

    def stop(self) -> None:
        """End the calls in good order."""
        self.tell(wire.Stop())

    def tell(self, message: wire.ToShard) -> None:
        """Say something to all shards."""
        for child in self._children.values():
            self._write(child, message)

    @property
    def running(self) -> bool:
        """Whether any shard lives."""
        return any(child.poll() is None for child in self._children.values())

    def end(self) -> None:
        """Leave no process behind: those that do not stop when their input ends are killed."""
        self._ending = True
        for child in self._children.values():
            with contextlib.suppress(OSError):
                if child.stdin is not None:
                    child.stdin.close()
        with gevent.Timeout(STOP_TIMEOUT_S, False):  # type: ignore[arg-type]  # as gevent documents it
            gevent.joinall(self._readers)
        for child in self._children.values():
            if child.poll() is None:
                child.kill()
            child.wait()
        self._children.clear()
        self._readers.clear()
        self._ending = False

    def _write(self, child: subprocess.Popen[bytes], message: wire.ToShard) -> None:
        with contextlib.suppress(OSError, ValueError):
            if child.stdin is not None:
                child.stdin.write(wire.encode(message))
                child.stdin.flush()

    def _read(self, shard: int, child: subprocess.Popen[bytes]) -> None:
        assert child.stdout is not None
        while True:
            body = read_frame(child.stdout)
            if body is None:
                break
            self._said(shard, body)
        code = child.wait()
        if not self._ending:
            self._gone(shard, code)


def read_frame(stream: Any) -> bytes | None:
    """Return the next frame's body from a blocking binary stream; None at its end."""
    head = _exactly(stream, 4)
    return None if head is None else _exactly(stream, int.from_bytes(head, "big"))


def _exactly(stream: Any, size: int) -> bytes | None:
    chunks, missing = [], size
    while missing:
        try:
            chunk = stream.read(missing)
        except (OSError, ValueError):
            return None
        if not chunk:
            return None
        chunks.append(chunk)
        missing -= len(chunk)
    return b"".join(chunks)
