"""The line loses, delays, stalls and mutes as its settings say."""

from __future__ import annotations

import itertools
import math
import timeit

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxload.audio.line import LineImpairment
from voxload.model.line import LineSettings

MS = 1_000_000
FRAME_NS = 20 * MS


def line(seed=1, start_ns=0, **parts):
    return LineImpairment(LineSettings.model_validate(parts), seed, start_ns)


def fates(impairment, frames):
    return [impairment.plan(n, (n + 1) * FRAME_NS) for n in range(frames)]


def lost(impairment, frames):
    return np.array([action == "drop" for action, _ in fates(impairment, frames)])


def test_a_perfect_line_sends_everything_at_once():
    assert set(fates(line(), 1_000)) == {("send", 0)}
    assert set(fates(line(loss=0), 1_000)) == {("send", 0)}


def test_a_dead_line_sends_nothing():
    assert set(fates(line(loss=1, jitter="5ms"), 1_000)) == {("drop", 0)}


@pytest.mark.parametrize("share", [0.001, 0.01, 0.2])
@pytest.mark.parametrize("seed", [1, 2])
def test_random_loss_lies_within_binomial_bounds(share, seed):
    frames = 100_000
    count = lost(line(seed, loss={"random": share}), frames).sum()
    assert abs(count - frames * share) < 4 * math.sqrt(frames * share * (1 - share))


def test_random_losses_do_not_cluster():
    flags = lost(line(loss=0.2), 100_000)
    after_loss = flags[1:][flags[:-1]]
    assert after_loss.mean() == pytest.approx(0.2, abs=4 * math.sqrt(0.16 / len(after_loss)))


@pytest.mark.parametrize(("p", "r"), [(0.01, 0.25), (0.05, 0.5), (0.2, 0.9)])
def test_gilbert_bursts_are_as_theory_says(p, r):
    frames = 200_000
    settings_ = LineSettings.model_validate({"loss": {"burst": {"p": p, "r": r}}})
    flags = lost(LineImpairment(settings_, 1), frames)
    stationary = p / (p + r)
    assert settings_.loss.mean_loss == pytest.approx(stationary)
    # the chain's losses are correlated by 1-p-r a step: the variance of their mean is larger by (2-p-r)/(p+r)
    deviation = math.sqrt(stationary * (1 - stationary) * (2 - p - r) / (p + r) / frames)
    assert flags.mean() == pytest.approx(stationary, abs=4 * deviation)
    bursts = [len(list(group)) for value, group in itertools.groupby(flags) if value]
    assert np.mean(bursts) == pytest.approx(1 / r, abs=4 * math.sqrt((1 - r) / r**2 / len(bursts)) + 1e-9)
    gaps = [len(list(group)) for value, group in itertools.groupby(flags) if not value]
    assert np.mean(gaps) == pytest.approx(1 / p, rel=4 / math.sqrt(len(gaps)))
    share_of_two = np.mean(np.array(bursts) == 2)
    assert share_of_two == pytest.approx(r * (1 - r), abs=4 * math.sqrt(r * (1 - r) / len(bursts)))  # geometric


def test_elliott_loses_in_both_states():
    burst = {"p": 0.02, "r": 0.1, "good_loss": 0.01, "bad_loss": 0.5}
    impairment = line(loss={"burst": burst})
    expected = (0.02 * 0.5 + 0.1 * 0.01) / 0.12
    assert LineSettings.model_validate({"loss": {"burst": burst}}).loss.mean_loss == pytest.approx(expected)
    assert lost(impairment, 200_000).mean() == pytest.approx(expected, rel=0.06)


def test_the_chain_is_stationary_from_the_first_frame():
    """Short calls lose as much as long ones: the first frame of many calls is lost as often as any."""
    calls = 4_000
    first = [line(seed, loss={"burst": {"p": 0.02, "r": 0.08}}).plan(0, FRAME_NS)[0] for seed in range(calls)]
    assert first.count("drop") / calls == pytest.approx(0.2, abs=4 * math.sqrt(0.16 / calls))


def test_even_jitter_spreads_over_its_span():
    delays = np.array([delay for _, delay in fates(line(jitter="2ms..18ms"), 50_000)])  # never reaches the next frame
    assert delays.min() >= 2 * MS
    assert delays.max() <= 18 * MS
    assert delays.mean() == pytest.approx(10 * MS, rel=0.02)
    assert delays.std() == pytest.approx(16 * MS / math.sqrt(12), rel=0.02)
    assert set(fates(line(jitter="7ms"), 100)) == {("send", 7 * MS)}


