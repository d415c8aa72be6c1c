"""How a listener would rate a call: the E-model of ITU-T G.107 (narrowband) and G.107.1 (wideband).

Symbols and equations are those of the recommendations; what the two have in common (delay, echo, packet loss) is
written once. Over a WebSocket there is no echo path, so T = Tr = 0; `mouth_to_ear_ms` says what Ta is made of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import exp, log2, log10, sqrt
from typing import Literal

Scale = Literal["narrowband", "wideband"]
Codec = Literal["g711", "g711_plc", "wideband_pcm"]

WIDEBAND_RO = 129.0
"""Ro of G.107.1 with its default noise and loudness; Is is 0 there."""
WIDEBAND_STRETCH = 1.29
"""Idd of G.107 counts this much in G.107.1, and R divided by it gives the MOS (129 ↔ 100)."""
BURST_RATIO_MAX = 8.0
"""BurstR of G.107 runs from 1 (random loss) to this."""
FRAME_MS = 20.0

IMPAIRMENTS: dict[tuple[Codec, Scale], tuple[float, float]] = {
    ("g711", "narrowband"): (0.0, 4.3),
    ("g711_plc", "narrowband"): (0.0, 25.1),
    ("wideband_pcm", "wideband"): (0.0, 4.3),
    ("wideband_pcm", "narrowband"): (0.0, 4.3),
}
"""Ie and Bpl by codec and scale; G.711 from G.113, appendix I.

For linear PCM at 16 kHz we know of no published value: it has no coding loss and, like G.711 without concealment, plays
a gap where a frame is missing, so G.711's Bpl is taken. On the narrowband scale it is rated as G.711, which lets runs
over different protocols be compared.
"""


@dataclass(frozen=True, slots=True)
class Channel:
    """The parameters of G.107, table 2, with its defaults; levels in dB as named there, delays in ms."""

    slr: float = 8.0
    """Send loudness rating, dB."""
    rlr: float = 2.0
    """Receive loudness rating, dB."""
    stmr: float = 15.0
    """Sidetone masking rating, dB."""
    ds: float = 3.0
    """D-value of the telephone, send side."""
    dr: float = 3.0
    """D-value of the telephone, receive side; the listener's sidetone rating is LSTR = STMR + Dr."""
    telr: float = 65.0
    """Talker echo loudness rating, dB."""
    wepl: float = 110.0
    """Weighted echo path loss, dB."""
    t_ms: float = 0.0
    """T: mean one-way delay of the echo path (0 where there is no echo; the default of G.107)."""
    tr_ms: float = 0.0
    """Tr: round-trip delay of the four-wire loop."""
    ta_ms: float = 0.0
    """Ta: absolute one-way delay, mouth to ear."""
    qdu: float = 1.0
    """Quantizing distortion units."""
    ie: float = 0.0
    """Equipment impairment factor of the codec."""
    bpl: float = 4.3
    """Packet-loss robustness factor of the codec."""
    ppl_percent: float = 0.0
    """Ppl: packets lost or too late, percent."""
    burst_ratio: float = 1.0
    """BurstR, see `burst_ratio`."""
    nc_dbm0p: float = -70.0
    """Circuit noise referred to the 0 dBr point."""
    nfor_dbmp: float = -64.0
    """Noise floor at the receive side."""
    ps_dba: float = 35.0
    """Room noise at the send side."""
    pr_dba: float = 35.0
    """Room noise at the receive side."""
    st: float = 1.0
    """sT: delay sensitivity of the user; 1 for everyday calls."""
    mt_ms: float = 100.0
    """mT: the smallest delay that is perceived."""
    a: float = 0.0
    """Advantage factor."""


def rating(channel: Channel) -> float:
    """Return R of G.107, equation 7-1: about 93.2 for the defaults, below 0 for the worst channels."""
    no = _noise(channel)
    ro = 15.0 - 1.5 * (channel.slr + no)
    ist = _sidetone(channel)
    simultaneous = _too_loud(channel, no) + ist + _quantizing(channel, ro)
    delay = _talker_echo(channel, no, ist) + _listener_echo(channel, ro) + _long_delay(channel)
    return ro - simultaneous - delay - _equipment(channel) + channel.a


