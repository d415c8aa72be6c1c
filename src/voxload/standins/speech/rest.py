"""Synthesis by plain HTTP, the list of voices, and tokens for keys."""

from __future__ import annotations

import base64
import json
import secrets
from http import HTTPStatus

from aiohttp import web

from voxload.clock import Clock
from voxload.speech_protocol import SYNTHESIS_REST_PATHS, wav_header
from voxload.standins.pacing import Pacer
from voxload.standins.speech.access import is_allowed, refusal_body
from voxload.standins.speech.settings import SpeechSettings
from voxload.standins.speech.synthesis import Booth, pieces_of
from voxload.standins.speech.voice import SynthesisError, audio_form, read_ssml

VOICES_PATHS = ("/tts/cognitiveservices/voices/list", "/cognitiveservices/voices/list")
TOKEN_PATH = "/sts/v1.0/issueToken"  # noqa: S105  # an address
VOICES = ("en-US-AvaMultilingualNeural", "en-US-JennyNeural", "en-US-GuyNeural")


class SpeechRest:
    """The routes."""

    def __init__(self, settings: SpeechSettings, booth: Booth, pacer: Pacer, clock: Clock) -> None:
        self._settings, self._booth, self._pacer, self._clock = settings, booth, pacer, clock

    def add_to(self, application: web.Application) -> None:
        """Serve them."""
        for path in SYNTHESIS_REST_PATHS:
            application.router.add_post(path, self._speak)
        for path in VOICES_PATHS:
            application.router.add_get(path, self._voices)
        application.router.add_post(TOKEN_PATH, self._token)

    async def _speak(self, request: web.Request) -> web.StreamResponse:
        now_ns = self._clock()
        refusal = unauthorized(self._settings, request)
        if refusal is not None:
            return refusal
        try:
            form = audio_form(request.headers.get("X-Microsoft-OutputFormat", ""))
            script = read_ssml(await request.read())
        except SynthesisError as error:
            return web.Response(status=HTTPStatus.BAD_REQUEST, text=str(error))
        if not self._booth.admit(now_ns):
            return refused(HTTPStatus.TOO_MANY_REQUESTS)
        if self._booth.fails():
            return refused(HTTPStatus.SERVICE_UNAVAILABLE)
        number = self._booth.begin()
        speech, cut = self._booth.speak(script, form), self._booth.is_cut(number)
        factor = self._settings.synthesis.real_time_factor
        first_ns = now_ns + self._booth.first_ns(number, 0)
        kind = "audio/x-wav" if form.riff else "audio/basic" if form.encoding == "mulaw" else "audio/raw"
        answer = web.StreamResponse(headers={"Content-Type": kind, "X-RequestId": secrets.token_hex(16)})
        sent_bytes = 0
        for due_ns, audio in pieces_of(speech, form, first_ns, factor):
            await self._pacer.until(due_ns)
            if cut and sent_bytes >= len(speech.audio) // 2:
                if request.transport is not None:
                    request.transport.close()
                return answer
            if not sent_bytes:
                await answer.prepare(request)
                if form.riff:
                    await answer.write(wav_header(form.rate_hz, len(speech.audio), form.encoding == "mulaw"))
            await answer.write(audio)
            sent_bytes += len(audio)
        await self._pacer.until(first_ns + round(speech.duration_ns * factor))
        await answer.write_eof()
        return answer

    async def _voices(self, request: web.Request) -> web.StreamResponse:
        refusal = unauthorized(self._settings, request)
        if refusal is not None:
            return refusal
        found = [
            {
                "Name": f"Microsoft Server Speech Text to Speech Voice (en-US, {name.removeprefix('en-US-')})",
                "DisplayName": name.removeprefix("en-US-").removesuffix("Neural"),
                "LocalName": name.removeprefix("en-US-").removesuffix("Neural"),
                "ShortName": name,
                "Gender": "Male" if "Guy" in name else "Female",
                "Locale": "en-US",
                "LocaleName": "English (United States)",
                "SampleRateHertz": "24000",
                "VoiceType": "Neural",
                "Status": "GA",
            }
            for name in VOICES
        ]
        return web.json_response(found)

    async def _token(self, request: web.Request) -> web.StreamResponse:
        refusal = unauthorized(self._settings, request)
        if refusal is not None:
            return refusal
        head, body = (
            base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
            for part in ({"alg": "none", "typ": "JWT"}, {"iss": "voxload", "aud": "urn:ms.speech"})
        )
        return web.Response(text=f"{head}.{body}.{secrets.token_urlsafe(16)}", content_type="application/jwt")


def unauthorized(settings: SpeechSettings, request: web.Request) -> web.Response | None:
    """Return the refusal of a request without key and token, None for one that has either."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    return None if is_allowed(settings, headers, request.query) else refused(HTTPStatus.UNAUTHORIZED)


def refused(status: HTTPStatus) -> web.Response:
    """Return an answer that refuses."""
    return web.json_response(refusal_body(status), status=status)