def test_gamma_jitter_has_its_mean_and_deviation():
    impairment = line(jitter={"mean": "30ms", "std": "15ms"})
    delays = np.array([impairment.plan(n, n * 1_000 * MS)[1] for n in range(50_000)])  # far apart: order never matters
    assert delays.min() >= 0
    assert delays.mean() == pytest.approx(30 * MS, rel=0.02)
    assert delays.std() == pytest.approx(15 * MS, rel=0.04)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**64),
    st.sampled_from([{"mean": "60ms", "std": "60ms"}, "0ms..200ms", None]),
    st.sampled_from([None, 0.2, {"burst": {"p": 0.1, "r": 0.3}}]),
    st.lists(st.tuples(st.integers(0, 3_000), st.integers(1, 800)), max_size=4),
    st.integers(0, 10**15),
)
def test_order_is_kept_and_nothing_leaves_early_or_in_a_stall(seed, jitter, loss, stalls, start_ns):
    windows = [{"at": f"{at}ms", "for": f"{length}ms"} for at, length in stalls]
    impairment = line(seed, start_ns, jitter=jitter, loss=loss, stall=windows)
    last_ns = 0
    for n in range(200):
        due_ns = start_ns + (n + 1) * FRAME_NS
        action, delay_ns = impairment.plan(n, due_ns)
        assert delay_ns >= 0
        if action == "drop":
            assert delay_ns == 0
            continue
        leave_ns = due_ns + delay_ns
        assert leave_ns >= last_ns
        last_ns = leave_ns
        for at, length in stalls:
            assert not start_ns + at * MS <= leave_ns < start_ns + (at + length) * MS


def test_a_stall_holds_frames_until_its_end():
    start_ns = 5_000 * MS
    impairment = line(start_ns=start_ns, stall=[{"at": "1s", "for": "500ms"}])
    leaves_ms = {}
    for n in range(100):
        due_ns = start_ns + (n + 1) * FRAME_NS
        action, delay_ns = impairment.plan(n, due_ns)
        assert action == "send"
        leaves_ms[(n + 1) * 20] = (due_ns + delay_ns - start_ns) // MS
    held = {due: leave for due, leave in leaves_ms.items() if leave != due}
    assert held == dict.fromkeys(range(1_000, 1_500, 20), 1_500)


def test_stalls_that_overlap_are_one():
    impairment = line(stall=[{"at": "3s", "for": "1s"}, {"at": "1s", "for": "500ms"}, {"at": "1200ms", "for": "600ms"}])
    assert impairment.plan(0, 1_100 * MS) == ("send", 700 * MS)
    assert impairment.plan(1, 1_800 * MS) == ("send", 0)
    assert impairment.plan(2, 3_999 * MS) == ("send", 1 * MS)


def test_mute_covers_the_frames_spoken_in_its_window():
    """Due in (1 s, 1.5 s]: the frames whose samples were spoken from 1 s to 1.5 s, exactly 25 of them."""
    start_ns = 777
    impairment = line(start_ns=start_ns, mute=[{"at": "1s", "for": "500ms"}, {"at": "1.9s", "for": "100ms"}])
    muted = []
    for n in range(120):
        action, delay_ns = impairment.plan(n, start_ns + (n + 1) * FRAME_NS)
        assert delay_ns == 0
        if action == "mute":
            muted.append((n + 1) * 20)
    assert muted == [*range(1_020, 1_501, 20), *range(1_920, 2_001, 20)]


def test_a_muted_frame_is_delayed_and_lost_like_any_other():
    everything = line(mute=[{"at": 0, "for": "1h"}], jitter="5ms", loss=0.5)
    assert set(fates(everything, 500)) == {("mute", 5 * MS), ("drop", 0)}


SOME = {"loss": {"burst": {"p": 0.1, "r": 0.3}}, "jitter": "0ms..15ms"}


def test_the_seed_decides():
    assert fates(line(7, **SOME), 500) == fates(line(7, **SOME), 500)
    assert fates(line(7, **SOME), 500) != fates(line(8, **SOME), 500)


def test_frames_that_were_not_asked_for_change_nothing():
    whole = fates(line(7, **SOME), 500)
    gappy = line(7, **SOME)
    for n in range(500):
        if n % 7 and not 100 <= n < 150:
            assert gappy.plan(n, (n + 1) * FRAME_NS) == whole[n]


def test_it_is_cheap():
    impairment = line(**SOME, stall=[{"at": 1, "for": 1}], mute=[{"at": 3, "for": 1}])
    count = itertools.count()

    def plan():
        n = next(count)
        impairment.plan(n, n * FRAME_NS)

    per_frame_s = min(timeit.repeat(plan, number=20_000, repeat=5)) / 20_000
    assert per_frame_s < 10e-6  # well under 1 µs on an idle machine
