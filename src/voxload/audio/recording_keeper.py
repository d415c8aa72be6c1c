"""Which calls of a run are recorded, and which recordings are kept."""

from __future__ import annotations

import heapq
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from voxload.audio.recording import CallRecording
from voxload.errors import BadInputError, Problem

WORST_MAX = 1_000
"""Most calls that `worst:N` may keep."""


def recording_file(call_id: str) -> str:
    """Return the file of a call's recording within the run's folder."""
    return f"recordings/{call_id}.wav"


@dataclass(frozen=True, slots=True)
class RecordingPolicy:
    """Which calls of a run are recorded: a share of them, a number of them, or the worst ones."""

    kind: Literal["share", "count", "worst"]
    amount: float
    """The share (0 to 1), or how many calls; for `worst`, how many each generator process keeps."""

    @classmethod
    def parse(cls, text: str) -> RecordingPolicy:
        """Read `1%` (a share), `10` (so many calls) or `worst:20`; 0 records nothing.

        Raises:
            BadInputError: the text is none of these, or out of range.
        """
        match = re.fullmatch(r"(worst:)?(\d{1,9}(?:\.\d{1,9})?)(\s*%)?", text.strip())
        if match is None or (match[1] and match[3]) or ("." in match[2] and not match[3]):
            suggestion = "write a share (1%), a number of calls (10), or worst:20"
            raise BadInputError([Problem(f"{text!r} does not say which calls to record", suggestion=suggestion)])
        amount = float(match[2])
        if match[3] and amount > 100:
            raise BadInputError([Problem(f"{text!r} is more than all calls", suggestion="a share is 0% to 100%")])
        if match[1] and amount > WORST_MAX:
            raise BadInputError([Problem(f"{text!r} would keep too much in memory", suggestion=f"at most {WORST_MAX}")])
        return cls("worst", amount) if match[1] else cls("share", amount / 100) if match[3] else cls("count", amount)


@dataclass(frozen=True, slots=True)
class FinishedRecording:
    """The recording of a call that is over, ready to be rendered; instants on the monotonic clock."""

    index: int
    call_id: str
    recording: CallRecording
    t0_ns: int
    end_ns: int


class RecordingKeeper:
    """Decides which calls of a shard are recorded, and hands on the recording of each as it ends.

    Share and number are decided by seed and call index before a call starts, so that all shards agree and the same
    calls are recorded whatever the number of processes. With `worst:N` every call records; one that is among the N
    worst up to now is handed on, with the id of the call whose place it takes, so that N are left at the end.
    `hand_on(finished, replaces)` gets them; a process holds the audio of the calls that are up, no more (16 kB for each
    audible second of the agent at 16 kHz, so 100 calls up with 30 s of agent speech each: 48 MB).
    """

    def __init__(
        self,
        policy: RecordingPolicy,
        seed: int,
        planned_calls: int,
        hand_on: Callable[[FinishedRecording, str], None],
    ) -> None:
        """Prepare for a run; `planned_calls` is 0 when their number is not known (a closed load)."""
        self._policy = policy
        self._seed = seed
        self._hand_on = hand_on
        self._worst: list[tuple[float, int, str]] = []
        """(badness, minus the index, id) of the calls that `worst:N` has kept so far, as a heap."""
        count = int(policy.amount) if policy.kind == "count" else 0
        # Without a known number of calls, the first ones are taken.
        spread = range(planned_calls or count)
        self._chosen = frozenset(random.Random(f"recordings {seed}").sample(spread, min(count, len(spread))))

    @property
    def keeps_all(self) -> bool:
        """Whether every recording that is wanted is kept (not so under `worst:N`)."""
        return self._policy.kind != "worst"

    def wants(self, index: int) -> bool:
        """Return whether call `index` of the run (over all shards) is to be recorded."""
        match self._policy.kind:
            case "worst":
                return self._policy.amount > 0
            case "count":
                return index in self._chosen
            case _:
                return random.Random(f"recording {self._seed} {index}").random() < self._policy.amount

    def ended(self, finished: FinishedRecording, badness: float) -> None:
        """Take the recording of a call that is over, and hand it on if it is to be kept.

        `badness` ranks calls under `worst:N`, the higher the worse; among equals the earlier call stays.
        """
        replaces = ""
        if not self.keeps_all:
            item = (badness, -finished.index, finished.call_id)
            if len(self._worst) < self._policy.amount:
                heapq.heappush(self._worst, item)
            else:
                replaces = heapq.heappushpop(self._worst, item)[2]
                if replaces == finished.call_id:
                    return
        self._hand_on(finished, replaces)
