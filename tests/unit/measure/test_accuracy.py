"""Word errors on cases counted by hand, and intents on texts the classifier has not seen."""

import sys
import timeit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxload.errors import BadInputError
from voxload.measure.accuracy import IntentClassifier, WordErrors, judge_turn, normalise, word_error_rate

EXAMPLES = [
    ("Hello, I would like to book an appointment with the doctor.", "book_appointment"),
    ("Can I schedule a visit for next Tuesday morning?", "book_appointment"),
    ("I need to cancel my appointment for tomorrow.", "cancel_appointment"),
    ("Please cancel my visit on Friday, I cannot make it.", "cancel_appointment"),
    ("I need to refill my blood pressure prescription.", "refill_prescription"),
    ("Could you renew the prescription for my medication?", "refill_prescription"),
    ("I have a question about my last bill.", "billing_question"),
    ("Why was I charged twice on my invoice?", "billing_question"),
    ("Certainly. I can offer you Tuesday at ten in the morning.", "book_appointment"),
    ("No problem. Your appointment has been cancelled.", "cancel_appointment"),
    ("Your refill will be ready at the pharmacy tomorrow.", "refill_prescription"),
    ("I see the charge. I will send you a corrected bill.", "billing_question"),
]
UNSEEN = [
    ("I want to book a visit with my doctor", "book_appointment"),
    ("cancel my appointment please", "cancel_appointment"),
    ("I'd like a prescription refill for my blood pressure", "refill_prescription"),
    ("you charged me twice", "billing_question"),
]


@pytest.fixture(scope="module")
def classifier():
    pytest.importorskip("sklearn")
    return IntentClassifier.train(EXAMPLES)


@pytest.fixture
def nearest(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)  # as if it were not installed
    return IntentClassifier.train(EXAMPLES)


# --- words ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  Hello,  World! ", "hello world"),
        ("I don't — can\u2019t — won`t", "i dont cant wont"),
        ("well-known foo_bar", "well known foo bar"),
        ("It costs $1,000,000.50.", "it costs 1000000.50"),
        ("at 3:30 p.m., room 12.", "at 3 30 p m room 12"),
        ("1,2,3", "1 2 3"),
        ("ÜBER Straße \uff21", "über strasse a"),
        ("...", ""),
    ],
)
def test_normalise(text, expected):
    assert normalise(text) == expected


@pytest.mark.parametrize(
    ("said", "understood", "expected"),
    [
        ("Book an appointment.", "book an appointment", (0, 3)),
        ("book an appointment", "cook an appointment", (1, 3)),  # substitution
        ("book an appointment", "book appointment", (1, 3)),  # deletion
        ("book an appointment", "please book an appointment", (1, 3)),  # insertion
        ("one two three four", "two three four five", (2, 4)),  # deletion and insertion, not four substitutions
        ("room 12", "room 13", (1, 2)),
        ("one two", "", (2, 2)),
        ("", "noise taken for speech", (4, 0)),
        ("", "", (0, 0)),
        ("!", "?", (0, 0)),
    ],
)
def test_word_errors(said, understood, expected):
    assert word_error_rate(said, understood) == expected


def test_rates_are_summed_from_counts():
    pairs = [word_error_rate("one two three", "one two"), word_error_rate("yes", "no"), word_error_rate("", "hm")]
    total = WordErrors(sum(pair.errors for pair in pairs), sum(pair.words for pair in pairs))
    assert total == (3, 4)
    assert total.rate == 0.75
    assert WordErrors(1, 0).rate is None


def edit_distance(one, two):
    row = list(range(len(two) + 1))
    for i, left in enumerate(one, 1):
        previous, row[0] = row[0], i
        for j, right in enumerate(two, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (left != right))
    return row[-1]


WORDS = st.lists(st.sampled_from(["a", "b", "c", "12"]), max_size=8)


@given(WORDS, WORDS)
def test_errors_are_the_edit_distance_of_words(said, understood):
    assert word_error_rate(" ".join(said), " ".join(understood)) == (edit_distance(said, understood), len(said))


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "jiwer", None)
    with pytest.raises(BadInputError, match=r"pip install 'voxload\[accuracy\]'"):
        word_error_rate("a text not seen before in this file", "another one")


# --- intents ---


def test_unseen_texts_are_classified(classifier):
    assert classifier.method == "logistic_regression"
    for text, intent in UNSEEN:
        found, confidence = classifier.predict(text)
        assert found == intent
        assert 1 / 4 < confidence <= 1


def test_without_scikit_learn_the_nearest_text_decides(nearest):
    assert nearest.method == "nearest_text"
    for text, intent in EXAMPLES:
        assert nearest.predict(text) == (intent, 1.0)
    assert nearest.predict("please cancel my visit on monday")[0] == "cancel_appointment"


def test_neither_library_is_an_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "rapidfuzz.process", None)
    with pytest.raises(BadInputError, match=r"voxload\[accuracy\]"):
        IntentClassifier.train(EXAMPLES)


@pytest.mark.parametrize("text", ["", "  ", "?!", "Зажёг жгучий"])
def test_texts_without_meaning(classifier, text):
    assert classifier.predict(text) == ("", 0.0)


def test_case_and_punctuation_do_not_matter(classifier):
    assert classifier.predict("WHY was I charged twice?!") == classifier.predict("why was i charged twice")


def test_training_is_repeatable(classifier):
    again = IntentClassifier.train(EXAMPLES)
    assert [again.predict(text) for text, _ in UNSEEN] == [classifier.predict(text) for text, _ in UNSEEN]


def test_one_intent_alone():
    alone = IntentClassifier.train([("open the door", "open"), ("open it", "open")])
    assert alone.predict("open the door") == ("open", 1.0)


def test_nothing_to_learn_from():
    with pytest.raises(ValueError, match="at least one"):
        IntentClassifier.train([("...", "x")])


def test_known_texts_are_answered_from_memory(classifier):
    text = UNSEEN[0][0]
    classifier.predict(text)
    assert timeit.timeit(lambda: classifier.predict(text), number=2000) / 2000 < 200e-6


# --- turns ---


def test_the_agents_own_field_comes_first(classifier):
    transcript, reply = "please cancel my visit", "Your appointment has been cancelled."
    assert judge_turn("book_appointment", "BookAppointment", transcript, reply, classifier) is True
    assert judge_turn("book_appointment", "book-appointment", "", "", None) is True
    assert judge_turn("cancel_appointment", "book_appointment", transcript, reply, classifier) is False


def test_then_the_transcript(classifier):
    reply = "Your appointment has been cancelled."
    assert judge_turn("book_appointment", "", "can i schedule a visit next tuesday", reply, classifier) is True
    assert judge_turn("cancel_appointment", " ", "can i schedule a visit next tuesday", reply, classifier) is False
    assert judge_turn("cancel_appointment", "", "Зажёг жгучий", reply, classifier) is False  # it understood nothing


def test_then_the_reply(classifier):
    assert judge_turn("cancel_appointment", "", "", "Your appointment has been cancelled.", classifier) is True
    assert judge_turn("book_appointment", "", "?", "Your appointment has been cancelled.", classifier) is False


def test_what_cannot_be_judged(classifier):
    assert judge_turn("cancel_appointment", "", "", "", classifier) is None
    assert judge_turn("cancel_appointment", "", "", "Thanks for waiting so long!", classifier) is None
    assert judge_turn("cancel_appointment", "", "please cancel my visit", "", None) is None
    assert judge_turn("", "book_appointment", "please cancel my visit", "", classifier) is None
