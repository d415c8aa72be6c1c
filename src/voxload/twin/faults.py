"""What goes wrong in one call: each fault drawn from the seed, the call and the turn, and counted when it strikes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from random import Random
from typing import Literal

import numpy as np

from voxload.audio.codec import FULL_SCALE, Samples, decode_audio, encode_audio, resample
from voxload.audio.frames import silence_frame
from voxload.dialects.base import Dialect
from voxload.draws import chance, digest
from voxload.model.twin import TwinSettings
from voxload.twin.meters import Meters
from voxload.twin.record import CallRecord
from voxload.twin.speaking import Delivery, PreparedReply

CLIPPING_GAIN = 30.0
"""About 30 dB: most of the speech is at full scale."""

SoundFault = Literal["clipped", "wrong", "empty_audio"]


class Faults:
    """The faults of one call. All draws have a name of their own, so that one rate does not move another's cases."""

    __slots__ = ("_meters", "_record", "settings")

    def __init__(self, settings: TwinSettings, record: CallRecord, meters: Meters) -> None:
        self.settings = settings
        self._record = record
        self._meters = meters

    def strikes(self, name: str, rate: float, turn: int) -> bool:
        """Return whether a fault strikes in a turn, and count it when it does."""
        if not chance(rate, self.settings.seed, self._record.call_id, turn, name):
            return False
        self.note(name)
        return True

    def note(self, name: str) -> None:
        """Count a fault that has struck."""
        self._record.faults[name] = self._record.faults.get(name, 0) + 1
        self._meters.fault(name)

    def random(self, name: str, turn: int) -> Random:
        """Return a source of draws of its own for a turn."""
        return Random(digest(self.settings.seed, self._record.call_id, turn, name))

    def delivery(self, reply: PreparedReply, turn: int) -> Delivery:
        """Return how the reply of a turn is sent."""
        faults, burst = self.settings.faults, self.settings.delivery == "burst"
        truncated = self.strikes("truncated", faults.truncated_rate, turn)
        count = reply.middle if truncated else len(reply.payloads)
        gap_at, gap_ns = -1, 0
        if faults.underruns is not None and count > 1 and self.strikes("underrun", faults.underruns.rate, turn):
            gap_ns = faults.underruns.gap_ns
            gap_at = reply.break_at if 0 < reply.break_at < count else (count + 1) // 2
        late_ns: dict[int, int] = {}
        late = faults.late_frames
        if late is not None and late.rate and not burst:
            random = self.random("late_frames", turn)
            late_ns = {number: late.by_ns for number in range(count) if random.random() < late.rate}
        return Delivery(burst, truncated, gap_at, gap_ns, late_ns)

    def sound(self, turn: int) -> SoundFault | None:
        """Return what is wrong with the sound of a turn's reply; of several faults the first."""
        faults = self.settings.faults
        if self.strikes("empty_audio", faults.empty_audio_rate, turn):
            return "empty_audio"
        if self.strikes("wrong", faults.wrong_rate, turn):
            return "wrong"
        return "clipped" if self.strikes("clipped", faults.clipped_rate, turn) else None


class SoundFaults:
    """Replies with faulty sound, made once for all calls: at the start those that are known then."""

    def __init__(self, settings: TwinSettings, dialect: Dialect, replies: Iterable[PreparedReply]) -> None:
        self._dialect = dialect
        self._made: dict[tuple[int, SoundFault], tuple[PreparedReply, PreparedReply]] = {}
        faults = settings.faults
        rates: Mapping[SoundFault, float] = {"clipped": faults.clipped_rate, "wrong": faults.wrong_rate}
        known = {id(reply): reply for reply in replies}
        for fault, rate in rates.items():
            for reply in known.values() if rate else ():
                self.apply(fault, reply)

    def apply(self, fault: SoundFault, reply: PreparedReply) -> PreparedReply:
        """Return the reply with this fault."""
        if fault == "empty_audio":
            return replace(reply, payloads=(), frames=())
        key = (id(reply), fault)
        if key not in self._made:
            self._made[key] = (reply, self._spoil(fault, reply))  # kept with its source: an id lives as long as that
        return self._made[key][1]

    def _spoil(self, fault: SoundFault, reply: PreparedReply) -> PreparedReply:
        form = self._dialect.agent_format
        samples = decode_audio(b"".join(reply.frames), form.encoding)
        if fault == "clipped":
            spoilt = _clip(samples)
        else:
            spoilt = resample(samples, form.sample_rate_hz, form.sample_rate_hz // 2)
        frames = split_frames(encode_audio(spoilt, form.encoding), self._dialect)
        middle = reply.break_at if fault == "clipped" else reply.break_at // 2
        return replace(reply, payloads=tuple(self._dialect.prepare_agent(frames)), frames=frames, break_at=middle)


def split_frames(audio: bytes, dialect: Dialect) -> tuple[bytes, ...]:
    """Cut encoded audio into the frames in which the agent speaks, the last one padded with silence."""
    form = dialect.agent_format
    silence = silence_frame(form.sample_rate_hz, form.encoding, form.frame_ms)
    size = len(silence)
    audio += silence[: -len(audio) % size]
    return tuple(audio[at : at + size] for at in range(0, len(audio), size))


def _clip(samples: Samples) -> Samples:
    loud = np.clip(samples.astype(np.float32) * CLIPPING_GAIN, -FULL_SCALE, FULL_SCALE - 1)
    clipped: Samples = np.rint(loud).astype(np.int16)
    return clipped
