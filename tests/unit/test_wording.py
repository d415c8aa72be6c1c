"""Misheard transcripts: the stated word error rate is the one that an aligner finds."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxload.audio.corpus import load_corpus
from voxload.wording import FOREIGN_WORDS, misheard


def words(text):
    return "".join(char if char.isalnum() or char in " '" else " " for char in text.lower()).split()


def edits(reference, hypothesis):
    """The least number of substitutions, deletions and insertions (Levenshtein) between two lists of words."""
    row = list(range(len(hypothesis) + 1))
    for i, left in enumerate(reference, 1):
        diagonal, row[0] = row[0], i
        for j, right in enumerate(hypothesis, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (left != right))
    return row[-1]


@pytest.mark.parametrize("rate", [0.05, 0.2, 0.5])
def test_the_expected_word_error_rate_is_the_stated_one(rate):
    texts = [utterance.text for utterance in load_corpus().callers]
    found = total = 0
    for seed in range(3000):
        text = texts[seed % len(texts)]
        found += edits(words(text), words(misheard(text, rate, Random(seed))))
        total += len(words(text))
    deviation = (rate * (1 - rate) / total) ** 0.5
    assert found / total == pytest.approx(rate, abs=4 * deviation)


def test_all_kinds_of_errors_occur():
    text = "I need to cancel my appointment for tomorrow."
    lengths = {len(words(misheard(text, 0.3, Random(seed)))) for seed in range(100)}
    assert min(lengths) < 8 < max(lengths)


@given(st.text("abz Éß.,!?-", max_size=60), st.integers(0, 1000))
def test_the_ends_of_the_scale(text, seed):
    assert misheard(text, 0.0, Random(seed)) == " ".join(text.split())
    kept = set(words(misheard(text, 1.0, Random(seed)))) - set(FOREIGN_WORDS)
    assert kept <= set(words(text))


def test_every_word_is_wrong_at_the_rate_of_one():
    text = "Could you renew the prescription for my medication?"
    for seed in range(50):
        assert edits(words(text), words(misheard(text, 1.0, Random(seed)))) == 8


def test_no_foreign_word_is_in_the_corpus():
    spoken = {word for utterance in load_corpus().callers for word in words(utterance.text)}
    assert not spoken & set(FOREIGN_WORDS)
