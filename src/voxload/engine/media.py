"""Caller speech, encoded once for the run and shared by all calls."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from voxload.audio.corpus import Utterance
from voxload.audio.frames import cut_frames, silence_frame
from voxload.dialects.base import Dialect
from voxload.load.workload import Workload
from voxload.model.scenario import CallType
from voxload.model.script import BargeInStep, RepeatStep, SayStep, Step


@dataclass(frozen=True, slots=True)
class PreparedUtterance:
    """An utterance as messages that lack only their stamp; the last one holds the last active sample.

    Instants count from the utterance's first sample.
    """

    utterance: Utterance
    payloads: tuple[bytes, ...]
    active_start_ns: int
    active_end_ns: int


class Media:
    """All utterances that the scripts can say, by the name that the scripts use, and one frame of silence."""

    def __init__(self, dialect: Dialect, workload: Workload) -> None:
        form = dialect.caller_format
        silence = silence_frame(form.sample_rate_hz, form.encoding, form.frame_ms)
        self.silence = dialect.prepare_caller([silence])[0]
        self._by_id: dict[str, PreparedUtterance] = {}
        self._by_name: dict[str, tuple[PreparedUtterance, ...]] = {}
        for name in sorted(spoken_names(workload.scenario.calls)):
            self._by_name[name] = tuple(self._prepare(dialect, found) for found in workload.utterances(name))

    def spoken(self, name: str) -> Sequence[PreparedUtterance]:
        """Return the utterances among which `name` chooses."""
        return self._by_name[name]

    def _prepare(self, dialect: Dialect, utterance: Utterance) -> PreparedUtterance:
        known = self._by_id.get(utterance.id)
        if known is not None:
            return known
        form = dialect.caller_format
        cut = cut_frames(utterance, form.sample_rate_hz, form.encoding, form.frame_ms)
        payloads = dialect.prepare_caller(cut.frames[: cut.last_active_frame + 1])
        prepared = PreparedUtterance(utterance, tuple(payloads), cut.active_start_ns, cut.active_end_ns)
        self._by_id[utterance.id] = prepared
        return prepared


def spoken_names(calls: Iterable[CallType]) -> set[str]:
    """Return every utterance or intent that a script says."""
    names: set[str] = set()

    def visit(steps: Iterable[Step]) -> None:
        for step in steps:
            match step:
                case SayStep(say=say):
                    names.add(say.utterance)
                case BargeInStep(barge_in=barge_in):
                    names.add(barge_in.utterance)
                case RepeatStep(repeat=repeat):
                    visit(repeat.steps)
                case _:
                    pass

    for call in calls:
        visit(call.script)
    return names
