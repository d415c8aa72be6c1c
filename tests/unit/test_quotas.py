"""Quotas to the token and to the nanosecond."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxload.quotas import NS_PER_MINUTE, ConcurrencyLimit, MinuteWindow, TokenBucket


@given(
    per_minute=st.integers(1, 500_000),
    asks=st.lists(st.tuples(st.integers(1, 2000), st.integers(0, 10**10)), max_size=40),
)
def test_bucket_never_gives_more_than_it_holds_and_retry_after_is_exact(per_minute, asks):
    bucket = TokenBucket(per_minute, 0)
    now_ns = taken = 0
    for tokens, gap_ns in asks:
        now_ns += gap_ns
        if tokens > per_minute:
            with pytest.raises(ValueError, match="never"):
                bucket.take(tokens, now_ns)
            continue
        retry_ns = bucket.take(tokens, now_ns)
        if retry_ns:
            assert bucket.take(tokens, now_ns + retry_ns - 1) == 1
            now_ns += retry_ns
            assert bucket.take(tokens, now_ns) == 0
        taken += tokens
        # In any span from the start: the full bucket plus what flowed in.
        assert taken * NS_PER_MINUTE <= per_minute * (NS_PER_MINUTE + now_ns)
    assert bucket.taken == taken


def test_bucket_refills_at_the_stated_rate():
    bucket = TokenBucket(600, 0)
    assert bucket.take(600, 0) == 0
    assert bucket.take(1, 0) == 100_000_000
    assert bucket.take(10, 1_000_000_000) == 0
    assert bucket.take(600, 1_000_000_000) == NS_PER_MINUTE
    assert bucket.take(600, 61_000_000_000) == 0
    assert bucket.refused == 2


def test_bucket_does_not_overflow_nor_run_backwards():
    bucket = TokenBucket(60, 0)
    assert bucket.take(60, 10 * NS_PER_MINUTE) == 0
    assert bucket.take(1, 9 * NS_PER_MINUTE) == 1_000_000_000


def test_bucket_without_limit_gives_all():
    bucket = TokenBucket(0, 0)
    assert all(bucket.take(10**9, 0) == 0 for _ in range(5))
    assert bucket.refused == 0


@given(limit=st.integers(1, 5), steps=st.lists(st.booleans(), max_size=60))
def test_concurrency_never_exceeds_the_limit(limit, steps):
    slots = ConcurrencyLimit(limit)
    held = 0
    for take in steps:
        if take:
            assert slots.acquire() == (held < limit)
            held = min(held + 1, limit)
        elif held:
            slots.release()
            held -= 1
        assert slots.in_use == held
        assert slots.peak <= limit


def test_free_slots_go_to_the_waiting_in_order():
    slots = ConcurrencyLimit(1)
    order = []
    assert slots.acquire()
    assert not slots.acquire()
    slots.wait(lambda: False)  # hung up meanwhile
    slots.wait(lambda: order.append("first") or True)
    slots.wait(lambda: order.append("second") or True)
    slots.release()
    assert (order, slots.in_use) == (["first"], 1)
    slots.release()
    assert (order, slots.in_use, slots.waiting) == (["first", "second"], 1, 0)
    slots.release()
    assert slots.in_use == 0
    assert slots.refused == 1
    with pytest.raises(RuntimeError):
        slots.release()


def test_no_limit_means_no_refusal():
    slots = ConcurrencyLimit(0)
    assert all(slots.acquire() for _ in range(1000))
    assert slots.peak == 1000


def test_a_burst_smaller_than_a_minute():
    bucket = TokenBucket(600, 0, burst=100)
    assert bucket.remaining(0) == 100
    assert bucket.take(100, 0) == 0
    assert (bucket.remaining(0), bucket.full_in_ns(0)) == (0, 10_000_000_000)
    assert bucket.wait_ns(50, 1_000_000_000) == 4_000_000_000
    assert bucket.remaining(2_050_000_000) == 20
    assert bucket.take(100, 100_000_000_000) == 0
    with pytest.raises(ValueError, match="never"):
        bucket.wait_ns(101, 0)


def test_a_minute_that_is_counted_anew():
    window = MinuteWindow(1000, 5)
    assert window.take(600, 5) == 0
    assert window.remaining(10) == 400
    assert window.take(500, 1_000_000_005) == NS_PER_MINUTE - 1_000_000_000
    assert window.take(400, 2_000_000_005) == 0
    assert window.take(1, NS_PER_MINUTE + 4) == 1
    assert window.take(1000, NS_PER_MINUTE + 5) == 0
    assert (window.taken, window.refused) == (2000, 2)
    assert window.full_in_ns(NS_PER_MINUTE + 6) == NS_PER_MINUTE - 1
    assert window.full_in_ns(5 * NS_PER_MINUTE) == 0
    with pytest.raises(ValueError, match="never"):
        window.take(1001, 0)
    assert MinuteWindow(0, 0).take(10**9, 0) == 0
