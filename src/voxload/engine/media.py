"""Caller speech, as each persona says it, encoded once for the run and shared by all calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from voxload.audio.corpus import BACKCHANNEL, Utterance
from voxload.audio.frames import silence_frame
from voxload.audio.persona import apply_persona, bed_frames, cut_persona_frames, voiced_by
from voxload.dialects.base import Dialect
from voxload.load.workload import Workload, spoken_names
from voxload.model.persona import Persona


@dataclass(frozen=True, slots=True)
class PreparedUtterance:
    """An utterance as messages that lack only their stamp; the last one holds the last active sample.

    Instants count from the utterance's first sample.
    """

    utterance: Utterance
    """As the persona says it."""
    payloads: tuple[bytes, ...]
    active_start_ns: int
    active_end_ns: int


class Media:
    """All utterances that the scripts can say, by name and persona, and what is sent between them."""

    def __init__(self, dialect: Dialect, workload: Workload) -> None:
        form = dialect.caller_format
        self._dialect = dialect
        self._seed = workload.scenario.seed
        silence = silence_frame(form.sample_rate_hz, form.encoding, form.frame_ms)
        self.silence = dialect.prepare_caller([silence])[0]
        self._prepared: dict[tuple[str, object], PreparedUtterance] = {}
        self._spoken: dict[tuple[str, str], tuple[PreparedUtterance, ...]] = {}
        self._beds: dict[str, tuple[bytes, ...]] = {}
        names = spoken_names(workload.scenario.calls)
        for persona in workload.personas:
            for name in sorted(names | ({BACKCHANNEL} if persona.backchannel else set())):
                found = voiced_by(workload.utterances(name), persona)
                self._spoken[name, persona.name] = tuple(self._prepare(utterance, persona) for utterance in found)
            bed = bed_frames(persona, form.sample_rate_hz, form.encoding, form.frame_ms, self._seed)
            self._beds[persona.name] = tuple(dialect.prepare_caller(bed)) or (self.silence,)

    def spoken(self, name: str, persona: Persona) -> Sequence[PreparedUtterance]:
        """Return the utterances among which `name` chooses."""
        return self._spoken[name, persona.name]

    def bed(self, persona: Persona) -> tuple[bytes, ...]:
        """Return what is sent between utterances, in a loop: silence, or the noise around the caller."""
        return self._beds[persona.name]

    def _prepare(self, utterance: Utterance, persona: Persona) -> PreparedUtterance:
        key = (utterance.id, persona.sound)
        if key not in self._prepared:
            form = self._dialect.caller_format
            cut = cut_persona_frames(utterance, persona, form.sample_rate_hz, form.encoding, form.frame_ms, self._seed)
            self._prepared[key] = PreparedUtterance(
                apply_persona(utterance, persona, self._seed),
                tuple(self._dialect.prepare_caller(cut.frames[: cut.last_active_frame + 1])),
                cut.active_start_ns,
                cut.active_end_ns,
            )
        return self._prepared[key]
