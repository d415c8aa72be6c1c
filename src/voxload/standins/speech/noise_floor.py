"""How loud the noise of a line is: a level that hardly changes for more than a second is none of speech."""

from __future__ import annotations

import math
from collections import deque

from voxload.audio.codec import FULL_SCALE, rms
from voxload.clock import NS_PER_MS

BLOCKS = 12
BLOCK_MS = 100
STEADY_NS = BLOCKS * BLOCK_MS * NS_PER_MS
"""How long it must be steady."""
SPREAD_DB = 4.0
"""Within so much it is steady: white and pink noise keep within 1.8 dB, speech never within 5 (our corpus)."""
SILENT_DBFS = -120.0
_AUDIBLE_DBFS = -58.0
_CHANGE_DB = 1.5
_QUIETER_DB = 6.0


class NoiseFloor:
    """Keeps the level of the noise in dB relative to full scale; `SILENT_DBFS` while there is none."""

    __slots__ = ("_block", "_blocks", "_samples", "_squares", "level_dbfs")

    def __init__(self, rate_hz: int) -> None:
        self.level_dbfs = SILENT_DBFS
        self._block = rate_hz * BLOCK_MS // 1000
        self._blocks: deque[float] = deque(maxlen=BLOCKS)
        self._squares = self._samples = 0

    def hear(self, pcm: bytes) -> None:
        """Take 16-bit audio."""
        level, length = rms(pcm, 2), len(pcm) // 2
        self._squares += level * level * length
        self._samples += length
        if self._samples < self._block:
            return
        block_dbfs = 10 * math.log10(max(self._squares / self._samples / FULL_SCALE**2, 1e-12))
        self._squares = self._samples = 0
        blocks = self._blocks
        blocks.append(block_dbfs)
        if block_dbfs < self.level_dbfs - _QUIETER_DB:
            self.level_dbfs = SILENT_DBFS
        elif len(blocks) == BLOCKS and block_dbfs > _AUDIBLE_DBFS and max(blocks) - min(blocks) <= SPREAD_DB:
            mean_dbfs = sum(blocks) / BLOCKS
            if abs(mean_dbfs - self.level_dbfs) > _CHANGE_DB:
                self.level_dbfs = mean_dbfs
