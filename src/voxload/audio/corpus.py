"""The speech that comes with voxload: what callers and the embedded agent say, with where it begins and ends."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources

import msgspec

from voxload.audio.codec import Samples, read_wav, samples_to_ns
from voxload.audio.speech import active_bounds
from voxload.errors import BadInputError, Problem

LABELS_FILE = "speech.json"
GREETING = "greeting"
GENERIC = "generic"
BACKCHANNEL = "backchannel"
NOISE = "noise"
MONOLOGUE = "monologue"
EXTRA_INTENTS = (BACKCHANNEL, NOISE, MONOLOGUE)
"""What callers utter besides their requests: an mm-hm, a cough, a speech of a quarter of a minute."""


class SpeechLabel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of the labels file; positions are samples, `active_end` is exclusive."""

    id: str
    role: str
    """`caller`, `agent` or `noise`."""
    text: str
    intent: str
    voice: str
    file: str
    sample_rate_hz: int
    samples: int
    active_start: int
    active_end: int
    sha256: str


@dataclass(frozen=True, slots=True, eq=False)
class Utterance:
    """A piece of speech: mono samples, and the bounds of what is audible in them (samples, end exclusive)."""

    id: str
    text: str
    intent: str
    voice: str
    samples: Samples
    sample_rate_hz: int
    active_start: int
    active_end: int

    @property
    def active_start_ns(self) -> int:
        """Start of the first active sample, from the first sample."""
        return samples_to_ns(self.active_start, self.sample_rate_hz)

    @property
    def active_end_ns(self) -> int:
        """End of the last active sample, from the first sample."""
        return samples_to_ns(self.active_end, self.sample_rate_hz)

    @property
    def duration_ns(self) -> int:
        """Length of the whole audio."""
        return samples_to_ns(len(self.samples), self.sample_rate_hz)


class Corpus:
    """The utterances of callers and of the embedded agent, in the order of the labels file.

    `callers` holds their requests; `extras` what else they utter (`EXTRA_INTENTS`), which no agent has to answer.
    """

    def __init__(
        self, callers: tuple[Utterance, ...], agents: tuple[Utterance, ...], extras: tuple[Utterance, ...] = ()
    ) -> None:
        self.callers = callers
        self.agents = agents
        self.extras = extras
        self._by_id = {utterance.id: utterance for utterance in (*callers, *agents, *extras)}
        self._replies = {utterance.intent: utterance for utterance in reversed(agents)}

    def find(self, name: str) -> tuple[Utterance, ...]:
        """Return the utterance with this id, or all that callers utter with this intent, or nothing."""
        if name in self._by_id:
            return (self._by_id[name],)
        return tuple(utterance for utterance in (*self.callers, *self.extras) if utterance.intent == name)

    def names(self) -> list[str]:
        """Return what `find` knows: the callers' intents, then all ids."""
        return [*dict.fromkeys(utterance.intent for utterance in (*self.callers, *self.extras)), *self._by_id]

    def reply(self, intent: str) -> Utterance:
        """Return what the agent answers to an intent; a generic reply to one that it does not know."""
        known = intent if intent in self._replies and intent != GREETING else GENERIC
        return self._replies[known]

    @property
    def greeting(self) -> Utterance:
        """What the agent says first."""
        return self._replies[GREETING]


@cache
def load_corpus() -> Corpus:
    """Return the corpus of the package, read once a process."""
    folder = resources.files("voxload.audio") / "data"
    labels = msgspec.json.decode((folder / LABELS_FILE).read_bytes(), type=list[SpeechLabel])
    callers: list[Utterance] = []
    agents: list[Utterance] = []
    extras: list[Utterance] = []
    for label in labels:
        samples, rate_hz = read_wav((folder / label.file).read_bytes(), label.file)
        samples.flags.writeable = False
        (extras if label.intent in EXTRA_INTENTS else callers if label.role == "caller" else agents).append(
            Utterance(
                label.id, label.text, label.intent, label.voice, samples, rate_hz, label.active_start, label.active_end
            )
        )
    return Corpus(tuple(callers), tuple(agents), tuple(extras))


def utterance_from_wav(data: bytes, name: str, text: str = "", intent: str = "") -> Utterance:
    """Return a user's WAV file as an utterance, with the bounds of its speech found.

    Raises:
        BadInputError: the file is not 16-bit PCM WAV, or it holds no speech.
    """
    samples, rate_hz = read_wav(data, name)
    bounds = active_bounds(samples, rate_hz)
    if bounds is None:
        suggestion = "speech is 50 ms or more at -45 dBFS or louder"
        raise BadInputError([Problem("holds no speech", name, 0, suggestion)])
    samples.flags.writeable = False
    return Utterance(name, text, intent, "", samples, rate_hz, *bounds)
