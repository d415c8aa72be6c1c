"""What an agent hears of its caller: when the caller speaks, and when the last active sample was spoken."""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt

from voxload.audio.codec import decode_pcm, peak
from voxload.audio.speech import CLOSE_LEVEL, WINDOWS_PER_S, SpeechDetector
from voxload.clock import NS_PER_MS
from voxload.dialects.base import AudioFormat

ACTIVE_LEVEL = CLOSE_LEVEL
"""Amplitude from which a sample is active: the level at which `audio.speech` ends an utterance."""

Values = npt.NDArray[np.int64]

_KEPT_NS = 200 * NS_PER_MS
_TAIL_WINDOWS = 5
_RESYNC_NS = 60 * NS_PER_MS


class Hearing:
    """Keeps of the caller's audio what later tells the end of the utterance, and detects speech while it is watched.

    A frame of P ms is sent when it is complete; so its samples were spoken from (arrival - P) to arrival. Each frame
    costs one look for its peak; the detector runs only while `watching`.
    """

    __slots__ = (
        "_encoding",
        "_frames_kept",
        "_heard",
        "_loud",
        "_next_ns",
        "_rate_hz",
        "_window",
        "detector",
        "loud_ns",
        "watching",
    )

    def __init__(self, form: AudioFormat) -> None:
        self._encoding = form.encoding
        self._rate_hz = form.sample_rate_hz
        self._window = form.sample_rate_hz // WINDOWS_PER_S
        self._frames_kept = max(2, _KEPT_NS // (form.frame_ms * NS_PER_MS))
        self._loud: deque[tuple[int, bytes, int]] = deque(maxlen=self._frames_kept)
        self._heard = 0
        self._next_ns = 0
        self.loud_ns = 0
        """How much audio with active samples has been heard in this utterance, in whole frames."""
        self.detector = SpeechDetector(form.sample_rate_hz)
        self.watching = False

    def hear(self, audio: bytes, now_ns: int) -> None:
        """Take audio of the caller that arrived at `now_ns`."""
        pcm = decode_pcm(audio, self._encoding)
        length_ns = len(pcm) * 500_000_000 // self._rate_hz
        start_ns = now_ns - length_ns
        self._heard += 1
        if self.watching:
            # Arrivals jitter and the speech does not: its own time line goes on while it stays near the arrivals.
            if abs(start_ns - self._next_ns) < _RESYNC_NS:
                self.detector.feed(pcm, self._next_ns)
                self._next_ns += length_ns
            else:
                self.detector.feed(pcm, start_ns)
                self._next_ns = now_ns
        if peak(pcm, 2) >= ACTIVE_LEVEL:
            self._loud.append((self._heard, pcm, start_ns))
            self.loud_ns += length_ns

    def watch(self, on: bool) -> None:
        """Switch the detector on, from a clean start, or off."""
        if on:
            self.detector = SpeechDetector(self._rate_hz)
            self._next_ns = 0
        self.watching = on

    def end_utterance(self) -> None:
        """Forget the utterance: what comes next belongs to another one."""
        self._loud.clear()
        self.loud_ns = 0

    @property
    def fingerprint(self) -> bytes:
        """The last frame with an active sample, as 16-bit PCM; empty when there was none.

        No two utterances of the corpus end alike, and the frame is kept anyway: telling them apart costs nothing a
        frame.
        """
        return self._loud[-1][1] if self._loud else b""

    def speech_end_ns(self) -> int | None:
        """Return the instant right after the caller's last active sample, or None when none was heard lately.

        The rule is that of `audio.speech.active_bounds`: the last active sample of the last 5 ms whose RMS is active
        too, up to 50 ms after the last active window of 10 ms. Frames without an active sample count as silence.
        """
        if not self._loud:
            return None
        last = self._loud[-1][0]
        places: list[tuple[int, int]] = []  # where each loud frame begins in `values`, and when it was spoken
        parts: list[Values] = []
        position, expected = 0, self._loud[0][0]
        for index, pcm, start_ns in self._loud:
            frame = np.frombuffer(pcm, dtype="<i2").astype(np.int64)
            if last - index > self._frames_kept:
                expected = index + 1
                continue
            if index > expected and parts:
                gap = (index - expected) * len(frame)
                parts.append(np.zeros(gap, dtype=np.int64))
                position += gap
            places.append((position, start_ns))
            parts.append(frame)
            position += len(frame)
            expected = index + 1
        end = _active_end(np.concatenate(parts), self._window)
        if not end:
            return None
        begin, start_ns = next(place for place in reversed(places) if place[0] < end)
        return start_ns + (end - begin) * 1_000_000_000 // self._rate_hz


def _active_end(values: Values, window: int) -> int:
    """Return the end (exclusive) of what is active in some samples, 0 when nothing is."""
    square = ACTIVE_LEVEL * ACTIVE_LEVEL
    energy = np.concatenate([[0], np.cumsum(values * values)])
    edges = np.minimum(np.arange(0, len(values) + window, window), len(values))
    active = np.flatnonzero(energy[edges[1:]] - energy[edges[:-1]] >= square * window)
    if not len(active):
        return 0
    stop = min((int(active[-1]) + 1 + _TAIL_WINDOWS) * window, len(values))
    width = window // 2
    starts = np.flatnonzero(energy[width : stop + 1] - energy[: stop + 1 - width] >= square * width)
    if not len(starts):
        return int(edges[active[-1] + 1])
    first = int(starts[-1])  # the last active 5 ms; its first sample or a later one is active, or its mean were not
    loud = np.flatnonzero(np.abs(values[first : first + width]) >= ACTIVE_LEVEL)
    return first + int(loud[-1]) + 1
