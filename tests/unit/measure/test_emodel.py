"""The E-model against its published check points, and its shape against what a listener would say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxload.measure.emodel import (
    Channel,
    burst_ratio,
    burst_ratio_of,
    call_mos,
    mos,
    mouth_to_ear_ms,
    rating,
    wideband_mos,
    wideband_rating,
)

MOS_TOLERANCE = 0.001


@pytest.mark.parametrize(
    ("channel", "expected_r", "digits", "expected_mos"),
    [
        (Channel(), 93.206, 3, 4.409),
        (Channel(ta_ms=150, t_ms=150, tr_ms=300), 89.539, 3, 4.3275),
        (Channel(ta_ms=250, t_ms=250, tr_ms=500), 79.177, 3, 3.9925),
        (Channel(bpl=25.1, ppl_percent=1), 89.566, 3, 4.328),
        (Channel(bpl=25.1, ppl_percent=5), 77.425, 3, 3.923),
    ],
)
def test_check_points(channel, expected_r, digits, expected_mos):
    r = rating(channel)
    assert round(r, digits) == expected_r
    assert mos(r) == pytest.approx(expected_mos, abs=MOS_TOLERANCE)


@pytest.mark.parametrize(("ppl", "expected_r", "expected_mos"), [(1, 75.3, 3.83), (5, 42.1, 2.17), (10, 26.8, 1.48)])
def test_check_points_of_g711_without_concealment(ppl, expected_r, expected_mos):
    r = rating(Channel(ppl_percent=ppl))
    assert round(r, 1) == expected_r
    assert round(mos(r), 2) == expected_mos


@pytest.mark.parametrize(
    ("r", "printed", "exact"),
    [(90, 4.34, 4.339), (80, 4.02, 4.024), (70, 3.60, 3.597), (60, 3.10, 3.100), (50, 2.58, 2.575)],
)
def test_mos_of_a_rating(r, printed, exact):
    assert mos(r) == pytest.approx(exact, abs=1e-9)
    assert mos(r) == pytest.approx(printed, abs=0.005 + 1e-9)  # two digits are printed


def test_mos_at_the_ends():
    assert mos(-1) == 1.0
    assert mos(0) == 1.0
    assert mos(100) == 4.5
    assert mos(101) == 4.5
    assert mos(99.999999) == pytest.approx(4.5)


def test_wideband_check_points():
    assert wideband_mos(wideband_rating(Channel())) == pytest.approx(4.4992, abs=0.0001)
    degraded = wideband_rating(Channel(ie=5, bpl=15))
    assert round(degraded, 3) == 123.846
    assert wideband_mos(degraded) == pytest.approx(4.457, abs=MOS_TOLERANCE)


def test_wideband_delay_weighs_more_on_its_longer_scale():
    narrow = rating(Channel()) - rating(Channel(ta_ms=300))
    wide = wideband_rating(Channel()) - wideband_rating(Channel(ta_ms=300))
    assert wide == pytest.approx(1.29 * narrow)


def test_defaults_of_the_recommendation():
    # Ro and Is as printed for the defaults: R = Ro - Is - Idle there
    channel = Channel()
    idle = rating(Channel(wepl=1e9)) - rating(channel)
    assert rating(channel) + idle == pytest.approx(94.769 - 1.41357, abs=0.001)


def test_every_impairment_lowers_the_rating():
    best = rating(Channel())
    worse = [
        Channel(ps_dba=70),
        Channel(pr_dba=70),
        Channel(nc_dbm0p=-50),
        Channel(nfor_dbmp=-50),
        Channel(slr=0, rlr=-5),
        Channel(stmr=2),
        Channel(stmr=30),
        Channel(qdu=10),
        Channel(t_ms=30, telr=45),
        Channel(t_ms=30, telr=45, stmr=7),
        Channel(t_ms=30, telr=45, stmr=25),
        Channel(tr_ms=40, wepl=20),
        Channel(ta_ms=300),
        Channel(ie=10),
    ]
    assert all(rating(channel) < best - 0.1 for channel in worse)
    assert rating(Channel(a=5)) == pytest.approx(best + 5)


def test_echo_under_a_millisecond_is_sidetone():
    assert rating(Channel(t_ms=0.5, telr=30)) > rating(Channel(t_ms=2, telr=30))


def test_less_sensitive_users_mind_delay_less():
    assert rating(Channel(ta_ms=250, st=0.4, mt_ms=150)) > rating(Channel(ta_ms=250))


@given(st.floats(0, 1), st.floats(0, 1), st.sampled_from(["g711", "g711_plc"]), st.floats(1, 8), st.floats(0, 1000))
def test_more_loss_is_never_better(one, two, codec, ratio, delay):
    low, high = sorted((one, two))
    better, _ = call_mos(codec=codec, loss_share=low, burst_ratio=ratio, one_way_ms=delay, scale="narrowband")
    worse, _ = call_mos(codec=codec, loss_share=high, burst_ratio=ratio, one_way_ms=delay, scale="narrowband")
    assert 1.0 <= worse <= better <= 4.5


@given(st.floats(0, 5000), st.floats(0, 5000), st.sampled_from(["narrowband", "wideband"]), st.floats(0, 0.3))
def test_more_delay_is_never_better(one, two, scale, loss):
    low, high = sorted((one, two))
    better, _ = call_mos(codec="wideband_pcm", loss_share=loss, burst_ratio=1, one_way_ms=low, scale=scale)
    worse, _ = call_mos(codec="wideband_pcm", loss_share=loss, burst_ratio=1, one_way_ms=high, scale=scale)
    assert 1.0 <= worse <= better + 1e-9


@given(st.floats(0, 20), st.floats(0, 20), st.floats(0, 0.5))
def test_loss_in_bursts_is_never_better(one, two, loss):
    low, high = sorted((one, two))
    better, _ = call_mos(codec="g711_plc", loss_share=loss, burst_ratio=low, one_way_ms=50, scale="narrowband")
    worse, _ = call_mos(codec="g711_plc", loss_share=loss, burst_ratio=high, one_way_ms=50, scale="narrowband")
    assert worse <= better


@given(st.floats(-50, 150), st.floats(-50, 150))
def test_mos_rises_with_the_rating(one, two):
    low, high = sorted((one, two))
    assert mos(low) <= mos(high)


def test_concealment_helps():
    call = {"loss_share": 0.03, "burst_ratio": 1.0, "one_way_ms": 80.0, "scale": "narrowband"}
    assert call_mos(codec="g711_plc", **call)[0] > call_mos(codec="g711", **call)[0] + 0.5


def test_call_mos_names_its_scale():
    clean = {"loss_share": 0.0, "burst_ratio": 1.0, "one_way_ms": 90.0}
    assert call_mos(codec="g711", scale="narrowband", **clean) == (pytest.approx(4.409, abs=0.001), "narrowband")
    assert call_mos(codec="wideband_pcm", scale="wideband", **clean) == (pytest.approx(4.4992, abs=0.001), "wideband")


@pytest.mark.parametrize(
    "wrong",
    [
        {"loss_share": 1.1},
        {"loss_share": -0.1},
        {"loss_share": float("nan")},
        {"one_way_ms": -1},
        {"burst_ratio": float("nan")},
        {"scale": "wideband"},
        {"codec": "opus"},
    ],
)
def test_nonsense_is_refused(wrong):
    call = {"codec": "g711", "loss_share": 0.0, "burst_ratio": 1.0, "one_way_ms": 0.0, "scale": "narrowband"}
    with pytest.raises(ValueError, match=r"out of range|no impairment values"):
        call_mos(**call | wrong)


def test_delay_from_mouth_to_ear():
    assert mouth_to_ear_ms(35, 60) == 115
    assert mouth_to_ear_ms(0, 60, frame_ms=100) == 160


def test_burst_ratio():
    assert burst_ratio([], 1000) == 1.0
    assert burst_ratio([], 0) == 1.0
    assert burst_ratio([10], 10) == 1.0
    assert burst_ratio([1] * 10, 1000) == pytest.approx(0.99)  # spread more evenly than chance would
    assert burst_ratio([5, 5], 1000) == pytest.approx(5 * 0.99)
    assert burst_ratio([3, 1, 2], 60) == pytest.approx(2 * 0.9)


def test_burst_ratio_of_random_loss_is_one():
    import random

    chance = random.Random(7)
    lost = [chance.random() < 0.1 for _ in range(200_000)]
    lengths, run = [], 0
    for gone in [*lost, False]:
        if gone:
            run += 1
        elif run:
            lengths.append(run)
            run = 0
    assert burst_ratio(lengths, len(lost)) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("counts", [(5, 0, 10), (0, 1, 10), (5, 6, 10), (11, 1, 10)])
def test_counts_must_agree(counts):
    with pytest.raises(ValueError, match="not possible"):
        burst_ratio_of(*counts)
