"""One recognition: audio in, interim results and final phrases out, each at its told instant."""

from __future__ import annotations

import uuid
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import msgspec

from voxload.audio.codec import Encoding, decode_pcm
from voxload.clock import NS_PER_MS, NS_PER_S
from voxload.draws import Sampler, build_sampler, chance, digest
from voxload.speech_protocol import (
    SPEECH_END_DETECTED,
    SPEECH_HYPOTHESIS,
    SPEECH_PHRASE,
    SPEECH_START_DETECTED,
    TURN_END,
    TURN_START,
    Alternative,
    Detected,
    Hypothesis,
    Phrase,
    Word,
    ticks,
    wav_header,
)
from voxload.standins.speech.ear import Ear, Segment
from voxload.standins.speech.known import Guess, Known, lexical
from voxload.standins.speech.settings import SEGMENTATION_MIN_NS, SpeechSettings
from voxload.standins.speech.wishes import Options, audio_format
from voxload.wheel import Wheel
from voxload.wording import misheard

INITIAL_SILENCE_NS = {"interactive": 5 * NS_PER_S, "conversation": 15 * NS_PER_S, "dictation": 15 * NS_PER_S}
"""Source: Microsoft, on its SDK's issue 502."""
WINDOW_NS = 10 * NS_PER_MS
PIECE_NS = 100 * NS_PER_MS
CONFIDENCE = 0.97
GUESS_NS = 2 * NS_PER_S
"""What is not known after so much speech is not looked for again before the phrase ends."""
UNKNOWN_NS = NS_PER_S
"""What is not known has interim results only after so much."""
WORDS_PER_S = 2.5
"""How fast interim results of unknown speech grow."""


class Studio:
    """What all recognitions of a stand-in share."""

    def __init__(self, settings: SpeechSettings, known: Known, wheel: Wheel) -> None:
        self.settings, self.known, self.wheel = settings, known, wheel
        self.counts: Counter[str] = Counter()
        self.started = self._asked = 0
        recognition = settings.recognition
        self.final: Sampler = build_sampler(recognition.final_latency, settings.seed, "final")
        self.interim: Sampler = build_sampler(recognition.interim_latency, settings.seed, "interim")

    def fails(self) -> bool:
        """Return whether the next handshake or request is answered 503, and count it."""
        number, self._asked = self._asked, self._asked + 1
        return self.strikes(self.settings.faults.error_rate, "request", "errors", number)

    def strikes(self, rate: float, name: str, fault: str, number: int) -> bool:
        """Return whether a fault strikes, and count it."""
        if not chance(rate, self.settings.seed, name, number, fault):
            return False
        self.counts[fault] += 1
        return True


@dataclass(slots=True)
class Outgoing:
    """A message and when it is due."""

    due_ns: int
    path: str
    body: bytes