def wideband_rating(channel: Channel) -> float:
    """Return R of G.107.1 on its scale to 129, for a channel whose loudness and noise are the defaults.

    R = 129 - Idle - 1.29·Idd - Ie,eff + A; `ie` and `bpl` are the wideband ones. Without echo (T = Tr = 0) Idle is
    0.154. Talker echo is left out.
    """
    delay = _listener_echo(channel, WIDEBAND_RO) + WIDEBAND_STRETCH * _long_delay(channel)
    return WIDEBAND_RO - delay - _equipment(channel) + channel.a


def mos(r: float) -> float:
    """Return the mean opinion score of a rating (G.107, annex B), from 1 to 4.5.

    Between R = 0 and 6.5 the polynomial of the annex dips to 0.99; there is no score below 1, so 1 is returned.
    """
    if r <= 0.0:
        return 1.0
    if r >= 100.0:
        return 4.5
    return max(1.0, 1.0 + 0.035 * r + r * (r - 60.0) * (100.0 - r) * 7e-6)


def wideband_mos(r: float) -> float:
    """Return the mean opinion score of a rating of `wideband_rating`; not comparable with a narrowband one."""
    return mos(r / WIDEBAND_STRETCH)


def mouth_to_ear_ms(transport_ms: float, jitter_buffer_ms: float, frame_ms: float = FRAME_MS) -> float:
    """Return Ta: one-way transport, the listener's jitter buffer and one frame; never the agent's thinking time."""
    return transport_ms + jitter_buffer_ms + frame_ms


def burst_ratio(lengths: Sequence[int], frames: int) -> float:
    """Return BurstR of G.107: the mean length of runs of lost frames over that of random loss at the same rate.

    `lengths` are the runs of lost frames among `frames` frames; random loss of probability p has runs of 1/(1 - p).
    1 without loss, and where every frame is lost (all patterns of total loss are alike).
    """
    return burst_ratio_of(sum(lengths), len(lengths), frames)


def burst_ratio_of(lost: int, runs: int, frames: int) -> float:
    """Return `burst_ratio` from counts: frames lost, runs they came in, frames in all.

    Raises:
        ValueError: the counts contradict each other.
    """
    if not 0 <= runs <= lost <= frames or (lost > 0) != (runs > 0):
        raise ValueError(f"{lost} lost frames in {runs} runs of {frames} frames is not possible")
    if lost in {0, frames}:
        return 1.0
    return lost / runs * (1.0 - lost / frames)


def call_mos(
    *, codec: Codec, loss_share: float, burst_ratio: float, one_way_ms: float, scale: Scale
) -> tuple[float, Scale]:
    """Return the mean opinion score of a call and the scale that it is on.

    `loss_share` is the share of frames lost or too late (0 to 1), `burst_ratio` as of `burst_ratio` (values outside of
    the range of G.107, 1 to 8, count as its ends), `one_way_ms` the delay from mouth to ear (`mouth_to_ear_ms`).

    Raises:
        ValueError: a value is out of range, or the codec has no values on this scale.
    """
    if not (0.0 <= loss_share <= 1.0 and one_way_ms >= 0.0 and burst_ratio >= 0.0):
        raise ValueError(f"loss {loss_share}, burst ratio {burst_ratio}, delay {one_way_ms} ms: out of range")
    if (codec, scale) not in IMPAIRMENTS:
        raise ValueError(f"{codec} has no impairment values on the {scale} scale")
    return _call_mos(codec, loss_share, min(max(burst_ratio, 1.0), BURST_RATIO_MAX), one_way_ms, scale), scale


@lru_cache(maxsize=4096)
def _call_mos(codec: Codec, loss_share: float, ratio: float, one_way_ms: float, scale: Scale) -> float:
    ie, bpl = IMPAIRMENTS[codec, scale]
    channel = Channel(ie=ie, bpl=bpl, ppl_percent=100.0 * loss_share, burst_ratio=ratio, ta_ms=one_way_ms)
    return mos(rating(channel)) if scale == "narrowband" else wideband_mos(wideband_rating(channel))


# --- the terms, in the order of G.107, clause 7 -----------------------------------------------------------------------


