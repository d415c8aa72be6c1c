"""Sockets read in C: each frame reaches the inlet or Python, whole, in order and once."""

import gc
import itertools
import os
import select
import socket
import struct
import weakref

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_inlet import Side, on_the_wire, sound

from voxload.clock import monotonic_ns
from voxload.engine.receiver import buffer_size, native_receiver

pytestmark = pytest.mark.skipif(native_receiver is None, reason="the receiver was not compiled")
BUFFER_BYTES = 64 * 1024
TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10


def frame(payload, kind=TEXT, fin=True, key=b"", wide=0):
    """Return a frame of a server; `wide`: its length is written in so many bytes, whether needed or not."""
    size, first = len(payload), bytes([kind | (0x80 if fin else 0)])
    masked = 0x80 if key else 0
    wide = wide or (0 if size < 126 else 2 if size < 65_536 else 8)
    head = bytes([masked | {0: size, 2: 126, 8: 127}[wide]]) + (size.to_bytes(wide, "big") if wide else b"")
    return first + head + key + payload


class Taken:
    """A reader that writes down what Python is given, and has texts heard in Python."""

    def __init__(self, side=None):
        self.given, self.over, self.on_data, self.side = [], False, None, side
        self.pongs = 0

    def ponged(self, payload, now_ns):
        assert 0 <= monotonic_ns() - now_ns < 10_000_000_000
        self.pongs += 1
        self.given.append(frame(payload, PONG))

    def received(self, data, over):
        self.given.append(data)
        self.over = self.over or over
        if self.side and data[:1] == b"\x81" and data[1] < 128:
            self.side.message(data[4 if data[1] == 126 else 2 :], True, monotonic_ns())
        if self.on_data:
            self.on_data(data)


class Wire:
    """A socket that a receiver reads, and its other end."""

    def __init__(self, receiver=None):
        self.receiver = receiver or native_receiver()
        self.here, self.there = socket.socketpair()
        self.here.setblocking(False)
        self.side = Side("rtmed", quick=True)
        self.reader = Taken(self.side)
        self.receiver.attach(self.here.fileno(), self.side.inlet, self.reader)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.here.close()
        self.there.close()

    def send(self, data):
        self.there.sendall(data)
        self.receiver()


def audio_message(level="hiss", samples=320, seed=1):
    return on_the_wire(Side("rtmed", quick=False), sound(Side("rtmed", quick=False), level, samples, seed))


KINDS = st.one_of(
    st.tuples(st.just("audio"), st.sampled_from(["hiss", "speech", "clipped"]), st.integers(1, 4)),
    st.tuples(st.just("other"), st.sampled_from([TEXT, BINARY, CONTINUATION, PING, PONG]), st.integers(0, 300)),
    st.tuples(st.just("part"), st.sampled_from([TEXT, BINARY]), st.integers(0, 300)),
    st.tuples(st.just("masked"), st.just(TEXT), st.integers(0, 300)),
    st.tuples(st.just("wide"), st.sampled_from([2, 8]), st.integers(0, 125)),
)


def bytes_of(number, kind, which, size):
    """Return a frame, and whether the inlet may take it."""
    if kind == "audio":
        return frame(audio_message(which, 160 * size, number)), True
    payload = bytes([97 + number % 26]) * size
    if kind == "masked":
        return frame(audio_message(), key=b"\0\0\0\0"), False
    if kind == "wide":
        return frame(payload, wide=which), False
    return frame(payload, which, fin=kind == "other"), False


@settings(max_examples=60, deadline=None)
@given(st.lists(KINDS, min_size=1, max_size=25), st.data())
@example([("audio", "hiss", 1)] * 3 + [("other", PING, 5)] + [("audio", "hiss", 1)] * 3, None)
def test_every_frame_reaches_the_inlet_or_python_however_the_stream_is_cut(kinds, data):
    frames = [bytes_of(number, *kind) for number, kind in enumerate(kinds)]
    stream = b"".join(each for each, _ in frames)
    cuts = [] if data is None else data.draw(st.lists(st.integers(0, len(stream)), max_size=12))
    edges = [0, *sorted(cuts), len(stream)]
    with Wire() as wire:
        for start, end in itertools.pairwise(edges):
            if start < end:
                wire.send(stream[start:end])
        given = wire.reader.given
        assert given == [each for each, plain in frames if not plain or each in given]  # in order, whole, once
        audio = [each for each, plain in frames if plain]
        assert wire.side.recorder.frames_received == len(audio)
        if not any(kind[0] == "audio" and kind[1] != "hiss" for kind in kinds):  # else speech begins and ends in Python
            assert sum(each in given for each in audio) <= 1
        assert not wire.reader.over
        assert wire.receiver.detach(wire.here.fileno(), wire.reader) == b""


