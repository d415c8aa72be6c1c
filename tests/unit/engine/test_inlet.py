"""Plain audio that is heard in C leaves exactly the numbers that Python would leave."""

import base64
import os

import numpy as np
import picows
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from voxload import inlet as inlets
from voxload.audio.codec import MULAW_SAMPLES, encode_audio
from voxload.audio.playout import Ear
from voxload.clock import NS_PER_MS, NS_PER_S
from voxload.dialects.base import AudioForm, AudioIn, CallIdentity
from voxload.dialects.registry import build_dialect
from voxload.engine import transport
from voxload.engine.hearing import HearingMeter
from voxload.inlet import Inlet
from voxload.measure.recorder import Recorder

compiled_only = pytest.mark.skipif(not inlets.COMPILED, reason="the inlet in C was not compiled")
BUFFER_NS = 60 * NS_PER_MS
START_NS = 1_000 * NS_PER_S
FRAME_NS = 20 * NS_PER_MS
LEVELS = {"silence": 0, "hiss": 15, "murmur": 120, "below": 170, "speech": 6_000, "clipped": 60_000}
DIALECTS = {
    "rtmed": ("rtmed", {}),
    "twilio": ("twilio", {}),
    "acs_media 24 kHz": ("acs_media", {"sample_rate": 24_000, "casing": "camel"}),
    "openai_realtime": ("openai_realtime", {}),
}
NUMBERS = {
    name: list(slots)
    for name, slots in {
        "ear": ("_mulaw", "_opened", "_quiet", "_rate_hz", "_since_ns", "first_sound_ns", "heard_ns", "last_start_ns",
                "reply_onset_ns"),
        "playout": ("buffer_ns", "end_ns", "spurts", "underrun_ns", "underruns"),
        "detector": ("_close_level", "_close_ns", "_history", "_next_ns", "_rate_hz", "_rest", "_run", "_window_bytes",
                     "_window_ns", "last_active_ns", "onset_ns", "opened", "speaking", "closed"),
        "jitter": ("_kept_pairs", "_kept_scaled", "_scaled", "_started", "_transit_ns", "jitter_ns", "pairs"),
        "late": ("_anchored", "_deadline_ns", "_in_run", "buffer_ns", "frames", "late", "runs", "burst_ratio"),
        "meter": ("_clipped", "_packets", "_spurts", "_underruns"),
        "recorder": ("bytes_received", "frames_received"),
        "inlet": ("count", "since_ns"),
    }.items()
}  # fmt: skip


class Side:
    """What a call hears with; `quick`: its inlet is open."""

    def __init__(self, name, quick, most=10_000):
        dialect_name, options = DIALECTS[name]
        self.dialect = build_dialect(dialect_name, "http://agent.example", options)
        self.session = self.dialect.caller(CallIdentity(0, "x"))
        form = self.dialect.agent_format
        self.ear = Ear(form.sample_rate_hz, form.encoding, BUFFER_NS)
        self.meter = HearingMeter(self.ear, form, BUFFER_NS)
        self.recorder = Recorder()
        self.inlet = Inlet(self.recorder, most)
        self.inlet.since_ns = START_NS
        self.ear.await_reply(START_NS)
        self.taken = self.events = 0
        if quick:
            self.meter.open(self.inlet, self.session.audio_form)

    def message(self, payload, text, now_ns):
        """As `Call.on_message`; returns whether it was taken as it came."""
        if self.inlet.message(payload, text, now_ns):
            self.taken += 1
            return True
        if self.inlet.flooded(len(payload), now_ns):
            self.events += 1
            return False
        for event in self.session.decode(payload, text):
            if not isinstance(event, AudioIn):
                self.events += 1
                continue
            self.recorder.frames_received += 1
            if not self.inlet.hear(event.audio, now_ns):
                before_ns = self.ear.heard_ns
                self.ear.hear(event.audio, now_ns)
                self.meter.heard(event.audio, before_ns, now_ns)
        return False

    def numbers(self):
        parts = {
            "ear": self.ear, "playout": self.ear.playout, "detector": self.ear.detector, "jitter": self.meter._jitter,
            "late": self.meter._late, "meter": self.meter, "recorder": self.recorder, "inlet": self.inlet,
        }  # fmt: skip
        found = {f"{part}.{name}": getattr(parts[part], name) for part, names in NUMBERS.items() for name in names}
        return found | {"events": self.events}


