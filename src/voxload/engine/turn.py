"""One turn of a conversation as the caller lives it: what was said, when the agent answered, and what went wrong."""

from __future__ import annotations

from dataclasses import dataclass, field

from voxload.measure.summary import TurnRecord

NS_PER_MS = 1e6
TOGETHER_NS = 5_000_000
"""A reply's text that comes less than this before its audio comes with it: no speech was made in that time."""


@dataclass(slots=True)
class Turn:
    """A turn; instants on the monotonic clock, 0: not yet.

    It begins when the caller starts to speak and is the agent's from the caller's last active sample on.
    """

    name: str
    speech_start_ns: int
    speech_end_ns: int
    """The caller's last active sample, as scheduled."""
    said: str = ""
    intent: str = ""
    barge_in: bool = False
    """The caller speaks over the agent on purpose."""
    listening_only: bool = False
    """A backchannel or a noise: no reply is owed."""
    sent_late_ns: int = 0
    """How much later than due the frame with the last active sample was sent."""
    onset_ns: int = 0
    reply_end_ns: int = 0
    first_sound_ns: int = 0
    transcript_ns: int = 0
    reply_text_ns: int = 0
    told_ns: dict[str, int] = field(default_factory=dict)
    """When the agent first told that it had reached a stage of its work, by name."""
    heard: str = ""
    reply: str = ""
    intent_heard: str = ""
    problems: list[str] = field(default_factory=list)

    @property
    def latency_ns(self) -> int:
        """From the caller's last active sample to the agent's first one (only once there is a reply)."""
        return self.onset_ns - self.speech_end_ns

    def stages_ns(self) -> dict[str, int]:
        """Return the server's stages as far as the dialect reveals them.

        `stt`: end of speech → final transcript; `voice_response`: final transcript → first audio; where the reply's
        text comes before its audio, and not with it, also `llm`: transcript → text, and `tts`: text → first audio.
        """
        stages: dict[str, int] = {}
        if self.transcript_ns:
            stages["stt"] = max(self.transcript_ns - self.speech_end_ns, 0)  # a recogniser may be done before the end
            if self.first_sound_ns >= self.transcript_ns:
                stages["voice_response"] = self.first_sound_ns - self.transcript_ns
            if self.transcript_ns <= self.reply_text_ns <= self.first_sound_ns - TOGETHER_NS:
                stages["llm"] = self.reply_text_ns - self.transcript_ns
                stages["tts"] = self.first_sound_ns - self.reply_text_ns
        return stages

    def record(self, call_due_ns: int) -> TurnRecord:
        """Return the turn in s since the call's intended start."""

        def since_due(instant_ns: int) -> float | None:
            return (instant_ns - call_due_ns) / 1e9 if instant_ns else None

        return TurnRecord(
            turn=self.name,
            speech_end_s=(self.speech_end_ns - call_due_ns) / 1e9,
            latency_ms=self.latency_ns / NS_PER_MS if self.onset_ns else None,
            first_packet_ms=(self.first_sound_ns - self.speech_end_ns) / NS_PER_MS if self.first_sound_ns else None,
            speech_start_s=since_due(self.speech_start_ns),
            reply_start_s=since_due(self.onset_ns),
            reply_end_s=since_due(self.reply_end_ns),
            stages_ms={name: value / NS_PER_MS for name, value in self.stages_ns().items()},
            stages_at_ms={name: (at_ns - self.speech_end_ns) / NS_PER_MS for name, at_ns in self.told_ns.items()},
            said=self.said,
            heard=self.heard,
            reply=self.reply,
            intent=self.intent,
            intent_heard=self.intent_heard,
            problems=self.problems,
        )
