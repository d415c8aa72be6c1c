"""The words of a distributed run: command ↔ master (framed on pipes), master ↔ worker (Locust messages)."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from voxload.engine.wire import FromShard, Stop

TO_WORKER = "voxload_to_worker"
FROM_WORKER = "voxload_from_worker"
"""Types of the Locust messages; their data is one encoded word."""


class Hello(msgspec.Struct, tag="hello"):
    """Worker: here I am, with so many processes for shards."""

    host: str
    processes: int
    region: str
    version: str
    source_addresses: tuple[str, ...] = ()
    """Addresses of its machine that its calls come from, instead of the plan's."""


class Assign(msgspec.Struct, tag="assign"):
    """To a worker: prepare the shards `first` to `first + count - 1` of `shards`."""

    plan: bytes
    first: int
    count: int
    shards: int


class GoIn(msgspec.Struct, tag="go_in"):
    """To a worker: the run starts so long after you read this; machines have clocks of their own."""

    delay_ns: int


ToWorker = Assign | GoIn | Stop
FromWorker = Hello | FromShard


class Joined(msgspec.Struct, tag="joined"):
    """Master: a worker has connected (a second time, when it has been restarted under its name)."""

    worker: str


class Left(msgspec.Struct, tag="left"):
    """Master: a worker has gone, or has not been heard of; `reason` says which."""

    worker: str
    reason: str


class Said(msgspec.Struct, tag="said"):
    """Master: what a worker said, an encoded `FromWorker`."""

    worker: str
    word: bytes


class Listening(msgspec.Struct, tag="listening"):
    """Master: workers can connect."""

    port: int
    web_url: str


class MasterFailed(msgspec.Struct, tag="master_failed"):
    """Master: it cannot work; `detail` says why."""

    detail: str


class Tell(msgspec.Struct, tag="tell"):
    """To the master: pass an encoded `ToWorker` on."""

    worker: str
    word: bytes


class Begin(msgspec.Struct, tag="begin"):
    """To the master: the run begins; Locust's own view shall show it."""

    workers: int


class Quit(msgspec.Struct, tag="quit"):
    """To the master: end the workers and leave."""


ToMaster = Tell | Begin | Quit
FromMaster = Listening | Joined | Left | Said | MasterFailed

_encoder = msgspec.msgpack.Encoder()


def encode(word: ToWorker | FromWorker | ToMaster | FromMaster) -> bytes:
    """Return a word as bytes, without a frame."""
    return _encoder.encode(word)


def framed(word: ToMaster | FromMaster) -> bytes:
    """Return a word with its length in front, as on the pipes of the master."""
    body = _encoder.encode(word)
    return len(body).to_bytes(4, "big") + body


decode_to_worker: Callable[[bytes], ToWorker] = msgspec.msgpack.Decoder(ToWorker).decode
decode_from_worker: Callable[[bytes], FromWorker] = msgspec.msgpack.Decoder(FromWorker).decode
decode_to_master: Callable[[bytes], ToMaster] = msgspec.msgpack.Decoder(ToMaster).decode
decode_from_master: Callable[[bytes], FromMaster] = msgspec.msgpack.Decoder(FromMaster).decode
"""Return what the bytes say; they raise `msgspec.MsgspecError` where it is no such word."""
