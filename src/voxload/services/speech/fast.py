"""Our own client of the Speech service: one event loop, one timing wheel, thousands of streams."""

from __future__ import annotations

import json
from urllib.parse import urlencode

from voxload.services.base import ComponentRun, Operation
from voxload.services.speech.client import STT, TTS, Credentials, SpeechClient
from voxload.services.speech.connection import Connection, Dialler, counting_limits
from voxload.services.speech.material import Script
from voxload.services.speech.options import Address, SpeechOptions
from voxload.services.speech.pacing import Pacer
from voxload.services.speech.recognition import Recognition
from voxload.services.speech.results import Heard, Spoken
from voxload.services.speech.synthesis import Synthesis
from voxload.speech_protocol import timestamp
from voxload.wheel import Wheel

_METADATA = (
    "visemeEnabled",
    "bookmarkEnabled",
    "wordBoundaryEnabled",
    "punctuationBoundaryEnabled",
    "sentenceBoundaryEnabled",
)
"""What may come beside the audio; we want none of it."""


class FastClient(SpeechClient):
    """Speaks the protocol itself."""

    def __init__(
        self,
        address: Address,
        options: SpeechOptions,
        credentials: Credentials,
        run: ComponentRun,
        wheel: Wheel,
    ) -> None:
        super().__init__(address, options, run, wheel)
        self._dialler = Dialler(options, credentials, self.counts)
        self._idle: list[Connection] = []
        """Connections for synthesis that serve no request; the one used last is taken first."""
        metadata = {**dict.fromkeys(_METADATA, False), "sessionEndEnabled": True}
        audio = {"outputFormat": options.tts.audio_format, "metadataOptions": metadata}
        context = {"synthesis": {"audio": audio, "language": {"autoDetection": False}}}
        self._synthesis_context = json.dumps(context).encode()

    def name(self) -> str:
        """Our own."""
        return "voxload's own"

    def _recognition_url(self, language: str) -> str:
        if self.address.universal:
            return self.address.recognition
        query = {"language": language, "format": "detailed" if self.options.stt.detailed else "simple"}
        return f"{self.address.recognition}?{urlencode(query)}"

    async def recognise(self, operation: Operation, script: Script, language: str, heard: Heard) -> None:
        """Say a script on a connection of its own."""
        connection = await self._dialler.open(operation, self._recognition_url(language), STT)
        operation.ready_ns = operation.clock()
        pacer = Pacer(operation, script, self.options.stt, heard)
        self.counts.change_up(1)
        try:
            stream = Recognition(operation, connection, pacer, heard, self, language)
            stream.start(self.wheel)
            if connection.lost is not None:
                stream.on_lost(connection.lost)
            with counting_limits(operation, self.counts):
                await pacer.over
        finally:
            self.counts.change_up(-1)
            connection.close()

    async def synthesise(self, operation: Operation, ssml: str) -> Spoken:
        """Have a text said, on a connection that is idle if there is one."""
        spoken = Spoken(0)
        connection = self._take_idle()
        if connection is None:
            connection = await self._dialler.open(operation, self.address.synthesis, TTS)
        else:
            spoken.connection = "reused"
        operation.ready_ns = operation.clock()
        work = Synthesis(operation, connection, spoken)
        try:
            work.start(ssml, self._synthesis_context, timestamp(self.run.unix_ns()))
            if connection.lost is not None:
                work.on_lost(connection.lost)
            with counting_limits(operation, self.counts):
                await work.over
        except BaseException:
            connection.close()
            raise
        connection.handler = None
        if self.options.tts.connect == "reuse" and connection.lost is None:
            self._idle.append(connection)
        else:
            connection.close()
        return spoken

    def _take_idle(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.lost is None:
                return connection
        return None

    async def probe(self, operation: Operation, kind: str) -> None:
        """See that the service lets us in.

        Raises:
            OperationFailedError: it does not.
        """
        url = self._recognition_url(self.options.languages[0]) if kind == STT else self.address.synthesis
        (await self._dialler.open(operation, url, kind)).close()

    async def close(self) -> None:
        """Close the idle connections."""
        for connection in self._idle:
            connection.close()
        self._idle.clear()
