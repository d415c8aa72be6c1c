"""What a listener hears and when: agent audio passes a playout buffer, then a speech detector."""

from __future__ import annotations

from collections.abc import Iterable

from voxload.audio.codec import MULAW_SAMPLES, Encoding, amplitude, decode_pcm, rms
from voxload.audio.speech import OPEN_DBFS, SpeechDetector
from voxload.clock import NS_PER_MS, NS_PER_S
from voxload.inlet import EarNumbers, PlayoutNumbers

GAP_MAX_NS = NS_PER_S
"""A longer gap is a pause between two replies, never an underrun."""
ACTIVE_TAIL_NS = 50 * NS_PER_MS
"""Audio that ran out within this time of its last active window ran out in the middle of speech."""
FIRST_SOUND_DBFS = -70.0

_NEVER_NS = -(1 << 62)


class Playout(PlayoutNumbers):
    """The listener's buffer: from the arrival of packets to the instants at which they play.

    The first packet of a talk spurt plays `buffer_ns` after its arrival and anchors those that follow: each plays when
    the one before it ends, provided that it has arrived by then. Audio that arrives in a burst therefore plays in
    real time. When the next packet is late, the buffer has run empty:

    - in the middle of speech, and for at most 1 s, that is an underrun: it is counted with the silence that it makes,
      and the buffer fills anew, so that the packet plays `buffer_ns` after its arrival like the first of a spurt;
    - else it is a pause, and the packet starts a new talk spurt. Speech that trails off into silence before the audio
      ends, as synthesised sentences do, was not broken off: it ends within a pause.

    All instants that are handed out have `buffer_ns` subtracted, so a packet that starts a spurt plays at its arrival:
    the constant delay of the assumed handset is no latency of the agent. The buffer only decides which packets are
    late.
    """

    __slots__ = ()

    end_ns: int
    """When the audio that has arrived will have played."""
    underruns: int
    underrun_ns: int
    """Sum of the gaps of all underruns."""
    spurts: int
    """How many talk spurts have begun."""

    def __init__(self, buffer_ns: int) -> None:
        self.buffer_ns = buffer_ns
        self.end_ns = _NEVER_NS
        self.underruns = 0
        self.underrun_ns = 0
        self.spurts = 0

    def add(self, arrival_ns: int, duration_ns: int, last_active_ns: int) -> int:
        """Take in a packet and return when it starts to play.

        `last_active_ns` is the end of the last speech in the audio before it, in the playing timeline.
        """
        end_ns = self.end_ns
        gap_ns = arrival_ns - self.buffer_ns - end_ns
        if gap_ns <= 0:
            self.end_ns = end_ns + duration_ns
            return end_ns
        if gap_ns <= GAP_MAX_NS and end_ns - last_active_ns <= ACTIVE_TAIL_NS:
            self.underruns += 1
            self.underrun_ns += gap_ns + self.buffer_ns
        else:
            self.spurts += 1
        self.end_ns = arrival_ns + duration_ns
        return arrival_ns

    def flush(self, now_ns: int) -> int:
        """Drop what has not played at `now_ns` and return how many ns of audio that was.

        Sound stops at once, whatever the buffer; the next packet starts a new talk spurt.
        """
        dropped_ns = max(self.end_ns - now_ns, 0)
        self.end_ns = _NEVER_NS
        return dropped_ns


