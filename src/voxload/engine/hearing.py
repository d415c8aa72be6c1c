"""The quality of what arrives: jitter, late frames, broken-off and clipped speech, and the E-model's opinion of it."""

from __future__ import annotations

from voxload.audio.codec import decode_pcm, peak
from voxload.audio.playout import Ear
from voxload.dialects.base import AudioFormat
from voxload.inlet import AudioForm, Inlet, MeterNumbers
from voxload.measure.emodel import Codec, Scale, call_mos, mouth_to_ear_ms
from voxload.measure.jitter import JitterMeter, LateFrames
from voxload.measure.recorder import Labels, Recorder

BURST_NS = 500_000_000
"""Audio that arrives this long before it plays was sent in a burst: how evenly it came says nothing of jitter."""
FULL_SCALE = 32_767
WIDEBAND_HZ = 16_000
NS_PER_MS = 1e6
NS_PER_MIN = 60e9


class HearingMeter(MeterNumbers):
    """Counts packet by packet; `finish` turns the counts into the call's metrics."""

    __slots__ = ("_buffer_ns", "_ear", "_form", "_jitter", "_late", "_pcm16", "_playout", "_rtt_count", "_rtt_ns")

    def __init__(self, ear: Ear, form: AudioFormat, buffer_ns: int) -> None:
        self._ear = ear
        self._playout = ear.playout
        self._form = form
        self._pcm16 = form.encoding == "pcm16"
        self._buffer_ns = buffer_ns
        self._burst_ns, self._full_scale = BURST_NS, FULL_SCALE
        self._jitter = JitterMeter()
        self._late = LateFrames(buffer_ns)
        self._spurts = self._underruns = 0
        self._packets = self._clipped = 0
        self._rtt_ns = self._rtt_count = 0

    def open(self, inlet: Inlet, form: AudioForm | None) -> None:
        """Let plain audio be heard without Python: by the same ear, into the same numbers."""
        inlet.open(self._ear, self._playout, self._ear.detector, self, self._jitter, self._late, form)

    def heard(self, audio: bytes, media_before_ns: int, now_ns: int) -> None:
        """Take in a packet that the ear has just heard; `media_before_ns` is the audio that had come before it."""
        playout = self._playout
        self._packets += 1
        if playout.spurts != self._spurts:
            self._spurts = playout.spurts
            self._jitter.start_spurt()
            self._late.start_spurt()
        if self._ear.last_start_ns - now_ns > BURST_NS:
            self._jitter.leave_out()
        else:
            self._jitter.add(now_ns, media_before_ns)
        self._late.add(now_ns, media_before_ns)
        if playout.underruns != self._underruns:  # the buffer fills anew: later frames are judged by this one
            self._underruns = playout.underruns
            self._late.start_spurt()
        if not self._pcm16 or len(audio) & 1:
            audio = decode_pcm(audio, self._form.encoding)
        if peak(audio, 2) >= FULL_SCALE:
            self._clipped += 1

    def rtt(self, rtt_ns: int) -> None:
        """Take in a round trip of the media socket: half of it is the way of a frame."""
        self._rtt_ns += rtt_ns
        self._rtt_count += 1

    def finish(self, recorder: Recorder, labels: Labels) -> dict[str, float | str | None]:
        """Record the call's metrics; returns the fields of its record (see `CallRecord`)."""
        ear = self._ear
        if not self._packets:
            return {}
        transport_ms = self._rtt_ns / self._rtt_count / 2 / NS_PER_MS if self._rtt_count else 0.0
        codec: Codec = "wideband_pcm" if self._form.sample_rate_hz >= WIDEBAND_HZ else "g711_plc"
        scale: Scale = "wideband" if self._form.sample_rate_hz >= WIDEBAND_HZ else "narrowband"
        mos, scale = call_mos(
            codec=codec,
            loss_share=self._late.late_share,
            burst_ratio=self._late.burst_ratio,
            one_way_ms=mouth_to_ear_ms(transport_ms, self._buffer_ns / NS_PER_MS, self._form.frame_ms),
            scale=scale,
        )
        recorder.observe("mos", (*labels, ("scale", scale)), mos)
        if self._jitter.pairs:
            recorder.latency("jitter", labels, self._jitter.jitter_ns)
        recorder.observe_many("late_frames", labels, self._late.late, self._late.frames)
        recorder.observe_many("clipped_audio", labels, self._clipped, self._packets)
        recorder.observe("underruns", labels, self._playout.underruns)
        minutes = max(ear.heard_ns / NS_PER_MIN, 1 / 60)
        recorder.observe("underrun_ms_per_min", labels, self._playout.underrun_ns / NS_PER_MS / minutes)
        return {
            "mos": mos,
            "mos_scale": scale,
            "late_share": self._late.late_share,
            "jitter_ms": self._jitter.jitter_ns / NS_PER_MS if self._jitter.pairs else None,
            "underruns": self._playout.underruns,
            "underrun_ms": self._playout.underrun_ns / NS_PER_MS,
        }
