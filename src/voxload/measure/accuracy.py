"""Did the agent understand: word error rate of its transcripts, and whether it recognised what the caller wanted."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

from voxload.measure.extra import optional, require

EXTRA = "accuracy"
CACHED_TEXTS = 4096
NEAREST_SIMILARITY_MIN = 0.5
"""Texts that differ by more than this are not about the same thing."""

_APOSTROPHE = re.compile("['`\u2019]")
_DIGIT_GROUP = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_SEPARATOR = re.compile(r"(?<!\d)\.|\.(?!\d)|[^\w.]|_")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

Prediction = tuple[str, float]
"""An intent and how certain it is, 0 to 1; `("", 0.0)` when the text says nothing."""


# --- words ------------------------------------------------------------------------------------------------------------


class WordErrors(NamedTuple):
    """Errors (substitutions, deletions, insertions) and words of the reference; sums of both give the rate of many."""

    errors: int
    words: int

    @property
    def rate(self) -> float | None:
        """Errors ÷ words; above 1 with many insertions, None when nothing was said."""
        return self.errors / self.words if self.words else None


@lru_cache(maxsize=CACHED_TEXTS)
def normalise(text: str) -> str:
    """Return the text as it is compared: its words in lower case, one space between them.

    Punctuation goes, hyphens part words, apostrophes do not (`don't` is `dont`). Numbers stay as they are written,
    without digit grouping (`1,000` is `1000`) and with their decimal point; `3` and `three` differ.
    """
    folded = _APOSTROPHE.sub("", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(_SEPARATOR.sub(" ", _DIGIT_GROUP.sub("", folded)).split())


@lru_cache(maxsize=CACHED_TEXTS)
def word_error_rate(reference: str, hypothesis: str) -> WordErrors:
    """Return how many words of `reference` (what was said) the `hypothesis` (what was understood) gets wrong.

    Both are normalised (`normalise`). The alignment with the fewest errors counts, as is usual for WER = (S+D+I)/N.

    Raises:
        BadInputError: jiwer is not installed.
    """
    said, understood = normalise(reference), normalise(hypothesis)
    words = len(said.split())
    if not said or not understood:
        return WordErrors(max(words, len(understood.split())), words)
    result = require("jiwer", EXTRA).process_words(said, understood)
    return WordErrors(result.substitutions + result.deletions + result.insertions, words)


# --- intents ----------------------------------------------------------------------------------------------------------


class IntentClassifier:
    """Names the intent of a text, learned from labelled examples; remembers what it has answered."""

    def __init__(self, predict: Callable[[str], Prediction], method: str, confidence_min: float) -> None:
        self.method = method
        """`logistic_regression` or `nearest_text`, for reports."""
        self.confidence_min = confidence_min
        """Below this confidence a text fits no intent well."""
        self._predict = lru_cache(maxsize=CACHED_TEXTS)(predict)

    @classmethod
    def train(cls, labelled: Sequence[tuple[str, str]]) -> IntentClassifier:
        """Return a classifier for pairs of (text, intent): what callers say and, to judge by replies, what agents say.

        With scikit-learn: TF-IDF of words, word pairs and 3 to 5 letters, then logistic regression. Without it, or
        where there is only one intent: the label of the most similar text (rapidfuzz). Same examples, same answers.

        Raises:
            ValueError: there is no labelled text.
            BadInputError: neither scikit-learn nor rapidfuzz is installed.
        """
        examples = list(dict.fromkeys((normalise(text), intent) for text, intent in labelled if normalise(text)))
        if not examples:
            raise ValueError("an intent classifier needs at least one labelled text")
        several = len({intent for _, intent in examples}) > 1
        if several and optional("sklearn") is not None:
            # Twice what a guess has; of two intents, 0.6.
            confidence_min = min(0.6, 2 / len({intent for _, intent in examples}))
            return cls(_logistic_regression(examples), "logistic_regression", confidence_min)
        return cls(_nearest_text(examples), "nearest_text", NEAREST_SIMILARITY_MIN)

    def predict(self, text: str) -> Prediction:
        """Return the most likely intent of a text and its probability (or similarity), 0 to 1."""
        words = normalise(text)
        return self._predict(words) if words else ("", 0.0)


def _logistic_regression(examples: Sequence[tuple[str, str]]) -> Callable[[str], Prediction]:
    text = require("sklearn.feature_extraction.text", EXTRA)
    linear = require("sklearn.linear_model", EXTRA)
    features = require("sklearn.pipeline", EXTRA).make_union(
        # The texts are normalised; the default pattern would leave out words of one letter or digit.
        text.TfidfVectorizer(ngram_range=(1, 2), tokenizer=str.split, token_pattern=None, sublinear_tf=True),
        text.TfidfVectorizer(ngram_range=(3, 5), analyzer="char_wb", sublinear_tf=True),
    )
    matrix = features.fit_transform([example for example, _ in examples])
    # Balanced, because an intent is not likelier for having more examples; C = 10 as there are few examples an intent.
    model = linear.LogisticRegression(C=10.0, class_weight="balanced", max_iter=1000)
    model.fit(matrix, [intent for _, intent in examples])

    def predict(words: str) -> Prediction:
        row = features.transform([words])
        if not row.nnz:
            return "", 0.0
        probabilities = model.predict_proba(row)[0]
        best = int(probabilities.argmax())
        return str(model.classes_[best]), float(probabilities[best])

    return predict


def _nearest_text(examples: Sequence[tuple[str, str]]) -> Callable[[str], Prediction]:
    process, fuzz = require("rapidfuzz.process", EXTRA), require("rapidfuzz.fuzz", EXTRA)
    texts = [example for example, _ in examples]

    def predict(words: str) -> Prediction:
        _, score, index = process.extractOne(words, texts, scorer=fuzz.token_sort_ratio)
        return (examples[index][1], score / 100.0) if score > 0 else ("", 0.0)

    return predict


def judge_turn(
    expected_intent: str,
    agent_intent: str,
    agent_transcript: str,
    agent_reply: str,
    classifier: IntentClassifier | None,
) -> bool | None:
    """Return whether the agent recognised what the caller wanted in a turn; None when nothing tells.

    The first of these that is not empty decides: the agent's own intent field (`BookAppointment` is
    `book_appointment`), what it understood, what it replied. The last two go through the classifier; a reply that fits
    no intent well (`one moment, please`) does not tell. A turn without an expected intent is not judged.
    """
    if not expected_intent:
        return None
    if agent_intent.strip():
        return _plain(agent_intent) == _plain(expected_intent)
    if classifier is None:
        return None
    if normalise(agent_transcript):
        return classifier.predict(agent_transcript)[0] == expected_intent
    intent, confidence = classifier.predict(agent_reply)
    return intent == expected_intent if confidence >= classifier.confidence_min else None


def _plain(intent: str) -> str:
    return normalise(_CAMEL.sub(" ", intent.strip()))
