"""Synthesis over a WebSocket: texts in, audio out with its told first byte and real-time factor."""

from __future__ import annotations

import re
import uuid
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any

import msgspec

from voxload.clock import NS_PER_MS, NS_PER_S, Clock
from voxload.draws import Sampler, build_sampler, chance
from voxload.speech_protocol import (
    AUDIO,
    AUDIO_METADATA,
    RESPONSE,
    SSML,
    SYNTHESIS_CONTEXT,
    TEXT_END,
    TEXT_PIECE,
    TURN_END,
    TURN_START,
    SpeechMessage,
    binary_head,
    ticks,
)
from voxload.standins.log import RequestLog
from voxload.standins.rate import RateLimit
from voxload.standins.speech.access import BAD_MESSAGE_CODE, THROTTLED, THROTTLED_CODE
from voxload.standins.speech.settings import SpeechSettings
from voxload.standins.speech.sockets import SpeechSocket
from voxload.standins.speech.voice import (
    TEXT_MAX,
    AudioForm,
    Script,
    Speech,
    SpokenWord,
    SynthesisError,
    Voice,
    audio_form,
    read_ssml,
)
from voxload.wheel import Wheel

CHUNK_NS = 100 * NS_PER_MS
DEFAULT_FORM = "raw-16khz-16bit-mono-pcm"
_SENTENCE = re.compile(r"[.!?;:\u3002](?=\s|$)")


class Booth:
    """What all syntheses of a stand-in share."""

    def __init__(self, settings: SpeechSettings, voice: Voice, wheel: Wheel, clock: Clock) -> None:
        self.settings, self.voice, self.wheel = settings, voice, wheel
        self.counts: Counter[str] = Counter()
        self.started = self._asked = 0
        self.limit = RateLimit(settings.synthesis.transactions_per_s, clock())
        self._first: Sampler = build_sampler(settings.synthesis.first_byte, settings.seed, "first_byte")

    def admit(self, now_ns: int) -> bool:
        """Take a text, or count that it was refused."""
        if self.limit.wait_ns(1, now_ns):
            self.limit.refused += 1
            return False
        self.limit.take(1)
        return True

    def begin(self) -> int:
        """Return the number of the next text."""
        number, self.started = self.started, self.started + 1
        return number

    def speak(self, script: Script, form: AudioForm) -> Speech:
        """Return a text as speech, and count it."""
        self.counts["characters"] += script.characters
        return self.voice.speak(script, form)

    def first_ns(self, number: int, part: int) -> int:
        """Return how long a text, or a part of it, takes to its first audio."""
        return self._first(f"synthesis/{number}", part)

    def fails(self) -> bool:
        """Return whether the next request is answered 503, and count it."""
        number, self._asked = self._asked, self._asked + 1
        if not chance(self.settings.faults.error_rate, self.settings.seed, "synthesis", number, "errors"):
            return False
        self.counts["errors"] += 1
        return True

    def is_cut(self, number: int) -> bool:
        """Return whether the connection is lost in the middle of a text, and count it."""
        if not chance(self.settings.faults.disconnect_rate, self.settings.seed, "synthesis", number, "disconnects"):
            return False
        self.counts["disconnects"] += 1
        return True


def pieces_of(speech: Speech, form: AudioForm, first_ns: int, factor: float) -> Iterator[tuple[int, bytes]]:
    """Yield (due, audio), 100 ms each: the first at `first_ns`, the others as fast as `factor` lets them be made."""
    size = form.bytes_per_s * CHUNK_NS // NS_PER_S
    for number, place in enumerate(range(0, len(speech.audio), size)):
        yield first_ns + round(number * CHUNK_NS * factor), speech.audio[place : place + size]


class SynthesisSocket(SpeechSocket):
    """A connection on which texts follow each other, each whole or in pieces."""

    def __init__(self, booth: Booth, log: RequestLog, clock: Clock, route: str) -> None:
        super().__init__(clock)
        self._booth, self._log, self._route = booth, log, route
        self._form_name = DEFAULT_FORM
        self._wants: dict[str, Any] = {}
        self._utterance: Utterance | None = None
        self._text = ""

    def on_message(self, message: SpeechMessage, now_ns: int) -> None:
        """Take the wishes for the next text, and texts; what else clients tell changes nothing."""
        try:
            if message.path == SYNTHESIS_CONTEXT:
                self._take_context(message.body)
            elif message.path == SSML:
                script = read_ssml(message.body)
                if self._begin(message.request_id, now_ns):
                    self._speak(script, True, now_ns)
            elif message.path in {TEXT_PIECE, TEXT_END}:
                self._take_piece(message, now_ns)
        except SynthesisError as error:
            self.finish(400)
            self._log.note("TURN", self._route, self._route, 400, now_ns)
            self.refuse(BAD_MESSAGE_CODE, str(error))

    def on_gone(self) -> None:
        """The connection is gone."""
        self.finish(499)

    def finish(self, status: int) -> None:
        """The text that is being spoken is over."""
        utterance, self._utterance = self._utterance, None
        if utterance is not None:
            utterance.over = True
            self._log.note(
                "TURN", self._route, self._route, status, utterance.since_ns, audio_bytes=utterance.sent_bytes
            )

    def _take_context(self, body: bytes) -> None:
        try:
            context = msgspec.json.decode(body, type=dict[str, Any])
            audio = context["synthesis"]["audio"]
            self._form_name = str(audio.get("outputFormat") or DEFAULT_FORM)
            self._wants = dict(audio.get("metadataOptions") or {})
        except (msgspec.MsgspecError, KeyError, TypeError, AttributeError, ValueError):
            raise SynthesisError("synthesis.context without an object synthesis.audio") from None

    def _take_piece(self, message: SpeechMessage, now_ns: int) -> None:
        """Speak every sentence as soon as it is there."""
        current = self._utterance
        if current is None or current.request_id != message.request_id:
            self._text = ""
            if not self._begin(message.request_id, now_ns):
                return
        self._text += message.body.decode("utf-8", "replace")
        if len(self._text) > TEXT_MAX:
            raise SynthesisError(f"A sentence of more than {TEXT_MAX} characters.")
        ended = message.path == TEXT_END
        place = len(self._text) if ended else max((match.end() for match in _SENTENCE.finditer(self._text)), default=0)
        text, self._text = " ".join(self._text[:place].split()), self._text[place:]
        self._speak(Script((text,)) if text else None, ended, now_ns)

    def _begin(self, request_id: str, now_ns: int) -> bool:
        """Begin with a text, unless there are too many."""
        self.finish(499)
        form = audio_form(self._form_name)
        if not self._booth.admit(now_ns):
            self._log.note("TURN", self._route, self._route, 429, now_ns)
            self.refuse(THROTTLED_CODE, THROTTLED)
            return False
        self._utterance = Utterance(self, self._booth, form, request_id, self._wants, now_ns)
        return True

    def _speak(self, script: Script | None, last: bool, now_ns: int) -> None:
        if self._utterance is not None:
            self._utterance.say(script, last, now_ns)


