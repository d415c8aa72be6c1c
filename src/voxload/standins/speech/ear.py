"""What a stream of audio holds: phrases, by their level, with where and when each began and ended."""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

import numpy as np

from voxload.audio.codec import Samples, amplitude, peak, samples_to_ns
from voxload.audio.speech import CLOSE_BELOW_DB, CLOSE_LEVEL, OPEN_DBFS, WINDOWS_PER_S, SpeechDetector, last_active
from voxload.clock import NS_PER_MS, NS_PER_S
from voxload.standins.speech.known import QUIET, Levels, levels_of
from voxload.standins.speech.noise_floor import STEADY_NS, NoiseFloor

_KEPT_WINDOWS = 30
"""Before the onset of speech is known: it is told up to 150 ms late."""
PHRASE_NS_MAX = 60 * NS_PER_S
"""Who speaks longer is heard in several phrases."""
_OVER_NOISE_DB = 12.0
"""Speech opens so much above the noise and closes 6 dB above it; single windows of pink noise reach 5 dB."""
_MARGIN_WINDOWS = 25
_TAIL_NS = 200 * NS_PER_MS
_AFTER_NS = 50 * NS_PER_MS


class Segment(NamedTuple):
    """A phrase that is over."""

    onset_ns: int
    """Its first active sample, from the start of the audio."""
    end_ns: int
    """Likewise right after its last one."""
    ended_at_ns: int
    """When that one was heard."""
    levels: Levels
    """From the onset to the end; in noise, which hides both, from 250 ms before to 250 ms after."""
    levels_from_ns: int
    """Where they begin."""
    noisy: bool
    """It was said in noise that is louder than quiet speech."""


class Heard(NamedTuple):
    """A piece of audio that was loud: where it begins, when it came, and when the piece before it had come."""

    start_ns: int
    at_ns: int
    after_ns: int
    pcm: bytes


