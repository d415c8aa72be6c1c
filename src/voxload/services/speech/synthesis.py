"""One synthesis of our own client."""

from __future__ import annotations

import asyncio

from voxload.model.outcome import Outcome
from voxload.services.base import Operation, OperationFailedError
from voxload.services.speech.connection import CONFIG, Connection, new_id
from voxload.services.speech.results import Spoken
from voxload.speech_protocol import (
    AUDIO,
    SPEECH_CONFIG,
    SSML,
    SYNTHESIS_CONTEXT,
    TURN_END,
    SpeechProtocolError,
    read_binary,
    read_text,
    text_message,
)


class Synthesis:
    """One request for audio on a connection; `over` is done when all of it is here."""

    def __init__(self, operation: Operation, connection: Connection, spoken: Spoken) -> None:
        self._operation, self._connection, self._spoken = operation, connection, spoken
        self._clock, self._request_id = operation.clock, new_id()
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def start(self, ssml: str, context: bytes, stamp: str) -> None:
        """Ask."""
        connection = self._connection
        connection.handler = self
        if not connection.used:
            connection.send(text_message(SPEECH_CONFIG, "", CONFIG, stamp=stamp), text=True)
        connection.used = True
        connection.send(text_message(SYNTHESIS_CONTEXT, self._request_id, context, stamp=stamp), text=True)
        self._spoken.asked_ns = self._clock()
        body = ssml.encode()
        connection.send(text_message(SSML, self._request_id, body, "application/ssml+xml", stamp), text=True)

    def on_text(self, message: bytes) -> None:
        """Where the answer begins or ends."""
        try:
            found = read_text(message)
        except SpeechProtocolError as error:
            self.fail(OperationFailedError(Outcome.PROTOCOL_ERROR, str(error)))
            return
        if found.path == TURN_END and found.request_id == self._request_id and not self.over.done():
            self.over.set_result(None)

    def on_binary(self, message: bytes) -> None:
        """Audio."""
        now_ns, spoken = self._clock(), self._spoken
        try:
            found = read_binary(message)
        except SpeechProtocolError as error:
            self.fail(OperationFailedError(Outcome.PROTOCOL_ERROR, str(error)))
            return
        if found.path != AUDIO or found.request_id != self._request_id or not found.body:
            return
        spoken.first_ns = spoken.first_ns or now_ns
        spoken.last_ns = now_ns
        spoken.audio_bytes += len(found.body)
        self._operation.recorder.frames_received += 1
        self._operation.recorder.bytes_received += len(found.body)

    def on_lost(self, failure: OperationFailedError) -> None:
        """The connection is gone."""
        self.fail(failure)

    def fail(self, failure: OperationFailedError) -> None:
        """End with a failure, unless it is over."""
        if not self.over.done():
            self.over.set_exception(failure)
