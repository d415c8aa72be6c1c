"""A virtual bench for the agent: one clock, one wheel, and a caller that sends real rtmed messages."""

import base64
import json

import numpy as np

from voxload.audio.codec import encode_audio
from voxload.dialects.base import HttpResponse
from voxload.dialects.rtmed import RtmedDialect, RtmedOptions
from voxload.model.twin import TwinSettings
from voxload.twin.agent import Agent
from voxload.twin.desk import Desk
from voxload.twin.exchange import Exchange
from voxload.twin.record import CallRecord
from voxload.twin.speaking import PreparedReply
from voxload.wheel import Wheel

MS = 1_000_000
S = 1_000_000_000
RATE_HZ = 16_000
START_NS = 5_000 * S


def voice(length_ms, amplitude=8000, rate_hz=RATE_HZ):
    """A tone that is active from its first to its last sample."""
    count = rate_hz * length_ms // 1000
    samples = np.rint(amplitude * np.cos(2 * np.pi * 500 * np.arange(count) / rate_hz)).astype(np.int16)
    samples[-1] = amplitude
    return samples


def silence(length_ms, rate_hz=RATE_HZ):
    return np.zeros(rate_hz * length_ms // 1000, dtype=np.int16)


class ToneRepertoire:
    """A greeting of 400 ms and replies of 1 s, for two intents."""

    def __init__(self, dialect):
        form = dialect.agent_format
        pcm = encode_audio(voice(1000), "pcm16")
        frames = [pcm[at : at + form.frame_bytes] for at in range(0, len(pcm), form.frame_bytes)]
        payloads = tuple(dialect.prepare_agent(frames))
        frame_ns = form.frame_ms * MS
        self.greeting = PreparedReply("hello", payloads[:20], frame_ns, tuple(frames[:20]))
        self.generic = PreparedReply("whatever you like", payloads, frame_ns, tuple(frames))
        self.known = {}
        self.exchanges = tuple(
            Exchange(f"about {intent}", intent, PreparedReply(f"answer to {intent}", payloads, frame_ns, tuple(frames)))
            for intent in ("refill", "appointment")
        )


class Bench:
    def __init__(self, settings=None, message_rate=50, dialect=None):
        self.now_ns = START_NS
        self.wheel = Wheel(self.now_ns)
        self.dialect = dialect or RtmedDialect("http://twin", RtmedOptions(message_rate=message_rate))
        self.settings = TwinSettings.model_validate(settings or {})
        self.desk = Desk(
            self.settings, self.dialect, ToneRepertoire(self.dialect), self.wheel, self.clock, 10**18, self.stall
        )
        self.calls = []

    def clock(self):
        return self.now_ns

    def stall(self, for_ns):
        self.now_ns += for_ns

    def run(self, for_ms):
        """Advance the clock in steps of 0.25 ms, so that the slots of the wheel are met with their own resolution."""
        end_ns = self.now_ns + round(for_ms * MS)
        while self.now_ns < end_ns:
            self.now_ns = min(self.now_ns + MS // 4, end_ns)
            self.wheel.advance(self.now_ns)

    def call(self, number="1"):
        admitted = self.desk.admit({"caller_number": number})
        if isinstance(admitted, HttpResponse):
            return admitted
        return VirtualCall(self, admitted)


class VirtualCall:
    def __init__(self, bench, call_id):
        self.bench = bench
        self.sent = []  # (ns, decoded message)
        self.closed = None
        record = bench.desk.connect(call_id)
        assert isinstance(record, CallRecord)
        self.record = record
        self.agent = Agent(bench.desk, record, bench.dialect.agent(call_id), self.on_send, self.on_close)
        self.agent.on_connected(bench.now_ns)
        self.start_ns = bench.now_ns

    def on_send(self, payload, text):
        self.sent.append((self.bench.now_ns, payload))

    def on_close(self, code):
        self.closed = code
        self.agent.on_closed("completed")

    def message(self, **fields):
        self.agent.on_message(json.dumps(fields).encode(), True, self.bench.now_ns)

    def send_audio(self, samples):
        encoded = base64.b64encode(encode_audio(samples, "pcm16")).decode()
        self.agent.on_message(
            f'{{"type":"audio_chunk","data":"{encoded}","timestamp":1.0}}'.encode(), True, self.bench.now_ns
        )

    def speak(self, samples, frame_ms=20):
        """Send samples frame by frame, each when it is complete."""
        size = RATE_HZ * frame_ms // 1000
        padded = np.concatenate([samples, np.zeros(-len(samples) % size, dtype=np.int16)])
        for at in range(0, len(padded), size):
            self.bench.run(frame_ms)
            self.send_audio(padded[at : at + size])

    def turn(self, length_ms=600, frame_ms=20):
        """Say something, end it by message, and return u_off in ns."""
        begin_ns = self.bench.now_ns
        self.speak(voice(length_ms), frame_ms)
        self.message(type="end_speech")
        return begin_ns + length_ms * MS

    def messages(self, kind=None, since_ns=0):
        found = []
        for at_ns, payload in self.sent:
            try:
                message = json.loads(payload)
            except ValueError:
                message = {"type": "garbage"}
            if at_ns >= since_ns and (kind is None or message["type"] == kind):
                found.append((at_ns, message))
        return found

    def frames(self, since_ns=0):
        return [at_ns for at_ns, message in self.messages("agent_response", since_ns) if "audio" in message]
