"""Recordings of calls: what caller and agent said, collected cheaply while the call runs and rendered after it."""

from __future__ import annotations

import heapq
import io
import random
import re
import struct
import wave
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from voxload.audio.codec import Encoding, Samples, amplitude, decode_audio, decode_pcm, encode_audio, peak, resample
from voxload.clock import NS_PER_S
from voxload.errors import BadInputError, Problem

RATE_HZ = 16_000
"""Sample rate of a rendered recording."""
AGENT_AUDIO_MAX_NS = 600 * NS_PER_S
"""Audible agent audio that one recording keeps (10 minutes: 9.6 MB at 16 kHz); what comes after is left out."""
MOMENTS_MAX = 1_000
WORST_MAX = 1_000
"""Most calls that `worst:N` may keep."""

_QUIET = int(amplitude(-70.0))
_MULAW_QUIET = b"\xff\x7f\xfe\x7e"  # 0 and ±8 of 32,768: -72 dBFS

Stereo = npt.NDArray[np.int16]
"""Rendered audio: shape (n, 2), the caller left, the agent right."""


class Moment(NamedTuple):
    """Something worth a label in a recording; instants on the monotonic clock."""

    at_ns: int
    kind: str
    text: str
    duration_ns: int


class CallRecording:
    """Collects one call while it runs: references to what the caller says, the agent's audio as µ-law.

    `agent` is on the hot path: about 2 µs for a frame of 20 ms. Of linear audio it keeps the µ-law form (half the size,
    about 38 dB of signal to noise) at the agent's sample rate: 16 kB for each audible second at 16 kHz, 8 kB at 8 kHz.
    Packets below -70 dBFS are not kept.
    """

    __slots__ = (
        "_bytes_left", "_encoding", "_mulaw", "_packets", "_rate_hz", "_said", "_starts_ns", "moments", "truncated",
    )  # fmt: skip

    truncated: bool
    """Agent audio beyond the limit was left out."""

    def __init__(self, agent_rate_hz: int, encoding: Encoding, limit_ns: int = AGENT_AUDIO_MAX_NS) -> None:
        self._rate_hz = agent_rate_hz
        self._encoding: Encoding = encoding
        self._mulaw = encoding == "mulaw"
        self._bytes_left = limit_ns * agent_rate_hz // NS_PER_S
        self._starts_ns: list[int] = []
        self._packets: list[bytes] = []
        self._said: list[tuple[int, Samples, int]] = []
        self.moments: list[Moment] = []
        self.truncated = False

    def caller(self, start_ns: int, samples: Samples, sample_rate_hz: int) -> None:
        """Note that the caller says these samples from `start_ns` on (on the caller's time line).

        The array is kept by reference, so it must not change: hand in what is shared by all calls.
        """
        self._said.append((start_ns, samples, sample_rate_hz))

    def agent(self, start_ns: int, audio: bytes) -> None:
        """Take in agent audio, encoded as it travels, whose first sample plays at `start_ns` (not: arrives)."""
        if self._mulaw:
            if not audio.strip(_MULAW_QUIET):
                return
        else:
            audio = decode_pcm(audio, self._encoding)
            if peak(audio, 2) <= _QUIET:
                return
            audio = encode_audio(np.frombuffer(audio, "<i2"), "mulaw")
        if len(audio) > self._bytes_left:
            self.truncated = True
            return
        self._bytes_left -= len(audio)
        self._starts_ns.append(start_ns)
        self._packets.append(audio)

    def flush(self, now_ns: int) -> None:
        """Drop what would have played at `now_ns` or later: the listener's buffer was emptied (an interruption)."""
        starts_ns, packets = self._starts_ns, self._packets
        while starts_ns and starts_ns[-1] >= now_ns:
            starts_ns.pop()
            self._bytes_left += len(packets.pop())
        if packets:
            audio = packets[-1]
            packets[-1] = audio[: (now_ns - starts_ns[-1]) * self._rate_hz // NS_PER_S]
            self._bytes_left += len(audio) - len(packets[-1])

    def moment(self, at_ns: int, kind: str, text: str = "", duration_ns: int = 0) -> None:
        """Label an instant, or a stretch when it has a duration; the first 1,000 are kept."""
        if len(self.moments) < MOMENTS_MAX:
            self.moments.append(Moment(at_ns, kind, text, duration_ns))

    @property
    def size_bytes(self) -> int:
        """Bytes of agent audio that are held."""
        return sum(map(len, self._packets))

    def render(self, t0_ns: int, end_ns: int) -> Stereo:
        """Return the call from `t0_ns` to `end_ns` at 16 kHz, as its listeners heard it; silence elsewhere.

        Times in a call's record count from its intended start: hand that in as `t0_ns`, and they are positions here.
        """
        count = max(-(-(end_ns - t0_ns) * RATE_HZ // NS_PER_S), 0)
        mix = np.zeros((count, 2), dtype=np.int32)
        for start_ns, samples, rate_hz in self._said:
            _add(mix[:, 0], start_ns - t0_ns, resample(samples, rate_hz, RATE_HZ))
        for start_ns, audio in self._stretches():
            _add(mix[:, 1], start_ns - t0_ns, resample(decode_audio(audio, "mulaw"), self._rate_hz, RATE_HZ))
        return np.clip(mix, -32_768, 32_767).astype(np.int16)

    def _stretches(self) -> Iterable[tuple[int, bytes]]:
        """Join packets that play without a gap, so that no filter starts anew in the middle of a word."""
        begin_ns, joined, end_ns = 0, bytearray(), 0
        tolerance_ns = NS_PER_S // self._rate_hz + 1
        for start_ns, audio in zip(self._starts_ns, self._packets, strict=True):
            if joined and abs(start_ns - end_ns) > tolerance_ns:
                yield begin_ns, bytes(joined)
                joined = bytearray()
            if not joined:
                begin_ns = start_ns
            joined += audio
            end_ns = start_ns + len(audio) * NS_PER_S // self._rate_hz
        if joined:
            yield begin_ns, bytes(joined)

    def wav(self, t0_ns: int, end_ns: int) -> bytes:
        """Return the rendered call as a WAV file: two channels, 16 kHz, with the moments as cue points."""
        stereo = self.render(t0_ns, end_ns)
        buffer = io.BytesIO()
        with wave.open(buffer, "wb") as file:
            file.setnchannels(2)
            file.setsampwidth(2)
            file.setframerate(RATE_HZ)
            file.writeframes(stereo.astype("<i2").tobytes())
        data = buffer.getvalue() + _cue_chunks(self._labels(t0_ns, end_ns))
        return data[:4] + struct.pack("<I", len(data) - 8) + data[8:]

    def sent_wav(self) -> bytes:
        """Return what the agent sent, one packet after the other without the gaps of its delivery: mono, 16 kHz."""
        audio = b"".join(self._packets)
        samples = resample(decode_audio(audio, "mulaw"), self._rate_hz, RATE_HZ) if audio else np.zeros(0, np.int16)
        buffer = io.BytesIO()
        with wave.open(buffer, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE_HZ)
            file.writeframes(samples.astype("<i2").tobytes())
        return buffer.getvalue()

    def label_track(self, t0_ns: int, end_ns: int) -> str:
        """Return the moments as an Audacity label track: `start<TAB>end<TAB>label` a line, in s."""
        return "".join(
            f"{start_ns / NS_PER_S:.6f}\t{(start_ns + length_ns) / NS_PER_S:.6f}\t{label}\n"
            for start_ns, length_ns, label in self._labels(t0_ns, end_ns)
        )

    def _labels(self, t0_ns: int, end_ns: int) -> list[tuple[int, int, str]]:
        """Return (ns since `t0_ns`, length in ns, label) of the moments within the recording, in order."""
        found = []
        for at_ns, kind, text, duration_ns in sorted(self.moments):
            if t0_ns <= at_ns <= end_ns:
                label = " ".join(f"{kind}: {text}".split()) if text else kind
                found.append((at_ns - t0_ns, max(min(duration_ns, end_ns - at_ns), 0), label))
        return found

    def write_wav(self, path: Path, t0_ns: int, end_ns: int) -> None:
        """Write the recording as `path` and its label track beside it, as `NAME.txt`.

        Raises:
            OSError: the disk is full or the folder is gone.
        """
        path.write_bytes(self.wav(t0_ns, end_ns))
        path.with_suffix(".txt").write_text(self.label_track(t0_ns, end_ns), encoding="utf-8")


def _add(channel: npt.NDArray[np.int32], offset_ns: int, samples: Samples) -> None:
    """Mix samples into a channel from `offset_ns` on, as far as it reaches."""
    start = round(offset_ns * RATE_HZ / NS_PER_S)
    first, last = max(start, 0), min(start + len(samples), len(channel))
    if first < last:
        channel[first:last] += samples[first - start : last - start]


def _chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) & 1)


def _cue_chunks(labels: list[tuple[int, int, str]]) -> bytes:
    """Return `cue ` and `LIST adtl` chunks (RIFF, Microsoft 1991); a label with a length is a region."""
    if not labels:
        return b""
    cues, texts = struct.pack("<I", len(labels)), b"adtl"
    for number, (start_ns, length_ns, label) in enumerate(labels, 1):
        position = start_ns * RATE_HZ // NS_PER_S
        cues += struct.pack("<II4sIII", number, position, b"data", 0, 0, position)
        texts += _chunk(b"labl", struct.pack("<I", number) + label.encode("utf-8", "replace") + b"\0")
        if length_ns:
            samples = length_ns * RATE_HZ // NS_PER_S
            texts += _chunk(b"ltxt", struct.pack("<II4sHHHH", number, samples, b"rgn ", 0, 0, 0, 0))
    return _chunk(b"cue ", cues) + _chunk(b"LIST", texts)


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
    """Decides which calls of a shard are recorded, and holds the recordings of those that are over.

    Share and number are decided by seed and call index before a call starts, so that all shards agree and the same
    calls are recorded whatever the number of processes. With `worst:N` every call records, and the N worst are kept: a
    process then holds the audio of N calls and of all that are up (16 kB for each audible second of the agent at
    16 kHz, so 100 calls up with 30 s of agent speech each: 48 MB).
    """

    def __init__(self, policy: RecordingPolicy, seed: int, planned_calls: int) -> None:
        """Prepare for a run; `planned_calls` is 0 when their number is not known (a closed load)."""
        self._policy = policy
        self._seed = seed
        self._kept: list[tuple[float, int, FinishedRecording]] = []
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

    def ended(self, finished: FinishedRecording, badness: float) -> bool:
        """Hand over the recording of a call that is over; returns whether it is kept for now.

        `badness` ranks calls under `worst:N`, the higher the worse; among equals the earlier call stays.
        """
        item = (badness, -finished.index, finished)
        if self._policy.kind != "worst" or len(self._kept) < self._policy.amount:
            heapq.heappush(self._kept, item)
            return True
        return heapq.heappushpop(self._kept, item) is not item

    def take(self) -> list[FinishedRecording]:
        """Return what is kept, the worst first, and let go of it.

        Under `worst:N` ask once, at the end of the run; else as often as there is time to write files. Rendering costs
        milliseconds a call: never do it between the frames of other calls.
        """
        found = [finished for _, _, finished in sorted(self._kept, key=lambda item: item[:2], reverse=True)]
        self._kept.clear()
        return found
