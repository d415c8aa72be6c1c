"""A call whose socket is read in C is told the same as one whose socket the event loop reads, however it ends."""

import asyncio
import base64
import errno
import hashlib

import pytest
import uvloop
from test_inlet import Side
from test_receiver import BINARY, CLOSE, CONTINUATION, PING, PONG, audio_message, frame

from voxload.clock import monotonic_ns
from voxload.dialects.base import Dial
from voxload.engine.network import Network
from voxload.engine.receiver import native_receiver, open_receiver
from voxload.engine.transport import SocketLine
from voxload.model.outcome import Outcome

pytestmark = pytest.mark.skipif(native_receiver is None, reason="the receiver was not compiled")


class Call:
    """What a line tells of, written down."""

    def __init__(self, side):
        self.inlet, self.side = side.inlet, side
        self.spec = type("Spec", (), {"index": 0})()
        self.told, self.messages, self.line = [], [], None
        self.connected, self.closed, self.on_text = asyncio.Event(), asyncio.Event(), None

    def on_connected(self, now_ns):
        self.connected.set()

    def on_message(self, payload, text, now_ns):
        if self.side.message(payload, text, now_ns) or b"agent_response" in payload:
            return  # who hears audio, C or Python, is a question of when it comes
        self.messages.append(payload)
        if self.on_text:
            self.on_text(payload)

    def on_pong(self, payload, now_ns):
        self.messages.append(b"pong " + payload)

    def on_failed(self, outcome, reason, now_ns):
        self.told.append((outcome, reason))

    def on_closed(self, outcome, reason, now_ns, orderly=False):
        self.told.append((outcome, reason, orderly))
        self.closed.set()


