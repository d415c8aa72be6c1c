"""Pieces of the hot path as work that is the same each time: what the micro-benchmarks time and `bench-check` counts.

A workload is made once by its factory and is then a function of how often: `run(n)` does the work of n frames. Nothing
in it waits, reads a clock that runs, or draws a chance without a seed.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import picows
import uvloop
from picows import WSFrame, WSMsgType, WSTransport, WSUpgradeRequest

from benchmarks.speech import UNIX_NS, agent_frame, tone
from voxload.audio.playout import Ear
from voxload.clock import NS_PER_MS, NS_PER_S, monotonic_ns
from voxload.dialects.base import AudioFormat, AudioIn, CallIdentity, Dial, HttpRequest, Signal
from voxload.dialects.registry import build_dialect
from voxload.engine.call import Call
from voxload.engine.hearing import HearingMeter
from voxload.engine.mouth import FrameMouth, new_ledger, new_mouth
from voxload.engine.network import Network
from voxload.engine.receiver import native_receiver
from voxload.engine.transport import SocketLine
from voxload.inlet import AudioForm, Inlet
from voxload.measure.histogram import Histogram
from voxload.measure.recorder import Recorder
from voxload.model.plan import Plan
from voxload.testing.virtual import VirtualWorld
from voxload.wheel import SLOT_NS, Wheel

Run = Callable[[int], None]
FRAME_NS = 20 * NS_PER_MS
WHEEL_CALLS = 500
CALLS = 50
VALUES = tuple((n * 7919 % 5000) * 1000 + 17 for n in range(4096))
"""Latenesses up to 5 ms."""


def wheel() -> Run:
    """One deadline of 500 periodic ones."""
    turning = Wheel(0)
    for number in range(WHEEL_CALLS):
        turning.at(FRAME_NS + FRAME_NS * number // WHEEL_CALLS, lambda due_ns: due_ns + FRAME_NS)
    state = [0]

    def run(times: int) -> None:
        end_ns = state[0] + times * FRAME_NS // WHEEL_CALLS
        for now_ns in range(state[0], end_ns, SLOT_NS):
            turning.advance(now_ns)
        state[0] = end_ns

    return run


def histogram() -> Run:
    """One value recorded alone, as latencies are."""
    record = Histogram().record

    def run(times: int) -> None:
        for n in range(times):
            record(VALUES[n & 4095])

    return run


def histogram_bulk() -> Run:
    """One of a second's worth of values recorded together, as the latenesses of frames are without the parts in C."""
    kept, values = Histogram(), np.array(VALUES, dtype=np.int64)

    def run(times: int) -> None:
        for _ in range(times // len(VALUES)):
            kept.record_all(values)
        kept.record_all(values[: times % len(VALUES)])

    return run


def stamp(dialect_name: str) -> Run:
    """One frame of the caller made ready to send; a new millisecond every 50 frames, as 2,500 frames a second have."""
    dialect = build_dialect(dialect_name, "http://agent.example", {})
    form = dialect.caller_format
    prepared = dialect.prepare_caller([bytes(form.frame_bytes)])[0]
    session = dialect.caller(CallIdentity(0, "bench"))
    write = session.splice or session.stamp

    def run(times: int) -> None:
        for n in range(times):
            write(prepared, n, UNIX_NS + n // 50 * NS_PER_MS)

    return run


def decode(dialect_name: str) -> Run:
    """One frame of the agent understood by the caller's side."""
    dialect = build_dialect(dialect_name, "http://agent.example", {})
    payload = agent_frame(dialect_name)
    understand, text = dialect.caller(CallIdentity(0, "bench")).decode, dialect.agent_audio_is_text

    def run(times: int) -> None:
        for _ in range(times):
            understand(payload, text)

    return run


def listening(form: AudioFormat, recorder: Recorder, known: AudioForm | None) -> tuple[Ear, HearingMeter, Inlet]:
    """Return what a call hears with, ready; `known`: how plain audio messages look, if they are taken as such."""
    hears = Ear(form.sample_rate_hz, form.encoding, 60 * NS_PER_MS)
    meter, inlet = HearingMeter(hears, form, 60 * NS_PER_MS), Inlet(recorder, 1 << 40)
    meter.open(inlet, known)
    return hears, meter, inlet


def ear() -> Run:
    """One frame of speech heard: playout, speech detector, jitter, late frames, clipping; as a call has it done."""
    form = build_dialect("rtmed", "http://agent.example", {}).agent_format
    hears, meter, inlet = listening(form, Recorder(), None)
    audio, state = tone(form.sample_rate_hz, form.frame_samples), [NS_PER_S]

    def run(times: int) -> None:
        now_ns = state[0]
        for _ in range(times):
            if not inlet.hear(audio, now_ns):
                before_ns = hears.heard_ns
                hears.hear(audio, now_ns)
                meter.heard(audio, before_ns, now_ns)
            now_ns += FRAME_NS
        state[0] = now_ns

    return run


def message(dialect_name: str) -> Run:
    """One frame of the agent on the wire understood and heard by a call that is up: all but the socket."""
    dialect = build_dialect(dialect_name, "http://agent.example", {})
    session, recorder = dialect.caller(CallIdentity(0, "bench")), Recorder()
    hears, meter, inlet = listening(dialect.agent_format, recorder, session.audio_form)
    payload, text, state = agent_frame(dialect_name), dialect.agent_audio_is_text, [NS_PER_S]

    def run(times: int) -> None:
        now_ns = state[0]
        for _ in range(times):
            if not inlet.message(payload, text, now_ns):
                inlet.flooded(len(payload), now_ns)
                for event in session.decode(payload, text):
                    recorder.frames_received += 1
                    before_ns = hears.heard_ns
                    hears.hear(cast("AudioIn", event).audio, now_ns)
                    meter.heard(cast("AudioIn", event).audio, before_ns, now_ns)
            now_ns += FRAME_NS
        state[0] = now_ns

    return run


class _Quiet:
    """A line whose target answers at once, takes everything, and says nothing."""

    def __init__(self, call: Call, world: OneSided) -> None:
        self._call, self._world = call, world

    def request(self, request: HttpRequest) -> None:
        response = self._world.answer(request)
        self._later(lambda: self._call.on_response(response, self._world.clock()))

    def dial(self, dial: Dial) -> None:
        self._later(lambda: self._call.on_connected(self._world.clock()))

    def _later(self, work: Callable[[], None]) -> None:
        self._world.wheel.at(self._world.clock(), lambda _: work() or 0)

    def send(self, payload: bytes, text: bool) -> bool:
        return True

    def lend(self, mouth: FrameMouth) -> None:
        pass

    def ping(self, payload: bytes) -> None:
        self._call.on_pong(payload, self._world.clock())

    def signal(self, payload: bytes) -> None:
        raise AssertionError(payload)

    def side_request(self, request: HttpRequest, answered: Callable[[str, int], None]) -> None:
        raise AssertionError(request, answered)

    def release(self, signals: Sequence[Signal]) -> None:
        pass

    def close(self) -> None:
        pass

    def abort(self) -> None:
        pass


class OneSided(VirtualWorld):
    """The callers alone: `CALLS` calls that listen, on the virtual clock."""

    def __init__(self) -> None:
        super().__init__(
            Plan("bench", {
                "name": "bench", "target": "http://agent.example",
                "dialect": {"name": "rtmed", "message_rate": 50},
                "load": {"shape": "concurrency", "concurrency": CALLS, "ramp_up": 1, "duration": "20h"},
                "calls": [{"name": "listener", "script": [{"listen": "10h"}]}],
            }, "http://agent.example")
        )  # fmt: skip
        self.calls: list[Call] = []
        self.placer.begin(self.clock())
        self.turn(2 * NS_PER_S)
        assert self.placer.active == CALLS

    def _connect(self, call: Call) -> Any:
        self.calls.append(call)
        return _Quiet(call, self)

    def turn(self, for_ns: int) -> None:
        """Let time pass."""
        end_ns = self.clock() + for_ns
        while (due_ns := self.wheel.next_due_ns()) is not None and due_ns <= end_ns:
            self.clock.now_ns = due_ns
            self.wheel.advance(due_ns)
        self.clock.now_ns = end_ns
        self.told = self.recorder.take(end_ns, self.placer.active, 0.0, 0.0, False)


def caller_up() -> Run:
    """One frame sent by a whole call, but for the socket: wheel, script, speaker, stamp, counters, a report."""
    world = OneSided()

    def run(times: int) -> None:
        for _ in range(max(times // CALLS, 1)):
            world.turn(FRAME_NS)

    return run


def caller_duplex() -> Run:
    """As `caller_up`, and for each frame one of agent speech decoded and heard."""
    world, payload = OneSided(), agent_frame("rtmed")

    def run(times: int) -> None:
        for _ in range(max(times // CALLS, 1)):
            world.turn(FRAME_NS)
            for call in world.calls:
                call.on_message(payload, True, world.clock())

    return run


def virtual_call() -> Run:
    """One call of two turns, its caller and its agent on the virtual clock, from the arrival to its record."""

    def run(times: int) -> None:
        plan = Plan("bench", {
            "name": "bench", "target": "twin",
            "load": {"shape": "constant", "arrival_rate": 1, "duration": f"{times}s"},
            "calls": [{"name": "c", "script": ["wait_for_agent", {"say": "book_appointment"}, "wait_for_agent",
                                               {"think": "1s"}]}],
            "twin": {"latency": {"turn": "500ms"}, "reply_seconds_max": 1.5},
        }, "http://agent.example")  # fmt: skip
        VirtualWorld(plan).run(3600)

    return run


def mouth() -> Run:
    """One frame stamped, masked and written to a socket by the caller's mouth, in C where that was compiled."""
    dialect = build_dialect("rtmed", "http://agent.example", {"message_rate": 50})
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setblocking(False)
    prepared = dialect.prepare_caller([bytes(dialect.caller_format.frame_bytes)])[0]

    def send(payload: bytes, _text: bool) -> bool:
        return ours.send(payload) == len(payload)

    session = dialect.caller(CallIdentity(0, "bench"))
    words = (new_ledger(monotonic_ns), session.splice or session.stamp, send)
    speaks = new_mouth(*words, lambda *_: None, (prepared,), FRAME_NS, UNIX_NS, True, monotonic_ns)
    if hasattr(speaks, "attach"):
        speaks.attach(ours.fileno(), lambda _rest: None)

    def run(times: int) -> None:
        due_ns = monotonic_ns()
        for n in range(times):
            speaks(due_ns)
            if n & 15 == 15:  # before the socket is full
                theirs.recv(65536)
        while select.select([theirs], [], [], 0)[0]:
            theirs.recv(65536)

    return run


def heard_from_socket() -> Run:
    """One frame of the agent read from a socket, understood and heard, all in C; the kernel's work is not in it."""
    dialect = build_dialect("rtmed", "http://agent.example", {"message_rate": 50})
    session = dialect.caller(CallIdentity(0, "bench"))
    hears, meter, inlet = listening(dialect.agent_format, Recorder(), session.audio_form)
    payload = agent_frame("rtmed")
    frame = b"\x81\x7e" + len(payload).to_bytes(2, "big") + payload
    ours, theirs = socket.socketpair()
    ours.setblocking(False)

    class Reader:
        def received(self, data: bytes, _over: bool) -> None:
            now_ns, before_ns = monotonic_ns(), hears.heard_ns
            audio = cast("AudioIn", next(iter(session.decode(data[4:], True)))).audio
            hears.hear(audio, now_ns)
            meter.heard(audio, before_ns, now_ns)

    receiver, reader = native_receiver(), Reader()
    receiver.attach(ours.fileno(), inlet, reader)

    def run(times: int) -> None:
        for _ in range(times // 16):
            theirs.sendall(16 * frame)
            receiver()
        assert ours.fileno() >= 0

    return run


class _Counting:
    """What a line tells of, counted."""

    def __init__(self) -> None:
        self.heard, self.back = 0, asyncio.Event()
        self.wanted = 0
        self.inlet = None
        self.spec = type("Spec", (), {"index": 0})()

    def on_connected(self, now_ns: int) -> None:
        self.back.set()

    def on_message(self, payload: bytes, text: bool, now_ns: int) -> None:
        self.heard += 1
        if self.heard == self.wanted:
            self.back.set()

    def on_failed(self, outcome: Any, reason: str, now_ns: int) -> None:
        raise AssertionError(outcome, reason)

    def on_closed(self, *_: object) -> None:
        pass


class _Echo(picows.WSListener):
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            transport.send(WSMsgType.TEXT, frame.get_payload_as_bytes())


def socket_echo() -> Run:
    """One frame out and back over a real socket of the loopback interface, by the engine's own line, in one thread."""
    loop = uvloop.new_event_loop()
    payload = agent_frame("rtmed")
    counting = _Counting()

    async def connect() -> tuple[SocketLine, Any]:
        def listener(_request: WSUpgradeRequest) -> Any:
            return _Echo()

        server = await picows.ws_create_server(listener, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        unused = cast("Any", None)
        timeouts = type("Timeouts", (), {"setup_ns": 5 * NS_PER_S})()
        web = type("Web", (), {"tls_for": lambda *_: None, "socket_factory": lambda *_: None})()
        line = SocketLine(cast("Call", counting), Network(web, lambda: 0, timeouts, {}, unused))
        line.dial(Dial(f"ws://127.0.0.1:{port}/"))
        await counting.back.wait()
        return line, server

    line, server = loop.run_until_complete(connect())

    async def echo(times: int) -> None:
        for _ in range(times):
            counting.wanted = counting.heard + 1
            counting.back.clear()
            line.send(payload, True)
            await counting.back.wait()

    def run(times: int) -> None:
        assert server.is_serving()
        loop.run_until_complete(echo(times))

    return run


WORKLOADS: dict[str, tuple[Callable[[], Run], int]] = {
    "wheel, one deadline": (wheel, 5_000),
    "histogram, one value": (histogram, 5_000),
    "histogram, one value of a second's": (histogram_bulk, 8_192),
    **{f"stamp {name}": ((lambda name=name: stamp(name)), 2_000) for name in ("rtmed", "acs_media")},
    **{
        f"decode {name}": ((lambda name=name: decode(name)), 1_000)
        for name in ("rtmed", "acs_media", "twilio", "openai_realtime")
    },
    "ear and meters": (ear, 1_000),
    **{f"decode and hear {name}": ((lambda name=name: message(name)), 1_000) for name in ("rtmed", "acs_media")},
    "caller up, but for the socket": (caller_up, 2_000),
    "caller duplex, but for the socket": (caller_duplex, 1_000),
    "whole call, both sides": (virtual_call, 4),
    "mouth, one frame to a socket": (mouth, 1_000),
    "socket, out and back": (socket_echo, 500),
    **({"socket, one frame heard": (heard_from_socket, 1_600)} if native_receiver else {}),
}
"""By name: the factory, and how many frames make a fair sample."""