def sound(side, level, samples, seed=1):
    """Return noise of the kind `level` as the agent sends it."""
    form = side.dialect.agent_format
    noise = np.random.default_rng(seed).uniform(-1, 1, samples) * LEVELS[level]
    return encode_audio(np.clip(np.rint(noise), -32_768, 32_767).astype(np.int16), form.encoding)


def on_the_wire(side, audio):
    agent = side.dialect.agent("x")
    if side.dialect.name == "twilio":
        head = f'{{"event":"media","streamSid":"{side.session._stream_sid}","media":{{"payload":"'
        return head.encode() + base64.b64encode(audio) + b'"}}'
    if side.dialect.name == "openai_realtime":
        return b'{"type":"response.output_audio.delta","item_id":"x","delta":"' + base64.b64encode(audio) + b'"}'
    return agent.stamp(side.dialect.prepare_agent([audio])[0], 0, 0)


def run(side, packets):
    now_ns = START_NS
    for number, (kind, frames, cut, wait_ms, then) in enumerate(packets):
        samples = side.dialect.agent_format.sample_rate_hz * frames // 100  # in windows of 10 ms
        audio = sound(side, kind, samples, number)
        side.message(on_the_wire(side, audio[: len(audio) - cut] if cut else audio), True, now_ns)
        now_ns += int(wait_ms * NS_PER_MS)
        if then == "flush":
            side.ear.flush(now_ns)
        elif then == "await":
            side.ear.await_reply(now_ns)
        yield side.numbers()


packet = st.tuples(
    st.sampled_from(list(LEVELS)),
    st.sampled_from([2, 2, 2, 2, 1, 5, 30]),
    st.sampled_from([0, 0, 0, 0, 0, 0, 1, 2, 34]),
    st.sampled_from([20, 20, 20, 0, 0.3, 21.7, 19.1, 60, 90, 400, 2_000]),
    st.sampled_from(["", "", "", "", "", "", "flush", "await"]),
)
# stretches of one kind of sound, as talk has them, and now and then anything
stretch = st.tuples(packet, st.integers(1, 14)).map(lambda drawn: [drawn[0]] * drawn[1])
packets_of_talk = st.lists(stretch, max_size=14).map(lambda parts: [packet for part in parts for packet in part])


@compiled_only
@pytest.mark.parametrize("name", DIALECTS)
@given(packets=packets_of_talk)
@example(packets=[("speech", 2, 0, 20, "")] * 40 + [("silence", 2, 0, 20, "")] * 40 + [("speech", 2, 0, 20, "")] * 9)
@settings(max_examples=60, deadline=None)
def test_every_number_is_what_python_counts(name, packets):
    quick, slow = Side(name, quick=True), Side(name, quick=False)
    for at, (ours, theirs) in enumerate(zip(run(quick, packets), run(slow, packets), strict=True)):
        assert ours == theirs, f"after packet {at}"
    assert slow.taken == slow.events == 0


@compiled_only
@pytest.mark.parametrize(("name", "level"), [(name, level) for name in DIALECTS for level in ("speech", "hiss")])
def test_steady_sound_never_reaches_python(name, level):
    side = Side(name, quick=True)
    packets = [(level, 2, 0, 20, "")] * 20
    for _ in run(side, packets):
        pass
    now_ns = START_NS + 20 * FRAME_NS
    heard_ns, packets_before = side.ear.heard_ns, side.meter._packets
    audio = sound(side, level, side.dialect.agent_format.frame_samples)
    if side.session.audio_form is None:
        assert side.inlet.hear(audio, now_ns)
    else:
        assert side.inlet.message(on_the_wire(side, audio), True, now_ns)
    assert side.ear.heard_ns == heard_ns + FRAME_NS
    assert side.meter._packets == packets_before + 1


