"""The ear of a real agent: a streaming voice activity detector that also keeps the audio of the utterance."""

from __future__ import annotations

from collections import deque

import numpy as np
import soxr

from voxload.audio.codec import FULL_SCALE, decode_pcm
from voxload.clock import NS_PER_MS
from voxload.dialects.base import AudioFormat
from voxload.twin.extras import require

RATE_HZ = 16_000
"""What the detector and the recogniser take."""
WINDOW_MS = 10
AGGRESSIVENESS = 3
"""Of WebRTC's detector, 0 to 3: how much is taken for noise."""

_WINDOW_BYTES = 2 * RATE_HZ * WINDOW_MS // 1000
_WINDOW_NS = WINDOW_MS * NS_PER_MS
_LATEST = 10  # windows that decide whether speech has begun ...
_OPEN = 8  # ... when so many of them are voiced: after a click, or at its first noise, the detector says so 7 times
_STEADY, _STEADY_VOICED = 5, 3  # speech goes on while 3 of the last 5 are voiced
_CLOSE_NS = 250 * NS_PER_MS
_LEAD_BYTES = 30 * _WINDOW_BYTES
_UTTERANCE_BYTES_MAX = 60 * 2 * RATE_HZ
_RESYNC_NS = 60 * NS_PER_MS


class VoiceDetector:
    """Hears where speech is, by the sound of it and not by its level (WebRTC's detector, windows of 10 ms).

    A stretch of speech opens when 8 of 10 windows are voiced, and ends when there was none for 250 ms. The utterance
    is all that was heard from 300 ms before its first stretch on, until it is taken.

    Raises:
        BadInputError: the extra `real` is not installed.
    """

    __slots__ = (
        "_encoding", "_lead", "_next_ns", "_rate_hz", "_resampler", "_rest", "_utterance", "_vad", "_voiced",
        "last_active_ns", "onset_ns", "opened", "speaking",
    )  # fmt: skip

    def __init__(self, form: AudioFormat) -> None:
        self._encoding = form.encoding
        self._rate_hz = form.sample_rate_hz
        self._resampler = (
            None if form.sample_rate_hz == RATE_HZ else soxr.ResampleStream(form.sample_rate_hz, RATE_HZ, 1, "float32")
        )
        self._vad = require("webrtcvad").Vad(AGGRESSIVENESS)
        self._voiced: deque[bool] = deque(maxlen=_LATEST)
        self._rest = b""
        self._next_ns = 0  # when the next sample was spoken
        self._lead = b""
        self._utterance: bytearray | None = None
        self.speaking = False
        """A stretch of speech is open."""
        self.opened = 0
        """How many stretches of speech have opened."""
        self.onset_ns = 0
        """When the latest of them began, to a window."""
        self.last_active_ns = 0
        """When it ended, or the end of what was heard of it."""

    def hear(self, audio: bytes, now_ns: int) -> None:
        """Take audio of the caller that arrived, complete, at `now_ns`."""
        pcm = decode_pcm(audio, self._encoding)
        length_ns = len(pcm) * 500_000_000 // self._rate_hz
        # Arrivals jitter and the speech does not: its own time line goes on while it stays near the arrivals.
        end_ns = self._next_ns + len(self._rest) * 500_000_000 // RATE_HZ + length_ns
        if abs(end_ns - now_ns) >= _RESYNC_NS:
            self._rest = b""
            self._next_ns = now_ns - length_ns
        pcm = self._rest + self._resampled(pcm)
        whole = len(pcm) - len(pcm) % _WINDOW_BYTES
        for at in range(0, whole, _WINDOW_BYTES):
            self._hear_window(pcm[at : at + _WINDOW_BYTES])
        self._rest = pcm[whole:]

    def take_utterance(self) -> bytes:
        """Return what was heard of the utterance, as 16-bit PCM at 16 kHz, and begin to wait for the next one."""
        taken = bytes(self._utterance or b"")
        self._utterance = None
        self._close()
        return taken

    def _resampled(self, pcm: bytes) -> bytes:
        if self._resampler is None:
            return pcm
        samples = np.frombuffer(pcm, dtype="<i2").astype(np.float32)
        converted = self._resampler.resample_chunk(samples)
        return bytes(np.clip(np.rint(converted), -FULL_SCALE, FULL_SCALE - 1).astype("<i2").tobytes())

    def _hear_window(self, window: bytes) -> None:
        self._next_ns += _WINDOW_NS
        voiced = self._voiced
        voiced.append(self._vad.is_speech(window, RATE_HZ))
        if self._utterance is not None:
            if len(self._utterance) < _UTTERANCE_BYTES_MAX:
                self._utterance += window
        else:
            self._lead = (self._lead + window)[-_LEAD_BYTES:]
        if self.speaking:
            if voiced[-1] and sum(list(voiced)[-_STEADY:]) >= _STEADY_VOICED:
                self.last_active_ns = self._next_ns
            elif self._next_ns - self.last_active_ns >= _CLOSE_NS:
                self._close()
        elif voiced[-1] and sum(voiced) >= _OPEN:
            self._open()

    def _open(self) -> None:
        self.speaking = True
        self.opened += 1
        first = len(self._voiced) - self._voiced.index(True)
        self.onset_ns = self._next_ns - first * _WINDOW_NS
        self.last_active_ns = self._next_ns
        if self._utterance is None:
            self._utterance = bytearray(self._lead)
            self._lead = b""

    def _close(self) -> None:
        self.speaking = False
        self._voiced.clear()
