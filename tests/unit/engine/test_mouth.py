"""The caller's mouth, in Python and in C: the same frames, counts and ends; the one in C on a socket of its own too."""

import contextlib
import gc
import socket
import struct
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxload.clock import monotonic_ns
from voxload.dialects.splice import COUNT, PREPARED, UNIX_S, new_splice
from voxload.engine.mouth import Ledger, Mouth, native_ledger, native_mouth, new_ledger, new_mouth
from voxload.measure.histogram import VALUE_MAX, Histogram, HistogramData, PackedHistogram, bucket_index
from voxload.wheel import Wheel

FRAME_NS = 20_000_000
BED = (b"bed0", b"bed1", b"bed2")
BOTH = pytest.mark.parametrize("ledger_type", [Ledger, native_ledger], ids=["python", "native"])
native_only = pytest.mark.skipif(native_mouth is Mouth, reason="the mouth in C was not compiled")


def stamp(prepared, sequence, unix_ns):
    assert unix_ns > 1 << 60
    return b"%b#%d" % (prepared, sequence)


class Side:
    """The line's side of a mouth: what it was given, and what it answers."""

    def __init__(self, ledger_type, text=True, stamp=stamp):
        self.sent, self.ends, self.takes = [], [], True
        self.ledger = ledger_type()
        self.mouth = new_mouth(self.ledger, stamp, self.send, self.end, BED, FRAME_NS, 1 << 60, text, monotonic_ns)

    def send(self, payload, text):
        self.sent.append((payload, text))
        return self.takes

    def end(self, late_ns, now_ns):
        self.ends.append(late_ns)
        assert 0 <= monotonic_ns() - now_ns < 10_000_000_000

    def counts(self):
        late, sent, dropped, size = self.ledger.take()
        return PackedHistogram(*late).to_data(), sent, dropped, size


@BOTH
@given(
    st.lists(
        st.one_of(st.integers(-5, 3), st.integers(0, 1 << 34), st.integers(VALUE_MAX - 3, VALUE_MAX + 3)), max_size=60
    )
)
def test_lateness_is_counted_as_a_histogram_counts_each_value(ledger_type, late_ns):
    ledger = ledger_type()
    for values in (late_ns, late_ns[::2]):  # what was taken is not there any more
        expected = Histogram()
        for value in values:
            expected.record(value)
            ledger.add(value, 3)
        late, sent, dropped, size = ledger.take()
        assert PackedHistogram(*late).to_data() == expected.to_data()
        assert (sent, dropped, size) == (len(values), 0, 3 * len(values))


def test_the_clock_decides_which_one():
    assert type(new_ledger(monotonic_ns)) is native_ledger
    assert type(new_ledger(lambda: 0)) is Ledger


@BOTH
def test_bed_and_utterance_and_counts(ledger_type):
    side = Side(ledger_type)
    due_ns = start_ns = monotonic_ns() - 5 * FRAME_NS
    for _ in range(2):
        assert side.mouth(due_ns) == due_ns + FRAME_NS
        due_ns += FRAME_NS
    side.mouth.say((b"one", b"two"), due_ns)
    for _ in range(4):
        assert side.mouth(due_ns) == due_ns + FRAME_NS
        due_ns += FRAME_NS
    assert side.sent == [
        (b"bed0#0", True), (b"bed1#1", True),
        (b"bed2#2", True),  # due at the utterance's very start: its samples were spoken before
        (b"one#3", True), (b"two#4", True), (b"bed2#5", True),
    ]  # fmt: skip
    late, sent, dropped, size = side.counts()
    assert (sent, dropped, size) == (6, 0, sum(len(payload) for payload, _ in side.sent))
    assert late.count == 6
    assert 0 <= late.maximum - 5 * FRAME_NS < 10_000_000_000  # the first frame's
    assert late.minimum < side.ends[0] < late.maximum
    assert bucket_index(side.ends[0]) in dict(late.buckets)
    assert start_ns
    assert side.counts() == (HistogramData(), 0, 0, 0)


@BOTH
def test_a_line_that_does_not_take_a_frame_drops_it(ledger_type):
    side = Side(ledger_type, text=False)
    side.takes = False
    side.mouth.say((b"one",), 0)
    side.mouth(monotonic_ns())
    assert side.sent == [(b"one#0", False)]
    late, *counts = side.counts()
    assert (late.count, counts) == (1, [0, 1, 0])
    assert len(side.ends) == 1


@BOTH
def test_silence_after_stop(ledger_type):
    side = Side(ledger_type)
    side.mouth.stop()
    assert side.mouth(monotonic_ns()) == 0
    assert not side.sent