class Recognition:
    """A turn of the protocol. `send` takes path and body; `over` is called once, when it has ended by itself.

    Messages go out in order; a phrase never waits for a hypothesis: those that would come after it are dropped.
    """

    def __init__(
        self, studio: Studio, options: Options, send: Callable[[str, bytes], None], over: Callable[[bool], None]
    ) -> None:
        self._studio, self._options, self._send, self._over = studio, options, send, over
        self._name = f"recognition/{studio.started}"
        studio.started += 1
        self._id = uuid.uuid4().hex
        recognition = studio.settings.recognition
        self._segmentation_ns = max(options.segmentation_ns or recognition.segmentation_silence_ns, SEGMENTATION_MIN_NS)
        self._initial_ns = (
            options.initial_silence_ns or recognition.initial_silence_ns or INITIAL_SILENCE_NS[options.mode]
        )
        self._cut = studio.strikes(studio.settings.faults.disconnect_rate, self._name, "disconnects", 0)
        self._ear: Ear | None = None
        self._encoding: Encoding = "pcm16"
        self._rate_hz = 0
        self._half = b""
        self._pending: deque[Outgoing] = deque()
        self._listening = True
        self._ended = False
        self._phrases = self._hypotheses = 0
        self._said = ""
        self._guess: Guess | None = None
        self._interim_from_ns = self._silent_from_ns = 0
        self._detected = False
        tag = msgspec.json.encode({"context": {"serviceTag": self._id}})
        send(TURN_START, tag)

    @property
    def phrases(self) -> int:
        """How many final phrases were scheduled."""
        return self._phrases

    def stop(self) -> None:
        """Send no more: the connection is gone."""
        self._ended = True
        self._listening = False
        self._pending.clear()

    def hear(self, audio: bytes, now_ns: int) -> None:
        """Take the payload of an audio message; an empty one ends the audio.

        Raises:
            UnsupportedAudioError: the stream is of no form that is taken.
        """
        if not self._listening:
            return
        if not audio:
            self._end_audio(now_ns)
            return
        if self._ear is None:
            self._encoding, self._rate_hz, audio = audio_format(audio)
            self._ear = Ear(self._rate_hz, self._segmentation_ns)
        if self._encoding == "mulaw":
            audio = decode_pcm(audio, "mulaw")
        elif self._half or len(audio) & 1:
            audio = self._half + audio
            whole = len(audio) & ~1
            audio, self._half = audio[:whole], audio[whole:]
        step = 2 * (self._rate_hz * PIECE_NS // NS_PER_S)
        for place in range(0, len(audio), step):
            self._hear_piece(self._ear, audio[place : place + step] if len(audio) > step else audio, now_ns)
            if not self._listening:
                return

    def _hear_piece(self, ear: Ear, pcm: bytes, now_ns: int) -> None:
        spoke = ear.onset_ns >= 0
        segment = ear.hear(pcm, now_ns)
        if segment is not None:
            self._conclude(segment, now_ns)
            if ear.onset_ns < 0:
                return
        if ear.onset_ns >= 0 and (not spoke or segment is not None):
            self._begin(ear.onset_ns, now_ns)
        elif ear.onset_ns >= 0:
            every_ns = self._studio.settings.recognition.interim_every_ns
            if every_ns and ear.position_ns - self._interim_from_ns >= every_ns:
                self._interim_from_ns += (ear.position_ns - self._interim_from_ns) // every_ns * every_ns
                self._hypothesise(ear, now_ns)
        elif ear.position_ns - self._silent_from_ns >= self._initial_ns:
            body = Phrase("InitialSilenceTimeout", offset=ticks(self._silent_from_ns + self._initial_ns), duration=0)
            self._silent_from_ns += self._initial_ns
            self._finish_phrase(now_ns, body, now_ns)

    def _begin(self, onset_ns: int, now_ns: int) -> None:
        """Somebody has begun to speak."""
        self._interim_from_ns, self._said, self._guess = onset_ns, "", None
        if not self._detected:
            self._detected = True
            self._queue(now_ns, SPEECH_START_DETECTED, Detected(ticks(onset_ns)), now_ns)

    def _hypothesise(self, ear: Ear, now_ns: int) -> None:
        spoken_ns = ear.position_ns - ear.onset_ns
        if spoken_ns <= GUESS_NS and (self._guess is None or not self._guess.sure):
            self._guess = self._studio.known.begun(ear.levels())
        if self._guess is not None:
            words = lexical(self._guess.text)
            # a guess holds on while the speech goes on; how much was said then is told by the time
            words = words[: max(1, round(len(words) * min(1.0, spoken_ns / self._guess.length_ns)))]
        else:
            if spoken_ns < UNKNOWN_NS:  # it may be noise, too
                return
            words = lexical(self._studio.settings.recognition.unknown_text or "")
            words = words[: 1 + int(spoken_ns * WORDS_PER_S / NS_PER_S)]
        text = " ".join(words)
        if not text or text == self._said:
            return
        self._said = text
        self._hypotheses += 1
        due_ns = now_ns + self._studio.interim(self._name, self._hypotheses)
        body = Hypothesis(text, ticks(ear.onset_ns), ticks(spoken_ns), self._id)
        body.primary_language, body.speaker_id = self._options.language, self._options.speaker_id
        self._queue(due_ns, SPEECH_HYPOTHESIS, body, now_ns)

    def _conclude(self, segment: Segment, now_ns: int) -> None:
        """A phrase is over."""
        self._silent_from_ns = segment.end_ns
        studio, faults = self._studio, self._studio.settings.faults
        number = self._phrases
        text, segment = self._understand(segment)
        if text is None:
            text = studio.settings.recognition.unknown_text or ""
            studio.counts["phrases_unknown"] += 1
        due_ns = max(segment.ended_at_ns + studio.final(self._name, number), now_ns)
        offset, duration = ticks(segment.onset_ns), ticks(segment.end_ns - segment.onset_ns)
        if text and faults.word_error_rate:
            random = Random(digest(studio.settings.seed, self._name, number, "words"))
            text = misheard(text, faults.word_error_rate, random)
        if not text or studio.strikes(faults.no_match_rate, self._name, "no_matches", number):
            body = Phrase("NoMatch", offset=offset, duration=duration, id=self._id)
        else:
            body = Phrase("Success", text, offset, duration, id=self._id)
            body.primary_language, body.speaker_id = self._options.language, self._options.speaker_id
            if self._options.detailed:
                body.n_best = [self._alternative(text, offset, duration)]
        self._finish_phrase(due_ns, body, now_ns)

    def _understand(self, segment: Segment) -> tuple[str | None, Segment]:
        """Return what was said, and where exactly: noise hides the ends of speech, not of what is known."""
        known = self._studio.known
        if not segment.noisy:
            return known.whole(segment.levels), segment
        place = known.within(segment.levels)
        if place is None:
            return None, segment
        onset_ns = segment.levels_from_ns + place.begin * WINDOW_NS
        end_ns = segment.levels_from_ns + place.end * WINDOW_NS
        ended_at_ns = segment.ended_at_ns + end_ns - segment.end_ns
        return place.text, segment._replace(onset_ns=onset_ns, end_ns=end_ns, ended_at_ns=ended_at_ns)

    def _alternative(self, text: str, offset: int, duration: int) -> Alternative:
        words = lexical(text)
        plain = " ".join(words)
        found = Alternative(CONFIDENCE, plain, plain, plain, text)
        if self._options.word_timings:
            found.words = []
            letters = sum(map(len, words)) or 1
            place = 0
            for word in words:  # each takes the share of the time that it has of the letters
                begin, end = (duration * at // letters for at in (place, place + len(word)))
                found.words.append(Word(word, offset + begin, end - begin, CONFIDENCE))
                place += len(word)
        return found

    def _finish_phrase(self, due_ns: int, body: Phrase, now_ns: int) -> None:
        pending = self._pending
        while pending and pending[-1].path == SPEECH_HYPOTHESIS and pending[-1].due_ns > due_ns:
            pending.pop()
        single = self._options.mode == "interactive"
        if single:
            self._queue(now_ns, SPEECH_END_DETECTED, Detected(max(body.offset, 0) + max(body.duration, 0)), now_ns)
        self._phrases += 1
        self._studio.counts[f"phrases {body.recognition_status}"] += 1
        self._queue(due_ns, SPEECH_PHRASE, body, now_ns)
        if single:
            self._listening = False
            self._queue(due_ns, TURN_END, None, now_ns)

    def _end_audio(self, now_ns: int) -> None:
        ear = self._ear
        segment = ear.end() if ear is not None else None
        if segment is not None:
            self._conclude(segment, now_ns)
        if not self._listening:
            return
        position = ticks(self._audio_end_ns(ear) if ear is not None else 0)
        if self._options.mode == "interactive":
            self._finish_phrase(now_ns, Phrase("NoMatch", offset=position, duration=0, id=self._id), now_ns)
            return
        self._listening = False
        self._queue(now_ns, SPEECH_END_DETECTED, Detected(position), now_ns)
        self._queue(now_ns, SPEECH_PHRASE, Phrase("EndOfDictation", offset=position, duration=0, id=self._id), now_ns)
        self._queue(now_ns, TURN_END, None, now_ns)

    def _audio_end_ns(self, ear: Ear) -> int:
        """Return where the audio ends, with the WAV header counted in and in whole windows of 10 ms.

        The SDK counts so too: of a stream that ends before, it sends the rest again, in a turn of its own.
        """
        header_ns = len(wav_header(self._rate_hz)) * NS_PER_S // (2 * self._rate_hz)
        return -(-(ear.position_ns + header_ns) // WINDOW_NS) * WINDOW_NS

    # --- what goes out ---

    def _queue(self, due_ns: int, path: str, body: msgspec.Struct | None, now_ns: int) -> None:
        pending = self._pending
        encoded = msgspec.json.encode(body) if body is not None else b"{}"
        if pending:
            due_ns = max(due_ns, pending[-1].due_ns)
        elif due_ns <= now_ns:
            self._deliver(Outgoing(due_ns, path, encoded))
            return
        pending.append(Outgoing(due_ns, path, encoded))
        if len(pending) == 1:
            self._studio.wheel.at(due_ns, self._pump)

    def _pump(self, due_ns: int) -> int:
        pending = self._pending
        while pending and pending[0].due_ns <= due_ns:
            self._deliver(pending.popleft())
        return pending[0].due_ns if pending else 0

    def _deliver(self, message: Outgoing) -> None:
        if self._ended:
            return
        if self._cut and message.path == SPEECH_PHRASE:
            self.stop()
            self._over(False)
            return
        self._send(message.path, message.body)
        if message.path == TURN_END:
            self.stop()
            self._over(True)
