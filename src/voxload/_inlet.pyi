from voxload.inlet import AudioForm

class InboundNumbers:
    bytes_received: int
    frames_received: int

class PlayoutNumbers:
    buffer_ns: int
    end_ns: int
    spurts: int
    underrun_ns: int
    underruns: int

class DetectorNumbers:
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
    _mulaw: bytes | None
    _opened: int
    _quiet: int
    _rate_hz: int
    _since_ns: int
    first_sound_ns: int
    heard_ns: int
    last_start_ns: int

class JitterNumbers:
    _kept_pairs: int
    _kept_scaled: int
    _scaled: int
    _started: bool
    _transit_ns: int
    pairs: int

class LateNumbers:
    _anchored: bool
    _deadline_ns: int
    _in_run: bool
    buffer_ns: int
    frames: int
    late: int
    runs: int

class MeterNumbers:
    _burst_ns: int
    _clipped: int
    _full_scale: int
    _packets: int
    _spurts: int
    _underruns: int

class Inlet:
    count: int
    since_ns: int
    def __init__(self, inbound: InboundNumbers, most: int, /) -> None: ...
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
    ) -> None: ...
    def close(self) -> None: ...
    def flooded(self, size: int, arrival_ns: int, /) -> bool: ...
    def message(self, payload: bytes, text: bool, arrival_ns: int, /) -> bool: ...
    def hear(self, audio: bytes, arrival_ns: int, /) -> bool: ...
