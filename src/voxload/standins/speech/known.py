"""The utterances that the stand-in knows, by the course of their level: gain, codec and noise matter little."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from voxload.audio.codec import Samples
from voxload.audio.corpus import Corpus, Utterance, utterance_from_wav
from voxload.audio.speech import WINDOWS_PER_S
from voxload.clock import NS_PER_S
from voxload.errors import BadInputError, Problem
from voxload.standins.speech.settings import KnownRecording

Levels = npt.NDArray[np.float32]
"""The power of windows of 10 ms, as a logarithm: shape (n,)."""

LIKE = 0.85
"""A correlation from which two courses are the same: those of one utterance reach 0.93 as 8 kHz µ-law or in noise of
-30 dBFS, those of two with other words no more than 0.6."""
_PROMISING = 0.7  # of a beginning: worth a closer look
_WINDOWS_MIN = 8
_ALIKE = 0.93  # no need to look for more
_FLOOR = 1e4  # power of an RMS of 100, -50 dBFS: quieter differences count little
_SLACK = 20  # windows by which two ways to measure an utterance may differ in length
_LAGS = (0, 1, -1, 2, -2, 3, -3, 4, -4, 6, -6, 8, -8, -11, -14)
_RATES = (0.65, 1.5)  # speaking rates
_ROOM = 90  # windows by which levels with margins may be longer than what is said in them
_SURE_WINDOWS = 60
_LEXICAL = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")
QUIET: Levels = np.full(100, np.log10(_FLOOR), np.float32)


def levels_of(samples: Samples, window: int) -> Levels:
    """Return the levels of whole windows of samples."""
    values = samples.astype(np.float32).reshape(-1, window)
    found: Levels = np.log10(np.einsum("ij,ij->i", values, values) / window + _FLOOR)
    return found


def lexical(text: str) -> list[str]:
    """Return the plain words of a text, as interim results have them."""
    return [word.lower() for word in _LEXICAL.findall(text)]


class Guess(NamedTuple):
    """What somebody seems to be saying."""

    text: str
    length_ns: int
    """How long it takes to say all of it."""
    sure: bool
    """More audio will hardly change it."""


class Place(NamedTuple):
    """Where something is said, in windows (end exclusive)."""

    text: str
    begin: int
    end: int


class Known:
    """All that callers of the corpus say, and nothing for its noises."""

    def __init__(self, utterances: Sequence[Utterance]) -> None:
        self._texts = ["" if utterance.intent == "noise" else utterance.text for utterance in utterances]
        courses = [_course(utterance) for utterance in utterances]
        self._lengths = np.array([len(course) for course in courses])
        width = int(self._lengths.max()) + 2 * _SLACK
        table = np.full((len(courses), width), QUIET[0], np.float64)
        for row, course in zip(table, courses, strict=True):
            row[: len(course)] = course
        self._table = table.astype(np.float32)
        nothing = np.zeros((len(courses), 1))
        self._sums = np.hstack([nothing, np.cumsum(table, axis=1)])
        self._squares = np.hstack([nothing, np.cumsum(table * table, axis=1)])

    @classmethod
    def of(cls, corpus: Corpus, recordings: Sequence[KnownRecording] = ()) -> Known:
        """Return what is known with a corpus and some recordings.

        Raises:
            BadInputError: a recording is no WAV file, or it holds no speech; every problem is listed.
        """
        own: list[Utterance] = []
        problems: list[Problem] = []
        for recording in recordings:
            try:
                own.append(_read(recording))
            except BadInputError as error:
                problems += error.problems
        if problems:
            raise BadInputError(problems)
        return cls((*own, *corpus.callers, *corpus.extras, *corpus.agents))

    def whole(self, levels: Levels) -> str | None:
        """Return the text of a phrase; "" for a noise, None for speech that is not known.

        Utterances that follow each other without a pause that ends a phrase make one text.
        """
        rows = np.flatnonzero(np.abs(self._lengths - len(levels)) <= _SLACK)
        found, score = self._best(levels, rows, len(levels) + _SLACK)
        if score >= LIKE:
            return self._texts[found]
        found = self._at_another_rate(levels)
        return self._texts[found] if found >= 0 else self._several(levels)

    def _at_another_rate(self, levels: Levels) -> int:
        """Return the utterance that is said, only faster or slower, or -1."""
        best, score = -1, LIKE
        for row, own in enumerate(map(int, self._lengths)):
            if not _RATES[0] <= own / max(len(levels), 1) <= _RATES[1]:
                continue
            course = np.interp(np.linspace(0, len(levels) - 1, own), np.arange(len(levels)), levels)
            likeness = float(np.corrcoef(course, self._table[row, :own])[0, 1])
            if likeness > score:
                best, score = row, likeness
        return best

    def within(self, levels: Levels) -> Place | None:
        """Return what is said somewhere in some levels, which have margins on both sides; None when it is not known."""
        best, score = None, LIKE
        for row, own in enumerate(map(int, self._lengths)):
            if not 0 <= len(levels) - own <= _ROOM:
                continue
            course = self._table[row, :own] - self._table[row, :own].mean()
            places = np.lib.stride_tricks.sliding_window_view(levels, own)
            spread = places.std(axis=1) * own * course.std()
            likeness = (places @ course) / np.maximum(spread, 1e-6)  # the course has a mean of 0
            place = int(likeness.argmax())
            if likeness[place] > score:
                best, score = Place(self._texts[row], place, place + own), float(likeness[place])
        return best

    def begun(self, levels: Levels) -> Guess | None:
        """Return what is being said; None when that is not known."""
        rows = np.flatnonzero(self._lengths >= len(levels) - _SLACK)
        found, score = self._best(levels, rows, len(levels))
        if score < LIKE or not self._texts[found]:
            return None
        length_ns = int(self._lengths[found]) * NS_PER_S // WINDOWS_PER_S
        return Guess(self._texts[found], length_ns, len(levels) >= _SURE_WINDOWS)

    def _several(self, levels: Levels) -> str | None:
        """Return the texts of utterances one after the other, if that is what it is."""
        texts: list[str] = []
        place = 0
        while place < len(levels):
            row = self._longest_at_start(levels[place:])
            if row < 0:
                return None
            texts.append(self._texts[row])
            place += int(self._lengths[row])
            loud = np.flatnonzero(levels[place:] > QUIET[0] + 0.5)
            if not len(loud):
                break
            place += int(loud[0])
        return " ".join(filter(None, texts)) if len(texts) > 1 else None

    def _longest_at_start(self, levels: Levels) -> int:
        """Return the longest utterance with which some levels begin (a short one is like many beginnings), or -1."""
        fitting = np.flatnonzero(self._lengths <= len(levels) + _SLACK)
        width = min(_SURE_WINDOWS, len(levels))
        promising = (self._lengths[fitting] < width) | (self._likeness(levels, fitting, width, _LAGS) >= _PROMISING)
        for row in sorted(fitting[promising], key=lambda row: -int(self._lengths[row])):
            own = int(self._lengths[row])
            if self._best(levels[:own], np.array([row]), min(own, len(levels)))[1] >= LIKE:
                return int(row)
        return -1

    def _best(self, levels: Levels, rows: npt.NDArray[np.intp], width: int) -> tuple[int, float]:
        """Return the row that is most like some levels over `width` windows, and how much."""
        best, score = -1, -1.0
        if len(rows):
            for lags in (_LAGS[:1], _LAGS[1:]):  # most are found at once
                likeness = self._likeness(levels, rows, width, lags)
                place = int(likeness.argmax())
                if likeness[place] > score:
                    best, score = int(rows[place]), float(likeness[place])
                if score >= _ALIKE:
                    break
        return best, score

    def _likeness(
        self, levels: Levels, rows: npt.NDArray[np.intp], width: int, lags: Sequence[int]
    ) -> npt.NDArray[np.float64]:
        """Return the highest correlation of each row with some levels over `width` windows, at any of some lags."""
        width = min(width, self._table.shape[1])
        if width < _WINDOWS_MIN:
            return np.full(len(rows), -1.0)
        sums, squares = self._sums[rows, width], self._squares[rows, width]
        spread = np.sqrt(np.maximum(squares - sums * sums / width, 1e-6))
        courses = np.stack([_moved(levels, lag, width) for lag in lags])
        courses -= courses.mean(axis=1, keepdims=True)
        norms = np.maximum(np.linalg.norm(courses, axis=1), 1e-6)
        found: npt.NDArray[np.float64] = ((self._table[rows, :width] @ courses.T) / (spread[:, None] * norms)).max(
            axis=1
        )
        return found


def _read(recording: KnownRecording) -> Utterance:
    try:
        data = Path(recording.file).read_bytes()
    except OSError as error:
        raise BadInputError([Problem(f"cannot be read: {error.strerror or error}", recording.file)]) from None
    return utterance_from_wav(data, recording.file, recording.text)


def _moved(levels: Levels, lag: int, width: int) -> Levels:
    """Return levels some windows earlier (later: negative), with silence where there are none."""
    found = np.full(width, QUIET[0], np.float32)
    source = levels[max(lag, 0) :]
    room = found[max(-lag, 0) :]
    length = min(len(source), len(room))
    room[:length] = source[:length]
    return found


def _course(utterance: Utterance) -> Levels:
    window = utterance.sample_rate_hz // WINDOWS_PER_S
    active = utterance.samples[utterance.active_start : utterance.active_end]
    whole = np.concatenate([active, np.zeros(-len(active) % window, np.int16)])
    return levels_of(whole, window)
