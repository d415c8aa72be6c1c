"""The recording of a call: what caller and agent said, collected cheaply while it runs and rendered after it."""

from __future__ import annotations

import io
import struct
import wave
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from voxload.audio.codec import Encoding, Samples, amplitude, decode_audio, decode_pcm, encode_audio, peak, resample
from voxload.clock import NS_PER_S

RATE_HZ = 16_000
"""Sample rate of a rendered recording."""
AGENT_AUDIO_MAX_NS = 600 * NS_PER_S
"""Audible agent audio that one recording keeps (10 minutes: 9.6 MB at 16 kHz); what comes after is left out."""
MOMENTS_MAX = 1_000

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


class RecordingData(msgspec.Struct, array_like=True):
    """What a recording holds, as data that travels: nothing is rendered or converted to make it."""

    rate_hz: int
    """Sample rate of the agent's audio."""
    starts_ns: list[int]
    packets: list[bytes]
    """The agent's audio as µ-law, a packet for each start."""
    said: list[tuple[int, bytes, int]]
    """(start in ns, 16-bit PCM, sample rate) of what the caller said."""
    moments: list[Moment]


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

    def to_data(self) -> RecordingData:
        """Return what is held, to be rendered by another process: copies the caller's audio, nothing else."""
        said = [(start_ns, samples.astype("<i2").tobytes(), rate_hz) for start_ns, samples, rate_hz in self._said]
        return RecordingData(self._rate_hz, self._starts_ns, self._packets, said, self.moments)

    @classmethod
    def from_data(cls, data: RecordingData) -> CallRecording:
        """Return the recording that `data` was made from."""
        recording = cls(data.rate_hz, "mulaw")
        recording._starts_ns, recording._packets, recording.moments = data.starts_ns, data.packets, data.moments
        recording._said = [(start_ns, np.frombuffer(pcm, "<i2"), rate_hz) for start_ns, pcm, rate_hz in data.said]
        return recording

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
