"""The words between a command and a component test in a process of its own: a line of JSON each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from voxload.measure.snapshot import Snapshot

LINE_BYTES_MAX = 64 * 1024 * 1024
STOPPED = "stopped"
"""Why a test ended that its parent has ended."""


class Job(msgspec.Struct, tag="job"):
    """To the process, first of all: what to load, as the file of `voxload component` says it."""

    settings: dict[str, Any]
    run_id: str
    file: str = ""
    """Where the settings stand; files that they name lie beside it."""
    gives_up: bool = True
    """Whether the work ends where the service is gone, or is not there; else it is tried again."""


class Go(msgspec.Struct, tag="go"):
    """To the process: the run starts at this instant of the machine's monotonic clock."""

    start_ns: int


class Finish(msgspec.Struct, tag="finish"):
    """To the process: start no more work, let what is in flight end, report, leave."""


class Stop(msgspec.Struct, tag="stop"):
    """To the process: end what is in flight too."""


class Ready(msgspec.Struct, tag="ready"):
    """From the process: the service is there, `go` may come; after `Failed` too, where it is tried again."""


class Failed(msgspec.Struct, tag="failed"):
    """From the process: it cannot be set up; `detail` says why. `bad_input`: for want of something of the user's."""

    detail: str
    bad_input: bool = False


class Over(msgspec.Struct, tag="over"):
    """From the process, last of all: how it ended."""

    cut_short: str = ""
    warnings: list[str] = []
    facts: dict[str, str] = {}


ToProcess = Job | Go | Finish | Stop
FromProcess = Ready | Failed | Snapshot | Over

_encoder = msgspec.json.Encoder()


def encode(word: ToProcess | FromProcess) -> bytes:
    """Return a word as a line."""
    return _encoder.encode(word) + b"\n"


decode_to_process: Callable[[bytes], ToProcess] = msgspec.json.Decoder(ToProcess).decode
decode_from_process: Callable[[bytes], FromProcess] = msgspec.json.Decoder(FromProcess).decode
"""Return what a line says; they raise `msgspec.MsgspecError` where it is no such word."""
