"""How the conversation goes, as the caller lives it: replies, silences, interruptions, and what was understood."""

from __future__ import annotations

from dataclasses import dataclass

from voxload.audio.corpus import Utterance
from voxload.audio.playout import Ear
from voxload.audio.recording import CallRecording
from voxload.dialects.base import Transcript, Usage
from voxload.engine.context import CallContext
from voxload.engine.samples import CallSamples
from voxload.engine.turn import Turn
from voxload.measure.recorder import Labels
from voxload.measure.summary import MISSED, CallMoment

YIELD_NS = 2_000_000_000
"""An agent that is interrupted has yielded when it stops within 2.0 s."""
FALSE_STOP_NS = 1_000_000_000
"""An agent that stops within 1.0 s of a backchannel or a noise was stopped by it."""
OVERLAP_NS = 100_000_000
"""Shorter overlaps are no interruption."""
CLOSED_NS = 300_000_000
"""After this much silence a segment of speech has ended for certain."""
MOMENTS_MAX = 200


@dataclass(slots=True)
class _Overlap:
    """The caller speaks over the agent: on purpose, or with a sound that should not stop it."""

    at_ns: int
    until_ns: int
    harmless: bool
    over: Turn | None
    """The turn whose reply it is."""
    interrupted_ns: int = 0
    reply_ended_ns: int = 0


