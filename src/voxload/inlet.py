"""Where the messages of a call come in: plain audio is heard in C where that was compiled (`_inlet.c`), without Python.

The C part knows the plain case alone. All the rest is done by the Python classes of playout, speech and meters, and
where nothing was compiled they do everything. Both work on the same numbers: the classes inherit them from here, as
ordinary attributes, which in C are members of a struct. `VOXLOAD_PURE_PYTHON=1` turns the C part off.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from voxload.clock import NS_PER_S

Method = TypeVar("Method", bound=Callable[..., object])


class AudioForm(NamedTuple):
    """How plain audio messages look, for a session that need not think about them.

    Such a message is one of `heads` and the audio; as `base64` up to a quote, after which anything may come, or exactly
    `tail` where there is one. `text`: whether it is a text message. Audio that begins with `refused` is not plain.
    """

    heads: tuple[bytes, ...]
    tail: bytes = b""
    text: bool = True
    base64: bool = True
    refused: bytes = b""


class InboundNumbers:
    """What a process has received."""

    __slots__ = ("bytes_received", "frames_received")

    bytes_received: int
    frames_received: int


class PlayoutNumbers:
    """Of `voxload.audio.playout.Playout`."""

    __slots__ = ("buffer_ns", "end_ns", "spurts", "underrun_ns", "underruns")

    buffer_ns: int
    end_ns: int
    spurts: int
    underrun_ns: int
    underruns: int


class DetectorNumbers:
    """Of `voxload.audio.speech.SpeechDetector`."""

    __slots__ = (
        "_close_level", "_close_ns", "_history", "_next_ns", "_rate_hz", "_rest", "_run", "_window_bytes", "_window_ns",
        "last_active_ns", "onset_ns", "opened", "speaking",
    )  # fmt: skip

    _close_level: int
    _close_ns: int
    _history: bytes
    _next_ns: int
    _rate_hz: int
    _rest: bytes
    _run: int
    _window_bytes: int
    _window_ns: int
    last_active_ns: int
    onset_ns: int
    opened: int
    speaking: bool


class EarNumbers:
    """Of `voxload.audio.playout.Ear`."""

    __slots__ = (
        "_mulaw", "_opened", "_quiet", "_rate_hz", "_since_ns", "first_sound_ns", "heard_ns", "last_start_ns",
    )  # fmt: skip

    _mulaw: bytes | None
    _opened: int
    _quiet: int
    _rate_hz: int
    _since_ns: int
    first_sound_ns: int
    heard_ns: int
    last_start_ns: int


class JitterNumbers:
    """Of `voxload.measure.jitter.JitterMeter`."""

    __slots__ = ("_kept_pairs", "_kept_scaled", "_scaled", "_started", "_transit_ns", "pairs")

    _kept_pairs: int
    _kept_scaled: int
    _scaled: int
    _started: bool
    _transit_ns: int
    pairs: int


class LateNumbers:
    """Of `voxload.measure.jitter.LateFrames`."""

    __slots__ = ("_anchored", "_deadline_ns", "_in_run", "buffer_ns", "frames", "late", "runs")

    _anchored: bool
    _deadline_ns: int
    _in_run: bool
    buffer_ns: int
    frames: int
    late: int
    runs: int


class MeterNumbers:
    """Of `voxload.engine.hearing.HearingMeter`."""

    __slots__ = ("_burst_ns", "_clipped", "_full_scale", "_packets", "_spurts", "_underruns")

    _burst_ns: int
    _clipped: int
    _full_scale: int
    _packets: int
    _spurts: int
    _underruns: int


class Inlet:
    """The inlet in Python: it counts, and takes nothing by itself."""

    __slots__ = ("_inbound", "_most", "count", "since_ns")

    count: int
    """Messages since `since_ns`."""

    def __init__(self, inbound: InboundNumbers, most: int, /) -> None:
        self._inbound = inbound
        self._most = most
        self.count = self.since_ns = 0

    def open(
        self,
        ear: EarNumbers,
        playout: PlayoutNumbers,
        detector: DetectorNumbers,
        meter: MeterNumbers,
        jitter: JitterNumbers,
        late: LateNumbers,
        form: AudioForm | None,
        /,
    ) -> None:
        """Listen: from now on plain audio may be taken; as messages only if they have a `form`."""

    def close(self) -> None:
        """Listen no more."""

    def flooded(self, size: int, arrival_ns: int, /) -> bool:
        """Count a message of so many bytes; return whether more than `most` came within a second."""
        self._inbound.bytes_received += size
        self.count += 1
        if self.count > self._most:
            if arrival_ns - self.since_ns < NS_PER_S:
                return True
            self.count, self.since_ns = 1, arrival_ns
        return False

    def message(self, payload: bytes, text: bool, arrival_ns: int, /) -> bool:  # noqa: ARG002  # as in C
        """Count and hear a message, if it is plain audio; else change nothing and return False."""
        return False

    def hear(self, audio: bytes, arrival_ns: int, /) -> bool:  # noqa: ARG002  # as in C
        """Hear a packet of audio, if it is plain; else change nothing and return False."""
        return False


def plain_audio_first(method: Method, *frames: tuple[object, bytes, bool, bool]) -> Method:  # noqa: ARG001  # as in C
    """Return the method `on_ws_frame` of a class whose attribute `inlet` (an `Inlet` or None) takes plain audio.

    `method` gets the other frames. `frames` are some of picows, each with its payload, whether it is text, and whether
    it ends its message: where there are none, or they lie in memory in another way than expected, `method` gets all.
    """
    return method


COMPILED = False
"""Whether plain audio is heard in C."""
if not os.environ.get("VOXLOAD_PURE_PYTHON"):
    try:
        from voxload import _frame_method, _inlet
    except ImportError:  # no compiler where this was installed
        pass
    else:
        COMPILED = True
        InboundNumbers = _inlet.InboundNumbers  # type: ignore[misc,assignment]
        PlayoutNumbers = _inlet.PlayoutNumbers  # type: ignore[misc,assignment]
        DetectorNumbers = _inlet.DetectorNumbers  # type: ignore[misc,assignment]
        EarNumbers = _inlet.EarNumbers  # type: ignore[misc,assignment]
        JitterNumbers = _inlet.JitterNumbers  # type: ignore[misc,assignment]
        LateNumbers = _inlet.LateNumbers  # type: ignore[misc,assignment]
        MeterNumbers = _inlet.MeterNumbers  # type: ignore[misc,assignment]
        Inlet = _inlet.Inlet  # type: ignore[misc,assignment]

        def plain_audio_first(method: Method, *frames: tuple[object, bytes, bool, bool]) -> Method:  # noqa: D103
            try:
                return _frame_method.FrameMethod(method, *frames)  # type: ignore[return-value]
            except ValueError:  # another version of picows
                return method
