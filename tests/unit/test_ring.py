"""The slots of the wheel, in Python and in C: the same answers to the same questions."""

import gc
import shutil
import sysconfig
import weakref
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxload.ring import Ring, new_slots

SLOT_NS, SLOTS = 500, 64
NATIVE = type(new_slots(SLOT_NS, SLOTS, 0))
BOTH = pytest.mark.parametrize("ring_type", [Ring, NATIVE], ids=["python", "native"])


def test_the_native_slots_were_compiled_where_they_can_be():
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    if not (shutil.which("cc") and header.exists()):
        pytest.skip("no compiler, or Python without its headers")
    assert NATIVE is not Ring


actions = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(-5, 60_000), st.integers(0, 50_000)),
        st.tuples(st.just("run"), st.integers(1, 90), st.just(0)),
    ),
    max_size=60,
)


def play(ring, script):
    """What a ring says and does; a callback repeats once, after its period."""
    told = []

    def callback(period_ns):
        def run(due_ns):
            told.append(("ran", due_ns, ring.tick))
            if period_ns % 7 == 3:
                raise ValueError(str(due_ns))
            return due_ns + period_ns if period_ns and due_ns < 70_000 else 0

        return run

    for kind, number, period_ns in script:
        if kind == "put":
            told.append(ring.put(number, callback(period_ns)))
        else:
            ring.run(
                ring.tick + number,
                lambda due_ns, _callback: told.append(("far", due_ns)),
                lambda _callback, error: told.append(repr(error)),
            )
        told.append((ring.tick, ring.pending, ring.next_tick()))
    return told


@given(actions)
def test_both_do_the_same(script):
    assert play(NATIVE(SLOT_NS, SLOTS, 3), script) == play(Ring(SLOT_NS, SLOTS, 3), script)


@BOTH
def test_an_error_without_a_taker_ends_the_run_and_the_ring_lives_on(ring_type):
    ring, ran = ring_type(SLOT_NS, SLOTS, 0), []

    def broken(_due_ns):
        raise ValueError("broken")

    ring.put(600, broken)
    ring.put(1600, lambda due_ns: ran.append(due_ns) or 0)
    with pytest.raises(ValueError, match="broken"):
        ring.run(10, None, None)
    ring.run(10, None, None)
    assert (ran, ring.pending, ring.next_tick()) == ([1600], 0, -1)


@BOTH
def test_callbacks_are_let_go(ring_type):
    class Owner:
        def run(self, _due_ns):
            return 0

    owners = [Owner() for _ in range(3)]
    seen = [weakref.ref(owner) for owner in owners]
    ring = ring_type(SLOT_NS, SLOTS, 0)
    for at, owner in enumerate(owners):
        ring.put(600 + 700 * at, owner.run)
    owners[0].ring = ring  # a cycle through the ring
    del owners, owner
    ring.run(2, None, None)
    assert ring.pending == 2
    del ring
    gc.collect()
    assert [reference() for reference in seen] == [None, None, None]
