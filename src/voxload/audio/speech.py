"""Where speech begins and ends: a streaming detector on the level of 10 ms windows, and its offline form."""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from voxload.audio.codec import Samples, amplitude, encode_audio, peak, rms, samples_to_ns
from voxload.clock import NS_PER_MS

OPEN_DBFS = -45.0
CLOSE_BELOW_DB = 6.0
OPEN_NS = 50 * NS_PER_MS
CLOSE_NS = 250 * NS_PER_MS
WINDOWS_PER_S = 100
_SEGMENTS_KEPT = 64
_NEVER_NS = -(1 << 62)


class SpeechDetector:
    """Finds segments of speech in 16-bit mono audio that arrives in chunks of any length.

    The level is the RMS of 10 ms windows. A segment opens when it has been at least `open_dbfs` for 50 ms and closes when
    it has been more than 6 dB lower for 250 ms. Both ends are backdated: the onset to the first sample whose amplitude
    reaches the threshold, in the first loud window or the one before it (so that the answer does not hang on where
    the windows lie); the end to the end of the last window that was loud enough. Chunks of any size give the same answer.

    Times are those of the caller's timeline, in ns: `feed` says when its first sample plays. A step of less than a
    window from the end of the last chunk is rounding or jitter and is bridged; a longer one is silence.
    """

    __slots__ = (
        "_before", "_close_level", "_first", "_first_ns", "_next_ns", "_open_level", "_open_windows", "_rate_hz",
        "_rest", "_run", "_window_bytes", "_window_ns", "closed", "last_active_ns", "onset_ns", "opened", "speaking",
    )  # fmt: skip

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

    def __init__(self, sample_rate_hz: int, open_dbfs: float = OPEN_DBFS) -> None:
        window_samples = sample_rate_hz // WINDOWS_PER_S
        self._rate_hz = sample_rate_hz
        self._window_bytes = 2 * window_samples
        self._window_ns = samples_to_ns(window_samples, sample_rate_hz)
        self._open_windows = round(OPEN_NS / self._window_ns)
        # `rms` truncates, so "at least the threshold" is "at least the next integer".
        self._open_level = math.ceil(amplitude(open_dbfs))
        self._close_level = math.ceil(amplitude(open_dbfs - CLOSE_BELOW_DB))
        self._rest = b""  # less than a window, waiting for its other part
        self._before = b""  # the window before the next one; empty when it has no sample near the threshold
        self._run = 0  # loud windows in a row, while no segment is open
        self._first = b""  # the first window of that run, with the window before it
        self._first_ns = 0
        self._next_ns = _NEVER_NS
        self.speaking = False
        self.onset_ns = 0
        self.last_active_ns = 0
        self.opened = 0
        self.closed = deque(maxlen=_SEGMENTS_KEPT)

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
            self._before = b""
            return
        self._scan(pcm, at_ns)

    def _scan(self, pcm: bytes, at_ns: int) -> None:
        """Go through whole windows one by one."""
        size, window_ns, close_level = self._window_bytes, self._window_ns, self._close_level
        before = self._before
        for offset in range(0, len(pcm), size):
            window = pcm[offset : offset + size]
            level = rms(window, 2)
            end_ns = at_ns + window_ns
            if self.speaking:
                if level >= close_level:
                    self.last_active_ns = end_ns
                elif end_ns - self.last_active_ns >= CLOSE_NS:
                    self._close()
            elif level >= self._open_level:
                if not self._run:
                    self._first, self._first_ns = before + window, at_ns - self._bytes_ns(len(before))
                self._run += 1
                if self._run >= self._open_windows:
                    self._open(end_ns)
            else:
                self._run = 0
            before = window
            at_ns = end_ns
        self._before = before

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
        self._rest = self._before = b""
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

    def _bytes_ns(self, count: int) -> int:
        return samples_to_ns(count // 2, self._rate_hz)

    def _open(self, end_ns: int) -> None:
        loud = np.abs(np.frombuffer(self._first, dtype="<i2").astype(np.int32)) >= self._open_level
        self.onset_ns = self._first_ns + samples_to_ns(int(loud.argmax()), self._rate_hz)
        self.last_active_ns = end_ns
        self.opened += 1
        self.speaking = True
        self._run = 0
        self._first = b""

    def _close(self) -> None:
        self.speaking = False
        self.closed.append((self.onset_ns, self.last_active_ns))

    def _jump(self, at_ns: int) -> None:
        """Go on at `at_ns` after a stretch without audio: it counts as silence."""
        if self.speaking:
            if self._rest and rms(self._rest, 2) >= self._close_level:
                self.last_active_ns = self._next_ns
            if at_ns - self.last_active_ns >= CLOSE_NS:
                self._close()
        # A run of loud windows survives a gap that is too short to be a pause, as speech in a bad network does.
        if not 0 <= at_ns - self._next_ns < OPEN_NS:
            self._run = 0
        self._rest = self._before = b""


def active_bounds(samples: Samples, sample_rate_hz: int, open_dbfs: float = OPEN_DBFS) -> tuple[int, int] | None:
    """Return the first active sample and the one after the last, or None when there is no speech.

    The same rules as `SpeechDetector`, with both ends to the sample: the end is the last sample whose amplitude reaches
    the closing threshold, in the last active window or the one after it.
    """
    detector = SpeechDetector(sample_rate_hz, open_dbfs)
    window = sample_rate_hz // WINDOWS_PER_S
    padded = np.concatenate([samples, np.zeros(-len(samples) % window, dtype=np.int16)])
    onset_ns = -1
    chunk = window * WINDOWS_PER_S  # short enough that the rounding of a window to whole ns cannot add up
    for start in range(0, len(padded), chunk):
        pcm = encode_audio(padded[start : start + chunk], "pcm16")
        detector.feed(pcm, samples_to_ns(start, sample_rate_hz))
        if onset_ns < 0 and detector.opened:
            onset_ns = detector.closed[0][0] if detector.closed else detector.onset_ns
    if onset_ns < 0:
        return None
    start = round(onset_ns * sample_rate_hz / 1e9)
    end = round(detector.last_active_ns * sample_rate_hz / 1e9)
    tail = np.abs(samples[end - window : end + window].astype(np.int32))
    loud = np.flatnonzero(tail >= math.ceil(amplitude(open_dbfs - CLOSE_BELOW_DB)))
    return start, end - window + int(loud[-1]) + 1