class Listener:
    """Keeps the turns of a call and records the metrics of the talk. Instants are on the monotonic clock."""

    __slots__ = (
        "_answered", "_due_ns", "_greeting_ns", "_labels", "_overlaps", "_ready_ns", "_recorder", "_reply_within_ns",
        "_speaking", "_wheel", "agent_characters", "caller_speech_ns", "ear", "moments", "recording", "samples",
        "turns", "undecided_until_ns", "usage",
    )  # fmt: skip

    def __init__(self, ear: Ear, context: CallContext, labels: Labels, due_ns: int, ready_ns: int) -> None:
        self.ear = ear
        self.turns: list[Turn] = []
        self.moments: list[CallMoment] = []
        self.samples = CallSamples()
        self.caller_speech_ns = 0
        self.agent_characters = 0
        """Of all that the agent says of its own words, the greeting included."""
        self.undecided_until_ns = 0
        """Until when speech over the end of the last turn may turn out to be its reply."""
        self.usage: Usage | None = None
        """The sum of what the agent has reported; None when it reports nothing."""
        self.recording: CallRecording | None = None
        """Where the call is recorded."""
        self._recorder = context.recorder
        self._wheel = context.wheel
        self._reply_within_ns = context.workload.scenario.timeouts.agent_reply_ns
        self._labels = labels
        self._due_ns = due_ns
        self._ready_ns = ready_ns
        self._answered = False  # the greeting is owed
        self._overlaps: list[_Overlap] = []
        self._speaking: Turn | None = None  # what the caller is saying
        self._greeting_ns = 0  # onset of a greeting that goes on
        ear.await_reply(ready_ns)

    @property
    def owed_since_ns(self) -> int:
        """Since when the agent owes what it owes: the last turn's end, or the start of the call."""
        return next((turn.speech_end_ns for turn in reversed(self.turns) if not turn.listening_only), self._ready_ns)

    @property
    def owed(self) -> str:
        """What the agent owes, in words."""
        name = next((turn.name for turn in reversed(self.turns) if not turn.listening_only), "")
        return f"the turn {name!r}" if name else "the start of the call (greeting)"

    def moment(self, at_ns: int, kind: str, text: str = "", duration_ns: int = 0) -> None:
        """Note something for the report's time axis."""
        if len(self.moments) < MOMENTS_MAX:
            self.moments.append(CallMoment((at_ns - self._due_ns) / 1e9, kind, text, duration_ns / 1e9))
            if self.recording is not None:
                self.recording.moment(at_ns, kind, text, duration_ns)

    # --- the caller speaks ---

    def caller_begins(self, turn: Turn, start_ns: int, utterance: Utterance) -> None:
        """The caller starts an utterance at `start_ns`; its active ends are known in advance."""
        self._speaking = turn
        if self.recording is not None:
            self.recording.caller(start_ns, utterance.samples, utterance.sample_rate_hz)
        if not turn.listening_only:
            self._close_reply(start_ns)
        if self.ear.speaks_at(turn.speech_start_ns):
            harmless = turn.listening_only
            over = self.turns[-1] if self.turns else None
            overlap = _Overlap(turn.speech_start_ns, turn.speech_end_ns, harmless, over)
            self._overlaps.append(overlap)
            self.moment(turn.speech_start_ns, "backchannel" if harmless else "barge_in", turn.name)
            wait_ns = (FALSE_STOP_NS if harmless else YIELD_NS) + CLOSED_NS
            self._wheel.at(turn.speech_start_ns + wait_ns, lambda due_ns: self._settle(overlap, due_ns))
        if not turn.listening_only:
            self.turns.append(turn)

    def caller_ends(self, turn: Turn) -> None:
        """The last active sample of the utterance has been sent."""
        self._speaking = None
        self.caller_speech_ns += turn.speech_end_ns - turn.speech_start_ns
        if turn.listening_only:
            return
        early_ns = self._agent_onset_over(turn)
        self._recorder.observe("agent_interruption", self._turn_labels(turn), early_ns > 0)
        self.ear.await_reply(turn.speech_end_ns - OVERLAP_NS)
        self._answered = False
        if early_ns:
            self.moment(early_ns, "agent_interruption", turn.name)
            early_ms = (turn.speech_end_ns - early_ns) / 1e6
            turn.problems.append(f"the agent spoke {early_ms:.0f} ms before the caller had finished")
        self._look_for_early_reply(turn)
        if not self._answered and self.ear.speaking:
            self.undecided_until_ns = turn.speech_end_ns + CLOSED_NS
            self._wheel.at(self.undecided_until_ns, lambda _due_ns: self._look_for_early_reply(turn))

    def _look_for_early_reply(self, turn: Turn) -> int:
        """Take speech that began before the turn's end was known, and is heard after it, as its reply.

        What ends before the caller does is none: a murmur, however late.
        """
        if turn is self.turns[-1] and not self._answered:
            onsets = (on_ns for on_ns, off_ns in self._segments() if off_ns > turn.speech_end_ns)
            onset_ns = next((on_ns for on_ns in onsets if on_ns > turn.speech_start_ns), 0)
            if onset_ns:
                self.ear.reply_onset_ns = onset_ns
                self._on_reply(onset_ns)
        return 0

    def _segments(self) -> list[tuple[int, int]]:
        """Return onset and end of the agent's segments of speech, the open one as far as it has been heard."""
        ear = self.ear
        return [*ear.ended_segments, *([(ear.onset_ns, ear.last_active_ns)] if ear.speaking else [])]

    def _agent_onset_over(self, turn: Turn) -> int:
        """Return when the agent began to speak while the caller was speaking, or 0; short overlaps do not count."""
        for onset_ns, end_ns in self._segments():
            overlap_ns = min(end_ns, turn.speech_end_ns) - onset_ns
            if turn.speech_start_ns < onset_ns and overlap_ns >= OVERLAP_NS:
                return onset_ns
        return 0

    # --- the agent speaks ---

    def speech_began(self) -> None:
        """The ear has heard a segment of speech open: if a reply is owed, that may be it.

        What it is while the caller speaks shows at the end of the turn.
        """
        if self._speaking is not None and not self._speaking.listening_only:
            return
        onset_ns = self.ear.reply_onset_ns
        if onset_ns and not self._answered:
            self._on_reply(onset_ns)

    def _on_reply(self, onset_ns: int) -> None:
        self._answered = True
        recorder = self._recorder
        if not self.turns:
            self._greeting_ns = onset_ns
            recorder.latency("greeting", self._labels, onset_ns - self._ready_ns)
            return
        turn = self.turns[-1]
        turn.onset_ns, turn.first_sound_ns = onset_ns, min(self.ear.first_sound_ns or onset_ns, onset_ns)
        labels = self._turn_labels(turn)
        recorder.latency("turn_latency", labels, turn.latency_ns)
        recorder.latency("turn_latency_uncorrected", labels, turn.latency_ns - turn.sent_late_ns)
        recorder.latency("first_packet", labels, turn.first_sound_ns - turn.speech_end_ns)
        recorder.latency("silent_pad", labels, onset_ns - turn.first_sound_ns)
        recorder.latency("dead_air", labels, turn.latency_ns)
        recorder.observe("missed_response", labels, False)

    def broke_off(self, resumed_ns: int, silent_ns: int) -> None:
        """The agent's speech broke off and has resumed."""
        self.moment(resumed_ns - silent_ns, "underrun", "", silent_ns)
        if self.turns and self._answered:
            self.turns[-1].problems.append(f"speech broke off for {silent_ns / 1e6:.0f} ms")

    def gave_up(self, now_ns: int) -> None:
        """The caller has waited in vain."""
        if not self.turns or self._answered:
            return
        turn, self._answered = self.turns[-1], True
        labels = self._turn_labels(turn)
        self._recorder.observe("missed_response", labels, True)
        self._recorder.latency("dead_air", labels, now_ns - turn.speech_end_ns)
        turn.problems.append(f"{MISSED} {(now_ns - turn.speech_end_ns) / 1e9:.1f} s")

    def on_transcript(self, transcript: Transcript, now_ns: int) -> None:
        """The agent says what it understood, or what it says itself."""
        if not transcript.final:
            return
        if transcript.speaker == "agent":
            self.agent_characters += len(transcript.text)
        turn = self._turn_of(transcript, now_ns)
        if turn is None:
            return
        if transcript.speaker == "agent":
            turn.reply = f"{turn.reply} {transcript.text}".strip()
            turn.reply_text_ns = turn.reply_text_ns or now_ns
        else:
            turn.heard = f"{turn.heard} {transcript.text}".strip()
            if not turn.reply_end_ns:
                turn.transcript_ns = now_ns
            elif not turn.transcript_ns:  # its other stages are in the books
                turn.transcript_ns = now_ns
                self._recorder.latency("stt", self._turn_labels(turn), now_ns - turn.speech_end_ns)
        turn.intent_heard = transcript.intent or turn.intent_heard

    def _turn_of(self, transcript: Transcript, now_ns: int) -> Turn | None:
        """Return the turn that a transcript is about: of what comes while the caller speaks, often the one before.

        The agent's own words are then still those to that one. What it understood is, where that one was answered and
        nothing has been told of it.
        """
        turns = self.turns
        if not turns or now_ns >= turns[-1].speech_end_ns:
            return turns[-1] if turns else None
        before = turns[-2] if len(turns) > 1 else None
        if transcript.speaker == "agent":
            return before
        return before if before is not None and before.onset_ns and not before.transcript_ns else turns[-1]

    def on_intent(self, intent: str) -> None:
        """The agent names the intent that it takes the caller's words for."""
        if self.turns:
            self.turns[-1].intent_heard = intent

    def on_stage(self, name: str, now_ns: int) -> None:
        """The agent says that it has reached a stage of its work: for the turn that the caller finished last.

        While the caller speaks, or before the first turn, nobody can say which turn it belongs to: it is noted as a
        moment and not measured. What is told again in a turn does not count.
        """
        turn = self.turns[-1] if self.turns else None
        if turn is None or now_ns < turn.speech_end_ns:
            self.moment(now_ns, "stage", name)
        elif name not in turn.told_ns:
            turn.told_ns[name] = now_ns
            labels = (*self._turn_labels(turn), ("stage", name))
            self._recorder.latency("stage", labels, now_ns - turn.speech_end_ns)

    def on_usage(self, usage: Usage) -> None:
        """The agent says what it has used."""
        self.usage = usage if self.usage is None else self.usage.plus(usage)

    def on_interrupted(self, now_ns: int) -> int:
        """The agent drops what it has sent and not yet played; returns how much that was, in ns."""
        dropped_ns = self.ear.flush(now_ns)
        self._recorder.latency("dropped_audio", self._labels, dropped_ns)
        if self.recording is not None:
            self.recording.flush(now_ns)
        self.moment(now_ns, "interrupted", f"{dropped_ns / 1e6:.0f} ms dropped")
        for overlap in self._overlaps:
            overlap.interrupted_ns = overlap.interrupted_ns or now_ns
        return dropped_ns

    def on_reply_ended(self, now_ns: int) -> None:
        """The agent says that its reply is complete."""
        for overlap in self._overlaps:
            overlap.reply_ended_ns = overlap.reply_ended_ns or now_ns

    # --- speaking over each other ---

    def _settle(self, overlap: _Overlap, now_ns: int) -> int:
        """Decide what became of an overlap, once enough time has passed."""
        if overlap not in self._overlaps:
            return 0
        self._overlaps.remove(overlap)
        stop_ns = self._stop_ns(overlap, now_ns)
        self._note_stop(overlap, stop_ns)
        recorder = self._recorder
        if overlap.harmless:
            in_time = 0 < stop_ns <= overlap.at_ns + FALSE_STOP_NS
            stopped = in_time and not 0 < overlap.reply_ended_ns <= stop_ns
            harmed = stopped or overlap.interrupted_ns > 0
            recorder.observe("false_barge_in", self._labels, harmed)
            self.samples.add("false_barge_in", harmed)
            return 0
        yielded = 0 < stop_ns <= overlap.at_ns + YIELD_NS
        recorder.observe("yield_rate", self._labels, yielded)
        self.samples.add("yield_rate", yielded)
        if stop_ns:
            after_ns = max(stop_ns - overlap.at_ns, 0)
            recorder.latency("barge_in_stop", self._labels, after_ns)
            self.samples.add("barge_in_stop", after_ns / 1e6)
        if not yielded and self.turns:
            self.turns[-1].problems.append("the agent did not stop for the caller within 2 s")
        return 0

    def _stop_ns(self, overlap: _Overlap, now_ns: int) -> int:
        """Return the end of the speech that the caller spoke over; 0 while it goes on.

        Speech that resumes while the caller is still speaking goes on: a pause between two words is no stop.
        """
        ear = self.ear
        segments = list(ear.ended_segments)
        if ear.speaking:
            ended = now_ns - ear.last_active_ns >= CLOSED_NS
            segments.append((ear.onset_ns, ear.last_active_ns if ended else now_ns + 1))
        stop_ns = 0
        for onset_ns, end_ns in segments:
            covers = onset_ns <= overlap.at_ns < end_ns + CLOSED_NS
            resumes = 0 < stop_ns < onset_ns < overlap.until_ns
            if covers or resumes:
                stop_ns = end_ns
        return stop_ns if stop_ns <= now_ns else 0

    @staticmethod
    def _note_stop(overlap: _Overlap, stop_ns: int) -> None:
        """Note where the reply that the caller interrupted really ended."""
        if stop_ns and not overlap.harmless and overlap.over is not None and overlap.over.onset_ns:
            overlap.over.reply_end_ns = max(stop_ns, overlap.over.onset_ns)

    # --- the end ---

    def _close_reply(self, now_ns: int) -> None:
        """The turn before is over: note where its reply ended, or that none has come although nobody waited for it."""
        if self.turns and now_ns - self.turns[-1].speech_end_ns >= self._reply_within_ns:
            self.gave_up(now_ns)
        if self._greeting_ns:
            self.moment(self._greeting_ns, "greeting", "", max(self.ear.last_active_ns - self._greeting_ns, 0))
            self._greeting_ns = 0
        if self.turns:
            turn = self.turns[-1]
            if turn.onset_ns and not turn.reply_end_ns:
                turn.reply_end_ns = max(self.ear.last_active_ns, turn.onset_ns)
                # not with the onset: a transcript may come after it
                for stage, value_ns in turn.stages_ns().items():
                    self._recorder.latency(stage, self._turn_labels(turn), value_ns)

    def finish(self, now_ns: int) -> None:
        """The call is over: record what has to wait until then. What has not been played is never heard."""
        turn = self._speaking
        if turn is not None:
            self.caller_speech_ns += max(min(now_ns, turn.speech_end_ns) - turn.speech_start_ns, 0)
        self.ear.flush(now_ns)
        for overlap in self._overlaps:
            self._note_stop(overlap, self._stop_ns(overlap, now_ns))
        self._close_reply(now_ns)
        heard_ns = self.ear.spoken_ns
        both_ns = heard_ns + self.caller_speech_ns
        if both_ns:
            self._recorder.observe("talk_ratio", self._labels, heard_ns / both_ns)

    def _turn_labels(self, turn: Turn) -> Labels:
        return (*self._labels, ("turn", turn.name))