class Ear(EarNumbers):
    """One caller's ear: hears the agent's audio in the playing timeline and knows when the agent speaks.

    All instants are ns of the monotonic clock at which the audio plays, less the constant buffer (see `Playout`),
    except `first_sound_ns`, which is an arrival. 0 stands for "not yet".
    """

    __slots__ = ("_encoding", "_pcm16", "detector", "playout", "reply_onset_ns")

    first_sound_ns: int
    """Arrival of the first packet above -70 dBFS at or after the instant given to `await_reply`."""
    reply_onset_ns: int
    """Onset of the first segment of speech that began at or after that instant."""
    last_start_ns: int
    """When the packet that came last starts to play."""
    heard_ns: int
    """Duration of all audio that arrived, less what `flush` dropped."""

    def __init__(self, sample_rate_hz: int, encoding: Encoding, buffer_ns: int, open_dbfs: float = OPEN_DBFS) -> None:
        self._rate_hz = sample_rate_hz
        self._encoding: Encoding = encoding
        self._pcm16 = encoding == "pcm16"
        self._mulaw = MULAW_SAMPLES if encoding == "mulaw" else None
        self.playout = Playout(buffer_ns)
        """The buffer that the audio passes."""
        self.detector = SpeechDetector(sample_rate_hz, open_dbfs)
        """What finds speech in it."""
        self._opened = 0
        self._quiet = int(amplitude(FIRST_SOUND_DBFS))
        self._since_ns = 0
        self.first_sound_ns = 0
        self.reply_onset_ns = 0
        self.heard_ns = 0
        self.last_start_ns = 0

    def hear(self, audio: bytes, arrival_ns: int) -> bool:
        """Take in audio of any length that arrived at `arrival_ns`; half a sample at the end is dropped.

        Returns whether speech has begun in it.
        """
        if not self._pcm16 or len(audio) & 1:
            audio = decode_pcm(audio, self._encoding)
        if not audio:
            return False
        detector = self.detector
        duration_ns = len(audio) * 500_000_000 // self._rate_hz
        self.heard_ns += duration_ns
        if not self.first_sound_ns and arrival_ns >= self._since_ns and rms(audio, 2) > self._quiet:
            self.first_sound_ns = arrival_ns
        self.last_start_ns = start_ns = self.playout.add(arrival_ns, duration_ns, detector.last_active_ns)
        detector.feed(audio, start_ns)
        if detector.opened == self._opened:
            return False
        self._note_segments()
        return True

    def await_reply(self, since_ns: int) -> None:
        """Listen for a reply to speech that ended at `since_ns`; speech that is already going on is none."""
        self._since_ns = since_ns
        self.first_sound_ns = 0
        self.reply_onset_ns = 0

    def turn_over(self, now_ns: int, silence_ns: int) -> bool:
        """Return whether a reply was heard and has been over for `silence_ns` (audio still to play is not over)."""
        return self.reply_onset_ns != 0 and now_ns >= self.detector.last_active_ns + silence_ns

    def speaks_at(self, now_ns: int) -> bool:
        """Return whether the agent is heard at `now_ns`: exact for bursts too, where `speaking` runs ahead of time."""
        return self.detector.speaks_at(now_ns)

    def flush(self, now_ns: int) -> int:
        """Drop what has not played at `now_ns` (an interruption) and return how many ns of audio that was."""
        dropped_ns = min(self.playout.flush(now_ns), self.heard_ns)
        self.heard_ns -= dropped_ns
        self.detector.cut(now_ns)
        self._opened = self.detector.opened
        if self.reply_onset_ns >= now_ns:
            self.reply_onset_ns = 0
        return dropped_ns

    @property
    def speaking(self) -> bool:
        """A segment of speech is open at the end of the audio heard so far."""
        return self.detector.speaking

    @property
    def onset_ns(self) -> int:
        """Onset of the current or last segment of speech."""
        return self.detector.onset_ns

    @property
    def last_active_ns(self) -> int:
        """End of the last active window of speech; after a burst it lies in the future."""
        return self.detector.last_active_ns

    @property
    def plays_until_ns(self) -> int:
        """When all audio that has arrived will have been played; in the past when there is none."""
        return self.playout.end_ns

    @property
    def segments(self) -> int:
        """How many segments of speech have opened."""
        return self.detector.opened

    @property
    def ended_segments(self) -> Iterable[tuple[int, int]]:
        """(onset_ns, end_ns) of the segments that have ended, the latest 64, oldest first."""
        return self.detector.closed

    @property
    def spoken_ns(self) -> int:
        """How long the agent has spoken in all."""
        total_ns = self.detector.forgotten_ns + sum(end_ns - onset_ns for onset_ns, end_ns in self.detector.closed)
        return total_ns + (self.last_active_ns - self.onset_ns if self.speaking else 0)

    def _note_segments(self) -> None:
        """See whether one of the segments that have just opened begins the reply."""
        detector = self.detector
        new = detector.opened - self._opened
        self._opened = detector.opened
        if self.reply_onset_ns:
            return
        onsets = [onset_ns for onset_ns, _ in detector.closed]
        if detector.speaking:
            onsets.append(detector.onset_ns)
        self.reply_onset_ns = next((onset_ns for onset_ns in onsets[-new:] if onset_ns >= self._since_ns), 0)
