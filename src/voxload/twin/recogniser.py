"""A speech recogniser that knows what callers say, as a process of its own: audio in, words out."""

from __future__ import annotations

import json
import re
import struct
import sys
from collections.abc import Iterable
from typing import BinaryIO

from voxload.twin.extras import require

RATE_HZ = 16_000
HEADER = struct.Struct("<I")
"""Before each utterance: how many bytes of 16-bit PCM follow."""

_WORD = re.compile(r"[a-z]+(?:'[a-z]+)*")


def spoken_words(text: str) -> str:
    """Return a text as its plain words in lower case, as a recogniser writes it."""
    return " ".join(_WORD.findall(text.lower().replace("\u2019", "'")))


def grammar(sentences: Iterable[str]) -> str:
    """Return a grammar (JSGF) of exactly these sentences of plain words."""
    return "#JSGF V1.0;\ngrammar callers;\npublic <said> = " + " | ".join(sentences) + ";\n"


class Recogniser:
    """PocketSphinx with a grammar of the sentences that it may hear, and the model that comes with it (US English).

    Sentences with a word that the model cannot pronounce are left out.

    Raises:
        BadInputError: the extra `real` is not installed.
        ValueError: there is no sentence that it could hear.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._decoder = require("pocketsphinx").Decoder(samprate=RATE_HZ, lm=None, loglevel="FATAL")
        sentences = dict.fromkeys(spoken_words(text) for text in texts)
        self.sentences = [words for words in sentences if words and self._pronounces(words)]
        if not self.sentences:
            raise ValueError("no sentence that the recogniser could hear")
        self._decoder.add_jsgf_string("callers", grammar(self.sentences))
        self._decoder.activate_search("callers")

    def recognise(self, pcm: bytes) -> str:
        """Return the words of an utterance (16-bit PCM at 16 kHz); empty when it was none of the sentences."""
        if not pcm:
            return ""
        decoder = self._decoder
        decoder.start_utt()
        decoder.process_raw(pcm, full_utt=True)
        decoder.end_utt()
        hypothesis = decoder.hyp()
        return str(hypothesis.hypstr) if hypothesis is not None else ""

    def _pronounces(self, words: str) -> bool:
        return all(self._decoder.lookup_word(word) is not None for word in words.split())


def serve(source: BinaryIO, sink: BinaryIO) -> None:
    """Recognise utterances until `source` ends.

    First comes one line, a JSON list of texts; then utterances, each behind a `HEADER`. One line of JSON answers each:
    the words; the first answer, a number, is how many sentences are known.
    """
    recogniser = Recogniser(json.loads(source.readline()))
    answers: list[object] = [len(recogniser.sentences)]
    while True:
        for answer in answers:
            sink.write(json.dumps(answer).encode() + b"\n")
            sink.flush()
        head = source.read(HEADER.size)
        if len(head) < HEADER.size:
            return
        answers = [recogniser.recognise(source.read(HEADER.unpack(head)[0]))]


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
