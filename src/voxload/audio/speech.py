"""Where speech begins and ends: a streaming detector on the level of 10 ms windows, and its offline form."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
import numpy.typing as npt

from voxload.audio.codec import Samples, amplitude, encode_audio, peak, rms, samples_to_ns
from voxload.clock import NS_PER_MS
from voxload.inlet import DetectorNumbers

OPEN_DBFS = -45.0
CLOSE_BELOW_DB = 6.0
CLOSE_LEVEL = math.ceil(amplitude(OPEN_DBFS - CLOSE_BELOW_DB))
"""Amplitude from which a sample is active once somebody speaks."""
OPEN_NS = 50 * NS_PER_MS
CLOSE_NS = 250 * NS_PER_MS
WINDOWS_PER_S = 100
_HISTORY_WINDOWS = 10  # 100 ms of audio before the loud windows is searched for the onset
_ENVELOPE_MS = 5
_DIP_MS = 30
_SEGMENTS_KEPT = 64
_NEVER_NS = -(1 << 62)


class SpeechDetector(DetectorNumbers):
    """Finds segments of speech in 16-bit mono audio that arrives in chunks of any length.

    The level is the RMS of 10 ms windows. A segment opens when it has been at least `open_dbfs` for 50 ms and
    closes when it has been more than 6 dB lower for 250 ms. Both ends are backdated: the onset to the sample (see
    `_find_onset`), the end to the end of the last window that was loud enough. Chunks of any size give the same
    answer.

    Times are those of the caller's timeline, in ns: `feed` says when its first sample plays. A step of less than a
    window from the end of the last chunk is rounding or jitter and is bridged; a longer one is silence.
    """

    __slots__ = ("_history_bytes", "_open_level", "_open_windows", "closed", "forgotten_ns")

    speaking: bool
    """A segment is open at the end of what was fed."""
    onset_ns: int
    """Onset of the current or, when none is open, the last segment."""
    last_active_ns: int
    """End of the last active window in a segment."""
    opened: int
    """How many segments have opened."""
    closed: deque[tuple[int, int]]
    """(onset_ns, end_ns) of the closed segments, the latest 64."""
    forgotten_ns: int
    """Length of all segments before these."""

    def __init__(self, sample_rate_hz: int, open_dbfs: float = OPEN_DBFS) -> None:
        window_samples = sample_rate_hz // WINDOWS_PER_S
        self._rate_hz = sample_rate_hz
        self._window_bytes = 2 * window_samples
        self._window_ns = samples_to_ns(window_samples, sample_rate_hz)
        self._open_windows = round(OPEN_NS / self._window_ns)
        # `rms` truncates, so "at least the threshold" is "at least the next integer".
        self._open_level = math.ceil(amplitude(open_dbfs))
        self._close_level = math.ceil(amplitude(open_dbfs - CLOSE_BELOW_DB))
        self._close_ns = CLOSE_NS
        self._rest = b""  # less than a window, waiting for its other part
        self._run = 0  # loud windows in a row, while no segment is open
        self._history = b""  # the latest whole windows before the next one; empty when they are all quiet
        self._history_bytes = self._window_bytes * (self._open_windows + _HISTORY_WINDOWS)
        self._next_ns = _NEVER_NS
        self.speaking = False
        self.onset_ns = 0
        self.last_active_ns = 0
        self.opened = 0
        self.closed = deque()
        self.forgotten_ns = 0

    def feed(self, pcm: bytes, at_ns: int) -> None:
        """Hear 16-bit samples (a whole number of them) whose first one plays at `at_ns`."""
        if not pcm:
            return
        window_ns = self._window_ns
        if not -window_ns < at_ns - self._next_ns < window_ns:
            self._jump(at_ns)
        self._next_ns = at_ns + len(pcm) * 500_000_000 // self._rate_hz
        rest = self._rest
        if rest:
            pcm = rest + pcm
            at_ns -= len(rest) * 500_000_000 // self._rate_hz
        size = self._window_bytes
        windows, left = divmod(len(pcm), size)
        if left:
            whole = windows * size
            self._rest = pcm[whole:]
            if not windows:
                return
            pcm = pcm[:whole]
        elif rest:
            self._rest = b""
        last_ns = at_ns + (windows - 1) * window_ns
        if self.speaking:
            # Nothing but a pause of 250 ms ends a segment: where none fits in, the last window says it all.
            if last_ns - self.last_active_ns < CLOSE_NS and rms(pcm[-size:], 2) >= self._close_level:
                self.last_active_ns = last_ns + window_ns
                return
        elif peak(pcm, 2) < self._close_level:
            self._run = 0
            if self._history:
                history = (self._history + pcm)[-self._history_bytes :]
                self._history = history if peak(history, 2) >= self._close_level else b""
            return
        self._scan(pcm, at_ns)

    def _scan(self, pcm: bytes, at_ns: int) -> None:
        """Go through whole windows one by one."""
        size, window_ns, close_level = self._window_bytes, self._window_ns, self._close_level
        audio = self._history + pcm
        for end in range(len(self._history) + size, len(audio) + size, size):
            level = rms(audio[end - size : end], 2)
            at_ns += window_ns
            if self.speaking:
                if level >= close_level:
                    self.last_active_ns = at_ns
                elif at_ns - self.last_active_ns >= CLOSE_NS:
                    self._close()
            elif level >= self._open_level:
                self._run += 1
                if self._run >= self._open_windows:
                    self._open(audio[max(end - self._history_bytes, 0) : end], at_ns)
            else:
                self._run = 0
        # In the middle of a segment the fast path of `feed` skips audio, so that a history would have holes.
        self._history = b"" if self.speaking else audio[-self._history_bytes :]

    def cut(self, now_ns: int) -> None:
        """Forget what was to play at or after `now_ns`: an open segment ends there, later ones never were."""
        if self.speaking:
            self._close()
        closed = self.closed
        while closed and closed[-1][0] >= now_ns:
            closed.pop()
            self.opened -= 1
        if closed:
            onset_ns, end_ns = closed[-1]
            closed[-1] = onset_ns, min(end_ns, now_ns)
        self.onset_ns, self.last_active_ns = closed[-1] if closed else (0, 0)
        self._rest = self._history = b""
        self._run = 0
        self._next_ns = _NEVER_NS

    def speaks_at(self, now_ns: int) -> bool:
        """Return whether `now_ns` lies within a segment; one that is still open lasts for 250 ms of silence."""
        if self.speaking and now_ns >= self.onset_ns:
            return now_ns < self.last_active_ns + CLOSE_NS
        for onset_ns, end_ns in reversed(self.closed):
            if onset_ns <= now_ns:
                return now_ns < end_ns
        return False

    def _open(self, audio: bytes, end_ns: int) -> None:
        """Open a segment at `end_ns`, the end of the audio, which holds the loud windows and what was before."""
        from_onset = len(audio) // 2 - self._find_onset(audio)
        self.onset_ns = end_ns - samples_to_ns(from_onset, self._rate_hz)
        self.last_active_ns = end_ns
        self.opened += 1
        self.speaking = True
        self._run = 0

    def _find_onset(self, audio: bytes) -> int:
        """Return the sample at which the speech begins that goes on to the end of the audio.

        Speech is where the RMS of the next 5 ms reaches the threshold, taken at every sample, and not on the windows'
        grid: so the onset does not hang on where the windows happen to lie. Dips of up to 30 ms are bridged.
        """
        loud = _loud(np.frombuffer(audio, dtype="<i2"), self._open_level, self._rate_hz)
        if not len(loud):  # 10 ms are not always twice 5 ms (44.1 kHz)
            return len(audio) // 2 - self._open_windows * self._window_bytes // 2
        breaks = np.flatnonzero(np.diff(loud) > self._rate_hz * _DIP_MS // 1000)
        return int(loud[breaks[-1] + 1 if len(breaks) else 0])

    def _close(self) -> None:
        self.speaking = False
        self.closed.append((self.onset_ns, self.last_active_ns))
        if len(self.closed) > _SEGMENTS_KEPT:
            onset_ns, end_ns = self.closed.popleft()
            self.forgotten_ns += end_ns - onset_ns

    def _jump(self, at_ns: int) -> None:
        """Go on at `at_ns` after a stretch without audio: it counts as silence."""
        if self.speaking:
            if self._rest and rms(self._rest, 2) >= self._close_level:
                self.last_active_ns = self._next_ns
            if at_ns - self.last_active_ns >= CLOSE_NS:
                self._close()
        gap_ns = at_ns - self._next_ns
        if 0 <= gap_ns < OPEN_NS and self._run:
            # A run of loud windows survives a gap that is too short for a pause: speech begins in bad networks too.
            gap = b"\0\0" * (gap_ns * self._rate_hz // 1_000_000_000)
            self._history = (self._history + self._rest + gap)[-self._history_bytes :]
        else:
            self._history = b""
            self._run = 0
        self._rest = b""


def _loud(samples: Samples, level: int, sample_rate_hz: int) -> npt.NDArray[np.intp]:
    """Return the samples of at least `level` that lie in 5 ms whose RMS is at least `level` too, in order."""
    values = samples.astype(np.int64)
    width = sample_rate_hz * _ENVELOPE_MS // 1000
    energy = np.concatenate([[0], np.cumsum(values * values)])
    starts = np.flatnonzero(energy[width:] - energy[:-width] >= level * level * width)
    change = np.zeros(len(values) + 1, dtype=np.int64)
    change[starts] += 1
    change[starts + width] -= 1
    return np.flatnonzero((np.cumsum(change[:-1]) > 0) & (np.abs(values) >= level))


def last_active(samples: Samples, sample_rate_hz: int, close_level: int = CLOSE_LEVEL) -> int | None:
    """Return the sample after the last active one, or None when none is, in audio of which it is known to be speech."""
    loud = _loud(samples, close_level, sample_rate_hz)
    return int(loud[-1]) + 1 if len(loud) else None


def active_bounds(samples: Samples, sample_rate_hz: int, open_dbfs: float = OPEN_DBFS) -> tuple[int, int] | None:
    """Return the first active sample and the one after the last, or None when there is no speech.

    The same rules as `SpeechDetector`, with both ends to the sample: the end is the last sample of the last 5 ms
    whose RMS reaches the closing threshold, up to 50 ms after the last active window.
    """
    detector = SpeechDetector(sample_rate_hz, open_dbfs)
    window = sample_rate_hz // WINDOWS_PER_S
    padded = np.concatenate([samples, np.zeros(-len(samples) % window, dtype=np.int16)])
    onset_ns = -1
    chunk = window * WINDOWS_PER_S  # short enough that the rounding of a window to whole ns cannot add up
    for offset in range(0, len(padded), chunk):
        pcm = encode_audio(padded[offset : offset + chunk], "pcm16")
        detector.feed(pcm, samples_to_ns(offset, sample_rate_hz))
        if onset_ns < 0 and detector.opened:
            onset_ns = detector.closed[0][0] if detector.closed else detector.onset_ns
    if onset_ns < 0:
        return None
    start = round(onset_ns * sample_rate_hz / 1e9)
    end = round(detector.last_active_ns * sample_rate_hz / 1e9)
    tail = samples[start : end + 5 * window]
    loud = _loud(tail, math.ceil(amplitude(open_dbfs - CLOSE_BELOW_DB)), sample_rate_hz)
    return start, (start + int(loud[-1]) + 1 if len(loud) else end)
