"""Whether the agent understood: intents and words of finished calls, against the labels of what was said.

This takes a classifier and a tenth of a millisecond a turn, so it is done where reports are collected, never in a
process that keeps time.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from voxload.measure.accuracy import IntentClassifier, judge_turn, word_error_rate
from voxload.measure.recorder import Labels, Recorder, call_labels
from voxload.measure.snapshot import Snapshot
from voxload.measure.summary import CallRecord, TurnRecord

WORDS_IN_PROBLEM = 60


class Understanding:
    """Judges turns by the agent's own fields first, else by its transcript or its reply.

    `labelled` holds (text, intent) pairs of what callers say and agents answer; the classifier learns from them when
    the first turn needs it.
    """

    def __init__(self, labelled: Sequence[tuple[str, str]]) -> None:
        self._labelled = [(text, intent) for text, intent in labelled if text and intent]
        self._classifier: IntentClassifier | None = None

    def complete(self, snapshot: Snapshot) -> Snapshot:
        """Return the snapshot with its calls judged, and with the metrics `intent_accuracy` and `word_error_rate`."""
        recorder = Recorder(snapshot.shard)
        snapshot.calls = [self._judge_call(call, recorder) for call in snapshot.calls]
        snapshot.series = [*snapshot.series, *recorder.take(snapshot.end_ns, 0, 0.0, 0.0).series]
        return snapshot

    def _judge_call(self, call: CallRecord, recorder: Recorder) -> CallRecord:
        labels = call_labels(call)
        turns = [self._judge_turn(turn, recorder, (*labels, ("turn", turn.turn))) for turn in call.turns]
        return msgspec.structs.replace(call, turns=turns)

    def _judge_turn(self, turn: TurnRecord, recorder: Recorder, labels: Labels) -> TurnRecord:
        correct: bool | None = None
        problems = turn.problems
        if turn.intent and (turn.intent_heard or turn.heard or turn.reply):
            classifier = None if turn.intent_heard else self._trained()
            correct = judge_turn(turn.intent, turn.intent_heard, turn.heard, turn.reply, classifier)
        if correct is not None:
            recorder.observe("intent_accuracy", labels, correct)
        if correct is False:
            problems = [*problems, f"understood as {turn.intent_heard or turn.heard[:WORDS_IN_PROBLEM]!r}"]
        rate: float | None = None
        if turn.said and turn.heard:
            errors = word_error_rate(turn.said, turn.heard)
            rate = errors.rate
            recorder.observe_many("word_error_rate", labels, errors.errors, errors.words)
        return msgspec.structs.replace(turn, intent_correct=correct, word_error_rate=rate, problems=problems)

    def _trained(self) -> IntentClassifier | None:
        if self._classifier is None and self._labelled:
            self._classifier = IntentClassifier.train(self._labelled)
        return self._classifier