def _noise(channel: Channel) -> float:
    """No: all noise sources as one level at the 0 dBr point (7-3 to 7-7)."""
    olr = channel.slr + channel.rlr
    lstr = channel.stmr + channel.dr
    excess = channel.ps_dba - olr - channel.ds - 14.0
    nos = channel.ps_dba - channel.slr - channel.ds - 100.0 + 0.004 * excess**2
    pre = channel.pr_dba + 10.0 * log10(1.0 + 10.0 ** ((10.0 - lstr) / 10.0))
    nor = channel.rlr - 121.0 + pre + 0.008 * (pre - 35.0) ** 2
    nfo = channel.nfor_dbmp + channel.rlr
    return 10.0 * log10(sum(10.0 ** (level / 10.0) for level in (channel.nc_dbm0p, nos, nor, nfo)))


def _too_loud(channel: Channel, no: float) -> float:
    """Iolr: the connection is louder than people like (7-9, 7-10)."""
    xolr = channel.slr + channel.rlr + 0.2 * (64.0 + no - channel.rlr)
    return 20.0 * (_root_of_sum(xolr / 8.0, 8) - xolr / 8.0)


def _sidetone(channel: Channel) -> float:
    """Ist: sidetone far from its best level (7-11, 7-12)."""
    stmro = -10.0 * log10(10.0 ** (-channel.stmr / 10.0) + exp(-channel.t_ms / 4.0) * 10.0 ** (-channel.telr / 10.0))
    return (
        12.0 * _root_of_sum((stmro - 13.0) / 6.0, 8)
        - 28.0 * _root_of_sum((stmro + 1.0) / 19.4, 35)
        - 13.0 * _root_of_sum((stmro - 3.0) / 33.0, 13)
        + 29.0
    )


def _quantizing(channel: Channel, ro: float) -> float:
    """Iq: quantizing distortion (7-13 to 7-17)."""
    q = 37.0 - 15.0 * log10(channel.qdu)
    g = 1.07 + 0.258 * q + 0.0602 * q**2
    y = (ro - 100.0) / 15.0 + 46.0 / 8.4 - g / 9.0
    z = 46.0 / 30.0 - g / 40.0
    return 15.0 * log10(1.0 + 10.0**y + 10.0**z)


def _talker_echo(channel: Channel, no: float, ist: float) -> float:
    """Idte: the talker hears an echo of the own voice (7-19 to 7-24); below 1 ms it is taken for sidetone."""
    t_ms = channel.t_ms
    if t_ms < 1.0:
        return 0.0
    terv = channel.telr - 40.0 * log10((1.0 + t_ms / 10.0) / (1.0 + t_ms / 150.0)) + 6.0 * exp(-0.3 * t_ms**2)
    if channel.stmr < 9.0:
        terv += ist / 2.0
    roe = -1.5 * (no - channel.rlr)
    re = 80.0 + 2.5 * (terv - 14.0)
    half = (roe - re) / 2.0
    idte = (half + sqrt(half**2 + 100.0) - 1.0) * (1.0 - exp(-t_ms))
    return sqrt(idte**2 + ist**2) if channel.stmr > 20.0 else idte


def _listener_echo(channel: Channel, ro: float) -> float:
    """Idle: the listener hears the talker twice (7-25, 7-26)."""
    rle = 10.5 * (channel.wepl + 7.0) / sqrt(sqrt(channel.tr_ms + 1.0))
    half = (ro - rle) / 2.0
    return half + sqrt(half**2 + 169.0)


def _long_delay(channel: Channel) -> float:
    """Idd: delay alone makes people talk at once (7-27, 7-28)."""
    if channel.ta_ms <= channel.mt_ms:
        return 0.0
    x = log2(channel.ta_ms / channel.mt_ms)
    power = 6.0 * channel.st
    return 25.0 * (_root_of_sum(x, power) - 3.0 * _root_of_sum(x / 3.0, power) + 2.0)


def _equipment(channel: Channel) -> float:
    """Ie,eff: the codec, and what packet loss makes of it (7-29)."""
    ppl = channel.ppl_percent
    return channel.ie + (95.0 - channel.ie) * ppl / (ppl / channel.burst_ratio + channel.bpl)


def _root_of_sum(x: float, power: float) -> float:
    """Return (1 + x^power)^(1/power), the soft maximum of 1 and x that the recommendation is fond of."""
    return float((1.0 + x**power) ** (1.0 / power))
