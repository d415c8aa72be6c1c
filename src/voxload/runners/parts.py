"""What one machine of a test has measured, kept snapshot by snapshot, so that the parts become one run afterwards."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import msgspec

from voxload.clock import NS_PER_S, monotonic_ns, unix_ns
from voxload.errors import BadInputError, Problem
from voxload.measure.snapshot import Snapshot
from voxload.runners.appending import CompressedFile, read_compressed

PART_FILE = "part.msgpack.zst"
PART_VERSION = 1
_LENGTH = struct.Struct(">I")
_encode = msgspec.msgpack.Encoder().encode


class PartHeader(msgspec.Struct, frozen=True):
    """Which part of the load this was, and when its first instant was by the machine's wall clock."""

    version: int
    share: float
    started_unix_s: float


class PartFile:
    """Writes `part.msgpack.zst`: a header and every snapshot, each with its length in front."""

    def __init__(self, folder: Path, share: float) -> None:
        self._file = CompressedFile(folder / PART_FILE)
        self._share = share
        self._begun = False

    def take(self, snapshot: Snapshot, start_ns: int) -> None:
        """Add a snapshot; the run began at `start_ns` of the monotonic clock."""
        if not self._begun:
            self._begun = True
            started_unix_s = (unix_ns() - (monotonic_ns() - start_ns)) / NS_PER_S
            self._add(_encode(PartHeader(PART_VERSION, self._share, started_unix_s)))
        self._add(_encode(snapshot))

    def close(self) -> None:
        """Finish the file."""
        self._file.close()

    @property
    def write_error(self) -> str:
        """Why it is incomplete; empty while all is well."""
        return self._file.write_error

    def _add(self, body: bytes) -> None:
        self._file.append(_LENGTH.pack(len(body)) + body)


def read_part(folder: Path) -> tuple[PartHeader, Iterator[Snapshot]]:
    """Return the header and the snapshots of a part; one that was cut off by a crash gives what it holds.

    Raises:
        BadInputError: the folder has no such file, or it is of another version.
    """
    file = folder / PART_FILE
    try:
        bodies = _bodies(file)
        header = msgspec.msgpack.decode(next(bodies, b""), type=PartHeader)
    except FileNotFoundError:
        hint = "runs with voxload run --share are parts of a test, as those of Azure Load Testing are"
        raise BadInputError([Problem(f"no {PART_FILE}: not a part of a test", str(folder), 0, hint)]) from None
    except (OSError, msgspec.MsgspecError) as error:
        raise BadInputError([Problem(f"cannot be read: {error}", str(file))]) from None
    if header.version != PART_VERSION:
        hint = f"this voxload reads version {PART_VERSION}"
        raise BadInputError([Problem(f"of version {header.version}", str(file), 0, hint)])
    return header, _snapshots(file, bodies)


def _snapshots(file: Path, bodies: Iterator[bytes]) -> Iterator[Snapshot]:
    decode = msgspec.msgpack.Decoder(Snapshot).decode
    for number, body in enumerate(bodies, 1):
        try:
            yield decode(body)
        except msgspec.MsgspecError as error:
            raise BadInputError([Problem(f"snapshot {number} cannot be read: {error}", str(file))]) from None


def _bodies(file: Path) -> Iterator[bytes]:
    rest = bytearray()
    for chunk in read_compressed(file):
        rest += chunk
        while len(rest) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(rest)[0]
            if len(rest) < end:
                break
            yield bytes(rest[_LENGTH.size : end])
            del rest[:end]
