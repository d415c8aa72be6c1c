"""How evenly audio arrives: the jitter estimator of RFC 3550, and the frames too late for a fixed playout buffer."""

from __future__ import annotations

from voxload.inlet import JitterNumbers, LateNumbers
from voxload.measure.emodel import burst_ratio_of


class JitterMeter(JitterNumbers):
    """Interarrival jitter of RFC 3550 (6.4.1, and in integers as in A.8): J += (|D| - J)/16.

    D is how much the gap between two packets on arrival differs from the gap between their media times. A single stall
    hardly moves J, so it never stands alone: see `LateFrames`.
    """

    __slots__ = ()

    def __init__(self) -> None:
        self._scaled = 0
        """J in sixteenths of a ns."""
        self._transit_ns = 0
        self._started = False
        self.pairs = 0
        """Gaps between packets that the estimate is made of; without any there is none."""
        self._kept_scaled = self._kept_pairs = 0
        """What they were when the talk spurt began."""

    def add(self, arrival_ns: int, media_ns: int) -> None:
        """Take a packet that arrived at `arrival_ns` and whose audio starts at `media_ns` of the sender's time line."""
        transit_ns = arrival_ns - media_ns
        if self._started:
            difference_ns = transit_ns - self._transit_ns
            if difference_ns < 0:
                difference_ns = -difference_ns
            self.pairs += 1
            self._scaled += difference_ns - ((self._scaled + 8) >> 4)
        else:
            self._started = True
        self._transit_ns = transit_ns

    def start_spurt(self) -> None:
        """Say that the next packet opens a talk spurt: the silence before it is not jitter. The estimate stays."""
        self._started = False
        self._kept_scaled, self._kept_pairs = self._scaled, self.pairs

    def leave_out(self) -> None:
        """Say that a packet is part of a burst, as were those before it in its talk spurt: their gaps say nothing."""
        self._started = False
        self._scaled, self.pairs = self._kept_scaled, self._kept_pairs

    @property
    def jitter_ns(self) -> int:
        """The estimate after the packets so far; 0 before the second one."""
        return self._scaled >> 4


class LateFrames(LateNumbers):
    """Frames that would miss their turn in a fixed playout buffer of `buffer_ns`.

    The first packet of a talk spurt is the anchor and plays `buffer_ns` after it arrived; a frame is late when
    arrival - anchor > media - anchor_media + buffer. The buffer does not adapt: when the sender pauses in mid-spurt by
    more than the buffer, every later frame of the spurt is late.
    """

    __slots__ = ()

    def __init__(self, buffer_ns: int) -> None:
        self.buffer_ns = buffer_ns
        self.frames = 0
        """Frames seen."""
        self.late = 0
        """Of these, too late."""
        self.runs = 0
        """Runs of consecutive late frames; a run ends with its talk spurt."""
        self._deadline_ns = 0
        """Latest arrival of a frame of media time 0."""
        self._anchored = False
        self._in_run = False

    def add(self, arrival_ns: int, media_ns: int) -> bool:
        """Take a frame that arrived at `arrival_ns` and starts at `media_ns`; return whether it is late."""
        self.frames += 1
        if not self._anchored:
            self._anchored = True
            self._in_run = False
            self._deadline_ns = arrival_ns - media_ns + self.buffer_ns
            return False
        if arrival_ns - media_ns <= self._deadline_ns:
            self._in_run = False
            return False
        self.late += 1
        if not self._in_run:
            self._in_run = True
            self.runs += 1
        return True

    def start_spurt(self) -> None:
        """Say that the next frame opens a talk spurt and is its anchor."""
        self._anchored = False

    @property
    def late_share(self) -> float:
        """Late frames ÷ frames, 0 to 1; 0 before the first frame."""
        return self.late / self.frames if self.frames else 0.0

    @property
    def burst_ratio(self) -> float:
        """BurstR of the E-model (`voxload.measure.emodel.burst_ratio`)."""
        return burst_ratio_of(self.late, self.runs, self.frames)
