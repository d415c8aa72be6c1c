"""Judging what the agent understood: its intent field first, then its transcript, then its reply."""

import pytest

from voxload.audio.corpus import load_corpus
from voxload.measure.evidence import call_shares
from voxload.measure.histogram import Histogram
from voxload.measure.recorder import Recorder
from voxload.measure.summary import CallRecord, TurnRecord
from voxload.measure.understanding import Understanding


def labelled():
    corpus = load_corpus()
    return [(utterance.text, utterance.intent) for utterance in [*corpus.callers, *corpus.agents]]


def judged(turn, region=""):
    recorder = Recorder()
    recorder.call_ended(
        CallRecord(
            0, "c-0", "booking", "hold", 0.0, "completed", turns=[turn], persona="calm", region=region, target="canary"
        )
    )
    snapshot = Understanding(labelled()).complete(recorder.take(1, 0, 0.0, 0.0))
    values = {series.metric: Histogram.from_data(series.histogram) for series in snapshot.series}
    labels = {series.metric: series.labels for series in snapshot.series}
    return snapshot.calls[0].turns[0], values, labels


SAID = load_corpus().find("book_appointment-slt-1")[0].text


@pytest.mark.parametrize(
    ("fields", "correct"),
    [
        ({"intent_heard": "book_appointment", "heard": "complete nonsense"}, True),
        ({"intent_heard": "billing_question", "heard": SAID}, False),
        ({"heard": SAID}, True),
        ({"heard": "What are your opening hours on Saturday?"}, False),
        ({"reply": load_corpus().reply("book_appointment").text}, True),
        ({"reply": load_corpus().reply("opening_hours").text}, False),
        ({}, None),
    ],
)
def test_the_first_thing_that_tells_decides(fields, correct):
    turn, values, _ = judged(TurnRecord("booking", 3.0, said=SAID, intent="book_appointment", **fields))
    assert turn.intent_correct is correct
    assert ("intent_accuracy" in values) == (correct is not None)
    assert any("understood as" in problem for problem in turn.problems) == (correct is False)


def test_more_errors_than_words_are_a_rate_over_one():
    turn, values, _ = judged(TurnRecord("booking", 3.0, said="two words", heard="five that he never said", intent=""))
    assert turn.word_error_rate == 2.5
    assert (values["word_error_rate"].count, values["word_error_rate"].total) == (2, 5_000_000_000)
    call = CallRecord(0, "c-0", "booking", "hold", 0.0, "completed", turns=[turn])
    assert call_shares(call)["word_error_rate"] == (5, 2)


def test_word_errors_are_counted_by_word():
    turn, values, labels = judged(
        TurnRecord("booking", 3.0, said="one two three four", heard="one too three", intent=""), "westeurope"
    )
    assert turn.word_error_rate == 0.5
    assert values["word_error_rate"].count == 4
    assert values["word_error_rate"].mean == 0.5e9
    assert labels["word_error_rate"] == {
        "call": "booking", "persona": "calm", "phase": "hold", "region": "westeurope",
        "target": "canary", "turn": "booking",
    }  # fmt: skip


def test_a_turn_that_nothing_tells_of_is_left_alone():
    turn, values, _ = judged(TurnRecord("booking", 3.0, said=SAID))
    assert (turn.intent_correct, turn.word_error_rate, values) == (None, None, {})
