"""Layouts of messages, in Python and in C: the same bytes for the same parts."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxload.dialects.splice import (
    COUNT,
    PREPARED,
    SEQUENCE,
    UNIX_MS,
    UNIX_S,
    UTC_MS,
    Blank,
    Splice,
    native_splice,
    new_splice,
)
from voxload.ring import Ring, new_slots

UNIX_NS = 1_764_000_000_123_456_789
BOTH = pytest.mark.parametrize("splice_type", [Splice, native_splice], ids=["python", "native"])

parts = st.lists(
    st.one_of(
        st.binary(max_size=20),
        st.sampled_from([COUNT, SEQUENCE, UNIX_MS, UNIX_S, UTC_MS]),
        st.builds(Blank, st.just("sequence"), st.integers(-1000, 1000), st.integers(-1000, 1000)),
    ),
    max_size=8,
)


def test_it_is_compiled_where_the_wheel_is():
    assert (native_splice is Splice) == (type(new_slots(1, 2, 0)) is Ring)


@BOTH
def test_every_field(splice_type):
    layout = splice_type(
        (b"%d ", COUNT, b" ", SEQUENCE, b" ", Blank("sequence", 20, 1), b" ", UNIX_MS, b" ", UNIX_S, b" ", UTC_MS, b" ",
         PREPARED), 9,
    )  # fmt: skip
    rest = b" 1764000000123 1764000000.123 2025-11-24T16:00:00.123 audio"
    assert layout(b"audio", 3, UNIX_NS) == b"%d 9 3 61" + rest
    assert layout(b"audio", 0, UNIX_NS) == b"%d 10 0 1" + rest
    assert layout.count == 11
    layout.count += 1
    layout.lay_out((PREPARED, COUNT))
    assert layout(b"audio", 0, UNIX_NS + 900_000_000) == b"audio12"


@given(before=parts, after=parts, prepared=st.binary(max_size=40), sequence=st.integers(0, 1 << 40),
       unix_ns=st.lists(st.integers(0, 1 << 62), min_size=1, max_size=5), count=st.integers(0, 1 << 40))  # fmt: skip
def test_both_write_the_same(before, after, prepared, sequence, unix_ns, count):
    layout = (*before, PREPARED, *after)
    ours, native = Splice(layout, count), native_splice(layout, count)
    for at_ns in unix_ns:
        assert ours(prepared, sequence, at_ns) == native(prepared, sequence, at_ns)
    assert ours.count == native.count


@BOTH
def test_what_is_not_changed_is_not_copied(splice_type):
    audio = b"whole message"
    assert splice_type((PREPARED,), 0)(audio, 1, UNIX_NS) is audio


@BOTH
def test_wrong_parts(splice_type):
    for wrong in ((), (b"text",), (PREPARED, PREPARED)):
        with pytest.raises(ValueError, match="one part is what was prepared"):
            splice_type(wrong, 0)
    with pytest.raises(ValueError, match="no blank nonsense"):
        splice_type((PREPARED, Blank("nonsense")), 0)
    with pytest.raises(TypeError, match="bytes or a Blank, not str"):
        splice_type((PREPARED, "text"), 0)
    layout = splice_type((b"[", PREPARED, b"]"), 0)
    with pytest.raises(ValueError, match="one part"):
        layout.lay_out((b"",))
    assert layout(b"1", 0, UNIX_NS) == b"[1]", "what it was before stands"


def test_new_splice_takes_parts_one_by_one():
    message = new_splice(b'{"seq":', COUNT, b',"data":"', PREPARED, b'"}', count=4)(b"AAAA", 0, UNIX_NS)
    assert json.loads(message) == {"seq": 4, "data": "AAAA"}
