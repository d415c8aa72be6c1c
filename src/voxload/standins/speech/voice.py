"""What is spoken: SSML as text and pauses, text as audio of the corpus in the form that is asked for."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple
from xml.etree.ElementTree import Element, ParseError

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from voxload.audio.codec import Encoding, Samples, encode_audio, resample
from voxload.audio.corpus import Corpus
from voxload.clock import NS_PER_S
from voxload.standins.speech.known import lexical

RATE_HZ = 16_000
TEXTS_KEPT = 256
"""Audio of the latest texts that is kept, because agents say the same things."""
PAUSE_S_MAX = 20.0
TEXT_MAX = 10_000
_FORM = re.compile(r"(raw|riff)-(\d+(?:k?))hz-(8|16)bit-mono-(pcm|mulaw)")
_BREAK = re.compile(r"(\d+(?:\.\d+)?)(ms|s)")
_BREAK_S = {"none": 0.0, "x-weak": 0.25, "weak": 0.5, "medium": 0.75, "strong": 1.0, "x-strong": 1.25}
"""Source: Microsoft, "Speech synthesis markup: add a break"."""


class SynthesisError(ValueError):
    """A request that cannot be spoken."""


class AudioForm(NamedTuple):
    """How audio is to be sent."""

    name: str
    rate_hz: int
    encoding: Encoding
    riff: bool

    @property
    def bytes_per_s(self) -> int:
        """Bytes in a second of audio."""
        return self.rate_hz * (2 if self.encoding == "pcm16" else 1)


def audio_form(name: str) -> AudioForm:
    """Return the form with the service's name for it.

    Raises:
        SynthesisError: it is none of PCM and µ-law.
    """
    match = _FORM.fullmatch(name)
    if not match or (match[3] == "16") != (match[4] == "pcm"):
        raise SynthesisError(f"Unsupported audio format: {name!r}. The stand-in has raw and riff, PCM and mu-law.")
    rate_hz = int(match[2].rstrip("k")) * (1000 if match[2].endswith("k") else 1)
    if not 8000 <= rate_hz <= 48_000:
        raise SynthesisError(f"Unsupported audio format: {name!r}.")
    return AudioForm(name, rate_hz, "pcm16" if match[4] == "pcm" else "mulaw", match[1] == "riff")


class Script(NamedTuple):
    """What SSML says: texts and pauses in s, in order."""

    parts: tuple[str | float, ...]

    @property
    def characters(self) -> int:
        """How many characters are spoken."""
        return sum(len(part) for part in self.parts if isinstance(part, str))


def read_ssml(ssml: bytes) -> Script:
    """Return what SSML says.

    Raises:
        SynthesisError: it is no SSML, or it says nothing.
    """
    try:
        root = fromstring(ssml)
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise SynthesisError(f"Ssml parsing error: {error}") from None
    if _tag(root) != "speak":
        raise SynthesisError("Ssml must have the element speak as its root.")
    parts: list[str | float] = []
    for part in _parts(root):
        if isinstance(part, str) and parts and isinstance(parts[-1], str):
            parts[-1] = f"{parts[-1]} {part}"
        else:
            parts.append(part)
    script = Script(tuple(parts))
    if not script.characters:
        raise SynthesisError("Ssml contains no text.")
    if script.characters > TEXT_MAX:
        raise SynthesisError(f"Ssml with more than {TEXT_MAX} characters of text.")
    return script


def _tag(element: Element) -> str:
    return str(element.tag).rpartition("}")[2].lower()


def _parts(element: Element) -> Iterator[str | float]:
    if element.text and element.text.strip():
        yield " ".join(element.text.split())
    for child in element:
        if _tag(child) == "break":
            yield _pause_s(child)
        else:
            yield from _parts(child)
        if child.tail and child.tail.strip():
            yield " ".join(child.tail.split())


def _pause_s(element: Element) -> float:
    match = _BREAK.fullmatch(element.get("time", "").strip())
    if match:
        return min(float(match[1]) / (1000 if match[2] == "ms" else 1), PAUSE_S_MAX)
    return _BREAK_S.get(element.get("strength", "medium"), 0.75)


class SpokenWord(NamedTuple):
    """A word in the audio; times in ns from its start."""

    text: str
    offset_ns: int
    duration_ns: int


class Speech(NamedTuple):
    """Audio, encoded, without a header."""

    audio: bytes
    duration_ns: int
    words: tuple[SpokenWord, ...]


class Voice:
    """Speaks texts of the corpus as they are there, and others as speech of about the length that they take."""

    def __init__(self, corpus: Corpus, characters_per_s: float) -> None:
        self._own = {_plain(each.text): each.samples[each.active_start : each.active_end] for each in corpus.agents}
        self._babble: Samples = np.concatenate(list(self._own.values()))
        self._characters_per_s = characters_per_s
        self._kept: OrderedDict[tuple[Script, str], Speech] = OrderedDict()

    def speak(self, script: Script, form: AudioForm) -> Speech:
        """Return what is said."""
        key = script, form.name
        found = self._kept.get(key)
        if found is None:
            found = self._kept[key] = self._make(script, form)
            if len(self._kept) > TEXTS_KEPT:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(key)
        return found

    def _make(self, script: Script, form: AudioForm) -> Speech:
        pieces: list[Samples] = []
        words: list[SpokenWord] = []
        samples = 0
        for part in script.parts:
            if isinstance(part, float):
                pieces.append(np.zeros(round(part * RATE_HZ), np.int16))
            else:
                pieces.append(self._said(part))
                words += _places(part, samples, len(pieces[-1]))
            samples += len(pieces[-1])
        audio = encode_audio(resample(np.concatenate(pieces), RATE_HZ, form.rate_hz), form.encoding)
        return Speech(audio, len(audio) * NS_PER_S // form.bytes_per_s, tuple(words))

    def _said(self, text: str) -> Samples:
        own = self._own.get(_plain(text))
        if own is not None:
            return own
        length = max(1, round(len(text) / self._characters_per_s * RATE_HZ))
        return np.resize(self._babble, length)


def _plain(text: str) -> str:
    return " ".join(lexical(text))


def _places(text: str, start: int, length: int) -> Iterator[SpokenWord]:
    """Give each word the share of the time that it has of the text."""
    for match in re.finditer(r"\S+", text):
        begin, end = (start + length * at // len(text) for at in match.span())
        yield SpokenWord(match[0], begin * NS_PER_S // RATE_HZ, (end - begin) * NS_PER_S // RATE_HZ)