@pytest.mark.parametrize("name", DIALECTS)
def test_a_closed_inlet_takes_nothing(name):
    side = Side(name, quick=True)
    for _ in run(side, [("speech", 2, 0, 20, "")] * 20):
        pass
    side.inlet.close()
    before = side.numbers()
    audio = sound(side, "speech", side.dialect.agent_format.frame_samples)
    assert not side.inlet.message(on_the_wire(side, audio), True, START_NS + 20 * FRAME_NS)
    assert not side.inlet.hear(audio, START_NS + 20 * FRAME_NS)
    assert side.numbers() == before


def odd_messages(plain, encoded):
    """Return messages like a plain one that are not plain, by what is wrong."""
    return {
        "no end": plain[: plain.index(encoded) + len(encoded)],
        "nothing": plain.replace(encoded, b""),
        "a stranger": plain.replace(encoded, encoded[:8] + b"*" + encoded[9:]),
        "an escape": plain.replace(encoded, encoded[:8] + b"\\/" + encoded[9:]),
        "a line break": plain.replace(encoded, encoded[:8] + b"\n" + encoded[8:]),
        "not whole": plain.replace(encoded, encoded[:-1]),
        "padding within": plain.replace(encoded, encoded[:8] + b"AA==" + encoded[8:]),
        "too much padding": plain.replace(encoded, encoded + b"===="),
        "spare bits": plain.replace(encoded, encoded + b"AB=="),
        "more spare bits": plain.replace(encoded, encoded + b"AAB="),
        "another order": b" " + plain,
        "cut short": plain[:10],
        "empty": b"",
    }


@compiled_only
@pytest.mark.parametrize("name", ["rtmed", "twilio", "acs_media 24 kHz"])
def test_a_message_that_is_not_plain_changes_nothing(name):
    side = Side(name, quick=True)
    for _ in run(side, [("speech", 2, 0, 20, "")] * 20):
        pass
    before = side.numbers()
    audio = sound(side, "speech", side.dialect.agent_format.frame_samples)
    plain, encoded = on_the_wire(side, audio), base64.b64encode(audio)
    now_ns = START_NS + 20 * FRAME_NS
    for what, payload in odd_messages(plain, encoded).items():
        assert not side.inlet.message(payload, True, now_ns), what
        assert side.numbers() == before, what
    assert not side.inlet.message(plain, False, now_ns), "binary"
    assert side.numbers() == before
    assert side.inlet.message(plain, True, now_ns)


@compiled_only
def test_a_message_that_says_more_than_audio_goes_to_the_dialect():
    side = Side("twilio", quick=True)
    for _ in run(side, [("speech", 2, 0, 20, "")] * 20):
        pass
    now_ns = START_NS + 20 * FRAME_NS
    plain = on_the_wire(side, sound(side, "speech", 160))
    assert not side.inlet.message(plain[:-1] + b',"streamSid":"MZ0"}', True, now_ns)
    assert not side.inlet.message(on_the_wire(side, b"RIFF" + sound(side, "speech", 156)), True, now_ns)
    assert not side.inlet.message(plain.replace(side.session._stream_sid.encode(), b"MZ" + b"0" * 32), True, now_ns)
    assert side.inlet.message(plain, True, now_ns)


@pytest.mark.parametrize(("name", "options"), [
    *((name, {}) for name in ("rtmed", "twilio", "acs_media")),
    *(("acs_media", {"casing": casing}) for casing in ("camel", "mixed")),
])  # fmt: skip
def test_the_declared_form_is_what_the_dialect_decodes(name, options):
    session = build_dialect(name, "http://agent.example", options).caller(CallIdentity(0, "x"))
    form = session.audio_form
    for head in form.heads:
        for audio in (b"\0", b"\1\2", bytes(range(256))):
            payload = head + base64.b64encode(audio) + (form.tail or b'"}}')
            assert list(session.decode(payload, form.text)) == [AudioIn(audio)]


