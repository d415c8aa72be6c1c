"""Recognition of short audio by plain HTTP: one phrase for one request."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from aiohttp import web

from voxload.clock import Clock
from voxload.quotas import ConcurrencyLimit
from voxload.speech_protocol import MODES, SPEECH_PHRASE, recognition_path
from voxload.standins.speech.recognition import Recognition, Studio
from voxload.standins.speech.rest import refused, unauthorized
from voxload.standins.speech.wishes import UnsupportedAudioError, options_of

HEAD_BYTES = 4096
"""Enough to hold the header of a WAV file, however it was cut on the way."""


class SpeechRestRecognition:
    """The routes; audio is heard as it comes, so that clients that send it in pieces are answered sooner."""

    def __init__(self, studio: Studio, limit: ConcurrencyLimit, clock: Clock) -> None:
        self._studio, self._limit, self._clock = studio, limit, clock

    def add_to(self, application: web.Application) -> None:
        """Serve them."""
        for mode in MODES:
            application.router.add_post(recognition_path(mode), self._recognise)

    async def _recognise(self, request: web.Request) -> web.StreamResponse:
        refusal = unauthorized(self._studio.settings, request)
        if refusal is not None:
            return refusal
        if "language" not in request.query:
            return web.Response(status=HTTPStatus.BAD_REQUEST, text="The parameter language is missing.")
        if self._studio.fails():
            return refused(HTTPStatus.SERVICE_UNAVAILABLE)
        if not self._limit.acquire():
            return refused(HTTPStatus.TOO_MANY_REQUESTS)
        try:
            return await self._hear(request)
        finally:
            self._limit.release()

    async def _hear(self, request: web.Request) -> web.StreamResponse:
        over: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        phrases: list[bytes] = []

        def take(path: str, body: bytes) -> None:
            if path == SPEECH_PHRASE:
                phrases.append(body)

        turn = Recognition(self._studio, options_of(None, "interactive", dict(request.query)), take, over.set_result)
        try:
            head: bytes | None = b""
            async for piece in request.content.iter_any():
                if head is not None:
                    head += piece
                    if len(head) < HEAD_BYTES:
                        continue
                turn.hear(head if head is not None else piece, self._clock())
                head = None
            if head:
                turn.hear(head, self._clock())
            turn.hear(b"", self._clock())
            complete = await over
        except UnsupportedAudioError as error:
            return web.Response(status=HTTPStatus.BAD_REQUEST, text=f"Unsupported audio format: {error}")
        finally:
            turn.stop()
        if not complete and request.transport is not None:
            request.transport.close()
        return web.Response(body=phrases[0] if phrases else b"", content_type="application/json")