@BOTH
def test_words_that_begin_at_the_end_of_others(ledger_type):
    side = Side(ledger_type)
    side.end = lambda late_ns, now_ns: None
    mouth = new_mouth(
        side.ledger, stamp, side.send, lambda *_: mouth.say((b"next",), 0), BED, FRAME_NS, 1 << 60, True, monotonic_ns
    )
    mouth.say((b"first",), 0)
    for _ in range(3):
        mouth(monotonic_ns())
    assert [payload for payload, _ in side.sent] == [b"first#0", b"next#1", b"next#2"]


@BOTH
def test_an_error_of_the_dialect_comes_out(ledger_type):
    def broken(prepared, sequence, unix_ns):
        raise ValueError("broken")

    side = Side(ledger_type, stamp=broken)
    with pytest.raises(ValueError, match="broken"):
        side.mouth(monotonic_ns())
    assert side.counts()[1:] == (0, 0, 0)


@BOTH
def test_a_call_that_is_over_is_let_go(ledger_type):
    side = Side(ledger_type)
    side.mouth.say((b"one",), 0)
    seen = weakref.ref(side)
    side.mouth(monotonic_ns())
    del side
    gc.collect()
    assert seen() is None


# --- on a socket ---


def frames_of(data):
    """(opcode, payload) of each whole masked frame, and what is left."""
    found = []
    while len(data) >= 2:
        length, at = data[1] & 127, 2
        assert data[0] & 0x80
        assert data[1] & 0x80, "a client's frame is masked"
        if length == 126:
            (length,), at = struct.unpack("!H", data[2:4]), 4
        elif length == 127:
            (length,), at = struct.unpack("!Q", data[2:10]), 10
        if len(data) < at + 4 + length:
            break
        key, masked = data[at : at + 4], data[at + 4 : at + 4 + length]
        found.append((data[0] & 15, bytes(byte ^ key[n % 4] for n, byte in enumerate(masked)), key))
        data = data[at + 4 + length :]
    return found, data


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.settimeout(5)
    yield ours, theirs
    ours.close()
    theirs.close()


@native_only
@pytest.mark.parametrize("size", [0, 1, 7, 100, 125, 126, 900, 65_535, 65_536, 70_001])
@pytest.mark.parametrize("text", [True, False])
def test_frames_on_the_wire(pair, size, text):
    ours, theirs = pair
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    payload = bytes(n * 7 % 251 for n in range(size))
    side = Side(native_ledger, text=text, stamp=lambda prepared, sequence, unix_ns: prepared)
    side.mouth.attach(ours.fileno(), lambda rest: pytest.fail("the socket has room"))
    side.mouth.say((payload, payload), 0)
    side.mouth(monotonic_ns())
    side.mouth(monotonic_ns())
    data = b""
    while len(frames_of(data)[0]) < 2:
        data += theirs.recv(1 << 18)
    (first, second), rest = frames_of(data)
    assert first[:2] == second[:2] == (1 if text else 2, payload)
    assert first[2] != second[2], "each frame has a mask of its own"
    assert not rest
    assert not side.sent
    assert side.counts()[1:] == (2, 0, 2 * size)


@native_only
@pytest.mark.parametrize("size", [0, 1, 100, 125, 126, 900, 65_530, 70_001])
def test_a_layout_is_written_straight_into_the_frame(pair, size):
    ours, theirs = pair
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    payload = bytes(n * 7 % 251 for n in range(size))
    layout = new_splice(b"<", COUNT, b":", PREPARED, b":", UNIX_S, b">", count=8)
    side = Side(native_ledger, stamp=layout)
    side.mouth.say((payload, payload), 0)
    side.mouth(monotonic_ns())
    side.mouth.attach(ours.fileno(), lambda rest: pytest.fail("the socket has room"))
    side.mouth(monotonic_ns())
    (through_the_line, _), data = side.sent[0], b""
    while not frames_of(data)[0]:
        data += theirs.recv(1 << 18)
    ((opcode, message, _),), rest = frames_of(data)
    assert (opcode, rest) == (1, b"")
    for number, told in ((b"8", through_the_line), (b"9", message)):
        head, unix_s = told.removesuffix(b">").rsplit(b":", 1)
        assert head == b"<" + number + b":" + payload
        assert abs(float(unix_s) - ((1 << 60) + monotonic_ns()) / 1e9) < 10
    assert side.counts()[1:] == (2, 0, len(message) + len(through_the_line))


@native_only
def test_the_wheel_runs_it_without_the_interpreter_and_tells_its_errors():
    def broken(prepared, sequence, unix_ns):
        raise ValueError("broken")

    told, wheel = [], Wheel(0)
    wheel.failed = lambda callback, error: told.append((callback, str(error)))
    well, ill = Side(native_ledger), Side(native_ledger, stamp=broken)
    for side in (well, ill):
        wheel.at(FRAME_NS, side.mouth)
    wheel.advance(4 * FRAME_NS)
    assert [payload for payload, _ in well.sent] == [b"bed0#0", b"bed1#1", b"bed2#2", b"bed0#3"]
    assert told == [(ill.mouth, "broken")]
    well.mouth.stop()
    wheel.advance(6 * FRAME_NS)
    assert len(wheel) == 0
    seen = weakref.ref(well)
    del well, side
    gc.collect()
    assert seen() is None
    with pytest.raises(TypeError, match="no keywords"):
        ill.mouth(due_ns=1)


