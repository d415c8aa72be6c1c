"""The words of a distributed run: command ↔ master (framed on pipes), master ↔ worker (Locust messages)."""

from __future__ import annotations

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
_to_worker: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
_from_worker: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)
_to_master: msgspec.msgpack.Decoder[ToMaster] = msgspec.msgpack.Decoder(ToMaster)
_from_master: msgspec.msgpack.Decoder[FromMaster] = msgspec.msgpack.Decoder(FromMaster)


def encode(word: ToWorker | FromWorker | ToMaster | FromMaster) -> bytes:
    """Return a word as bytes, without a frame."""
    return _encoder.encode(word)


def framed(word: ToMaster | FromMaster) -> bytes:
    """Return a word with its length in front, as on the pipes of the master."""
    body = _encoder.encode(word)
    return len(body).to_bytes(4, "big") + body


def decode_to_worker(body: bytes) -> ToWorker:
    """Return what a worker is told.

    Raises:
        msgspec.MsgspecError: it is no such word.
    """
    return _to_worker.decode(body)


def decode_from_worker(body: bytes) -> FromWorker:
    """Return what a worker said.

    Raises:
        msgspec.MsgspecError: it is no such word.
    """
    return _from_worker.decode(body)


def decode_to_master(body: bytes) -> ToMaster:
    """Return what the master is told.

    Raises:
        msgspec.MsgspecError: it is no such word.
    """
    return _to_master.decode(body)


def decode_from_master(body: bytes) -> FromMaster:
    """Return what the master said.

    Raises:
        msgspec.MsgspecError: it is no such word.
    """
    return _from_master.decode(body)