def test_what_a_pong_carries_is_told_and_a_wrong_one_goes_on_as_it_is():
    right = [frame(b"", PONG), frame(b"8 bytes!", PONG), frame(bytes(125), PONG)]
    wrong = [
        frame(b"8 bytes!", PONG, fin=False),
        frame(b"8 bytes!", PONG, key=bytes(4)),
        frame(b"8 bytes!", PONG, wide=2),
        frame(bytes(126), PONG),
    ]
    with Wire() as wire:
        wire.send(b"".join([*right, *wrong]))
        assert wire.reader.given == [*right, *wrong]
        assert wire.reader.pongs == len(right)


def test_plain_audio_is_heard_and_counted_without_python():
    payloads = [audio_message("hiss", 320, number) for number in range(20)]
    slow = Side("rtmed", quick=False)
    for payload in payloads:
        slow.message(payload, True, monotonic_ns())
    with Wire() as wire:
        for start in range(0, 20, 4):
            wire.send(b"".join(map(frame, payloads[start : start + 4])))
        assert wire.reader.given == [frame(payloads[0])]  # the first of a talk spurt is Python's
        assert wire.side.recorder.bytes_received == slow.recorder.bytes_received == sum(map(len, payloads))
        assert wire.side.recorder.frames_received == wire.side.meter._packets == 20
        assert wire.side.ear.heard_ns == slow.ear.heard_ns
        assert monotonic_ns() - wire.side.inlet.since_ns > 0


def test_a_frame_whose_rest_is_late_waits_and_is_handed_over_when_the_socket_is_left():
    with Wire() as wire:
        whole = frame(b"x" * 200)
        for byte in whole[:-1]:
            wire.send(bytes([byte]))
        assert not wire.reader.given
        assert wire.receiver.detach(wire.here.fileno(), wire.reader) == whole[:-1]
        assert wire.receiver.detach(wire.here.fileno(), wire.reader) == b""
        wire.send(whole[-1:])
        assert not wire.reader.given
        assert wire.here.recv(10) == whole[-1:]


def test_a_frame_as_large_as_the_buffer_is_read_and_a_larger_one_left_to_the_event_loop():
    with Wire() as wire:
        largest = frame(b"x" * (BUFFER_BYTES - 4))
        assert len(largest) == BUFFER_BYTES
        wire.send(frame(b"first") + largest[:60_000])
        wire.send(largest[60_000:] + frame(b"last"))
        wire.receiver()
        assert wire.reader.given == [frame(b"first"), largest, frame(b"last")]
        assert not wire.reader.over
        too_large = frame(b"x" * (BUFFER_BYTES - 3))
        wire.send(frame(b"before") + too_large[:50])
        assert wire.reader.given[3:] == [frame(b"before"), too_large[:50]]
        assert wire.reader.over
        wire.send(too_large[50:60])
        assert wire.here.recv(100) == too_large[50:60]


def test_what_comes_while_the_buffer_is_full_is_told_again():
    with Wire() as wire:
        stream = frame(b"x" * 500) * 300  # 151 kB
        wire.there.setblocking(False)
        sent = 0
        while sent < len(stream):
            try:
                sent += wire.there.send(stream[sent:])
            except BlockingIOError:
                wire.receiver()
        for _ in range(10):
            wire.receiver()
        assert wire.reader.given == [frame(b"x" * 500)] * 300