@compiled_only
def test_raw_audio_in_binary_messages():
    side = Side("rtmed", quick=False)
    side.meter.open(side.inlet, AudioForm((b"",), text=False, base64=False))
    audio = sound(side, "hiss", 320)
    for number in range(3):
        side.ear.hear(audio, START_NS + number * FRAME_NS)
    assert side.inlet.message(audio, False, START_NS + 3 * FRAME_NS)
    assert not side.inlet.message(audio, True, START_NS + 4 * FRAME_NS)
    assert not side.inlet.message(audio[:-1], False, START_NS + 4 * FRAME_NS)
    assert side.recorder.bytes_received == len(audio)


@pytest.mark.parametrize("quick", [False, True])
def test_too_many_messages_are_a_flood(quick):
    side = Side("rtmed", quick, most=100)
    payload = on_the_wire(side, sound(side, "hiss", 320))
    for _ in range(100):
        side.message(payload, True, START_NS + 1)
    assert side.events == 0
    side.message(payload, True, START_NS + 2)
    assert side.events == 1
    assert side.inlet.count == 101
    side.message(payload, True, START_NS + NS_PER_S)
    assert side.events == 1
    assert (side.inlet.count, side.inlet.since_ns) == (1, START_NS + NS_PER_S)


@compiled_only
def test_mulaw_is_read_by_the_table():
    side = Side("twilio", quick=True)
    slow = Side("twilio", quick=False)
    assert len(MULAW_SAMPLES) == 512
    every = bytes(range(256)) * 5
    for number in range(8):
        for one in (side, slow):
            one.message(on_the_wire(one, every), True, START_NS + number * FRAME_NS)
    assert side.taken
    assert side.numbers() == slow.numbers()


@compiled_only
def test_an_inlet_refuses_what_it_cannot_read():
    side = Side("rtmed", quick=False)
    parts = (side.ear, side.ear.playout, side.ear.detector, side.meter, side.meter._jitter, side.meter._late)
    with pytest.raises(TypeError):
        side.inlet.open(*parts, ((b"head", "text"), b"", True, True, b""))
    with pytest.raises(TypeError):
        side.inlet.open(*parts, "form")
    with pytest.raises(TypeError):
        side.inlet.open(*parts[1:], side.ear, None)
    with pytest.raises(TypeError):
        side.inlet.message("text", True, 0)
    with pytest.raises(TypeError):
        Inlet(object(), 1)
    with pytest.raises(OverflowError):
        side.ear.heard_ns = 1 << 64


def test_half_a_sample_at_the_end_is_dropped():
    odd, whole = Side("rtmed", quick=True), Side("rtmed", quick=True)
    audio = sound(odd, "clipped", 320)
    for number in range(5):
        odd.message(on_the_wire(odd, audio + b"x"), True, START_NS + number * FRAME_NS)
        whole.message(on_the_wire(whole, audio), True, START_NS + number * FRAME_NS)
    assert odd.meter._packets == odd.meter._clipped == 5
    uncounted = {"recorder.bytes_received": 0}  # base64 of the same length, or not
    assert odd.numbers() | uncounted == whole.numbers() | uncounted


# --- frames of picows ---


class Listening:
    """Stands for a line: its inlet first, then what Python is given."""

    def __init__(self, inlet):
        self.inlet, self.others = inlet, []

    def on_ws_frame(self, transport, frame):
        self.others.append((transport, frame.get_payload_as_bytes()))

    on_ws_frame = inlets.plain_audio_first(on_ws_frame, *transport._FRAMES)


