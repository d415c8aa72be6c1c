"""One recognition of our own client: the audio of a stream goes out on the wheel, results come in."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from voxload.clock import NS_PER_MS, NS_PER_S
from voxload.model.outcome import Outcome
from voxload.services.base import Operation, OperationFailedError
from voxload.services.speech.client import SpeechClient
from voxload.services.speech.connection import CONFIG, Connection, new_id
from voxload.services.speech.material import MESSAGE_NS
from voxload.services.speech.options import RecognitionOptions
from voxload.services.speech.pacing import Pacer
from voxload.services.speech.results import Heard, Result
from voxload.speech_protocol import (
    AUDIO,
    SPEECH_CONFIG,
    SPEECH_CONTEXT,
    SPEECH_FRAGMENT,
    SPEECH_HYPOTHESIS,
    SPEECH_PHRASE,
    TICK_NS,
    TURN_END,
    TURN_START,
    Hypothesis,
    Phrase,
    SpeechProtocolError,
    binary_head,
    read_text,
    text_message,
    ticks,
    timestamp,
    wav_header,
)
from voxload.wheel import Wheel

UNREAD_NS = 5 * NS_PER_S
"""A service that takes no audio for so long has hung up in all but name."""

_phrase = msgspec.json.Decoder(Phrase)
_hypothesis = msgspec.json.Decoder(Hypothesis)


def speech_context(options: RecognitionOptions, language: str) -> dict[str, Any]:
    """Return what the service is told of a stream before its audio, as the SDK tells it."""
    detection: dict[str, Any] = {"mode": "CONVERSATION", "language": language}
    if options.segmentation_silence_ns:
        silence_ms = options.segmentation_silence_ns // NS_PER_MS
        segmentation = {"segmentationSilenceTimeoutMs": silence_ms, "mode": "Custom"}
        detection["CONVERSATION"] = {"segmentation": segmentation}
    context: dict[str, Any] = {"phraseDetection": detection, "audio": {"streams": {"1": None}}}
    if options.phrases:
        items = [{"Text": phrase} for phrase in options.phrases]
        context["dgi"] = {"Groups": [{"Type": "Generic", "Items": items}], "bias": 1.0}
    if options.detailed:
        context["phraseOutput"] = {"format": "Detailed", "detailed": {"options": []}}
    return context


class Recognition:
    """One stream on a connection; `pacer.over` is done when the service is."""

    def __init__(
        self,
        operation: Operation,
        connection: Connection,
        pacer: Pacer,
        heard: Heard,
        client: SpeechClient,
        language: str,
    ) -> None:
        self._operation, self._connection, self._pacer, self._heard = operation, connection, pacer, heard
        self._options, self._counts, self._clock = client.options.stt, client.counts, operation.clock
        self._context = speech_context(self._options, language)
        self._unix_ns = client.run.unix_ns
        self._recorder = operation.recorder
        self._head = b""
        """What all audio messages of the turn begin with."""
        self._turn_ns = 0
        """Where in the stream the audio of the turn begins."""
        self._service_tag = ""

    def start(self, wheel: Wheel) -> None:
        """Announce the stream, and begin to send it."""
        connection = self._connection
        connection.handler = self
        connection.send(text_message(SPEECH_CONFIG, "", CONFIG, stamp=self._stamp()), text=True)
        self._begin_turn(self._context)
        self._pacer.start(wheel, self._send, lambda: connection.send(self._head))  # no audio in it: the end

    def _stamp(self) -> str:
        return timestamp(self._unix_ns())

    def _begin_turn(self, context: dict[str, Any]) -> None:
        """Announce audio: the context, then the WAV header; the head of all further messages is made here."""
        request_id, stamp = new_id(), self._stamp()
        body = json.dumps(context).encode()
        self._connection.send(text_message(SPEECH_CONTEXT, request_id, body, stamp=stamp), text=True)
        header = wav_header(self._options.sample_rate_hz)
        self._connection.send(binary_head(AUDIO, request_id, "audio/x-wav", stamp, "1") + header)
        self._head = binary_head(AUDIO, request_id, stamp=stamp, stream_id="1")

    def _send(self, payload: bytes) -> None:
        connection = self._connection
        if connection.paused:
            now_ns = self._clock()
            connection.paused_ns = connection.paused_ns or now_ns
            if now_ns - connection.paused_ns > UNREAD_NS:
                reason = f"the service takes no audio for {UNREAD_NS / NS_PER_S:g} s"
                self._pacer.fail(OperationFailedError(Outcome.TIMEOUT, reason))
        connection.send(self._head + payload)

    # --- receiving ---

    def on_text(self, message: bytes) -> None:
        """A result, or where a turn begins or ends."""
        now_ns = self._clock()
        try:
            found = read_text(message)
            self._take(found.path, found.body, now_ns)
        except (SpeechProtocolError, msgspec.DecodeError) as error:
            self._pacer.fail(OperationFailedError(Outcome.PROTOCOL_ERROR, str(error)))

    def on_binary(self, message: bytes) -> None:  # noqa: ARG002  # the handler's signature
        """Nothing binary is due."""
        self._recorder.unknown_message("stt: binary")

    def on_lost(self, failure: OperationFailedError) -> None:
        """The connection is gone."""
        self._pacer.fail(failure)

    def _take(self, path: str, body: bytes, now_ns: int) -> None:
        heard, base_ns = self._heard, self._turn_ns
        self._recorder.frames_received += 1
        if path in {SPEECH_HYPOTHESIS, SPEECH_FRAGMENT}:
            interim = _hypothesis.decode(body)
            start_ns, end_ns = _bounds(base_ns, interim.offset, interim.duration)
            heard.interim.append(Result(now_ns, start_ns, end_ns))
        elif path == SPEECH_PHRASE:
            phrase = _phrase.decode(body)
            start_ns, end_ns = _bounds(base_ns, phrase.offset, phrase.duration)
            best = phrase.n_best[0] if phrase.n_best else None
            text = best.lexical if best is not None else phrase.display_text
            if phrase.recognition_status != "EndOfDictation":
                heard.final.append(Result(now_ns, start_ns, end_ns, text, phrase.recognition_status))
        elif path == TURN_START:
            context = msgspec.json.decode(body).get("context") or {}
            self._service_tag = str(context.get("serviceTag", ""))
        elif path == TURN_END:
            self._on_turn_end()

    def _on_turn_end(self) -> None:
        pacer = self._pacer
        if pacer.ended:
            pacer.succeed()
            return
        # the service ended the turn by itself: as the SDK does, go on with what it has not recognised yet
        self._counts["turns"] += 1
        known_ns = max((result.end_ns for result in self._heard.final), default=0)
        first = min(max(known_ns, self._turn_ns) // MESSAGE_NS, pacer.next)
        self._turn_ns = first * MESSAGE_NS
        streams = {"streams": {"1": {"offset": str(ticks(self._turn_ns))}}}
        continuation = {"previousServiceTag": self._service_tag, "audio": streams}
        self._begin_turn({**self._context, "continuation": continuation})
        for index in range(first, pacer.next):
            self._connection.send(self._head + pacer.message(index))


def _bounds(base_ns: int, offset: int, duration: int) -> tuple[int, int]:
    """Return the bounds of a result in the stream, in ns; (-1, -1) where they are not told."""
    if offset < 0 or duration < 0:
        return -1, -1
    return base_ns + offset * TICK_NS, base_ns + (offset + duration) * TICK_NS