@pytest.mark.parametrize("how", ["end", "reset", "nobody writes any more"])
def test_the_event_loop_gets_the_socket_back_at_its_end_with_all_that_came(how):
    server = socket.create_server(("127.0.0.1", 0))
    here = socket.create_connection(server.getsockname())
    there, _ = server.accept()
    here.setblocking(False)
    receiver, reader, side = native_receiver(), Taken(), Side("rtmed", quick=True)
    receiver.attach(here.fileno(), side.inlet, reader)
    there.sendall(frame(b"one") + frame(b"two")[:2])
    wait_for(receiver)
    if how == "reset":
        there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    else:
        there.sendall(b"rest")
    if how == "nobody writes any more":
        there.shutdown(socket.SHUT_WR)
    else:
        there.close()
    wait_for(receiver)
    assert reader.over
    left = b""
    try:
        while more := here.recv(100):
            left += more
    except ConnectionResetError:
        assert how == "reset"
    whole = frame(b"one") + frame(b"two")[:2] + (b"" if how == "reset" else b"rest")
    assert b"".join(reader.given) + left == whole
    assert receiver.detach(here.fileno(), reader) == b""
    for each in (server, here, there):
        each.close()


def wait_for(receiver):
    assert select.select([receiver.fileno()], [], [], 5)[0]
    receiver()


def test_who_is_left_while_reading_gets_all_that_was_read_and_no_one_elses():
    receiver = native_receiver()
    with Wire(receiver) as one, Wire(receiver) as other:

        def leave(data):
            one.reader.on_data = None
            assert receiver.detach(one.here.fileno(), one.reader) == b""
            receiver.detach(other.here.fileno(), other.reader)

        one.reader.on_data = leave
        other.there.sendall(frame(b"of the other"))
        one.send(frame(b"a") + frame(b"b") + frame(b"c")[:3])
        assert one.reader.given == [frame(b"a"), frame(b"b") + frame(b"c")[:3]]
        assert not one.reader.over
        left = b"" if other.reader.given else other.here.recv(100)
        assert b"".join(other.reader.given) + left == frame(b"of the other")


def test_detach_of_a_number_that_another_one_has_got_changes_nothing():
    with Wire() as wire:
        assert wire.receiver.detach(wire.here.fileno(), object()) == b""
        assert wire.receiver.detach(100_000, wire.reader) == b""
        assert wire.receiver.detach(-1, wire.reader) == b""
        wire.send(frame(b"still read"))
        assert wire.reader.given == [frame(b"still read")]


def test_an_exception_of_python_is_told_and_the_other_sockets_are_read():
    receiver = native_receiver()
    with Wire(receiver) as one, Wire(receiver) as other:
        one.reader.on_data = lambda data: 1 / 0
        told = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.unraisablehook", lambda what: told.append(what.exc_type))
            other.there.sendall(frame(b"of the other"))
            one.send(frame(b"a") + frame(b"b"))
        assert told == [ZeroDivisionError] * 2
        assert other.reader.given == [frame(b"of the other")]


def test_it_refuses_what_it_cannot_read_and_frees_what_it_held():
    with Wire() as wire:
        receiver = wire.receiver
        with pytest.raises(TypeError):
            receiver.attach(wire.here.fileno(), object(), wire.reader)
        with pytest.raises(OSError, match="Bad file"):
            receiver.attach(9_999, wire.side.inlet, wire.reader)
        with pytest.raises(TypeError):
            receiver("more")
        wire.send(frame(b"begun")[:3])
        kept = weakref.ref(wire.reader)
        fd = os.dup(receiver.fileno())
        receiver.close()
        assert receiver.fileno() == -1
        receiver()
        with pytest.raises(ValueError, match="closed"):
            receiver.attach(wire.here.fileno(), wire.side.inlet, wire.reader)
        os.close(fd)
        wire.reader = None
        assert kept() is None


def test_a_circle_of_receiver_and_reader_is_collected():
    wire = Wire()
    wire.reader.receiver = wire.receiver
    kept = weakref.ref(wire.reader)
    wire.here.close()
    wire.there.close()
    del wire
    gc.collect()
    assert kept() is None


@pytest.mark.parametrize(
    "reads", [(100,), (3_456,), (3_457,), (3_800,), (3_000, 800), (3_840, 3_800), (3_840, 1, 3_000, 700)]
)
def test_the_size_of_picows_buffer_follows_from_what_was_read_into_it(reads):
    """As picows has it: after each read the buffer doubles if it is over 90 % full, or 256 bytes are left."""
    size, filled = 3_840, 0
    for read in reads:
        filled += read
        assert filled <= size
        if 100 * filled // size > 90 or size - filled <= 256:
            size *= 2
    assert buffer_size(filled) == size
