"""What came back of a stream or a request, and what it says of the service, whichever client brought it."""

from __future__ import annotations

from dataclasses import dataclass, field

from voxload.clock import NS_PER_S
from voxload.measure.accuracy import word_error_rate
from voxload.services.base import Operation
from voxload.services.speech.material import Said, Script

SUCCESS = "Success"


@dataclass(slots=True)
class Result:
    """A result for a piece of the stream's audio: when it came, and the bounds of that piece in ns; -1 if untold."""

    arrived_ns: int
    start_ns: int
    end_ns: int
    text: str = ""
    status: str = SUCCESS

    def is_of(self, said: Said) -> bool:
        """Return whether this result is about an utterance: most of either lies within the other."""
        overlap = min(self.end_ns, said.end_ns) - max(self.start_ns, said.start_ns)
        shorter = min(self.end_ns - self.start_ns, said.end_ns - said.start_ns)
        return self.end_ns > self.start_ns and 2 * overlap > shorter


@dataclass(slots=True)
class Heard:
    """Everything that a recogniser said of one stream."""

    first_ns: int = 0
    """When the first sample of the stream was said; the instants of its audio count from here."""
    sent_ns: int = 0
    """How much audio has been sent."""
    over: bool = False
    """All was said, and the service had its time to answer: it has ended the stream, or `final_timeout` has passed."""
    interim: list[Result] = field(default_factory=list)
    final: list[Result] = field(default_factory=list)

    def finals_of(self, said: Said) -> list[Result]:
        """Return the final results of an utterance; more than one where the service has parted it."""
        return [result for result in self.final if result.status == SUCCESS and result.is_of(said)]

    def score(self, operation: Operation, script: Script) -> None:
        """Record the latencies of all that was heard; what was missed, and the word errors, only once it is `over`."""
        for result in self.interim:
            if result.end_ns > result.start_ns >= 0:
                operation.latency("stt_interim_latency", self.first_ns + result.end_ns, result.arrived_ns)
        for said in script.said:
            first = next((result for result in self.interim if result.is_of(said)), None)
            if first is not None:
                operation.latency("stt_first_hypothesis", self.first_ns + said.start_ns, first.arrived_ns)
            finals = self.finals_of(said)
            if finals:
                last_ns = max(result.arrived_ns for result in finals)
                operation.latency("stt_final_latency", self.first_ns + said.end_ns, last_ns)
            if self.over:
                operation.observe("stt_missed", not finals)
        if self.over:
            words = word_error_rate(script.text, self.text)
            operation.recorder.observe_many("stt_wer", operation.labels, words.errors, words.words)

    @property
    def text(self) -> str:
        """All that was understood, in the order of the audio."""
        found = sorted((result for result in self.final if result.status == SUCCESS), key=lambda each: each.start_ns)
        return " ".join(result.text for result in found)

    @property
    def statuses(self) -> str:
        """What became of the phrases, in words."""
        kinds = [result.status for result in self.final]
        return ", ".join(f"{kind} {kinds.count(kind)} times" for kind in dict.fromkeys(kinds)) or "no result at all"


@dataclass(slots=True)
class Spoken:
    """What a synthesiser said in answer to one request."""

    asked_ns: int
    """When it was asked."""
    connection: str = "new"
    """`new`, or `reused` where the connection had been there."""
    first_ns: int = 0
    """When the first audio came; 0 if none has."""
    last_ns: int = 0
    audio_bytes: int = 0

    def score(self, operation: Operation, audio_s: float) -> None:
        """Record how soon audio came, and how fast, in relation to how long it lasts."""
        operation.latency("tts_first_byte", operation.due_ns, self.first_ns, connection=self.connection)
        operation.observe("tts_real_time_factor", (self.last_ns - self.asked_ns) / NS_PER_S / audio_s)