def frame_of(payload, kind=picows.WSMsgType.TEXT, fin=True, rsv1=False):
    return picows.picows._make_test_ws_frame(kind, payload, fin, rsv1)


@compiled_only
def test_a_frame_of_plain_audio_never_reaches_python(monkeypatch):
    side = Side("rtmed", quick=True)
    now_ns = transport.monotonic_ns()
    payload = on_the_wire(side, sound(side, "hiss", 320))
    side.message(payload, True, now_ns)
    side.message(payload, True, now_ns)
    line = Listening(side.inlet)
    line.on_ws_frame("transport", frame_of(payload))
    assert not line.others
    assert side.recorder.frames_received == 3
    assert side.ear.heard_ns == 3 * FRAME_NS
    for frame in (
        frame_of(payload, fin=False),
        frame_of(payload, rsv1=True),
        frame_of(payload, picows.WSMsgType.BINARY),
        frame_of(payload, picows.WSMsgType.CONTINUATION),
        frame_of(payload, picows.WSMsgType.PONG),
    ):
        line.on_ws_frame("transport", frame)
    line.inlet = None
    line.on_ws_frame("transport", frame_of(payload))
    assert line.others == [("transport", payload)] * 6
    assert side.recorder.frames_received == 3


@compiled_only
def test_frames_of_another_layout_all_go_to_python():
    def method(self, transport, frame):
        pass

    known = transport._FRAMES
    assert inlets.plain_audio_first(method, *known) is not method
    assert inlets.plain_audio_first(method) is method
    (frame, payload, text, fin), other = known
    for wrong in ((object(), payload, text, fin), (frame, b"others", text, fin), (frame, payload, not text, fin),
                  (frame, payload, text, not fin), (frame, payload + b"x", text, fin)):  # fmt: skip
        assert inlets.plain_audio_first(method, other, wrong) is method


def test_the_line_of_a_call_takes_frames_in_c_where_it_can():
    native = type(transport.SocketLine.__dict__["on_ws_frame"]).__name__ == "FrameMethod"
    assert native == inlets.COMPILED
    assert inlets.COMPILED or os.environ.get("VOXLOAD_PURE_PYTHON") or not list_of_modules()


def list_of_modules():
    """Return the compiled module, if it lies where it belongs."""
    from pathlib import Path

    return list(Path(inlets.__file__).parent.glob("_inlet.*.so"))


# --- what counts ---


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("wait_ms", [20, 1])
def test_a_packet_counts_whether_it_came_in_a_burst_or_not(quick, wait_ms):
    side = Side("rtmed", quick=quick)
    for number in range(100):
        payload = on_the_wire(side, sound(side, "speech" if number % 4 else "clipped", 320, number))
        side.message(payload, True, START_NS + number * wait_ms * NS_PER_MS)
    assert (side.meter._packets, side.meter._clipped) == (100, 25)
    assert (side.meter._late.frames, side.meter._late.late) == (100, 0)


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize(("evenly_ms", "gaps"), [(0, 0), (1_000, 49)])
def test_a_burst_says_nothing_of_jitter(quick, evenly_ms, gaps):
    """First a talk spurt in real time, then, after a pause, one that comes all at once."""
    side = Side("rtmed", quick=quick)
    payload = on_the_wire(side, sound(side, "speech", 320))
    now_ns = START_NS
    for _ in range(evenly_ms // 20):
        side.message(payload, True, now_ns)
        now_ns += FRAME_NS
    now_ns += 3 * NS_PER_S
    for _ in range(200):
        side.message(payload, True, now_ns)
        now_ns += NS_PER_MS // 2
    assert side.meter._jitter.pairs == gaps
    assert side.meter._jitter.jitter_ns == 0
    assert side.meter._late.late == 0
    recorder = Recorder()
    assert (side.meter.finish(recorder, ())["jitter_ms"] is None) is (gaps == 0)
    assert ("jitter" in {series.metric for series in recorder.take(0, 0, 0.0, 0.0).series}) is (gaps > 0)