@native_only
def test_a_frame_that_the_kernel_takes_in_part_is_finished_by_the_loop(pair):
    ours, theirs = pair
    payload = bytes(30_000)
    rests = []
    side = Side(native_ledger, stamp=lambda prepared, sequence, unix_ns: prepared)
    side.mouth.attach(ours.fileno(), rests.append)
    side.mouth.say((payload,) * 1000, 0)
    count = 0
    while not rests and side.mouth.attached and count < 900:
        side.mouth(monotonic_ns())
        count += 1
        _, sent, dropped, _ = side.counts()
        if dropped:  # full to the byte: nothing of it has left, and the socket is still the mouth's
            break
        assert sent == 1
    if rests:
        assert not side.mouth.attached
        side.mouth(monotonic_ns())
        assert side.sent == [(payload, True)], "until it is attached again, frames go through the line"
        expected = count
    else:
        expected = count - 1
    ours.setblocking(True)
    data, theirs_done = b"", False
    theirs.setblocking(False)
    while not theirs_done:
        try:
            data += theirs.recv(1 << 20)
        except BlockingIOError:
            theirs_done = True
    whole, left = frames_of(data + b"".join(rests))
    assert (len(whole), left) == (expected, b"")
    assert {content for _, content, _ in whole} == {payload}


@native_only
@pytest.mark.parametrize("text", [True, False])
def test_a_ping_goes_to_the_socket_unless_the_line_must_send_it(pair, text):
    ours, theirs = pair
    side = Side(native_ledger, text=text, stamp=lambda prepared, sequence, unix_ns: b"audio")
    assert not side.mouth.ping(b"at once")
    side.mouth.attach(ours.fileno(), lambda rest: pytest.fail("the socket has room"))
    side.mouth(monotonic_ns())
    assert side.mouth.ping(b"8 bytes!")
    side.mouth(monotonic_ns())
    assert side.mouth.ping(b"")
    found, rest = frames_of(theirs.recv(1000))
    kind = 1 if text else 2
    assert [each[:2] for each in found] == [(kind, b"audio"), (9, b"8 bytes!"), (kind, b"audio"), (9, b"")]
    assert not rest
    assert side.counts()[1:] == (2, 0, 10), "a ping is no frame of audio"
    with contextlib.suppress(BlockingIOError):
        while True:
            ours.send(bytes(1 << 16))
    assert not side.mouth.ping(b"the socket is full")
    side.mouth.stop()
    assert not side.mouth.ping(b"over")
    with pytest.raises(TypeError, match="bytes"):
        side.mouth.ping("text")


@native_only
def test_a_full_socket_drops_frames_and_a_dead_one_too(pair):
    ours, theirs = pair
    side = Side(native_ledger, stamp=lambda prepared, sequence, unix_ns: bytes(200))
    side.mouth.attach(ours.fileno(), lambda rest: side.mouth.attach(ours.fileno(), None))
    for _ in range(20_000):
        side.mouth(monotonic_ns())
    _, sent, dropped, _ = side.counts()
    assert sent + dropped == 20_000
    assert dropped > 100
    theirs.close()
    side.mouth.attach(ours.fileno(), lambda rest: None)
    side.mouth(monotonic_ns())
    assert side.counts()[1:] == (0, 1, 0)


@native_only
def test_a_mouth_that_was_stopped_or_detached_leaves_the_socket_alone(pair):
    ours, _ = pair
    side = Side(native_ledger)
    side.mouth.attach(ours.fileno(), None)
    assert side.mouth.attached
    side.mouth.detach()
    side.mouth(monotonic_ns())
    assert len(side.sent) == 1
    side.mouth.stop()
    side.mouth.attach(ours.fileno(), None)
    assert not side.mouth.attached
    assert side.mouth(monotonic_ns()) == 0


@native_only
def test_wrong_arguments():
    side = Side(native_ledger)
    with pytest.raises(TypeError):
        side.mouth.say([b"a list"], 0)
    with pytest.raises(ValueError, match="without frames"):
        side.mouth.say((), 0)
    with pytest.raises(ValueError, match="bed"):
        native_mouth(side.ledger, stamp, side.send, side.end, (), FRAME_NS, 0, True)
    with pytest.raises(TypeError):
        native_mouth(Ledger(), stamp, side.send, side.end, BED, FRAME_NS, 0, True)
    broken = Side(native_ledger, stamp=lambda prepared, sequence, unix_ns: "text")
    with pytest.raises(TypeError, match="not bytes"):
        broken.mouth(monotonic_ns())
