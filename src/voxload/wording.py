"""Transcripts with errors: words that are wrong, missing or too many, at a stated expected word error rate."""

from __future__ import annotations

import re
from random import Random

_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")
FOREIGN_WORDS = (
    "marble", "lantern", "copper", "meadow", "violin", "pepper", "harbour", "saddle", "thunder", "velvet", "walnut",
    "anchor", "blanket", "canyon", "daisy", "ember", "falcon", "garlic", "hazel", "ivory", "jungle", "kettle",
)  # fmt: skip
"""What is put in for a word or between words: plain words that callers of a clinic do not say."""


def misheard(text: str, word_error_rate: float, random: Random) -> str:
    """Return a text in which each word is wrong with the given chance.

    Half of the errors are substitutions. The others are deletions in one text and insertions (after the word) in
    another, never both in the same one: a deletion beside an insertion would be counted as one substitution. New words
    are none of the text's. So the least number of edits that turns one text into the other is the number of words that
    were drawn, and the expected word error rate, (S + D + I) / N, is the stated one.
    """
    own = {word.lower() for word in _WORD.findall(text)}
    foreign = [word for word in FOREIGN_WORDS if word not in own]
    deletes = random.random() < 0.5

    def replace(match: re.Match[str]) -> str:
        word = match[0]
        if random.random() >= word_error_rate:
            return word
        other = random.choice(foreign)
        if random.random() < 0.5:
            return other
        return "" if deletes else f"{word} {other}"

    return " ".join(_WORD.sub(replace, text).split())