class Server:
    """A bare server of one WebSocket; `early` leaves in one piece with its answer."""

    def __init__(self, early=b""):
        self.early, self.came = early, asyncio.Event()
        self.reader = self.writer = None

    async def start(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"ws://127.0.0.1:{self.server.sockets[0].getsockname()[1]}/"

    async def _serve(self, reader, writer):
        request = await reader.readuntil(b"\r\n\r\n")
        key = next(
            line.split(b": ")[1] for line in request.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key")
        )
        accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        answer = (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        )
        writer.write(answer + accept + b"\r\n\r\n" + self.early)
        self.reader, self.writer = reader, writer
        self.came.set()


async def turn(times=20):
    for _ in range(times):
        await asyncio.sleep(0.002)


async def up(receiver, early=b""):
    """Return a server, the call that is up with it, and its line."""
    server = Server(early)
    url = await server.start()
    call = Call(Side("rtmed", quick=True))
    web = type("Web", (), {"tls_for": lambda *_: None, "socket_factory": lambda *_: None})()
    timeouts = type("Timeouts", (), {"setup_ns": 5_000_000_000})()
    line = call.line = SocketLine(call, Network(web, monotonic_ns, timeouts, {}, receiver=receiver))
    line.dial(Dial(url))
    await asyncio.wait_for(call.connected.wait(), 5)
    await asyncio.wait_for(server.came.wait(), 5)
    await turn()
    return server, call, line


def play(scene, early=b""):
    """Run a scene with the receiver, and without it; returns what the calls were told in each."""

    async def once(with_receiver):
        with open_receiver() as receiver:
            server, call, line = await up(receiver if with_receiver else None, early)
            await scene(server, call, line)
            server.writer.close()
            await asyncio.wait_for(call.closed.wait(), 5)
            server.server.close()
            return call

    return uvloop.run(once(True)), uvloop.run(once(False))


def reads(line):
    """Whether the receiver reads the socket."""
    return line._reading is not None and line._reading._fd >= 0


AUDIO = [frame(audio_message("hiss", 320, n)) for n in range(10)]


def test_a_defect_of_ours_in_taking_a_pong_ends_that_call_alone():
    async def scene(server, call, line):
        def broken(payload, now_ns):
            raise ValueError("broken")

        call.on_pong = broken
        server.writer.write(frame(b"x", PONG))
        await turn()

    quick, slow = play(scene)
    assert quick.told[0] == slow.told[0] == (Outcome.INTERNAL_ERROR, "ValueError('broken')")


def test_a_call_hears_and_is_told_the_same_with_a_receiver():
    seen = []

    async def scene(server, call, line):
        seen.append(reads(line))
        server.writer.write(b"".join(AUDIO[:5]))
        await turn()
        server.writer.write(frame(b"ping me", PING) + frame(b"half a mes", fin=False) + AUDIO[5][:700])
        await turn()
        server.writer.write(AUDIO[5][700:] + frame(b"sage", CONTINUATION) + frame(b"bytes", BINARY) + frame(b"x", PONG))
        await turn()
        assert b"ping me" not in call.messages
        server.writer.write(frame((1000).to_bytes(2, "big") + b"bye", CLOSE) + frame(b"after the end"))
        await turn()
        sent = await asyncio.wait_for(server.reader.read(1000), 5)
        assert sent[0] == 0x80 | PONG
        assert sent[13] == 0x80 | CLOSE

    quick, slow = play(scene)
    assert seen == [True, False]
    assert quick.messages == slow.messages
    assert quick.side.recorder.frames_received == slow.side.recorder.frames_received
    assert quick.messages[-4:] == [b"half a message", b"bytes", b"pong x", b"after the end"]
    assert quick.side.recorder.frames_received == 6
    assert quick.told == slow.told
    assert quick.told == [(Outcome.DROPPED_BY_TARGET, "closed by the target with code 1000 (bye)", True)]


HUGE = frame(b"x" * 20_000)


@pytest.mark.parametrize(
    ("stream", "early", "taken_over"),
    [
        (AUDIO[0] + AUDIO[1], len(AUDIO[0]), "at once"),
        (b"".join(AUDIO[:5]), len(AUDIO[0]) * 3, "at once"),
        (b"".join(AUDIO[:8]), len(AUDIO[0]) * 6, "at once"),  # as soon as all of it is read
        (AUDIO[0] + AUDIO[1], len(AUDIO[0]) + 300, "later"),
        (AUDIO[0] + AUDIO[1], 1, "later"),
        (HUGE, 3_000, "never"),
        (HUGE, 9_000, "never"),
    ],
)
def test_what_comes_with_the_answer_is_lost_in_neither_case(stream, early, taken_over):
    seen = []

    async def scene(server, call, line):
        seen.append(reads(line))
        server.writer.write(stream[early:] + frame(b"last"))
        await turn(50)
        seen.append(reads(line))

    quick, slow = play(scene, stream[:early])
    assert seen == [
        *{"at once": (True, True), "later": (False, True), "never": (False, False)}[taken_over],
        False,
        False,
    ]
    assert quick.messages == slow.messages
    assert quick.side.recorder.frames_received == slow.side.recorder.frames_received
    assert quick.messages[-1] == b"last"
    assert quick.told == slow.told == [(Outcome.DROPPED_BY_TARGET, "connection lost", False)]


@pytest.mark.parametrize(
    "wrong", [frame(b"x", 3), frame(b"x", key=b"1234"), frame(b"x", wide=2), frame(b"x", PING, False)]
)
def test_a_broken_protocol_is_told_by_picows(wrong):
    async def scene(server, call, line):
        server.writer.write(AUDIO[0] + wrong + AUDIO[1])
        await turn()

    quick, slow = play(scene)
    assert quick.told == slow.told
    assert quick.told[0][0] is Outcome.PROTOCOL_ERROR


@pytest.mark.parametrize("way", ["close", "abort"])
def test_a_call_that_ends_itself_in_the_middle_of_what_was_read(way):
    async def scene(server, call, line):
        call.on_text = lambda payload: payload == b"end" and getattr(line, way)()
        server.writer.write(AUDIO[0] + frame(b"end") + frame(b"after"))
        await turn()
        assert not reads(line)
        server.writer.write(frame(b"later") + frame((1000).to_bytes(2, "big"), CLOSE))
        await turn()

    quick, slow = play(scene)
    assert quick.messages == slow.messages
    assert quick.side.recorder.frames_received == slow.side.recorder.frames_received
    assert quick.told == slow.told


def test_a_large_message_and_what_follows_go_through_the_event_loop():
    async def scene(server, call, line):
        before = reads(line)
        server.writer.write(frame(b"x" * 200_000) + AUDIO[0] + AUDIO[1])
        await turn(50)
        assert not reads(line)
        assert before == (line._reading is not None)

    quick, slow = play(scene)
    assert quick.messages == slow.messages
    assert quick.side.recorder.frames_received == slow.side.recorder.frames_received
    assert len(quick.messages[0]) == 200_000


def test_a_target_that_goes_without_a_word():
    async def scene(server, call, line):
        server.writer.write(AUDIO[0] + AUDIO[1][:100])
        await turn()
        server.writer.transport.abort()

    quick, slow = play(scene)
    assert quick.told == slow.told == [(Outcome.DROPPED_BY_TARGET, "connection lost", False)]


def test_a_socket_that_the_kernel_watches_for_no_receiver_stays_with_the_event_loop():
    class Full:
        def attach(self, *_):
            raise OSError(errno.ENOSPC, "max_user_watches")

    async def scene():
        server, call, line = await up(Full())
        assert not reads(line)
        server.writer.write(AUDIO[0] + frame(b"heard"))
        await turn()
        assert call.messages == [b"heard"]
        line.close()
        server.writer.close()
        await asyncio.wait_for(call.closed.wait(), 5)
        server.server.close()

    uvloop.run(scene())


def test_a_call_over_tls_or_on_another_clock_is_read_by_the_event_loop():
    class Transport:
        is_secure, underlying_transport = True, None
        send = disconnect = lambda *_: None

    async def scene():
        with open_receiver() as receiver:
            call = Call(Side("rtmed", quick=True))
            for clock in (monotonic_ns, lambda: 0):
                line = SocketLine(call, Network(None, clock, None, {}, receiver=receiver))
                line.on_ws_connected(Transport())
                assert line._reading is None
                Transport.is_secure = False

    uvloop.run(scene())
