"""The stand-in for the Speech service as a whole: handshakes, plain requests, counters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import picows
from aiohttp import web
from multidict import CIMultiDict
from picows import WSListener, WSUpgradeRequest, WSUpgradeResponse

from voxload.audio.corpus import load_corpus
from voxload.clock import Clock, monotonic_ns
from voxload.front import OpenSocket
from voxload.quotas import ConcurrencyLimit
from voxload.speech_protocol import (
    MODES,
    SUBPROTOCOL,
    SYNTHESIS_PATHS,
    SYNTHESIS_STREAM_PATHS,
    UNIVERSAL_PATHS,
    recognition_path,
)
from voxload.standins.log import RequestLog
from voxload.standins.pacing import Pacer
from voxload.standins.serving import StandIn, new_application
from voxload.standins.speech.access import is_allowed, refusal_body
from voxload.standins.speech.known import Known
from voxload.standins.speech.recognition import Studio
from voxload.standins.speech.rest import SpeechRest
from voxload.standins.speech.rest_recognition import SpeechRestRecognition
from voxload.standins.speech.settings import SpeechSettings
from voxload.standins.speech.sockets import RecognitionSocket
from voxload.standins.speech.synthesis import Booth, SynthesisSocket
from voxload.standins.speech.voice import Voice

RECOGNITION_MODES = {**{recognition_path(mode): str(mode) for mode in MODES}, **dict.fromkeys(UNIVERSAL_PATHS, "")}
"""The mode of each address; "" where speech.context says it."""

SPEAKING_PATHS = (*SYNTHESIS_PATHS, *SYNTHESIS_STREAM_PATHS)


class SpeechStandIn(StandIn):
    """Recognition and synthesis at the service's addresses."""

    def __init__(self, settings: SpeechSettings | None = None, clock: Clock = monotonic_ns) -> None:
        self.settings = settings or SpeechSettings()
        self._clock = clock
        self._pacer = Pacer(clock)
        self._log = RequestLog(self.counters, clock)
        self._studio = Studio(
            self.settings, Known.of(load_corpus(), self.settings.recognition.recordings), self._pacer.wheel
        )
        voice = Voice(load_corpus(), self.settings.synthesis.characters_per_s)
        self._booth = Booth(self.settings, voice, self._pacer.wheel, clock)
        self.recognitions = ConcurrencyLimit(self.settings.recognition.concurrent)

    def application(self) -> web.Application:
        """Return what answers its plain requests."""
        application = new_application(log=self._log)
        application.cleanup_ctx.append(self._pacer.turning)
        SpeechRest(self.settings, self._booth, self._pacer, self._clock).add_to(application)
        SpeechRestRecognition(self._studio, self.recognitions, self._clock).add_to(application)
        return application

    def open_socket(self) -> OpenSocket:
        """Return what answers its handshakes."""
        return self._open

    def environment(self, url: str) -> dict[str, str]:
        """Return the variables that a backend hands to SpeechConfig."""
        key = self.settings.keys[0] if self.settings.keys else "none"
        return {"SPEECH_KEY": key, "SPEECH_ENDPOINT": url, "SPEECH_HOST": url.replace("http", "ws", 1)}

    def counters(self) -> dict[str, Any]:
        """Return what the stand-in counts."""
        limit, booth = self.recognitions, self._booth
        return {
            "recognitions": {
                "started": self._studio.started,
                "refused": limit.refused,
                "now": limit.in_use,
                "at_most": limit.peak,
                **dict(sorted(self._studio.counts.items())),
            },
            "syntheses": {
                "started": booth.started,
                "refused": booth.limit.refused,
                **dict(sorted(booth.counts.items())),
            },
        }

    def _open(self, request: WSUpgradeRequest) -> Any:
        now_ns = self._clock()
        parts = urlsplit(request.path.decode("latin-1"))
        path, query = parts.path.rstrip("/"), dict(parse_qsl(parts.query))
        headers = {name.lower(): value for name, value in request.headers.items()}
        status = self._verdict(path, headers, query)
        self._log.note("GET", path if status != HTTPStatus.NOT_FOUND else "?", parts.path, status, now_ns)
        if status != HTTPStatus.SWITCHING_PROTOCOLS:
            body = json.dumps(refusal_body(status)).encode()
            kind = CIMultiDict({"Content-Type": "application/json"})
            refused = WSUpgradeResponse.create_error_response(HTTPStatus(status), body, kind)
            return picows.WSUpgradeResponseWithListener(refused, None)
        offered = [name.strip() for name in headers.get("sec-websocket-protocol", "").split(",")]
        extra = {"Sec-WebSocket-Protocol": SUBPROTOCOL} if SUBPROTOCOL in offered else None
        return picows.WSUpgradeResponseWithListener(
            WSUpgradeResponse.create_101_response(extra), self._socket(path, query)
        )

    def _verdict(self, path: str, headers: Mapping[str, str], query: Mapping[str, str]) -> int:
        """Return the status of the answer to a handshake."""
        if path not in RECOGNITION_MODES and path not in SPEAKING_PATHS:
            return HTTPStatus.NOT_FOUND
        if not is_allowed(self.settings, headers, query):
            return HTTPStatus.UNAUTHORIZED
        if (self._booth if path in SPEAKING_PATHS else self._studio).fails():
            return HTTPStatus.SERVICE_UNAVAILABLE
        if path in SPEAKING_PATHS:
            return HTTPStatus.SWITCHING_PROTOCOLS
        limit, told = self.recognitions, self.settings.recognition.over_quota
        if told == "handshake" and limit.limit and limit.in_use >= limit.limit:
            limit.refused += 1
            return HTTPStatus.TOO_MANY_REQUESTS
        return HTTPStatus.SWITCHING_PROTOCOLS

    def _socket(self, path: str, query: dict[str, str]) -> WSListener:
        if path in SPEAKING_PATHS:
            return SynthesisSocket(self._booth, self._log, self._clock, path)
        return RecognitionSocket(
            self._studio, self.recognitions, self._log, self._clock, path, RECOGNITION_MODES[path], query
        )
