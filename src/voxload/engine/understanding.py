"""Whether the agent understood: intents and words of a turn, against the labels of what was said."""

from __future__ import annotations

from voxload.audio.corpus import load_corpus
from voxload.engine.media import spoken_names
from voxload.engine.turn import Turn
from voxload.load.workload import Workload
from voxload.measure.accuracy import IntentClassifier, judge_turn, word_error_rate
from voxload.measure.recorder import Labels, Recorder

WORDS_IN_PROBLEM = 60


class Understanding:
    """Judges turns by the agent's own fields first, else by its transcript or reply.

    The classifier learns from the scenario's own labels: the texts that its callers say, and the corpus' replies. It is
    made when the first turn needs it.
    """

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self._classifier: IntentClassifier | None = None
        self._trained = False

    def judge(self, turn: Turn, recorder: Recorder, labels: Labels) -> None:
        """Fill in the turn's intent and word errors, and record them; a turn that nothing tells of is left alone."""
        if turn.intent and (turn.intent_heard or turn.heard or turn.reply):
            classifier = None if turn.intent_heard else self._train()
            correct = judge_turn(turn.intent, turn.intent_heard, turn.heard, turn.reply, classifier)
            turn.intent_correct = correct
            if correct is not None:
                recorder.observe("intent_accuracy", labels, correct)
            if correct is False:
                turn.problems.append(f"understood as {turn.intent_heard or turn.heard[:WORDS_IN_PROBLEM]!r}")
        if turn.said and turn.heard:
            errors = word_error_rate(turn.said, turn.heard)
            turn.word_error_rate = errors.rate
            recorder.observe_many("word_error_rate", labels, errors.errors, max(errors.words, errors.errors))

    def _train(self) -> IntentClassifier | None:
        if not self._trained:
            self._trained = True
            names = spoken_names(self._workload.scenario.calls)
            said = [utterance for name in sorted(names) for utterance in self._workload.utterances(name)]
            labelled = [(utterance.text, utterance.intent) for utterance in [*said, *load_corpus().agents]]
            labelled = [(text, intent) for text, intent in labelled if text and intent]
            self._classifier = IntentClassifier.train(labelled) if labelled else None
        return self._classifier
