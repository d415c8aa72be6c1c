"""The words between a runner and its shards, in one framing: a 4-byte big-endian length and MessagePack."""

from __future__ import annotations

import asyncio

import msgspec

from voxload.audio.recording import RecordingData
from voxload.measure.snapshot import Snapshot

FRAME_BYTES_MAX = 256 * 1024 * 1024


class Prepare(msgspec.Struct, tag="prepare"):
    """To a shard: get ready for your part of the plan (`shard` of `shards`)."""

    plan: bytes
    shard: int
    shards: int


class Go(msgspec.Struct, tag="go"):
    """To a shard: the run starts at this instant of the machine's monotonic clock.

    With `callers_come_and_go` the plan's load is not placed: `Callers` says how many callers there are.
    """

    start_ns: int
    callers_come_and_go: bool = False


class Callers(msgspec.Struct, tag="callers"):
    """To a shard: so many callers from now on, each of whom calls again and again; those too many hang up."""

    count: int


class Stop(msgspec.Struct, tag="stop"):
    """To a shard: start no more calls, end those that are up, report, and leave."""


class Prepared(msgspec.Struct, tag="prepared"):
    """From a shard: ready to go."""

    shard: int


class Recording(msgspec.Struct, tag="recording"):
    """From a shard: the recording of a call that is over, not rendered: that takes milliseconds of a core."""

    call_id: str
    t0_ns: int
    end_ns: int
    audio: RecordingData
    replaces: str = ""
    """The call whose recording is not wanted any more, under `worst:N`."""


class Failed(msgspec.Struct, tag="failed"):
    """From a shard: it cannot go on; `detail` says why."""

    shard: int
    detail: str


ToShard = Prepare | Go | Callers | Stop
FromShard = Prepared | Failed | Recording | Snapshot

_to_shard: msgspec.msgpack.Decoder[ToShard] = msgspec.msgpack.Decoder(ToShard)
_from_shard: msgspec.msgpack.Decoder[FromShard] = msgspec.msgpack.Decoder(FromShard)
_encoder = msgspec.msgpack.Encoder()


def encode(message: ToShard | FromShard) -> bytes:
    """Return the message with its length in front."""
    body = _encoder.encode(message)
    return len(body).to_bytes(4, "big") + body


def decode_from_shard(body: bytes) -> FromShard:
    """Return what a shard said, without its frame; a snapshot's series are read.

    Raises:
        msgspec.MsgspecError: it is no such message.
    """
    message = _from_shard.decode(body)
    return message.unpack() if isinstance(message, Snapshot) else message


async def read_frame(reader: asyncio.StreamReader) -> bytes | None:
    """Return the next frame's body; None at the end of the stream.

    Raises:
        ValueError: the frame is too long to be ours.
    """
    try:
        size = int.from_bytes(await reader.readexactly(4), "big")
        if size > FRAME_BYTES_MAX:
            raise ValueError(f"a frame of {size} bytes: the peer is not voxload")
        return await reader.readexactly(size)
    except asyncio.IncompleteReadError:
        return None


async def read_to_shard(reader: asyncio.StreamReader) -> ToShard | None:
    """Return the next message to a shard; None at the end of the stream."""
    body = await read_frame(reader)
    return None if body is None else _to_shard.decode(body)


async def read_from_shard(reader: asyncio.StreamReader) -> FromShard | None:
    """Return the next message from a shard; None at the end of the stream."""
    body = await read_frame(reader)
    return None if body is None else decode_from_shard(body)