class Utterance:
    """A text that is spoken part by part; each has its latency, and none begins before the one before it is made."""

    def __init__(
        self,
        socket: SynthesisSocket,
        booth: Booth,
        form: AudioForm,
        request_id: str,
        wants: dict[str, Any],
        now_ns: int,
    ) -> None:
        self.request_id, self.since_ns = request_id, now_ns
        self.sent_bytes = 0
        self.over = False
        self._socket, self._booth, self._form = socket, booth, form
        self._number = booth.begin()
        self._parts = 0
        self._pieces: deque[tuple[int, bytes]] = deque()
        self._cut_at_bytes = -1
        self._made_ns = now_ns  # when all of the parts so far will be made
        self._audio_ns = 0  # how long they are
        self._complete = self._armed = False
        self._words: deque[SpokenWord] = deque()
        self._tells_words = bool(wants.get("wordBoundaryEnabled"))
        self._tells_end = bool(wants.get("sessionEndEnabled"))
        stream_id = uuid.uuid4().hex.upper()
        self._head = binary_head(AUDIO, request_id, stream_id=stream_id)
        context = {"context": {"serviceTag": stream_id.lower()}}
        self._tell(TURN_START, context)
        self._tell(RESPONSE, {**context, "audio": {"type": "inline", "streamId": stream_id}})

    def say(self, script: Script | None, last: bool, now_ns: int) -> None:
        """Speak a part of the text; `last`: there is no other."""
        self._complete = last
        if script is not None:
            first_ns = max(now_ns + self._booth.first_ns(self._number, self._parts), self._made_ns)
            speech, factor = self._booth.speak(script, self._form), self._booth.settings.synthesis.real_time_factor
            self._pieces += pieces_of(speech, self._form, first_ns, factor)
            if self._tells_words:
                self._words += (word._replace(offset_ns=word.offset_ns + self._audio_ns) for word in speech.words)
            if not self._parts and self._booth.is_cut(self._number):
                self._cut_at_bytes = len(speech.audio) // 2
            self._parts += 1
            self._made_ns = first_ns + round(speech.duration_ns * factor)
            self._audio_ns += speech.duration_ns
        if not self._armed and (self._pieces or last):
            self._armed = True
            self._booth.wheel.at(self._pieces[0][0] if self._pieces else self._made_ns, self._go_on)

    def _go_on(self, due_ns: int) -> int:
        """Send what is due; returns when more is."""
        pieces = self._pieces
        while not self.over and pieces and pieces[0][0] <= due_ns:
            if 0 <= self._cut_at_bytes <= self.sent_bytes:
                self._socket.finish(500)
                self._socket.cut()
                return 0
            audio = pieces.popleft()[1]
            self.sent_bytes += len(audio)
            self._tell_words(self.sent_bytes * NS_PER_S // self._form.bytes_per_s)
            self._socket.send_binary(self._head + audio)
        if self.over:
            return 0
        if pieces:
            return pieces[0][0]
        if not self._complete:
            self._armed = False
            return 0
        if due_ns < self._made_ns:
            return self._made_ns
        if self._tells_end:
            end = {"Type": "SessionEnd", "Data": {"Offset": ticks(self._audio_ns)}}
            self._tell(AUDIO_METADATA, {"Metadata": [end]})
        self._tell(TURN_END, {})
        self._socket.finish(200)
        return 0

    def _tell_words(self, until_ns: int) -> None:
        told = []
        while self._words and self._words[0].offset_ns < until_ns:
            word = self._words.popleft()
            text = {"Text": word.text, "Length": len(word.text), "BoundaryType": "WordBoundary"}
            data = {"Offset": ticks(word.offset_ns), "Duration": ticks(word.duration_ns), "text": text}
            told.append({"Type": "WordBoundary", "Data": data})
        if told:
            self._tell(AUDIO_METADATA, {"Metadata": told})

    def _tell(self, path: str, body: dict[str, Any]) -> None:
        self._socket.send_text(path, self.request_id, msgspec.json.encode(body))
