"""Backends of Azure Communication Services with set manners, written with the vendor's SDK, each in a thread."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from aiohttp import web
from azure.communication.callautomation import (
    AudioFormat,
    MediaStreamingAudioChannelType,
    MediaStreamingContentType,
    MediaStreamingOptions,
    StreamingTransportType,
)
from azure.communication.callautomation.aio import CallAutomationClient
from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import AzureError, HttpResponseError

from voxload.model.exchange import DEVELOPMENT_KEY

TONE = (8000 * np.sin(np.arange(320) * 2 * np.pi * 440 / 16000)).astype("<i2").tobytes()


@dataclass
class Manners:
    """What a backend does; the defaults are good manners."""

    webhook_status: int = 200
    webhook_delay_s: float = 0.0
    validates: bool = True
    takes: str = "answer"
    """answer, reject, nothing."""
    answers: int = 1
    key: str = DEVELOPMENT_KEY
    callback_uri: str = ""
    callback_status: int = 200
    media: bool = True
    transport_url: str = ""
    media_status: int = 101
    hangs_up_after_s: float = 0.0
    hangs_up_on_key: bool = False
    sample_rate: int = 16000


@dataclass
class Seen:
    """What a backend has seen."""

    events: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    socket_headers: list[dict[str, str]] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    errors: list[int] = field(default_factory=list)


class Backend:
    """One backend; `exchange_url` is where it believes Azure to be."""

    def __init__(self, exchange_url: str, manners: Manners) -> None:
        self.manners, self.seen = manners, Seen()
        self.client = CallAutomationClient(exchange_url, AzureKeyCredential(manners.key), retry_total=0)
        self.url = ""
        self._tasks: set[asyncio.Task[None]] = set()

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/api/incomingCall", self.incoming)
        app.router.add_post("/api/callbacks", self.callback)
        app.router.add_get("/ws", self.media)
        return app

    async def incoming(self, request: web.Request) -> web.Response:
        if self.manners.webhook_delay_s:
            await asyncio.sleep(self.manners.webhook_delay_s)
        for event in await request.json():
            if event["eventType"] == "Microsoft.EventGrid.SubscriptionValidationEvent":
                code = event["data"]["validationCode"] if self.manners.validates else "nonsense"
                return web.json_response({"validationResponse": code})
            self.seen.headers.append(dict(request.headers))
            if self.manners.webhook_status == 200:
                task = asyncio.create_task(self.take(event["data"]))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        return web.Response(status=self.manners.webhook_status)

    async def take(self, call: dict[str, Any]) -> None:
        manners, context = self.manners, call["incomingCallContext"]
        try:
            if manners.takes == "reject":
                await self.client.reject_call(context)
            for _ in range(manners.answers if manners.takes == "answer" else 0):
                callback = manners.callback_uri or f"{self.url}/api/callbacks"
                answered = await self.client.answer_call(context, callback, media_streaming=self.media_options())
                if manners.hangs_up_after_s and answered.call_connection_id:
                    await asyncio.sleep(manners.hangs_up_after_s)
                    await self.client.get_call_connection(answered.call_connection_id).hang_up(is_for_everyone=True)
        except HttpResponseError as error:
            self.seen.errors.append(error.status_code or 0)
        except AzureError:
            self.seen.errors.append(0)

    def media_options(self) -> MediaStreamingOptions | None:
        if not self.manners.media:
            return None
        pcm = AudioFormat.PCM16_K_MONO if self.manners.sample_rate == 16000 else AudioFormat.PCM24_K_MONO
        return MediaStreamingOptions(
            transport_url=self.manners.transport_url or self.url.replace("http", "ws", 1) + "/ws",
            transport_type=StreamingTransportType.WEBSOCKET,
            content_type=MediaStreamingContentType.AUDIO,
            audio_channel_type=MediaStreamingAudioChannelType.MIXED,
            start_media_streaming=True,
            enable_bidirectional=True,
            audio_format=pcm,
            enable_dtmf_tones=True,
        )

    async def callback(self, request: web.Request) -> web.Response:
        self.seen.events += [event["type"].rsplit(".", 1)[-1] for event in await request.json()]
        return web.Response(status=self.manners.callback_status)

    async def media(self, request: web.Request) -> web.StreamResponse:
        if self.manners.media_status != 101:
            return web.Response(status=self.manners.media_status)
        self.seen.socket_headers.append(dict(request.headers))
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        for _ in range(30):  # a greeting of 0.6 s
            audio = {"Data": base64.b64encode(TONE).decode()}
            await socket.send_str(json.dumps({"Kind": "AudioData", "AudioData": audio, "StopAudio": None}))
        async for message in socket:
            self.seen.kinds.append(json.loads(message.data)["kind"])
            if self.seen.kinds[-1] == "DtmfData" and self.manners.hangs_up_on_key:
                connection = self.client.get_call_connection(request.headers["x-ms-call-connection-id"])
                await connection.hang_up(is_for_everyone=True)
        return socket


@contextlib.contextmanager
def serve(exchange_url: str, manners: Manners) -> Iterator[Backend]:
    """Serve a backend until the block ends."""
    loop = asyncio.new_event_loop()
    started = threading.Event()
    backend: list[Backend] = []

    async def main() -> None:
        made = Backend(exchange_url, manners)
        runner = web.AppRunner(made.app(), shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        backend.append(made)
        started.set()
        stop = asyncio.Event()
        stops.append(stop)
        await stop.wait()
        await runner.cleanup()
        await made.client.close()

    stops: list[asyncio.Event] = []
    thread = threading.Thread(target=lambda: loop.run_until_complete(main()), daemon=True)
    thread.start()
    assert started.wait(10)
    yield backend[0]
    loop.call_soon_threadsafe(stops[0].set)
    thread.join(10)
