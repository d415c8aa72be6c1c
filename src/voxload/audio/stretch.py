"""Speech made slower or faster at the same pitch, with every label exactly where the rate puts it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from voxload.audio.codec import FULL_SCALE, Samples
from voxload.audio.corpus import Utterance

_WINDOW_MS = 30  # two to six periods of a voice
_SEARCH_MS = 8  # more than half a period of the lowest voice (70 Hz), on either side

Wave = npt.NDArray[np.float64]


def change_rate(utterance: Utterance, speaking_rate: float) -> Utterance:
    """Return an utterance spoken `speaking_rate` times as fast; its length and labels are divided by it, rounded.

    What lies before, between and after the labels is stretched on its own and both ends of each part are copied as
    they are, so that the first and the last active sample are the same sounds as before. (Phase vocoders and the
    usual overlap-add smear these edges by tens of milliseconds, which a turn's latency would inherit.)
    """
    if speaking_rate == 1:
        return utterance
    edges = (0, utterance.active_start, utterance.active_end, len(utterance.samples))
    scaled = [round(edge / speaking_rate) for edge in edges]
    scaled[2] = max(scaled[2], scaled[1] + 1)
    scaled[3] = max(scaled[3], scaled[2])
    wave = utterance.samples.astype(np.float64)
    parts = [
        stretch(wave[edges[i] : edges[i + 1]], scaled[i + 1] - scaled[i], utterance.sample_rate_hz) for i in range(3)
    ]
    samples: Samples = np.clip(np.rint(np.concatenate(parts)), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
    samples.flags.writeable = False
    return replace(utterance, samples=samples, active_start=scaled[1], active_end=scaled[2])


def stretch(wave: Wave, length: int, sample_rate_hz: int) -> Wave:
    """Return a wave of exactly `length` samples with the pitch of `wave`, beginning and ending with its own samples.

    WSOLA (W. Verhelst, M. Roelands, "An overlap-add technique based on waveform similarity (WSOLA) for high quality
    time-scale modification of speech", ICASSP 1993): windows are laid at even distances, and each is taken from where
    the wave best continues the window before it, within 8 ms of where the rate puts it. The first and the last window
    are taken from the ends. Waves too short for two windows are interpolated.
    """
    window = sample_rate_hz * _WINDOW_MS // 1000
    if len(wave) == length:
        return wave
    if min(len(wave), length) < 2 * window:
        return np.interp(np.linspace(0, len(wave) - 1, length), np.arange(len(wave)), wave) if len(wave) else wave
    count = -(-(length - window) // (window // 2)) + 1
    targets = np.rint(np.linspace(0, length - window, count)).astype(int)
    sources = np.rint(np.linspace(0, len(wave) - window, count)).astype(int)
    search = sample_rate_hz * _SEARCH_MS // 1000
    shape = np.hanning(window + 2)[1:-1]
    out, weight = np.zeros(length), np.zeros(length)
    source = 0
    for k in range(count):
        if 0 < k < count - 1:
            natural = source + int(targets[k] - targets[k - 1])
            source = _best(wave, natural, int(sources[k]), search, window)
        else:
            source = int(sources[k])
        place = slice(int(targets[k]), int(targets[k]) + window)
        out[place] += shape * wave[source : source + window]
        weight[place] += shape
    return out / weight


def _best(wave: Wave, natural: int, around: int, search: int, window: int) -> int:
    """Return the start near `around` from where `wave` is most like it is from `natural` (normalised correlation)."""
    low, high = max(0, around - search), min(len(wave) - window, around + search)
    like = wave[natural : natural + window]
    span = wave[low : high + len(like)]
    score = np.correlate(span, like)
    total = np.concatenate([[0.0], np.cumsum(span * span)])
    energy = total[len(like) :] - total[: -len(like)]
    return low + int(np.argmax(score / np.sqrt(energy + 1)))