class Ear:
    """Finds phrases in 16-bit audio.

    A phrase ends when `segmentation_ns` have been quiet, or after a minute; steady noise counts as quiet. A message of
    P ms is sent when it is complete, so its samples were spoken from (arrival - P) to arrival, yet none before the
    message before it came: audio that arrives faster than it was spoken counts as heard when it arrived.
    """

    __slots__ = (
        "_after_ns", "_detector", "_kept", "_kept_from", "_noise", "_open_dbfs", "_opened", "_rate_hz", "_rest",
        "_samples", "_segmentation_ns", "_tail", "_window", "_window_ns", "onset_ns",
    )  # fmt: skip

    def __init__(self, rate_hz: int, segmentation_ns: int) -> None:
        self._rate_hz = rate_hz
        self._segmentation_ns = segmentation_ns
        self._noise = NoiseFloor(rate_hz)
        self._open_dbfs = OPEN_DBFS
        self._detector = SpeechDetector(rate_hz)
        self._opened = 0
        self._samples = 0
        self._after_ns = 0
        self._window = rate_hz // WINDOWS_PER_S
        self._window_ns = samples_to_ns(self._window, rate_hz)
        self._rest = b""
        self._kept: deque[Levels] = deque()
        self._kept_from = 0  # the window with which `_kept` begins
        self._tail: deque[Heard] = deque()
        self.onset_ns = -1
        """Where the phrase that is being spoken began; -1 when nobody speaks."""

    @property
    def position_ns(self) -> int:
        """How much audio there was."""
        return samples_to_ns(self._samples, self._rate_hz)

    def hear(self, pcm: bytes, now_ns: int) -> Segment | None:
        """Take audio, 250 ms at most; returns the phrase that is over with it."""
        start_ns = self.position_ns
        self._noise.hear(pcm)
        before_noise = self._retune()
        self._samples += len(pcm) // 2
        detector = self._detector
        detector.feed(pcm, start_ns)
        loud = detector.speaking or peak(pcm, 2) >= CLOSE_LEVEL
        self._measure(pcm, loud)
        if loud:
            self._tail.append(Heard(start_ns, now_ns, self._after_ns, pcm))
        self._after_ns = now_ns
        if self.onset_ns < 0:
            self._forget(start_ns)
            if detector.opened > self._opened:
                self.onset_ns = detector.onset_ns
        if self.onset_ns < 0:
            return before_noise
        tail = self._tail
        while len(tail) > 1 and tail[1].start_ns < detector.last_active_ns - _TAIL_NS:
            tail.popleft()
        if self.position_ns - self.onset_ns >= PHRASE_NS_MAX:
            segment = self._conclude()
            if detector.speaking:
                self.onset_ns = segment.end_ns
            return segment
        return self._conclude() if self.position_ns - detector.last_active_ns >= self._segmentation_ns else None

    def _retune(self) -> Segment | None:
        """Listen above the noise; returns the phrase that turns out to have ended where the noise alone began."""
        open_dbfs = max(OPEN_DBFS, self._noise.level_dbfs + _OVER_NOISE_DB)
        if open_dbfs == self._open_dbfs or (self.onset_ns >= 0 and open_dbfs < self._open_dbfs):
            return None
        segment = None
        if self.onset_ns >= 0:
            steady_from_ns = self.position_ns - STEADY_NS
            if self.onset_ns < steady_from_ns - _TAIL_NS:
                segment = self._conclude(steady_from_ns)
            self.onset_ns = -1  # or it was nothing but noise
        self._open_dbfs = open_dbfs
        self._detector, self._opened = SpeechDetector(self._rate_hz, open_dbfs), 0
        return segment

    def end(self) -> Segment | None:
        """The audio is over; returns the phrase that was being spoken."""
        return self._conclude() if self.onset_ns >= 0 else None

    def levels(self) -> Levels:
        """Return the levels of the phrase that is being spoken, so far."""
        return self._levels(self._window_at(self.onset_ns), self._kept_from + sum(map(len, self._kept)))

    def _window_at(self, position_ns: int) -> int:
        return position_ns * self._rate_hz // 1_000_000_000 // self._window

    def _levels(self, first: int, end: int) -> Levels:
        joined = np.concatenate(self._kept) if self._kept else QUIET[:0]
        return joined[max(first - self._kept_from, 0) : max(end - self._kept_from, 0)]

    def _measure(self, pcm: bytes, loud: bool) -> None:
        size = 2 * self._window
        if self._rest:
            pcm = self._rest + pcm
        windows, left = divmod(len(pcm), size)
        self._rest = pcm[windows * size :] if left else b""
        if windows:
            samples = np.frombuffer(pcm, "<i2", windows * self._window)
            self._kept.append(levels_of(samples, self._window) if loud else QUIET[:windows])

    def _forget(self, position_ns: int) -> None:
        """Nobody speaks: keep no more than an onset may need."""
        kept = self._kept
        total = sum(map(len, kept))
        while kept and total - len(kept[0]) >= _KEPT_WINDOWS:
            gone = len(kept.popleft())
            total -= gone
            self._kept_from += gone
        while self._tail and self._tail[0].start_ns < position_ns - 2 * _TAIL_NS:
            self._tail.popleft()

    def _conclude(self, until_ns: int | None = None) -> Segment:
        end_ns, ended_at_ns = self._end()
        if until_ns is not None and until_ns < end_ns:
            end_ns, ended_at_ns = until_ns, ended_at_ns - (end_ns - until_ns)
        noisy = self._open_dbfs > OPEN_DBFS or until_ns is not None
        margin = _MARGIN_WINDOWS if noisy else 0
        first = max(self._window_at(self.onset_ns) - margin, self._kept_from)
        levels = self._levels(first, self._window_at(end_ns + self._window_ns - 1) + margin)
        found = Segment(self.onset_ns, end_ns, ended_at_ns, levels, first * self._window_ns, noisy)
        self.onset_ns = -1
        self._opened = self._detector.opened
        self._tail.clear()
        return found

    def _end(self) -> tuple[int, int]:
        """Return where the last active sample ends, and when it was heard."""
        last_ns = self._detector.last_active_ns
        begin_ns = self._tail[0].start_ns
        parts: list[Samples] = []
        length = 0
        for piece in self._tail:
            gap = round((piece.start_ns - begin_ns) * self._rate_hz / 1e9) - length
            if gap > 0:  # a piece between two loud ones that was silent
                parts.append(np.zeros(gap, np.int16))
                length += gap
            parts.append(np.frombuffer(piece.pcm, "<i2"))
            length += len(parts[-1])
        until = (last_ns + _AFTER_NS - begin_ns) * self._rate_hz // 1_000_000_000
        close_level = math.ceil(amplitude(self._open_dbfs - CLOSE_BELOW_DB))
        found = last_active(np.concatenate(parts)[:until], self._rate_hz, close_level)
        end_ns = last_ns if found is None else begin_ns + samples_to_ns(found, self._rate_hz)
        piece = next((piece for piece in reversed(self._tail) if piece.start_ns < end_ns), self._tail[0])
        length_ns = len(piece.pcm) * 500_000_000 // self._rate_hz
        return end_ns, max(piece.at_ns - (piece.start_ns + length_ns - end_ns), piece.after_ns)
