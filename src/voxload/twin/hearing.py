"""What an agent hears of its caller: when the caller speaks, and when the last active sample was spoken."""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from voxload.audio.codec import amplitude, decode_pcm, peak
from voxload.audio.speech import CLOSE_BELOW_DB, OPEN_DBFS, WINDOWS_PER_S, SpeechDetector
from voxload.clock import NS_PER_MS
from voxload.dialects.base import AudioFormat

ACTIVE_LEVEL = math.ceil(amplitude(OPEN_DBFS - CLOSE_BELOW_DB))
"""Amplitude from which a sample is active: the level at which `audio.speech` ends an utterance."""

_KEPT_NS = 200 * NS_PER_MS
_RESYNC_NS = 60 * NS_PER_MS


class Hearing:
    """Keeps of the caller's audio what later tells the end of the utterance, and detects speech while it is watched.

    A frame of P ms is sent when it is complete; so its samples were spoken from (arrival - P) to arrival. Each frame
    costs one look for its peak; the detector runs only while `watching`.
    """

    __slots__ = ("_encoding", "_heard", "_loud", "_next_ns", "_rate_hz", "_window", "detector", "loud_ns", "watching")

    def __init__(self, form: AudioFormat) -> None:
        self._encoding = form.encoding
        self._rate_hz = form.sample_rate_hz
        self._window = form.sample_rate_hz // WINDOWS_PER_S
        self._loud: deque[tuple[int, bytes, int]] = deque(maxlen=max(2, _KEPT_NS // (form.frame_ms * NS_PER_MS)))
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

    def speech_end_ns(self) -> int | None:
        """Return the instant right after the caller's last active sample, or None when none was heard lately.

        The rule is that of `audio.speech.active_bounds`: the last sample at or above the closing threshold in the last
        10 ms window whose RMS reaches it, or in the window after that.
        """
        later: tuple[int, bytes, int] | None = None
        for index, pcm, start_ns in reversed(self._loud):
            samples = np.frombuffer(pcm, dtype="<i2").astype(np.int32)
            window = self._last_active_window(samples)
            if window < 0:
                later = (index, pcm, start_ns)
                continue
            begin = window * self._window
            end = begin + 2 * self._window
            if end > len(samples) and later is not None and later[0] == index + 1:
                head = np.abs(np.frombuffer(later[1], dtype="<i2").astype(np.int32)[: self._window])
                loud = np.flatnonzero(head >= ACTIVE_LEVEL)
                if len(loud):
                    return later[2] + self._ns(int(loud[-1]) + 1)
            loud = np.flatnonzero(np.abs(samples[begin:end]) >= ACTIVE_LEVEL)
            return start_ns + self._ns(begin + int(loud[-1]) + 1)
        return None

    def _last_active_window(self, samples: np.ndarray[tuple[int], np.dtype[np.int32]]) -> int:
        """Return the number of the last window whose RMS is active, or -1; a short window at the end counts too."""
        for window in range(-(-len(samples) // self._window) - 1, -1, -1):
            part = samples[window * self._window : (window + 1) * self._window].astype(np.float64)
            if np.sqrt(np.mean(part * part)) >= ACTIVE_LEVEL:
                return window
        return -1

    def _ns(self, samples: int) -> int:
        return samples * 1_000_000_000 // self._rate_hz
