"""A small telephone agent on Azure Communication Services: FastAPI, the Call Automation SDK, bidirectional audio.

It is written as Microsoft's samples are: an Event Grid webhook, `answer_call` with media streaming, callbacks, and a
WebSocket for the audio. In place of recogniser, model and voice it has an energy detector and recorded sentences, so
that it runs anywhere. Nothing in it knows of voxload: `ACS_ENDPOINT` alone says who plays the telephone network.
"""

import asyncio
import base64
import contextlib
import json
import logging
import os
import uuid
import wave
from pathlib import Path
from typing import Any

import numpy as np
from azure.communication.callautomation import (
    AudioFormat,
    MediaStreamingAudioChannelType,
    MediaStreamingContentType,
    MediaStreamingOptions,
    StreamingTransportType,
)
from azure.communication.callautomation.aio import CallAutomationClient
from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import AzureError
from azure.core.messaging import CloudEvent
from azure.eventgrid import EventGridEvent, SystemEventNames
from fastapi import FastAPI, Request, Response, WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse

ACS_ENDPOINT = os.environ.get("ACS_ENDPOINT", "http://127.0.0.1:8181")
ACS_ACCESS_KEY = os.environ["ACS_ACCESS_KEY"]
CALLBACK_URI_HOST = os.environ.get("CALLBACK_URI_HOST", "http://127.0.0.1:8080")
"""The public address of this backend."""

FRAME_S = 0.02
AHEAD_S = 0.4
"""Audio is sent at most so far ahead of its playing, so that a reply can still be stopped."""
SPEECH_LEVEL = 500
"""Mean absolute sample of a frame with speech, of 32,768."""
SPEECH_FRAMES, BARGE_IN_FRAMES, SILENCE_FRAMES = 3, 8, 25
"""Frames of speech that begin a turn, or stop a reply; frames of silence that end the turn."""

log = logging.getLogger("acs_backend")
app = FastAPI()
client = CallAutomationClient(ACS_ENDPOINT, AzureKeyCredential(ACS_ACCESS_KEY))
STOP_AUDIO = json.dumps({"Kind": "StopAudio", "AudioData": None, "StopAudio": {}})


def recorded(name: str) -> list[str]:
    """Return a sentence as the messages that carry it, made once: a reply then costs its sending only."""
    with wave.open(str(Path(__file__).parent / name)) as file:
        audio = file.readframes(file.getnframes())
    size = 640  # 20 ms of 16 kHz, 16 bit, mono
    frames = [audio[start : start + size].ljust(size, b"\0") for start in range(0, len(audio), size)]
    return [
        json.dumps({"Kind": "AudioData", "AudioData": {"Data": base64.b64encode(frame).decode()}, "StopAudio": None})
        for frame in frames
    ]


GREETING, REPLY = recorded("greeting.wav"), recorded("reply.wav")


@app.post("/api/incomingCall")
async def incoming_call(request: Request) -> Response:
    """Take the events of Event Grid: the validation of the subscription, and calls that come in."""
    for item in await request.json():
        event = EventGridEvent.from_dict(item)
        if event.event_type == SystemEventNames.EventGridSubscriptionValidationEventName:
            return JSONResponse({"validationResponse": event.data["validationCode"]})
        if event.event_type == SystemEventNames.AcsIncomingCallEventName:
            await answer(event.data)
    return Response()


async def answer(call: dict[str, Any]) -> None:
    """Answer a call, with audio both ways on our WebSocket."""
    context = str(uuid.uuid4())
    await client.answer_call(
        incoming_call_context=call["incomingCallContext"],
        callback_url=f"{CALLBACK_URI_HOST}/api/callbacks/{context}",
        operation_context="incomingCall",
        media_streaming=MediaStreamingOptions(
            transport_url=CALLBACK_URI_HOST.replace("http", "ws", 1) + "/ws",
            transport_type=StreamingTransportType.WEBSOCKET,
            content_type=MediaStreamingContentType.AUDIO,
            audio_channel_type=MediaStreamingAudioChannelType.MIXED,
            start_media_streaming=True,
            enable_bidirectional=True,
            audio_format=AudioFormat.PCM16_K_MONO,
            enable_dtmf_tones=True,
        ),
    )


@app.post("/api/callbacks/{context}")
async def callbacks(context: str, request: Request) -> Response:
    """Take what the service says of a call."""
    for item in await request.json():
        event = CloudEvent.from_dict(item)
        log.info("%s %s %s", context, event.type, (event.data or {}).get("callConnectionId"))
    return Response()


@app.get("/health")
async def health() -> dict[str, int]:
    """Tell how many calls are up."""
    return {"calls": Conversation.up}


@app.websocket("/ws")
async def media(socket: WebSocket) -> None:
    """Carry the audio of one call."""
    await socket.accept()
    conversation = Conversation(socket, socket.headers.get("x-ms-call-connection-id", ""))
    Conversation.up += 1
    try:
        while True:
            await conversation.take(json.loads(await socket.receive_text()))
    except WebSocketDisconnect:
        pass
    finally:
        Conversation.up -= 1
        conversation.stop_speaking()


class Conversation:
    """One caller: greeted, answered after each of their turns, not talked over, let go when they press 0."""

    up = 0

    def __init__(self, socket: WebSocket, call_connection_id: str) -> None:
        self._socket, self._call_connection_id = socket, call_connection_id
        self._speaking: asyncio.Task[None] | None = None
        self._playing_until = 0.0
        self._loud = self._quiet = 0
        self._heard_speech = False

    async def take(self, message: dict[str, Any]) -> None:
        """Take one message of the media stream."""
        match message.get("kind"):
            case "AudioData":
                await self._hear(message["audioData"]["data"])
            case "AudioMetadata":
                self._speak(GREETING)
            case "DtmfData" if message["dtmfData"]["data"] in {"0", "zero"}:
                await self._hang_up()

    async def _hear(self, data: str) -> None:
        samples = np.frombuffer(base64.b64decode(data), dtype="<i2")
        if np.abs(samples[::4].astype(np.int32)).mean() > SPEECH_LEVEL:
            self._loud, self._quiet = self._loud + 1, 0
        else:
            self._loud, self._quiet = 0, self._quiet + 1
        playing = asyncio.get_running_loop().time() < self._playing_until
        if playing and self._loud >= BARGE_IN_FRAMES:
            self.stop_speaking()
            self._heard_speech = True
            await self._socket.send_text(STOP_AUDIO)
        elif not playing and self._loud >= SPEECH_FRAMES:
            self._heard_speech = True
        elif self._heard_speech and self._quiet == SILENCE_FRAMES:
            self._heard_speech = False
            self._speak(REPLY)

    def _speak(self, messages: list[str]) -> None:
        self.stop_speaking()
        self._playing_until = asyncio.get_running_loop().time() + len(messages) * FRAME_S
        self._speaking = asyncio.create_task(self._send(messages))

    async def _send(self, messages: list[str]) -> None:
        clock = asyncio.get_running_loop().time
        started = clock()
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):  # the caller has left meanwhile
            for number, message in enumerate(messages):
                ahead = number * FRAME_S - (clock() - started)
                if ahead > AHEAD_S:
                    await asyncio.sleep(ahead - AHEAD_S / 2)
                await self._socket.send_text(message)

    def stop_speaking(self) -> None:
        """Send nothing more of what is being said."""
        self._playing_until = 0.0
        if self._speaking is not None:
            self._speaking.cancel()

    async def _hang_up(self) -> None:
        try:
            await client.get_call_connection(self._call_connection_id).hang_up(is_for_everyone=True)
        except AzureError as error:
            log.warning("hang up: %s", error)
