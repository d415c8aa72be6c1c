"""Synthesis over a WebSocket: texts in, audio out with its told first byte and real-time factor."""

from __future__ import annotations

import uuid
from collections import Counter
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
from voxload.standins.speech.voice import AudioForm, Script, Speech, SynthesisError, Voice, audio_form, read_ssml
from voxload.wheel import Wheel

CHUNK_NS = 100 * NS_PER_MS
DEFAULT_FORM = "raw-16khz-16bit-mono-pcm"


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

    def schedule(self, script: Script, form: AudioForm, now_ns: int) -> Delivery:
        """Return how a text will be spoken that came at `now_ns`."""
        number, self.started = self.started, self.started + 1
        self.counts["characters"] += script.characters
        speech = self.voice.speak(script, form)
        first_ns = now_ns + self._first("synthesis", number)
        return Delivery(speech, form, first_ns, self.settings.synthesis.real_time_factor, self._is_cut(number))

    def fails(self) -> bool:
        """Return whether the next request is answered 503, and count it."""
        number, self._asked = self._asked, self._asked + 1
        if not chance(self.settings.faults.error_rate, self.settings.seed, "synthesis", number, "errors"):
            return False
        self.counts["errors"] += 1
        return True

    def _is_cut(self, number: int) -> bool:
        if not chance(self.settings.faults.disconnect_rate, self.settings.seed, "synthesis", number, "disconnects"):
            return False
        self.counts["disconnects"] += 1
        return True


class Delivery:
    """Audio in pieces of 100 ms, each due when it is made: the end is `factor` times its length after the first."""

    def __init__(self, speech: Speech, form: AudioForm, first_ns: int, factor: float, cut: bool) -> None:
        self.speech, self.cut = speech, cut
        self.end_ns = first_ns + round(speech.duration_ns * factor)
        size = form.bytes_per_s * CHUNK_NS // NS_PER_S
        gap_ns = CHUNK_NS * factor
        self.pieces = [
            (first_ns + round(number * gap_ns), speech.audio[place : place + size])
            for number, place in enumerate(range(0, len(speech.audio), size))
        ]
        """(due, audio)."""


class SynthesisSocket(SpeechSocket):
    """A connection on which texts follow each other."""

    def __init__(self, booth: Booth, log: RequestLog, clock: Clock, route: str) -> None:
        super().__init__(clock)
        self._booth, self._log, self._route = booth, log, route
        self._form_name = DEFAULT_FORM
        self._wants: dict[str, Any] = {}
        self._utterance: _Utterance | None = None

    def on_message(self, message: SpeechMessage, now_ns: int) -> None:
        """Take the wishes for the next text, and texts; what else clients tell changes nothing."""
        try:
            if message.path == SYNTHESIS_CONTEXT:
                self._take_context(message.body)
            elif message.path == SSML:
                self._speak(message, now_ns)
        except SynthesisError as error:
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

    def _speak(self, message: SpeechMessage, now_ns: int) -> None:
        self.finish(499)
        form, script = audio_form(self._form_name), read_ssml(message.body)
        if not self._booth.admit(now_ns):
            self._log.note("TURN", self._route, self._route, 429, now_ns)
            self.refuse(THROTTLED_CODE, THROTTLED)
            return
        delivery = self._booth.schedule(script, form, now_ns)
        self._utterance = _Utterance(self, message.request_id, delivery, self._wants, now_ns)
        self._booth.wheel.at(delivery.pieces[0][0], self._utterance.go_on)


class _Utterance:
    """A text that is being spoken."""

    def __init__(
        self, socket: SynthesisSocket, request_id: str, delivery: Delivery, wants: dict[str, Any], now_ns: int
    ) -> None:
        self.since_ns = now_ns
        self.sent_bytes = 0
        self.over = False
        self._socket, self._request_id, self._delivery = socket, request_id, delivery
        self._next = 0
        stream_id = uuid.uuid4().hex.upper()
        self._head = binary_head(AUDIO, request_id, stream_id=stream_id)
        self._words = list(delivery.speech.words) if wants.get("wordBoundaryEnabled") else []
        self._tells_end = bool(wants.get("sessionEndEnabled"))
        context = {"context": {"serviceTag": stream_id.lower()}}
        self._tell(TURN_START, context)
        self._tell(RESPONSE, {**context, "audio": {"type": "inline", "streamId": stream_id}})

    def go_on(self, due_ns: int) -> int:
        """Send what is due; returns when more is."""
        pieces = self._delivery.pieces
        while not self.over and self._next < len(pieces) and pieces[self._next][0] <= due_ns:
            if self._delivery.cut and self._next >= len(pieces) // 2:
                self._socket.finish(500)
                self._socket.cut()
                return 0
            self._tell_words((self._next + 1) * CHUNK_NS)
            audio = pieces[self._next][1]
            self._socket.send_binary(self._head + audio)
            self.sent_bytes += len(audio)
            self._next += 1
        if self.over:
            return 0
        if self._next < len(pieces):
            return pieces[self._next][0]
        if due_ns < self._delivery.end_ns:
            return self._delivery.end_ns
        if self._tells_end:
            end = {"Type": "SessionEnd", "Data": {"Offset": ticks(self._delivery.speech.duration_ns)}}
            self._tell(AUDIO_METADATA, {"Metadata": [end]})
        self._tell(TURN_END, {})
        self._socket.finish(200)
        return 0

    def _tell_words(self, until_ns: int) -> None:
        told = []
        while self._words and self._words[0].offset_ns < until_ns:
            word = self._words.pop(0)
            text = {"Text": word.text, "Length": len(word.text), "BoundaryType": "WordBoundary"}
            data = {"Offset": ticks(word.offset_ns), "Duration": ticks(word.duration_ns), "text": text}
            told.append({"Type": "WordBoundary", "Data": data})
        if told:
            self._tell(AUDIO_METADATA, {"Metadata": told})

    def _tell(self, path: str, body: dict[str, Any]) -> None:
        self._socket.send_text(path, self._request_id, msgspec.json.encode(body))
