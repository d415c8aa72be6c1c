"""What a shard says: lateness goes out packed and is read by whoever receives it, whole."""

import msgspec
import pytest

from voxload.clock import NS_PER_S
from voxload.engine import wire
from voxload.engine.mouth import Ledger, native_ledger
from voxload.measure.collector import Collector
from voxload.measure.histogram import BUCKETS, Histogram
from voxload.measure.recorder import Recorder

LATE_NS = (-3, 0, 7, 250_000, 250_001, 9_000_000, 9_000_000)


@pytest.fixture(params=[Ledger, native_ledger], ids=["python", "native"])
def packed(request):
    recorder = Recorder(3, ledger=request.param())
    for late_ns in LATE_NS:
        recorder.ledger.add(late_ns, 100)
    recorder.latency("turn_latency", (), 5)
    return recorder.take_packed(NS_PER_S, 2, 0.0, 0.0, False)


@pytest.fixture
def expected():
    histogram = Histogram()
    for late_ns in LATE_NS:
        histogram.record(late_ns)
    return histogram.to_data()


def test_a_snapshot_is_packed_on_the_wire_and_read_behind_it(packed, expected):
    assert [series.metric for series in packed.series] == ["turn_latency"]
    received = wire.decode_from_shard(wire.encode(packed)[4:])
    assert [series.metric for series in received.series] == ["turn_latency", "frame_lateness"]
    assert received.series[1].labels == {"shard": "3"}
    assert received.series[1].histogram == expected
    assert received.packed == []


def test_a_collector_reads_what_is_packed_and_only_once(packed, expected):
    collector = Collector()
    collector.add(packed)
    assert collector.histogram("frame_lateness").to_data() == expected
    assert packed.unpack().unpack().series == packed.series
    assert len(packed.series) == 2


def test_a_stretch_without_frames_has_no_lateness():
    assert Recorder().take(NS_PER_S, 0, 0.0, 0.0).series == []


@pytest.mark.parametrize(("first", "size"), [(0, 7), (-1, 8), (BUCKETS - 1, 8), (0, 4 * BUCKETS + 4)])
def test_what_is_no_histogram_is_no_message(packed, first, size):
    whole = msgspec.to_builtins(packed, builtin_types=(bytes,))
    whole["packed"][0]["histogram"] |= {"first": first, "counts": bytes(size)}
    with pytest.raises(msgspec.MsgspecError, match="no counts of buckets"):
        wire.decode_from_shard(msgspec.msgpack.encode(whole))
    whole["packed"][0]["histogram"] |= {"first": BUCKETS - 1, "counts": bytes(4)}
    assert wire.decode_from_shard(msgspec.msgpack.encode(whole)).series[1].histogram.buckets == ()
